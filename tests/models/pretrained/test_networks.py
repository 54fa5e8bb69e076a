"""The pretrained networks: names, values, inputs, and what they see in real photographs."""

from __future__ import annotations

import doctest
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from jaxtyping import TypeCheckError
from PIL import Image
from torch import Tensor, nn

import featurewise as fw
from featurewise.core import ArgumentTypeError, ShapeError
from featurewise.models.pretrained import (
    EfficientNetLite0,
    HedVGG16,
    MobileNetV2,
    class_names,
    efficientnet_lite0,
    glove,
    hed_vgg16,
    mobilenet_v2,
)
from featurewise.models.pretrained.efficientnet_lite0 import SameConv2d
from featurewise.models.pretrained.preprocessing import central_square
from featurewise.models.pretrained.store import Source

NETWORKS: dict[str, tuple[type[nn.Module], str]] = {
    "mobilenet_v2": (MobileNetV2, "features.*.conv.3"),
    "efficientnet_lite0": (EfficientNetLite0, "_blocks.*._bn2"),
    "hed_vgg16": (HedVGG16, "conv*_1"),
}
MODULES = {
    "mobilenet_v2": mobilenet_v2,
    "efficientnet_lite0": efficientnet_lite0,
    "hed_vgg16": hed_vgg16,
}
each = pytest.mark.parametrize("name", NETWORKS)
#: (package, file, what it shows) -> the best class of MobileNetV2 and of EfficientNet-Lite0.
PHOTOGRAPHS = {
    ("scikit-learn", "sklearn/datasets/images/china.jpg"): ("palace", "palace"),
    ("scikit-image", "skimage/data/coffee.png"): ("espresso", "espresso"),
    ("scikit-image", "skimage/data/chelsea.png"): ("Egyptian cat", "tiger cat"),
    ("scikit-image", "skimage/data/camera.png"): ("tripod", "tripod"),
    ("scikit-image", "skimage/data/motorcycle_left.png"): ("moped", "moped"),
    # No class of ImageNet is a dahlia, and the rocket rises beside its tower.
    ("scikit-learn", "sklearn/datasets/images/flower.jpg"): ("honeycomb", "daisy"),
    ("scikit-image", "skimage/data/rocket.jpg"): ("drilling platform", "missile"),
}


def lively(name: str) -> nn.Module:
    """A network with random weights and running statistics, in evaluation mode."""
    network = NETWORKS[name][0]()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def conditioned(name: str, network: nn.Module, **options: object) -> fw.Conditioned:
    return fw.condition(network, at=NETWORKS[name][1], generator=fw.Linear(6), **options)


def stored(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) for key in first
    )


# --- names and values ----------------------------------------------------------------------------


@each
def test_names_and_shapes_are_the_published_ones(name: str) -> None:
    listed = json.loads(Path(__file__).with_name("tensors.json").read_text())[name]
    found = {
        key: [str(value.dtype).removeprefix("torch."), *value.shape]
        for key, value in NETWORKS[name][0]().state_dict().items()
    }
    assert found == listed


@pytest.mark.parametrize(
    ("name", "millions"), [("mobilenet_v2", 3.505), ("efficientnet_lite0", 4.652)]
)
def test_numbers_of_parameters(name: str, millions: float) -> None:
    """MobileNetV2: 3.4 M in table 4 of the paper; Lite0: 4.7 M in its release."""
    count = sum(parameter.numel() for parameter in NETWORKS[name][0]().parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.0005)


def test_mobilenet_equals_that_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.MobileNetV2Config(num_labels=1000, tf_padding=False, layer_norm_eps=1e-5)
    other = transformers.MobileNetV2ForImageClassification(config).eval()
    ours = lively("mobilenet_v2")
    # Both have the tensors in the order of the table.
    keys = [*other.state_dict()]
    other.load_state_dict(dict(zip(keys, ours.state_dict().values(), strict=True)))
    x = torch.randn(2, 3, 97, 64)
    with torch.no_grad():
        assert torch.allclose(ours(x), other(x).logits, rtol=1e-5, atol=1e-6)


def test_efficientnet_equals_the_formula() -> None:
    """Against functions of torch in float64, with padding written out, on odd sizes too."""
    network = lively("efficientnet_lite0")
    tensors = {key: value.double() for key, value in network.state_dict().items()}

    def convolve(x: Tensor, key: str, stride: int = 1) -> Tensor:
        kernel = tensors[f"{key}.weight"]
        groups = x.shape[1] // kernel.shape[1]
        size, extent = kernel.shape[2], x.shape[2:]
        out = [-(-n // stride) for n in extent]
        total = [max((o - 1) * stride + size - n, 0) for o, n in zip(out, extent, strict=True)]
        padded = x.new_zeros(*x.shape[:2], *(n + t for n, t in zip(extent, total, strict=True)))
        (top, left) = (t // 2 for t in total)
        padded[:, :, top : top + extent[0], left : left + extent[1]] = x
        return F.conv2d(padded, kernel, stride=stride, groups=groups)

    def norm(x: Tensor, key: str) -> Tensor:
        mean, var, weight, bias = (
            tensors[f"{key}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-3).sqrt() * weight + bias

    x = torch.randn(2, 3, 65, 50)
    y = norm(convolve(x.double(), "_conv_stem", 2), "_bn0").clamp(0, 6)
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    for index, stride in enumerate(strides):
        block, h = f"_blocks.{index}", y
        if index:
            h = norm(convolve(h, f"{block}._expand_conv"), f"{block}._bn0").clamp(0, 6)
        h = norm(convolve(h, f"{block}._depthwise_conv", stride), f"{block}._bn1").clamp(0, 6)
        h = norm(convolve(h, f"{block}._project_conv"), f"{block}._bn2")
        y = y + h if y.shape == h.shape else h
    y = norm(convolve(y, "_conv_head"), "_bn1").clamp(0, 6).mean((2, 3))
    expected = y @ tensors["_fc.weight"].T + tensors["_fc.bias"]
    with torch.no_grad():
        assert torch.allclose(network(x).double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [4, 5, 6, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding_puts_more_below_and_right(size: int, stride: int) -> None:
    layer = SameConv2d(1, 1, 3, stride)
    x = torch.randn(1, 1, size, 1)
    column = layer.weight.detach()[0, 0, :, 1].double()
    out = -(-size // stride)
    before = max((out - 1) * stride + 3 - size, 0) // 2
    expected = [
        sum(
            column[k] * x[0, 0, i * stride - before + k, 0].double()
            for k in range(3)
            if 0 <= i * stride - before + k < size
        )
        for i in range(out)
    ]
    assert torch.allclose(layer(x)[0, 0, :, 0].double(), torch.stack(expected), atol=1e-6)


def test_vgg_equals_a_plain_stack() -> None:
    network = lively("hed_vgg16").double()
    x = torch.randn(1, 3, 19, 32, dtype=torch.float64)
    layers: list[nn.Module] = []
    for name, convolution in network.named_children():
        if name in ("conv2_1", "conv3_1", "conv4_1"):
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        layers += [convolution, nn.ReLU()]
    assert torch.allclose(network(x), nn.Sequential(*layers)(x))
    names = [name for name, _ in network.layers(x)]
    assert names == [*dict(network.named_children())] and names[-1] == "conv4_3"
    assert network(x).shape == (1, 512, 3, 4)


# --- inputs --------------------------------------------------------------------------------------


def test_the_central_square_is_resized_as_pillow_does() -> None:
    pixels = np.random.default_rng(0).integers(60, 196, (90, 130, 3), dtype=np.uint8)
    smooth = Image.fromarray(pixels).resize((390, 270), Image.Resampling.BICUBIC)
    x = torch.from_numpy(np.asarray(smooth).copy()).permute(2, 0, 1)[None]
    side = round(270 * 7 / 8)
    left, top = (390 - side) // 2, (270 - side) // 2
    cropped = smooth.crop((left, top, left + side, top + side))
    for mode in ("bilinear", "bicubic"):
        resized = cropped.resize((64, 64), Image.Resampling[mode.upper()])
        expected = torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1)
        assert float((central_square(x, 64, mode)[0] - expected).abs().max()) < 1.1


def test_values_of_inputs() -> None:
    x = torch.zeros(1, 3, 4, 5, dtype=torch.uint8)
    x[:, 0] = 255  # red
    red = mobilenet_v2.prepare(x, None)[0, :, 0, 0].double()
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    assert torch.allclose(red, torch.tensor(expected, dtype=torch.float64), atol=1e-6)
    assert efficientnet_lite0.prepare(x, 8)[0, :, 0, 0].tolist() == [1.0, -127 / 128, -127 / 128]
    blue_first = [-104.00699, -116.66877, 255 - 122.67892]
    assert hed_vgg16.prepare(x)[0, :, 0, 0].tolist() == pytest.approx(blue_first, abs=1e-4)
    assert mobilenet_v2.prepare(x).shape == (1, 3, 224, 224)
    assert hed_vgg16.prepare(x).shape == efficientnet_lite0.prepare(x, None).shape == x.shape


@each
def test_other_images_are_refused(name: str) -> None:
    prepare = MODULES[name].prepare
    with pytest.raises((ArgumentTypeError, TypeCheckError), match="images"):
        prepare(torch.rand(1, 3, 8, 8))
    for shape in ((3, 8, 8), (1, 8, 8, 3), (1, 3, 0, 8)):
        with pytest.raises((ShapeError, TypeCheckError), match="images"):
            prepare(torch.zeros(shape, dtype=torch.uint8))
    with pytest.raises((ArgumentTypeError, TypeCheckError), match="ndarray|images"):
        prepare(torch.zeros(1, 3, 8, 8, dtype=torch.uint8).numpy())


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_below_one_is_refused(size: int) -> None:
    x = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    for module in (mobilenet_v2, efficientnet_lite0):
        with pytest.raises(ShapeError, match=f"size must be at least 1, or None, got {size}"):
            module.prepare(x, size)


# --- conditioning --------------------------------------------------------------------------------


@each
def test_conditioned_network_starts_equal_and_is_given_back(name: str) -> None:
    network = lively(name)
    x, z = torch.randn(2, 3, 64, 64), torch.randn(2, 6)
    before, kept = network(x), stored(network)
    net = conditioned(name, network)
    assert torch.equal(net(x, condition=z), before)
    nn.init.normal_(net.generator.head.weight, std=0.1)
    assert not torch.allclose(net(x, condition=z), before)
    assert net.remove() is network
    assert torch.equal(network(x), before) and same(stored(network), kept)


@each
def test_training_the_conditioner_leaves_a_frozen_network_as_it_was(name: str) -> None:
    """Weights and running statistics stay, and batch norms stay in evaluation mode."""
    network = lively(name)
    kept = stored(network)
    net = conditioned(name, network, freeze=True).train()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert not any(norm.training for norm in norms) and bool(norms) == (name != "hed_vgg16")
    optimizer = torch.optim.Adam(p for p in net.parameters() if p.requires_grad)
    x, z = torch.randn(2, 3, 64, 64), torch.randn(2, 6)
    first = net.generator.head.weight.clone()
    net(x, condition=z).square().mean().backward()
    optimizer.step()
    assert not torch.equal(net.generator.head.weight, first)
    assert same(stored(network), kept)


# --- with the weights ----------------------------------------------------------------------------


@each
def test_pretrained_network_is_conditioned_exactly(
    name: str, weights: Callable[[Source], None], photograph: Callable[[str, str], Tensor]
) -> None:
    weights(MODULES[name].SOURCE)
    state = torch.get_rng_state()
    network = MODULES[name].load()
    assert torch.equal(torch.get_rng_state(), state)  # no weights are sampled
    assert not any(module.training for module in network.modules())
    image = photograph("scikit-learn", "sklearn/datasets/images/china.jpg")
    x = MODULES[name].prepare(image[:, :, :128, :128])
    before, kept = network(x), stored(network)
    net = conditioned(name, network, freeze=True).train()
    net.eval()
    assert torch.equal(net(x, condition=torch.randn(1, 6)), before)
    net.train()
    net(x, condition=torch.randn(1, 6)).square().mean().backward()
    torch.optim.SGD(net.generator.parameters(), lr=0.1).step()
    network = net.remove().eval()
    assert torch.equal(network(x), before) and same(stored(network), kept)


@pytest.mark.parametrize("photo", PHOTOGRAPHS, ids=lambda photo: photo[1].rsplit("/", 1)[1])
@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_lite0"])
def test_best_class_of_real_photographs(
    name: str,
    photo: tuple[str, str],
    weights: Callable[[Source], None],
    photograph: Callable[[str, str], Tensor],
) -> None:
    weights(MODULES[name].SOURCE)
    with torch.no_grad():
        logits = MODULES[name].load()(MODULES[name].prepare(photograph(*photo)))
    expected = PHOTOGRAPHS[photo][name != "mobilenet_v2"]
    assert class_names()[int(logits.argmax())].split(", ")[0] == expected


def test_hed_vgg16_tells_two_photographs_apart(
    weights: Callable[[Source], None], photograph: Callable[[str, str], Tensor]
) -> None:
    """Nearly all channels of conv4_3 are used; the halves of the flower have like Gram matrices."""
    weights(hed_vgg16.SOURCE)
    network = hed_vgg16.load()

    def gram(file: str, left: int) -> Tensor:
        image = photograph("scikit-learn", f"sklearn/datasets/images/{file}.jpg")
        with torch.no_grad():
            features = network(hed_vgg16.prepare(image[:, :, :, left : left + 320]))[0].flatten(1)
        assert int((features > 0).any(1).sum()) > 500
        return F.normalize((features @ features.T).flatten(), dim=0)

    china, flower = ([gram(file, left) for left in (0, 320)] for file in ("china", "flower"))
    alike = float(flower[0] @ flower[1])
    assert alike > max(float(a @ b) for a in flower for b in china) + 0.02


def test_the_page_shows_what_is_so(weights: Callable[[Source], None]) -> None:
    """The examples of the page that need weights."""
    pytest.importorskip("sklearn")
    weights(mobilenet_v2.SOURCE)
    weights(glove.SOURCE)
    page = Path(__file__).parents[3] / "docs/pretrained.md"
    shown = re.findall(r"^```pycon\n(.*?)^```$", page.read_text(), re.M | re.S)
    assert len(shown) == 2
    test = doctest.DocTestParser().get_doctest("\n".join(shown), {}, page.name, str(page), 0)
    assert doctest.DocTestRunner().run(test).failed == 0


# --- names of the classes ------------------------------------------------------------------------


def test_class_names() -> None:
    names = class_names()
    assert len(names) == 1000 and len(set(names)) == 999
    assert names[0] == "tench, Tinca tinca" and names[285] == "Egyptian cat"
    assert names[134] == names[517] == "crane" and names[999].startswith("toilet tissue")


def test_class_names_are_those_of_wordnet() -> None:
    nouns = Path("/usr/share/wordnet/data.noun")
    if not nouns.exists():
        pytest.skip("WordNet 3.0 is not installed (apt install wordnet-base)")
    import featurewise.models.pretrained.imagenet as imagenet

    synsets = json.loads(Path(imagenet.__file__).with_name("imagenet.json").read_text())["synsets"]
    found = {}
    for line in nouns.read_text().splitlines():
        parts = line.split(" ")
        if f"n{parts[0]}" in synsets:
            words = parts[4 : 4 + 2 * int(parts[3], 16) : 2]
            found[f"n{parts[0]}"] = ", ".join(word.replace("_", " ") for word in words)
    assert found == synsets
