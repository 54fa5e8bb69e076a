"""FiLM for visual reasoning: speed of training and inference against a reference implementation.

    python benchmarks/reasoning.py [--paper] [--rounds 5]

``Reference`` follows Perez et al. 2018 literally and without optimisations: a GRU over padded
questions, concatenated coordinate maps, contiguous float32, Adam one tensor at a time, one image
per question, γ and β sliced block by block from one tensor (questions, blocks, 2, C). The library's
network has the same weights and gives the same logits and gradients (checked first). Its
optimisations are switched on one after another.

All cases alternate in one process; a ratio is the median over rounds of time(reference) /
time(case), with minimum and maximum. Times are CPU times of the process on one thread, so that
other jobs have little influence. ``--paper`` has the sizes of the paper (59 million parameters,
images of 224 x 224 pixels) and takes minutes and 6 GB; otherwise all layers are a quarter as wide.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from featurewise.systems.reasoning.film import SYSTEM, Config, FilmNetwork
from featurewise.systems.reasoning.film.network import image_features
from featurewise.training.allocator import use_large_allocations
from featurewise.worlds.clevr import ANSWERS, VOCABULARY, Batch

#: Ratios of an earlier measurement at the paper's sizes, 1 thread, against the original code.
EARLIER = {
    "packed GRU": "1.45",
    "deferred weight gradient": "2.4",
    "fused Adam": "2.6",
    "large allocations": "3.1",
    "channels last": "3.4 (5.0 with a prepacked float32 product)",
    "bfloat16": "7.3-7.9",
    "cached task": "43-48",
    "cached task, bfloat16": "78-85",
}
LONGEST = 46
IMAGES_PER_BATCH, QUESTIONS_PER_IMAGE = 8, 4  # of a training step

Times = dict[str, list[float]]


class ReferenceBlock(nn.Module):
    """Figure 3 of the paper, right."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels + 2, channels, 1)
        self.convolve = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=False)

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """Output of the residual block, with FiLM after the norm."""
        h = F.relu(self.project(with_coordinates(x)))
        y = self.norm(self.convolve(h))
        y = y * gamma[:, :, None, None].expand_as(y) + beta[:, :, None, None].expand_as(y)
        return h + F.relu(y)


class Reference(nn.Module):
    """The model of the paper (section 3 and "from raw pixels"), written literally."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.channels = config.channels
        layers: list[nn.Module] = []
        for before, after in zip(
            (3, *config.stem, config.channels), (*config.stem, config.channels), strict=False
        ):
            layers += [nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after)]
            layers += [nn.ReLU()]
        self.stem = nn.Sequential(*layers)
        self.embedding = nn.Embedding(len(VOCABULARY), config.embedding, padding_idx=0)
        self.gru = nn.GRU(config.embedding, config.hidden, batch_first=True)
        self.film = nn.Linear(config.hidden, config.blocks * 2 * config.channels)
        self.blocks = nn.ModuleList(ReferenceBlock(config.channels) for _ in range(config.blocks))
        self.project = nn.Conv2d(config.channels + 2, config.features, 1)
        self.classify = nn.Sequential(
            nn.Linear(config.features, config.features, bias=False),
            nn.BatchNorm1d(config.features),
            nn.ReLU(),
            nn.Linear(config.features, len(ANSWERS)),
        )

    def forward(self, images: Tensor, questions: Tensor, lengths: Tensor) -> Tensor:
        """Logits (Q, 28) of images (Q, 3, H, W) and padded questions (Q, T)."""
        states, _ = self.gru(self.embedding(questions))
        last = states[torch.arange(len(lengths)), lengths - 1]
        film = self.film(last).view(-1, len(self.blocks), 2, self.channels)
        x = self.stem((images / 255 - 0.5) * 4)
        for i, block in enumerate(self.blocks):
            x = block(x, 1 + film[:, i, 0], film[:, i, 1])
        x = F.relu(self.project(with_coordinates(x)))
        logits: Tensor = self.classify(F.max_pool2d(x, x.shape[2:]).flatten(1))
        return logits


def with_coordinates(x: Tensor) -> Tensor:
    """The features, concatenated with two coordinate maps."""
    count, _, height, width = x.shape
    across = torch.linspace(-1, 1, width).expand(count, 1, height, width)
    down = torch.linspace(-1, 1, height).unsqueeze(1).expand(count, 1, height, width)
    return torch.cat((x, across, down), dim=1)


def reference_weights(net: FilmNetwork) -> dict[str, Tensor]:
    """The library's weights under the names of the reference."""
    renamed: dict[str, Tensor] = {}
    for name, value in net.state_dict().items():
        if not name.startswith("naming") and not name.endswith("place.weight"):
            renamed[reference_name(name)] = value
    for name, value in net.state_dict().items():
        if name.endswith("place.weight"):
            other = reference_name(name.replace("place", "project"))
            renamed[other] = torch.cat((renamed[other], value), dim=1)
    return renamed


def reference_name(name: str) -> str:
    """Name in the reference of a parameter of the library."""
    for ours, theirs in (
        ("trunk.backbone.", ""),
        ("trunk.generator.encoder.embedding", "embedding"),
        ("trunk.generator.encoder.recurrent", "gru"),
        ("trunk.generator.head", "film"),
        ("stem.layers", "stem"),
        ("answer.", ""),
        ("project.project", "project"),
    ):
        name = name.replace(ours, theirs)
    return name


class PlainEncoder(nn.Module):
    """``nn.GRU`` in place of the library's question encoder, with its weights."""

    def __init__(self, like: nn.Module, packed: bool) -> None:
        super().__init__()
        self.embedding, self.packed = like.embedding, packed
        size = like.recurrent.input_size, like.recurrent.hidden_size
        self.recurrent = nn.GRU(*size, batch_first=True, device="meta")
        for name, parameter in like.recurrent.named_parameters():
            setattr(self.recurrent, name, parameter)

    def forward(self, condition: tuple[Tensor, Tensor]) -> Tensor:
        """The last states."""
        tokens, lengths = condition
        words = self.embedding(tokens)
        if self.packed:
            words = pack_padded_sequence(words, lengths, True, enforce_sorted=False)
            return self.recurrent(words)[1][0]
        return self.recurrent(words)[0][torch.arange(len(tokens)), lengths - 1]


def random_batch(images: int, questions_per_image: int, size: int) -> Batch:
    """Random images, and questions of 5 to 46 random tokens, 18 on average as in CLEVR."""
    count = images * questions_per_image
    share = torch.distributions.Beta(1.25, 2.9).sample((count,))
    lengths = (5 + share * (LONGEST - 5)).round().long()
    tokens = torch.randint(2, len(VOCABULARY), (count, LONGEST))
    return Batch(
        images=torch.randint(0, 256, (images, 3, size, size), dtype=torch.uint8),
        image_index=torch.arange(images).repeat_interleave(questions_per_image),
        questions=tokens.where(torch.arange(LONGEST) < lengths.unsqueeze(1), 0),
        lengths=lengths,
        answers=torch.randint(len(ANSWERS), (count,)),
        types=torch.zeros(count, dtype=torch.int64),
    )


def repeated(batch: Batch) -> Batch:
    """The batch with one image per question."""
    images = batch.images[batch.image_index]
    return replace(batch, images=images, image_index=torch.arange(len(images)))


def logits_of(net: FilmNetwork, batch: Batch, task: Tensor | None = None) -> Tensor:
    """The library's logits: as ``net(batch).logits``, without the attribute head."""
    features = image_features(net.stem, batch.images)
    if len(features) < len(batch.image_index):
        features = features[batch.image_index]
    given = {"task": task} if task is not None else {"condition": (batch.questions, batch.lengths)}
    logits: Tensor = net.answer(net.trunk(features, **given)).float()
    return logits


def set_large_allocations(enabled: bool) -> None:
    """Calls `use_large_allocations`, or restores the thresholds that glibc adapts to itself."""
    if use_large_allocations() and not enabled:
        glibc = ctypes.CDLL(None)
        glibc.mallopt(-3, 32 << 20)
        glibc.mallopt(-1, 64 << 20)
        glibc.malloc_trim(0)


@dataclass(frozen=True)
class Step:
    """A training step of the library's network.

    Attributes:
        net: the network.
        encoder: its question encoder.
        adam: the optimizer.
        batch: the training batch.
        half: whether to use bfloat16 autocast.
    """

    net: FilmNetwork
    encoder: nn.Module
    adam: torch.optim.Adam
    batch: Batch
    half: bool = False

    def __call__(self) -> None:
        """Forward pass, backward pass and Adam."""
        self.net.trunk.generator.encoder = self.encoder
        self.adam.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            logits = logits_of(self.net, self.batch)
        F.cross_entropy(logits, self.batch.answers).backward()
        self.adam.step()


def training_steps(
    net: FilmNetwork, reference: Reference, size: int
) -> dict[str, Callable[[], None]]:
    """Training steps: of the reference, then of the library, each with one more optimisation."""
    batch = random_batch(IMAGES_PER_BATCH, QUESTIONS_PER_IMAGE, size)
    single = repeated(batch)
    reference_adam = adam(reference, fused=False)

    def reference_step() -> None:
        reference_adam.zero_grad(set_to_none=True)
        logits = reference(single.images, single.questions, single.lengths)
        F.cross_entropy(logits, single.answers).backward()
        reference_adam.step()

    encoder = net.trunk.generator.encoder
    last = copy.deepcopy(net).to(memory_format=torch.channels_last)
    plain = Step(net, PlainEncoder(encoder, packed=False), adam(net, fused=False), single)
    packed = replace(plain, encoder=PlainEncoder(encoder, packed=True))
    deferred = replace(packed, encoder=encoder)
    fused = replace(deferred, adam=adam(net, fused=True))
    channels = replace(
        fused, net=last, encoder=last.trunk.generator.encoder, adam=adam(last, fused=True)
    )
    return {
        "reference": reference_step,
        "plain network": plain,
        "packed GRU": packed,
        "deferred weight gradient": deferred,
        "fused Adam": fused,
        "large allocations": replace(fused),  # also in all following cases, see `measured`
        "channels last": channels,
        "bfloat16": replace(channels, half=True),
        "one pass per image": replace(channels, half=True, batch=batch),
    }


def adam(net: nn.Module, fused: bool) -> torch.optim.Adam:
    return torch.optim.Adam(net.parameters(), lr=1e-6, fused=fused, foreach=False)


def inference_cases(
    net: FilmNetwork, reference: Reference, size: int
) -> dict[str, Callable[[], Tensor]]:
    """Forty questions about four images: several ways to compute the same logits."""
    batch = random_batch(4, 10, size)
    single = repeated(batch)
    net = net.to(memory_format=torch.channels_last)
    task = net.trunk.represent((batch.questions, batch.lengths))

    def ours(batch: Batch, task: Tensor | None = None, half: bool = False) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            return logits_of(net, batch, task)

    def one_by_one() -> Tensor:
        return torch.cat(
            [
                reference(*each)
                for each in zip(
                    single.images.split(1),
                    single.questions.split(1),
                    single.lengths.split(1),
                    strict=True,
                )
            ]
        )

    return {
        "reference, one by one": one_by_one,
        "reference": lambda: reference(single.images, single.questions, single.lengths),
        "batched": lambda: ours(single),
        "one pass per image": lambda: ours(batch),
        "one pass per image, bfloat16": lambda: ours(batch, half=True),
        "cached task": lambda: ours(batch, task.flat),
        "cached task, bfloat16": lambda: ours(batch, task.flat, half=True),
    }


def agreement(net: FilmNetwork, reference: Reference, size: int) -> None:
    """Prints the differences of reference and library; stops the program if they are too large.

    In float64, every gradient must agree. In float32 a rounding error may change the result of a
    maximum or a ReLU, so that the gradient of all parameters together is compared.
    """
    batch = random_batch(2, 3, size)
    for dtype, bound in ((torch.float64, 1e-8), (torch.float32, 1e-2)):
        torch.set_default_dtype(dtype)
        for mode in ("train", "eval"):
            net.to(dtype).train(mode == "train")
            reference.to(dtype).load_state_dict(reference_weights(net))  # with running statistics
            reference.train(mode == "train")
            value, worst, whole = differences(net, reference, batch)
            off = worst if dtype == torch.float64 else whole
            if value > bound / 100 or off > bound:
                raise SystemExit(f"{dtype}, {mode}: logits differ by {value}, gradients by {off}")
            print(
                f"  {str(dtype)[6:]}, {mode}: logits differ by {value:.0e}, the gradient by "
                f"{whole:.0e}, the gradient of one parameter by at most {worst:.0e}"
            )
    net.train()
    reference.train()


def differences(net: FilmNetwork, reference: Reference, batch: Batch) -> tuple[float, float, float]:
    """Relative differences: of logits, of the worst parameter's gradient, of all gradients."""
    single = repeated(batch)
    theirs = reference(single.images, single.questions, single.lengths)
    grads = torch.autograd.grad(
        F.cross_entropy(theirs, batch.answers), list(reference.parameters())
    )
    by_name = dict(zip(dict(reference.named_parameters()), grads, strict=True))
    own = {name: p for name, p in net.named_parameters() if not name.startswith("naming")}
    expected = [expected_grad(name, by_name) for name in own]
    found: list[tuple[float, float, float]] = []
    for each in (single, batch):
        features = image_features(net.stem, each.images)[each.image_index]
        logits = net.answer(net.trunk(features, condition=(each.questions, each.lengths)))
        grads = torch.autograd.grad(F.cross_entropy(logits, batch.answers), list(own.values()))
        pairs = list(zip(grads, expected, strict=True))
        off = sum(float((a - b).square().sum()) for a, b in pairs)
        size = sum(float(b.square().sum()) for _, b in pairs)
        worst = max(relative(a, b) for a, b in pairs)
        found.append((relative(logits, theirs), worst, (off / size) ** 0.5))
    value, worst, whole = (max(each) for each in zip(*found, strict=True))
    return value, worst, whole


def expected_grad(name: str, reference: dict[str, Tensor]) -> Tensor:
    """Gradient in the reference of a parameter of the library; a convolution may be two of ours."""
    if name.endswith("place.weight"):
        return reference[reference_name(name.replace("place", "project"))][:, -2:]
    if name.endswith("project.project.weight"):
        return reference[reference_name(name)][:, :-2]
    return reference[reference_name(name)]


def relative(found: Tensor, expected: Tensor) -> float:
    found, expected = found.detach(), expected.detach()
    return float((found - expected).norm() / expected.norm().clamp_min(1e-12))


def measured(cases: dict[str, Callable[[], object]], large: str, rounds: int) -> Times:
    """CPU seconds of every case in every round, without a first warm-up round.

    From the case ``large`` on, the process uses large allocations, after a warm-up run.
    """
    times: Times = {name: [] for name in cases}
    for _ in range(rounds + 1):
        set_large_allocations(False)
        for name, case in cases.items():
            if name == large:
                set_large_allocations(True)
                case()
            start = time.process_time()
            case()
            times[name].append(time.process_time() - start)
    return {name: values[1:] for name, values in times.items()}


def ratios(times: Times, name: str, base: str) -> str:
    """Median, minimum and maximum of the ratios of paired rounds."""
    each = [a / b for a, b in zip(times[base], times[name], strict=True)]
    return f"{median(each):6.2f} [{min(each):.2f}-{max(each):.2f}]"


def table(times: Times, count: int, bases: list[str], more: dict[str, str] | None = None) -> None:
    unit = "ms/sample" if more is None else "ms/answer"
    heads = "".join(f"{'x ' + base:>22}" for base in bases)
    print(f"  {'':30}{unit:>10}{heads}{'' if more is None else '  deviation'}  earlier")
    for name, values in times.items():
        shown = "".join(f"{ratios(times, name, base):>22}" for base in bases)
        off = "" if more is None else f"{more[name]:>11}"
        print(
            f"  {name:30}{median(values) / count * 1e3:10.2f}{shown}{off}  {EARLIER.get(name, '')}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--paper", action="store_true", help="the sizes of the paper")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config, size = SYSTEM.preset("paper"), 224
    if not options.paper:
        config = replace(
            config, hidden=1024, channels=64, stem=(64, 64, 64), embedding=64, features=256
        )
        size = 128
    net, reference = FilmNetwork(config), Reference(config)
    nn.init.normal_(net.trunk.generator.head.weight, std=0.02)
    print(
        f"GRU {config.hidden}, {config.channels} channels, {size} x {size}, "
        f"{sum(p.numel() for p in reference.parameters()) / 1e6:.1f} M parameters, 1 thread"
    )
    print("Reference and library, same weights; relative differences:")
    agreement(net, reference, size)

    count = IMAGES_PER_BATCH * QUESTIONS_PER_IMAGE
    print(f"\nTraining step, {count} questions about {IMAGES_PER_BATCH} images.")
    print("Each line adds one optimisation:")
    trained = measured(training_steps(net, reference, size), "large allocations", options.rounds)
    table(trained, count, ["reference"])

    net.eval()
    reference.eval()
    reference.load_state_dict(reference_weights(net))
    with torch.no_grad():
        cases = inference_cases(net, reference, size)
        exact = cases["reference"]()
        off = {
            name: f"{float((case() - exact).abs().max() / exact.abs().max()):.0e}"
            for name, case in cases.items()
        }
        inference = measured(cases, "batched", options.rounds)
    print("\nForty questions about four images; deviation relative to the largest logit:")
    table(inference, 40, ["reference, one by one", "reference"], off)

    print("\nSummary, beside the earlier measurement (sizes of the paper):")
    for what, times, name, base, earlier in (
        ("training, float32", trained, "channels last", "reference", "5.0"),
        ("training, bfloat16", trained, "bfloat16", "reference", "7.3-7.9"),
        ("training, one pass per image", trained, "one pass per image", "reference", "-"),
        ("inference, float32", inference, "cached task", "reference", "43-48"),
        ("inference, bfloat16", inference, "cached task, bfloat16", "reference", "78-85"),
        ("inference, one by one", inference, "cached task, bfloat16", "reference, one by one", "-"),
    ):
        print(f"  {what:30}{ratios(times, name, base):>22}   earlier {earlier}")


if __name__ == "__main__":
    main()
