"""``advice``: a recipe against overfitting of a conditioned network, with its own numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from textwrap import fill, indent
from typing import Final

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from featurewise.core import ArgumentTypeError, FeaturewiseError, LayoutError
from featurewise.generators import LocalGenerator, Lookup, parameter_groups
from featurewise.retrofit.conditioned import Conditioned

#: A generator with at least this share of the backbone's parameters counts as large.
LARGE: Final = 0.1
#: Weight decay of Perez et al. 2018 (section 2.2), for weights and for heads.
DECAY: Final = 1e-5


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the recipe.

    Attributes:
        topic: a few words, the heading of the step.
        text: what to do, with the numbers of the network.
        urgent: whether the numbers of this network call for it now.
    """

    topic: str
    text: str
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Advice:
    """What ``advice`` measured; ``str`` of it is the recipe.

    Attributes:
        generator: class of the generator.
        generator_parameters: number of its trainable parameters.
        backbone_parameters: number of parameters of the backbone.
        backbone_trained: number of those that are trainable.
        sites: number of sites.
        per_condition: N, the size of one task representation.
        depth: weight layers of the generator; of a local one, per site.
        conditions: rows of the generator's lookup table; None without one.
        examples: training examples, as given.
        layers_after: weight layers of the backbone after the first and after the last site.
        pools_after: pooling layers after the last site.
        batch_norms: number of batch norms of the backbone, and number of those in training mode.
        neutral: whether the initial conditioned network equals the backbone.
        groups: weight-decay group -> number of its parameters.
        code: an optimiser with these groups, to copy.
        steps: the recipe.
    """

    generator: str
    generator_parameters: int
    backbone_parameters: int
    backbone_trained: int
    sites: int
    per_condition: int
    depth: int
    conditions: int | None
    examples: int | None
    layers_after: tuple[int, int]
    pools_after: int
    batch_norms: tuple[int, int]
    neutral: bool
    groups: dict[str, int]
    code: str
    steps: tuple[Step, ...] = ()

    @property
    def share(self) -> float:
        """Trainable parameters of the generator over parameters of the backbone."""
        return self.generator_parameters / max(1, self.backbone_parameters)

    @property
    def large(self) -> bool:
        """Whether the generator is large relative to its backbone."""
        return self.share >= LARGE

    def __str__(self) -> str:
        lines = [
            f"{self.sites} sites, {self.per_condition:,} parameters per condition",
            f"{self.generator} with {self.generator_parameters:,} trainable parameters, "
            f"{_percent(self.share)} of the backbone's {self.backbone_parameters:,}",
        ]
        for number, step in enumerate(self.steps, 1):
            mark = "!" if step.urgent else " "
            head = f"{mark}{number}. {step.topic}: "
            lines.append(fill(head + step.text, 96, subsequent_indent="    "))
        return "\n".join([*lines, "", indent(self.code, "    ")])


def advice(net: Conditioned, examples: int | None = None) -> Advice:
    """A recipe against overfitting, with the numbers of one conditioned network.

    FiLM has a large capacity, and it is the generator that overfits: start with FiLM, watch the
    gap between training and validation, regularise and simplify the generator, and only then
    build prior knowledge of the task into the network.

    Args:
        net: a conditioned network.
        examples: number of training examples, if known.

    Returns:
        Numbers, weight-decay groups and steps; print it. A "!" marks the urgent steps.

    Raises:
        ArgumentTypeError: ``net`` is not a conditioned network, or ``examples`` not an integer.
        LayoutError: ``examples`` is below 1.

    Source:
        Perez 2019, *A Retrospective for FiLM*; Perez et al. 2018, section 4.3 and appendix;
        Oreshkin et al. 2018, *TADAM*.
    """
    if not isinstance(net, Conditioned):
        raise ArgumentTypeError(f"net must be a conditioned network, got {type(net).__name__}")
    if examples is not None and (not isinstance(examples, int) or isinstance(examples, bool)):
        raise ArgumentTypeError(f"examples must be an integer, got {type(examples).__name__}")
    if examples is not None and examples < 1:
        raise LayoutError(f"examples must be at least 1, got {examples}")
    facts = _facts(net, examples)
    return _with_steps(facts, isinstance(net.generator, LocalGenerator))


def size_of_generator(net: Conditioned) -> int:
    """Number of trainable parameters of the generator that are not shared with the backbone."""
    shared = set(net.backbone.parameters())
    return _count(p for p in net.generator.parameters() if p.requires_grad and p not in shared)


# --- measuring -----------------------------------------------------------------------------------


def _facts(net: Conditioned, examples: int | None) -> Advice:
    groups = _groups(net)
    tables = [m.count for m in net.generator.modules() if isinstance(m, Lookup)]
    norms = [m for m in net.backbone.modules() if isinstance(m, _BatchNorm)]
    first, last, pools = _after(net)
    return Advice(
        generator=type(net.generator).__name__,
        generator_parameters=size_of_generator(net),
        backbone_parameters=_count(net.backbone.parameters()),
        backbone_trained=_count(p for p in net.backbone.parameters() if p.requires_grad),
        sites=len(net.layout),
        per_condition=net.layout.size,
        depth=_depth(net.generator, len(net.layout)),
        conditions=max(tables, default=None),
        examples=examples,
        layers_after=(first, last),
        pools_after=pools,
        batch_norms=(len(norms), sum(m.training for m in norms)),
        neutral=net.layout.neutral,
        groups=groups,
        code=_code(groups),
    )


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _depth(generator: nn.Module, sites: int) -> int:
    layers = sum(_is_layer(module) for module in generator.modules())
    # A local generator has layers of its own for each site.
    return math.ceil(layers / sites) if isinstance(generator, LocalGenerator) else layers


def _is_layer(module: nn.Module) -> bool:
    embedding = isinstance(module, nn.Embedding | nn.EmbeddingBag)
    return not embedding and any(p.ndim > 1 for p in module.parameters(recurse=False))


def _after(net: Conditioned) -> tuple[int, int, int]:
    """Weight layers after the first and the last site, pools after the last; in module order."""
    modules = list(net.backbone.named_modules())
    ends: list[int] = []
    for name in net.layout.names:
        inside = [i for i, (n, _) in enumerate(modules) if _within(n, name)]
        ends.append(inside[-1] if net.layout[name].when == "output" else inside[0] - 1)
    layers = [i for i, (_, module) in enumerate(modules) if _is_layer(module)]
    pools = [i for i, (_, module) in enumerate(modules) if "Pool" in type(module).__name__]
    first, last = min(ends), max(ends)
    return (
        sum(i > first for i in layers),
        sum(i > last for i in layers),
        sum(i > last for i in pools),
    )


def _within(name: str, site: str) -> bool:
    return not site or name == site or name.startswith(f"{site}.")


def _groups(net: Conditioned) -> dict[str, int]:
    try:
        groups = parameter_groups(net, DECAY)
    except FeaturewiseError:  # nothing to train
        return {}
    return {group["name"]: _count(group["params"]) for group in groups}


def _code(groups: dict[str, int]) -> str:
    if not groups:
        return "# nothing is trained: every parameter is frozen"
    found = ", ".join(f"{name}: {count:,}" for name, count in groups.items())
    return (
        "import torch\n"
        "from featurewise.generators import parameter_groups\n"
        "\n"
        f"# {found}\n"
        f"groups = parameter_groups(net, weight_decay={DECAY:g}, head_weight_decay={DECAY:g})\n"
        "optimizer = torch.optim.Adam(groups, lr=3e-4)"
    )


# --- the steps -----------------------------------------------------------------------------------


def _with_steps(facts: Advice, local: bool) -> Advice:
    steps = (
        _start(facts),
        _gap(facts),
        _regularise(facts, local),
        _simplify(facts),
        _frozen(facts),
        *([_norms(facts)] if facts.batch_norms[0] else []),
        _places(facts),
        Step(
            "Only then build in prior knowledge",
            "conditioning that varies over positions, attention, several hops: structure that fits "
            "the task need not be learned from examples.",
        ),
    )
    fields = {name: getattr(facts, name) for name in facts.__slots__}
    return Advice(**{**fields, "steps": steps})


def _start(facts: Advice) -> Step:
    if facts.neutral:
        begin = "At initialisation this network equals its backbone exactly; keep that."
    else:
        begin = "An operation has no identity, so training starts from a perturbed network."
    return Step("Start with FiLM", begin, urgent=not facts.neutral)


def _gap(facts: Advice) -> Step:
    size = f"The generator has {facts.generator_parameters:,} trainable parameters"
    if facts.examples is not None:
        each = facts.generator_parameters / facts.examples
        size += f", {each:,.3g} for each of {facts.examples:,} examples"
    if facts.conditions is not None:
        size += f", {facts.per_condition:,} for each of {facts.conditions:,} conditions"
        if facts.examples is not None:
            size += f" seen {facts.examples / facts.conditions:,.3g} times each"
    many = facts.examples is not None and facts.generator_parameters > facts.examples
    text = f"{size}. Evaluate often and pass both losses to featurewise.training.OverfitMonitor."
    return Step("Watch the gap between training and validation", text, urgent=many)


def _regularise(facts: Advice, local: bool) -> Step:
    text = (
        "weight decay on the heads (below; try ten and a hundred times as much), without which "
        "FiLM lost about ten points of accuracy on CLEVR; "
    )
    if local:
        text += "dropout on the inputs of the generator."
    else:
        text += (
            "a penalty, loss + 0.01 * deviation(net.represent(condition)); GatedGenerator, "
            "ParameterDropout, spectral and Bounded around the generator."
        )
    return Step("Regularise the generator first", text, urgent=facts.large)


def _simplify(facts: Advice) -> Step:
    if facts.depth > 1:
        layers = _some(facts.depth, "weight layer")
        text = (
            f"{facts.generator} has {layers}; a linear map did as well or better for FiLM and "
            "BigGAN. Try Linear on the same condition, or fewer and narrower layers."
        )
    else:
        text = (
            f"{facts.generator} already has no hidden layer. Fewer sites, Scale or Shift in "
            "place of Affine, or a narrower condition make it smaller still."
        )
    if facts.large:
        text = f"{_percent(facts.share)} of the backbone is a large share. {text}"
    return Step("Simplify the generator", text, urgent=facts.large and facts.depth > 1)


def _frozen(facts: Advice) -> Step:
    trained, whole = facts.backbone_trained, facts.backbone_parameters
    if trained == 0:
        text = f"all {whole:,} parameters are frozen, and only the generator can overfit."
        return Step("The backbone", text)
    text = (
        f"{trained:,} of {whole:,} parameters are trained too. If pretrained, freeze it first "
        "(net.backbone.requires_grad_(False)), and unfreeze it with a smaller learning rate when "
        "the generator has converged."
    )
    few = facts.examples is not None and trained > facts.examples
    return Step("The backbone", text, urgent=few)


def _norms(facts: Advice) -> Step:
    count, training = facts.batch_norms
    if facts.backbone_trained == 0:
        text = (
            f"{count}, {training} of them in training mode, where statistics are updated although "
            "the backbone is frozen: call net.backbone.eval() after each net.train()."
        )
        return Step("Batch normalisation", text, urgent=training > 0)
    text = (
        f"{count}, {training} of them in training mode. Batch statistics mix the conditions of a "
        "batch: sample batches with many conditions, distributed as in evaluation, or keep the "
        "statistics fixed with eval() on these modules."
    )
    return Step("Batch normalisation", text)


def _places(facts: Advice) -> Step:
    first, last = facts.layers_after
    text = (
        f"{_some(first, 'weight layer')} after the first site, {last} after the last, in the order "
        "of the modules. FiLM gets its capacity from the layers after it: on CLEVR one early site "
        "was as accurate as four. "
    )
    if last == 0:
        text += "No layer follows the last site, so it only scales and shifts the output. "
    if facts.pools_after:
        text += f"{_some(facts.pools_after, 'pooling layer')} after the last site; "
    text += (
        "FiLM is the same at every position, so information about position must be in the features."
    )
    return Step("Where the sites are", text)


def _some(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
