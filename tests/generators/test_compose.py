"""Several conditions: against each generator alone, and against successive modulations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor, nn
from torch.compiler import set_stance
from torch.func import vmap

from featurewise.core import (
    Affine,
    ArgumentTypeError,
    Diagonal,
    Gate,
    Layout,
    LayoutError,
    LowRank,
    Operation,
    OperationError,
    Scale,
    ShapeError,
    Shift,
    Site,
)
from featurewise.generators import (
    MLP,
    BySite,
    ConcatEncoders,
    ConditionError,
    GeneratorError,
    Learned,
    Linear,
    Lookup,
    Masked,
    Optional,
    Product,
    SqueezeExcite,
    Sum,
    from_config,
    parameter_groups,
)
from featurewise.retrofit import condition

KIND = (ArgumentTypeError, TypeCheckError)
ANY = Layout(
    (
        Site("stem", 3, Affine()),
        Site("layer1.bn", 4, Gate()),
        Site("layer1.raw", 2, Affine(raw=True)),
        Site("layer2.bn", 4, LowRank(2)),
    )
)
DIAGONAL = Layout(
    (
        Site("affine", 3, Affine()),
        Site("shift", 4, Shift()),
        Site("scale", 2, Scale()),
        Site("raw", 3, Affine(raw=True)),
        Site("exp", 3, Affine(activation="exp")),
        Site("exp scale", 3, Scale(activation="exp")),
    )
)


def ready(generator: Any, layout: Layout, away: bool = True) -> Any:
    generator.bind(layout)
    generator.double()
    if away:
        with torch.no_grad():
            for p in generator.parameters():
                p.normal_()
    return generator


def vectors(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def pair() -> dict[str, nn.Module]:
    return {"text": Linear(5), "user": Lookup(7)}


CONDITIONS = {"text": vectors(3, 5), "user": torch.tensor([6, 0, 6])}


@pytest.mark.parametrize(
    ("generator", "layout"),
    [
        (Sum(pair()), ANY),
        (Product(pair()), DIAGONAL),
        (BySite({"stem": Linear(5), "layer*.**": Lookup(7)}), ANY),
        (
            ConcatEncoders(
                {"text": MLP(5, [4]).encoder, "user": nn.Embedding(7, 6)}, {"text": 4, "user": 6}
            ),
            ANY,
        ),
    ],
    ids=["Sum", "Product", "BySite", "ConcatEncoders"],
)
def test_identity_at_the_start_and_without_conditions(generator: Any, layout: Layout) -> None:
    ready(generator, layout, away=False)
    start = layout.start().double()
    names = generator.patterns if isinstance(generator, BySite) else ("text", "user")
    given = dict(zip(names, CONDITIONS.values(), strict=True))
    for some in (given, {names[0]: given[names[0]]}, {names[1]: given[names[1]]}):
        assert torch.equal(generator(some), start.expand(3, -1))
    assert torch.equal(generator({}), start)
    ready(generator, layout)
    assert not torch.equal(generator(given), start.expand(3, -1))
    assert torch.equal(generator({}), start)


def test_sum_adds_offsets_from_the_start() -> None:
    total = ready(Sum(pair()), ANY)
    start = ANY.start().double()
    assert start.any()  # otherwise the test would not check the offsets
    text, user = (total.parts[name](CONDITIONS[name]) for name in ("text", "user"))
    for row in range(3):
        expected = start + (text[row] - start) + (user[row] - start)
        torch.testing.assert_close(total(CONDITIONS)[row], expected)
    # A single one gives the parameters of its generator exactly.
    assert torch.equal(total({"text": CONDITIONS["text"]}), text)
    assert torch.equal(total({"user": CONDITIONS["user"]}), user)


def test_shared_and_positional_conditions_broadcast() -> None:
    total = ready(Sum({"a": Linear(5), "b": Linear(2), "c": Linear(3)}), ANY)
    a, b, c = vectors(5), vectors(4, 2), vectors(4, 3, 6, 1)
    wide = vectors(4, 3, 1, 7)
    flat = total({"a": a, "b": b, "c": c})
    assert flat.shape == (4, ANY.size, 6, 1)
    one = total({"a": a, "b": b[2], "c": c[2, :, 5, 0]})
    torch.testing.assert_close(flat[2, :, 5, 0], one)
    two = ready(Sum({"a": Linear(3), "b": Linear(3)}), ANY)
    flat = two({"a": c, "b": wide})
    assert flat.shape == (4, ANY.size, 6, 7)
    torch.testing.assert_close(flat[1, :, 3, 4], two({"a": c[1, :, 3, 0], "b": wide[1, :, 0, 4]}))
    for wrong in (vectors(5, 2), vectors(1, 2)):
        with pytest.raises(ShapeError, match="different batch sizes or positions: 'a'"):
            total({"a": a, "b": wrong, "c": c})
    for wrong in (vectors(4, 3, 5, 1), vectors(4, 3, 6), vectors(1, 3)):
        with pytest.raises(ShapeError, match="different batch sizes or positions"):
            two({"a": c, "b": wrong})


# --- products ------------------------------------------------------------------------------------


def features(site: Site) -> Tensor:
    return vectors(3, site.width, 2)


def test_product_equals_successive_modulations() -> None:
    three = {"first": Linear(5), "second": Lookup(7), "third": Linear(2)}
    product = ready(Product(three), DIAGONAL)
    given = {"first": vectors(3, 5), "second": torch.tensor([1, 2, 1]), "third": vectors(3, 2)}
    for names in (["first", "second"], ["second", "third"], ["first", "second", "third"]):
        # The order is that of the generators, not that of the conditions.
        flat = product({name: given[name] for name in reversed(names)})
        for site in DIAGONAL:
            x = features(site)
            expected = x
            for name in names:
                alone = DIAGONAL.split(product.parts[name](given[name]))[site.name]
                expected = site.modulate(expected, alone)
            torch.testing.assert_close(
                site.modulate(x, DIAGONAL.split(flat)[site.name]), expected, rtol=1e-11, atol=1e-11
            )
    assert torch.equal(product({"third": given["third"]}), product.parts["third"](given["third"]))


def test_product_order_matters_and_positions_work() -> None:
    forth = ready(Product({"a": Linear(5), "b": Linear(5)}), DIAGONAL)
    a, b = vectors(5), vectors(3, 5, 2)
    flat = forth({"a": a, "b": b})
    assert flat.shape == (3, DIAGONAL.size, 2)
    site = DIAGONAL["affine"]
    x = features(site)
    one = DIAGONAL.split(forth.parts["a"](a))["affine"]
    two = DIAGONAL.split(forth.parts["b"](b))["affine"]
    done = site.modulate(x, DIAGONAL.split(flat)["affine"])
    torch.testing.assert_close(done, site.modulate(site.modulate(x, one), two))
    assert not torch.isclose(done, site.modulate(site.modulate(x, two), one)).all()


def test_product_of_half_precision_is_computed_in_float32() -> None:
    layout = Layout((Site("a", 50, Affine()),))
    product = Product({"a": Linear(2), "b": Linear(2)})
    ready(product, layout).bfloat16()
    a, b = (torch.randn(2, 2).bfloat16() for _ in range(2))
    flat = product({"a": a, "b": b})
    alone = [layout.split(product.parts[n](z).double())["a"] for n, z in (("a", a), ("b", b))]
    one, two = alone
    expected = {
        "gamma": one["gamma"] + two["gamma"] + one["gamma"] * two["gamma"],
        "beta": (1 + two["gamma"]) * one["beta"] + two["beta"],
    }
    for name, value in layout.split(flat)["a"].items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "operation",
    [Gate(), Affine(activation="softplus"), Affine(activation="tanh"), LowRank()],
    ids=str,
)
def test_product_raises_for_operations_that_do_not_compose(operation: Operation) -> None:
    with pytest.raises(OperationError, match="'here': a composition of two .* has another form"):
        Product({"a": Linear(3)}).bind(Layout((Site("here", 4, operation),)))


def test_product_raises_for_unknown_diagonal_operations() -> None:
    class Other(Diagonal):
        def parameters(self, width: int, extent: Any = None) -> Any:
            return Shift().parameters(width)

        def scale_shift(self, values: Mapping[str, Tensor]) -> Any:
            return None, 2 * values["beta"]

    with pytest.raises(OperationError):
        Product({"a": Linear(3)}).bind(Layout((Site("here", 4, Other()),)))


# --- by site -------------------------------------------------------------------------------------


def test_each_generator_predicts_its_own_sites() -> None:
    # Sites of one generator are not adjacent, and not in the order of the patterns.
    generator = BySite({"*.bn": Linear(5), "stem": Linear(2), "layer1.raw": Lookup(3)})
    ready(generator, ANY)
    given = {"*.bn": vectors(3, 5), "stem": vectors(2), "layer1.raw": torch.tensor([0, 2, 2])}
    flat = generator(given)
    named = ANY.split(flat)
    assert generator.layouts["*.bn"].names == ("layer1.bn", "layer2.bn")
    for pattern, part in zip(given, generator.parts.values(), strict=True):
        own = generator.layouts[pattern]
        for site, values in own.split(part(given[pattern]).expand(3, -1)).items():
            for name, value in values.items():
                assert torch.equal(named[site][name], value)
    del given["*.bn"]
    named = ANY.split(generator(given))
    start = ANY.split(ANY.start().double().expand(3, -1))
    for site in ("layer1.bn", "layer2.bn"):
        for name, value in named[site].items():
            assert torch.equal(value, start[site][name])
    assert torch.equal(named["stem"]["beta"], ANY.split(flat)["stem"]["beta"])


def test_each_site_must_match_exactly_one_pattern() -> None:
    with pytest.raises(LayoutError, match=r"matches layer2.bn"):
        BySite({"stem": Linear(3), "layer1.*": Linear(3)}).bind(ANY)
    with pytest.raises(LayoutError, match=r"'stem' is matched by 'stem' and by '\*\*'"):
        BySite({"stem": Linear(3), "**": Linear(3)}).bind(ANY)
    with pytest.raises(LayoutError, match="no site matches 'layer3"):
        BySite({"**": Linear(3), "layer3.*": Linear(3)}).bind(ANY)
    with pytest.raises(GeneratorError, match="differ only in dots and slashes"):
        BySite({"a.b": Linear(3), "a/b": Linear(3)})


# --- concatenated encoders -----------------------------------------------------------------------


def test_concat_encoders_is_a_head_on_concatenated_features() -> None:
    concat = ready(
        ConcatEncoders({"text": None, "user": nn.Embedding(7, 6)}, {"text": 5, "user": 6}), ANY
    )
    weight, bias = concat.head.weight, concat.head.bias
    user = concat.encoder.encoders["user"](CONDITIONS["user"])
    expected = CONDITIONS["text"] @ weight[:, :5].T + user @ weight[:, 5:].T + bias
    torch.testing.assert_close(concat(CONDITIONS), expected)
    only = concat({"user": CONDITIONS["user"]})
    torch.testing.assert_close(only, user @ weight[:, 5:].T + bias)
    # The order of the conditions is not that of the encoders.
    assert torch.equal(concat(dict(reversed(CONDITIONS.items()))), concat(CONDITIONS))


def test_concat_encoders_with_positions_and_one_width() -> None:
    concat = ready(ConcatEncoders({"a": None, "b": nn.Tanh()}, 3), ANY)
    a, b = vectors(3), vectors(4, 3, 6)
    flat = concat({"a": a, "b": b})
    assert flat.shape == (4, ANY.size, 6)
    torch.testing.assert_close(flat[1, :, 2], concat({"a": a, "b": b[1, :, 2]}))


def test_concat_encoders_with_wrong_features() -> None:
    concat = ready(ConcatEncoders({"a": None, "b": None}, {"a": 3, "b": 2}), ANY)
    with pytest.raises(ShapeError, match=r"features of 'b' must be \(2,\)"):
        concat({"a": vectors(4, 3), "b": vectors(4, 3)})
    with pytest.raises(ArgumentTypeError, match="features of 'a' must be a floating-point"):
        concat({"a": torch.ones(3, dtype=torch.int64)})
    with pytest.raises(ConditionError, match="'a' is None"):
        concat({"a": None})
    with pytest.raises(ShapeError, match="different batch sizes"):
        concat({"a": vectors(4, 3), "b": vectors(3, 2)})
    with pytest.raises(GeneratorError, match="features must name the encoders a, b; got a"):
        ConcatEncoders({"a": None, "b": None}, {"a": 3})
    with pytest.raises(GeneratorError, match="features of 'a' must be at least 1"):
        ConcatEncoders({"a": None}, 0)


# --- all classes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [Sum, Product, BySite, ConcatEncoders])
def test_wrong_names_and_conditions(cls: Any) -> None:
    extra = (3,) if cls is ConcatEncoders else ()
    made = cls({"affine" if cls is not BySite else "**": Linear(3)} | {}, *extra)
    if cls is ConcatEncoders:
        made = ConcatEncoders({"affine": None}, 3)
    name = "**" if cls is BySite else "affine"
    with pytest.raises(LayoutError, match="no layout yet"):
        made({name: vectors(3)})
    ready(made, DIAGONAL)
    with pytest.raises(ConditionError, match="got None"):
        made(None)
    with pytest.raises(ConditionError, match="no generator for 'other'; there are"):
        made({name: vectors(3), "other": vectors(3)})
    with pytest.raises(ArgumentTypeError, match="must be a mapping"):
        made(vectors(3))
    with pytest.raises(ArgumentTypeError, match="must be a mapping"):
        made(Masked({name: vectors(1, 3)}, torch.tensor([True])))
    for wrong in ({}, {"": Linear(3)}, {"train": Linear(3)}):
        with pytest.raises(GeneratorError):
            cls(wrong, *extra)
    with pytest.raises((ArgumentTypeError, GeneratorError, TypeCheckError)):
        cls({3: Linear(3)}, *extra)
    with pytest.raises(KIND):
        cls({"a": SqueezeExcite()}, *extra)
    with pytest.raises(KIND):
        cls({"a": 3}, *extra)
    with pytest.raises(KIND):
        cls([Linear(3)], *extra)
    if cls is not BySite:
        with pytest.raises(GeneratorError, match="cannot be the name"):
            cls({"a.b": Linear(3)}, *extra)


def test_learned_and_optional_parts() -> None:
    total = ready(Sum({"task": Learned(), "text": Optional(Linear(5), 0.0)}), ANY)
    z, present = vectors(3, 5), torch.tensor([True, False, True])
    flat = total({"task": None, "text": Masked(z, present)})
    alone = total({"task": None})
    assert torch.equal(alone, total.parts["task"].vector)
    torch.testing.assert_close(flat[1], alone)
    torch.testing.assert_close(flat[0], total({"task": None, "text": z})[0])
    whole = ready(Optional(Sum({"a": Linear(5), "b": Linear(2)}), 0.0), ANY)
    given = {"a": z, "b": vectors(2)}
    flat = whole(Masked(given, present))
    assert torch.equal(flat[1], ANY.start().double())
    torch.testing.assert_close(flat[2], whole(given)[2])


def test_heads_are_found_for_weight_decay() -> None:
    for made in (
        Sum(pair()),
        BySite({"stem": Linear(5), "layer*.**": Lookup(7)}),
        ConcatEncoders({"text": None}, 5),
        Optional(Sum(pair())),
    ):
        made.bind(ANY)
        groups = {g["name"]: g["params"] for g in parameter_groups(made, 0.1)}
        heads = [p for n, p in made.named_parameters() if n.endswith(("head.weight", "table"))]
        assert {id(p) for p in groups["heads"]} == {id(p) for p in heads}
        assert heads


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sum(pair()),
        lambda: BySite({"stem": Linear(5), "layer*.**": Lookup(7)}),
        lambda: ConcatEncoders({"text": None, "user": nn.Embedding(7, 6)}, {"text": 5, "user": 6}),
        lambda: Optional(Sum({"a": MLP(3, [4])}), 0.25),
    ],
)
def test_rebuilt_from_their_description(make: Any) -> None:
    one = ready(make(), ANY)
    two = from_config(one.config())
    two.bind(ANY)
    two.double().load_state_dict(one.state_dict())
    first, second = CONDITIONS.values()
    if isinstance(one, BySite):
        given = dict(zip(one.patterns, (first, second), strict=True))
    else:
        given = {"a": vectors(2, 3)} if isinstance(one, Optional) else CONDITIONS
    assert torch.equal(one.eval()(given), two.eval()(given))


@pytest.mark.parametrize(
    "made",
    [
        Sum({"a": Linear(5), "b": Linear(2)}),
        Product({"a": Linear(5), "b": Linear(2)}),
        BySite({"*a*": Linear(5), "shift": Linear(2), "exp": Linear(2)}),
        ConcatEncoders({"a": None, "b": nn.Linear(2, 6)}, {"a": 5, "b": 6}),
    ],
    ids=lambda made: type(made).__name__,
)
def test_every_part_has_gradients_also_under_vmap(made: Any) -> None:
    ready(made, DIAGONAL)
    names = made.patterns if isinstance(made, BySite) else ("a", "b")
    given = dict(zip(names, (vectors(3, 5), vectors(3, 2), vectors(3, 2)), strict=False))
    flat = made(given)
    flat.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in made.parameters())
    mapped = vmap(lambda *rows: made(dict(zip(names, rows, strict=True))))(*given.values())
    torch.testing.assert_close(mapped, flat)


@pytest.mark.traced
@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")
class TestTraced:
    @pytest.mark.parametrize("name", ["sum", "product", "site", "concat"])
    def test_compile_and_export(self, name: str) -> None:
        network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3))
        linear = {"0": Linear(5), "2": Linear(3)}
        generator: Any = {
            "sum": Sum(linear),
            "product": Product(linear),
            "site": BySite(linear),
            "concat": ConcatEncoders({"0": None, "2": None}, {"0": 5, "2": 3}),
        }[name]
        net = condition(network, at=nn.Conv2d, generator=generator)
        with torch.no_grad():
            for p in generator.parameters():
                p.normal_(std=0.3)
        x = torch.randn(4, 3, 8, 8)
        compiled = torch.compile(net, fullgraph=True, backend="eager")
        compiled(x, condition={"0": torch.randn(4, 5), "2": torch.randn(4, 3)})
        given = {"0": torch.randn(4, 5), "2": torch.randn(4, 3)}
        with set_stance("fail_on_recompile"):
            y = compiled(x, condition=given)
        torch.testing.assert_close(y, net(x, condition=given))
        program = torch.export.export(net, (x,), {"condition": given})
        given = {"0": torch.randn(4, 5), "2": torch.randn(4, 3)}
        torch.testing.assert_close(program.module()(x, condition=given), net(x, condition=given))
