"""FiLM for visual reasoning: training and answering beside a literal twin of the paper's model.

    python benchmarks/reasoning.py [--paper] [--rounds 5]

``Twin`` is Perez et al. 2018 written as the paper says it and as one writes it first: a GRU over
padded questions, coordinate maps concatenated, contiguous float32, Adam tensor by tensor, one
picture per question, γ and β sliced block by block from one tensor (questions, blocks, 2, C). The
library's network holds the same weights, gives the same logits and gradients (checked first), and
what makes it faster is turned on one thing after another.

All contenders take turns in one process; a ratio is the median over rounds of time(twin) /
time(contender), with the least and the greatest. One thread and CPU time of the process, so that
other jobs disturb little. ``--paper`` has the sizes of the paper (59 million parameters, pictures
224 x 224) and takes minutes and 6 GB; otherwise everything is a quarter as wide.
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

from featurewise.systems.reasoning.film import Reasoner
from featurewise.systems.reasoning.film.settings import PRESETS, Reasoning
from featurewise.training.allocator import use_large_allocations
from featurewise.worlds.clevr import ANSWERS, VOCABULARY, Batch

#: Ratios of an earlier measurement at the paper's sizes, 1 thread, against the original code.
SPIKE = {
    "packed GRU": "1.45",
    "deferred weight gradient": "2.4",
    "fused Adam": "2.6",
    "large allocations": "3.1",
    "channels last": "3.4 (5.0 with a prepacked float32 product)",
    "bfloat16": "7.3-7.9",
    "task kept": "43-48",
    "task kept, bfloat16": "78-85",
}
LONGEST = 46
PICTURES, QUESTIONS = 8, 4  # in a training batch

Times = dict[str, list[float]]


class TwinBlock(nn.Module):
    """Figure 3 of the paper, right."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels + 2, channels, 1)
        self.convolve = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=False)

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """A block of the FiLM-ed network."""
        h = F.relu(self.project(with_coordinates(x)))
        y = self.norm(self.convolve(h))
        y = y * gamma[:, :, None, None].expand_as(y) + beta[:, :, None, None].expand_as(y)
        return h + F.relu(y)


class Twin(nn.Module):
    """The whole model of the paper (section 3 and "from raw pixels"), literally."""

    def __init__(self, s: Reasoning) -> None:
        super().__init__()
        self.channels = s.channels
        layers: list[nn.Module] = []
        for before, after in zip((3, *s.stem, s.channels), (*s.stem, s.channels), strict=False):
            layers += [nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after)]
            layers += [nn.ReLU()]
        self.stem = nn.Sequential(*layers)
        self.embedding = nn.Embedding(len(VOCABULARY), s.embedding, padding_idx=0)
        self.gru = nn.GRU(s.embedding, s.hidden, batch_first=True)
        self.film = nn.Linear(s.hidden, s.blocks * 2 * s.channels)
        self.blocks = nn.ModuleList(TwinBlock(s.channels) for _ in range(s.blocks))
        self.project = nn.Conv2d(s.channels + 2, s.features, 1)
        self.classify = nn.Sequential(
            nn.Linear(s.features, s.features, bias=False),
            nn.BatchNorm1d(s.features),
            nn.ReLU(),
            nn.Linear(s.features, len(ANSWERS)),
        )

    def forward(self, images: Tensor, questions: Tensor, lengths: Tensor) -> Tensor:
        """Logits (Q, 28) of pictures (Q, 3, H, W) and padded questions (Q, T)."""
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
    """The features and two maps of the place, concatenated."""
    count, _, height, width = x.shape
    across = torch.linspace(-1, 1, width).expand(count, 1, height, width)
    down = torch.linspace(-1, 1, height).unsqueeze(1).expand(count, 1, height, width)
    return torch.cat((x, across, down), dim=1)


def twin_weights(net: Reasoner) -> dict[str, Tensor]:
    """The library's weights under the twin's names."""
    renamed: dict[str, Tensor] = {}
    for name, value in net.state_dict().items():
        if not name.startswith("naming") and not name.endswith("place.weight"):
            renamed[twin_name(name)] = value
    for name, value in net.state_dict().items():
        if name.endswith("place.weight"):
            other = twin_name(name.replace("place", "project"))
            renamed[other] = torch.cat((renamed[other], value), dim=1)
    return renamed


def twin_name(name: str) -> str:
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


class PlainReader(nn.Module):
    """``nn.GRU`` in the place of the library's reader, with its weights."""

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


def batch_of(pictures: int, questions: int, size: int) -> Batch:
    """Noise and questions of 5 to 46 tokens, 18 on average, as CLEVR's are."""
    count = pictures * questions
    share = torch.distributions.Beta(1.25, 2.9).sample((count,))
    lengths = (5 + share * (LONGEST - 5)).round().long()
    tokens = torch.randint(2, len(VOCABULARY), (count, LONGEST))
    return Batch(
        images=torch.randint(0, 256, (pictures, 3, size, size), dtype=torch.uint8),
        image_index=torch.arange(pictures).repeat_interleave(questions),
        questions=tokens.where(torch.arange(LONGEST) < lengths.unsqueeze(1), 0),
        lengths=lengths,
        answers=torch.randint(len(ANSWERS), (count,)),
        types=torch.zeros(count, dtype=torch.int64),
    )


def repeated(batch: Batch) -> Batch:
    """One picture per question."""
    images = batch.images[batch.image_index]
    return replace(batch, images=images, image_index=torch.arange(len(images)))


def logits_of(net: Reasoner, batch: Batch, task: Tensor | None = None) -> Tensor:
    """The library's logits: as ``net(batch).logits``, without naming what it sees."""
    seen = net.see(batch.images)
    if len(seen) < len(batch.image_index):
        seen = seen[batch.image_index]
    given = {"task": task} if task is not None else {"condition": (batch.questions, batch.lengths)}
    logits: Tensor = net.answer(net.trunk(seen, **given)).float()
    return logits


def keep_large_blocks(wanted: bool) -> None:
    """As `use_large_allocations` does, or back to the thresholds that glibc itself arrives at."""
    if use_large_allocations() and not wanted:
        glibc = ctypes.CDLL(None)
        glibc.mallopt(-3, 32 << 20)
        glibc.mallopt(-1, 64 << 20)
        glibc.malloc_trim(0)


@dataclass(frozen=True)
class Step:
    """How a training step of the library's network is done."""

    net: Reasoner
    reader: nn.Module
    adam: torch.optim.Adam
    batch: Batch
    half: bool = False

    def __call__(self) -> None:
        """Forward, backward, Adam."""
        self.net.trunk.generator.encoder = self.reader
        self.adam.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            logits = logits_of(self.net, self.batch)
        F.cross_entropy(logits, self.batch.answers).backward()
        self.adam.step()


def training(net: Reasoner, twin: Twin, size: int) -> dict[str, Callable[[], None]]:
    """Training steps: the twin's, then ours, each with one thing more."""
    batch = batch_of(PICTURES, QUESTIONS, size)
    single = repeated(batch)
    twin_adam = adam(twin, fused=False)

    def twin_step() -> None:
        twin_adam.zero_grad(set_to_none=True)
        logits = twin(single.images, single.questions, single.lengths)
        F.cross_entropy(logits, single.answers).backward()
        twin_adam.step()

    reader = net.trunk.generator.encoder
    last = copy.deepcopy(net).to(memory_format=torch.channels_last)
    clean = Step(net, PlainReader(reader, packed=False), adam(net, fused=False), single)
    packed = replace(clean, reader=PlainReader(reader, packed=True))
    deferred = replace(packed, reader=reader)
    fused = replace(deferred, adam=adam(net, fused=True))
    channels = replace(
        fused, net=last, reader=last.trunk.generator.encoder, adam=adam(last, fused=True)
    )
    return {
        "twin": twin_step,
        "clean network": clean,
        "packed GRU": packed,
        "deferred weight gradient": deferred,
        "fused Adam": fused,
        "large allocations": replace(fused),  # and all below, see `measured`
        "channels last": channels,
        "bfloat16": replace(channels, half=True),
        "picture seen once": replace(channels, half=True, batch=batch),
    }


def adam(net: nn.Module, fused: bool) -> torch.optim.Adam:
    return torch.optim.Adam(net.parameters(), lr=1e-6, fused=fused, foreach=False)


def answering(net: Reasoner, twin: Twin, size: int) -> dict[str, Callable[[], Tensor]]:
    """Forty questions on four pictures: ways to get the same logits."""
    batch = batch_of(4, 10, size)
    single = repeated(batch)
    net = net.to(memory_format=torch.channels_last)
    task = net.trunk.represent((batch.questions, batch.lengths))

    def ours(batch: Batch, task: Tensor | None = None, half: bool = False) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            return logits_of(net, batch, task)

    def one_by_one() -> Tensor:
        return torch.cat(
            [
                twin(*each)
                for each in zip(
                    single.images.split(1),
                    single.questions.split(1),
                    single.lengths.split(1),
                    strict=True,
                )
            ]
        )

    return {
        "twin, one by one": one_by_one,
        "twin": lambda: twin(single.images, single.questions, single.lengths),
        "batched": lambda: ours(single),
        "picture seen once": lambda: ours(batch),
        "seen once, bfloat16": lambda: ours(batch, half=True),
        "task kept": lambda: ours(batch, task.flat),
        "task kept, bfloat16": lambda: ours(batch, task.flat, half=True),
    }


def agreement(net: Reasoner, twin: Twin, size: int) -> None:
    """Stop unless twin and library agree; print by how much they differ.

    In float64, where no rounding hides anything, every gradient must agree. In float32 one
    rounding may decide a maximum or a ReLU otherwise, so the gradient is compared as a whole.
    """
    batch = batch_of(2, 3, size)
    for dtype, bound in ((torch.float64, 1e-8), (torch.float32, 1e-2)):
        torch.set_default_dtype(dtype)
        for mode in ("train", "eval"):
            net.to(dtype).train(mode == "train")
            twin.to(dtype).load_state_dict(twin_weights(net))  # the running statistics too
            twin.train(mode == "train")
            value, worst, whole = differences(net, twin, batch)
            off = worst if dtype == torch.float64 else whole
            if value > bound / 100 or off > bound:
                raise SystemExit(f"{dtype}, {mode}: logits differ by {value}, gradients by {off}")
            print(
                f"  {str(dtype)[6:]}, {mode}: logits within {value:.0e}, the gradient within "
                f"{whole:.0e}, each part of it within {worst:.0e}"
            )
    net.train()
    twin.train()


def differences(net: Reasoner, twin: Twin, batch: Batch) -> tuple[float, float, float]:
    """Relative differences: of logits, of the worst parameter's gradient, of all gradients."""
    single = repeated(batch)
    theirs = twin(single.images, single.questions, single.lengths)
    grads = torch.autograd.grad(F.cross_entropy(theirs, batch.answers), list(twin.parameters()))
    by_name = dict(zip(dict(twin.named_parameters()), grads, strict=True))
    own = {name: p for name, p in net.named_parameters() if not name.startswith("naming")}
    expected = [expected_grad(name, by_name) for name in own]
    found: list[tuple[float, float, float]] = []
    for seen in (single, batch):
        seen_at = net.see(seen.images)[seen.image_index]
        logits = net.answer(net.trunk(seen_at, condition=(seen.questions, seen.lengths)))
        grads = torch.autograd.grad(F.cross_entropy(logits, batch.answers), list(own.values()))
        pairs = list(zip(grads, expected, strict=True))
        off = sum(float((a - b).square().sum()) for a, b in pairs)
        size = sum(float(b.square().sum()) for _, b in pairs)
        worst = max(relative(a, b) for a, b in pairs)
        found.append((relative(logits, theirs), worst, (off / size) ** 0.5))
    value, worst, whole = (max(each) for each in zip(*found, strict=True))
    return value, worst, whole


def expected_grad(name: str, twin: dict[str, Tensor]) -> Tensor:
    """The twin's gradient of one of our parameters; two of ours are one of its convolutions."""
    if name.endswith("place.weight"):
        return twin[twin_name(name.replace("place", "project"))][:, -2:]
    if name.endswith("project.project.weight"):
        return twin[twin_name(name)][:, :-2]
    return twin[twin_name(name)]


def relative(found: Tensor, expected: Tensor) -> float:
    found, expected = found.detach(), expected.detach()
    return float((found - expected).norm() / expected.norm().clamp_min(1e-12))


def measured(cases: dict[str, Callable[[], object]], large: str, rounds: int) -> Times:
    """CPU seconds of every case in every round; a first round is not counted.

    From the case ``large`` on, the process keeps large blocks; a run that is not counted gets
    them first.
    """
    times: Times = {name: [] for name in cases}
    for _ in range(rounds + 1):
        keep_large_blocks(False)
        for name, case in cases.items():
            if name == large:
                keep_large_blocks(True)
                case()
            start = time.process_time()
            case()
            times[name].append(time.process_time() - start)
    return {name: values[1:] for name, values in times.items()}


def ratios(times: Times, name: str, base: str) -> str:
    """Median, least and greatest ratio of paired rounds."""
    each = [a / b for a, b in zip(times[base], times[name], strict=True)]
    return f"{median(each):6.2f} [{min(each):.2f}-{max(each):.2f}]"


def table(times: Times, count: int, bases: list[str], more: dict[str, str] | None = None) -> None:
    unit = "ms/sample" if more is None else "ms/answer"
    heads = "".join(f"{'x ' + base:>22}" for base in bases)
    print(f"  {'':26}{unit:>10}{heads}{'' if more is None else '  deviation'}  spike")
    for name, values in times.items():
        shown = "".join(f"{ratios(times, name, base):>22}" for base in bases)
        off = "" if more is None else f"{more[name]:>11}"
        print(f"  {name:26}{median(values) / count * 1e3:10.2f}{shown}{off}  {SPIKE.get(name, '')}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--paper", action="store_true", help="the sizes of the paper")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    settings, size = PRESETS["paper"], 224
    if not options.paper:
        settings = replace(
            settings, hidden=1024, channels=64, stem=(64, 64, 64), embedding=64, features=256
        )
        size = 128
    net, twin = Reasoner(settings), Twin(settings)
    nn.init.normal_(net.trunk.generator.head.weight, std=0.02)
    print(
        f"GRU {settings.hidden}, {settings.channels} channels, {size} x {size}, "
        f"{sum(p.numel() for p in twin.parameters()) / 1e6:.1f} M parameters, 1 thread"
    )
    print("Twin and library, same weights; relative differences:")
    agreement(net, twin, size)

    count = PICTURES * QUESTIONS
    print(f"\nTraining step, {count} questions of {PICTURES} pictures; each line adds one thing:")
    trained = measured(training(net, twin, size), "large allocations", options.rounds)
    table(trained, count, ["twin"])

    net.eval()
    twin.eval()
    twin.load_state_dict(twin_weights(net))
    with torch.no_grad():
        cases = answering(net, twin, size)
        exact = cases["twin"]()
        off = {
            name: f"{float((case() - exact).abs().max() / exact.abs().max()):.0e}"
            for name, case in cases.items()
        }
        asked = measured(cases, "batched", options.rounds)
    print("\nForty questions on four pictures; deviation in parts of the largest logit:")
    table(asked, 40, ["twin, one by one", "twin"], off)

    print("\nIn sum, beside the spike (paper's sizes):")
    for what, times, name, base, spike in (
        ("training, float32", trained, "channels last", "twin", "5.0"),
        ("training, bfloat16", trained, "bfloat16", "twin", "7.3-7.9"),
        ("training, seen once", trained, "picture seen once", "twin", "-"),
        ("answering, float32", asked, "task kept", "twin", "43-48"),
        ("answering, bfloat16", asked, "task kept, bfloat16", "twin", "78-85"),
        ("answering, one by one", asked, "task kept, bfloat16", "twin, one by one", "-"),
    ):
        print(f"  {what:26}{ratios(times, name, base):>22}   spike {spike}")


if __name__ == "__main__":
    main()
