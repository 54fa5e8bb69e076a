"""Prototypical networks. Snell, Swersky, Zemel 2017, equations 1 and 2, figure 1.

A network of convolutions embeds pictures; a class is the mean of its few support pictures there,
and a query belongs to the class whose mean is nearest: softmax over -|f(x) - c|². Nothing is
conditioned: this is the base that TADAM conditions (``tadam``).

    featurewise run prototypical --arms all --seeds 3
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from PIL.Image import Image
from torch import Tensor, nn

from featurewise.models.trunks import PoolingTrunk
from featurewise.study.claims import above, at_least, at_most
from featurewise.study.results import Measurement, Proportion
from featurewise.study.system import Arm, Paper, Settings, System
from featurewise.training.batch import to_device
from featurewise.training.optim import cosine
from featurewise.training.source import Source
from featurewise.training.steppers import Episodic, Metrics
from featurewise.worlds.glyphs import episodes as world
from featurewise.worlds.glyphs.episodes import Episodes, EpisodeSource
from featurewise.worlds.glyphs.versions import NEEDS, render_versions

EPISODES = (
    "Two test episodes, a class a row: its support image, a gap, its queries. Wrongly classified "
    "queries are white on black; the fraction at the left counts the right ones."
)


@dataclass(frozen=True, kw_only=True)
class FewShot(Settings):
    """Sizes; `letters` and `faces` are the most that are taken of a script."""

    fonts: Literal["bundled", "debian"] = "debian"
    size: int = 20
    faces: int = 6
    letters: int = 30
    channels: int = 16
    way: int = 5
    shot: int = 1
    queries: int = 5
    episodes: int = 8
    test_episodes: int = 500
    learning_rate: float = 5e-3


def prototypes(
    vectors: Float[Tensor, "E NK D"], labels: Int64[Tensor, "E NK"], way: int
) -> Float[Tensor, "E N D"]:
    """Mean vector of each class, equation 1."""
    member = (labels[..., None] == torch.arange(way, device=labels.device)).to(vectors.dtype)
    return member.mT @ vectors / member.sum(1)[..., None]


def distances(
    queries: Float[Tensor, "E Q D"], centres: Float[Tensor, "E N D"]
) -> Float[Tensor, "E Q N"]:
    """Squared Euclidean distances."""
    return (queries[:, :, None] - centres[:, None]).square().sum(3)


class Prototypical(nn.Module):
    """Embedding, class means, distances; by the cosine, or on raw pixels, in those arms."""

    def __init__(self, s: FewShot, arm: str) -> None:
        super().__init__()
        self.way, self.cosine = s.way, arm.startswith("cosine")
        self.embed: nn.Module = nn.Flatten() if arm == "pixels" else PoolingTrunk(s.channels)
        starts = {"cosine_scaled": torch.tensor(10.0), "pixels": torch.rand(())}
        self.scale = nn.Parameter(starts[arm]) if arm in starts else 1.0

    def forward(self, batch: Episodes) -> Float[Tensor, "E Q N"]:
        """Logits of the classes for each query, equation 2."""
        shots = batch.support.shape[1]
        pictures = torch.cat((batch.support, batch.query), dim=1)
        vectors = self.embed(pictures.flatten(0, 1)).view(*pictures.shape[:2], -1)
        centres = prototypes(vectors[:, :shots], batch.support_labels, self.way)
        if self.cosine:
            unit = (F.normalize(each, dim=2) for each in (vectors[:, shots:], centres))
            return self.scale * (next(unit) @ next(unit).mT)
        return -self.scale * distances(vectors[:, shots:], centres)


def build(s: FewShot, arm: Arm) -> nn.Module:
    """The network of an arm."""
    network: nn.Module = Prototypical(s, arm.name)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def episodes_of(s: FewShot, part: str, seed: int, shot: int, extra: int = 0) -> EpisodeSource:
    """Episodes of the scripts for training, validation or test."""
    pool = world.script_pool(s.fonts, s.size, s.faces, s.letters)
    sizes: Any = {"way": s.way, "shot": shot, "queries": s.queries, "episodes": s.episodes}
    classes = getattr(world.split_classes(pool), part)
    return EpisodeSource(pool, classes=classes, seed=seed, auxiliary=extra, **sizes)


def data(s: FewShot, arm: Arm, seed: int, part: str = "train", shot: int = 0) -> Source[Episodes]:
    """Episodes of the training scripts, with as many shots as the settings say unless told."""
    source = episodes_of(s, part, seed, shot or s.shot)
    return world.ShuffledLabels(source) if arm.name == "shuffled" else source


def objective(network: nn.Module, batch: Episodes) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the queries."""
    logits = network(batch).flatten(0, 1)
    answers = batch.query_labels.flatten()
    right = (logits.detach().argmax(1) == answers).float().mean()
    return F.cross_entropy(logits, answers), {"accuracy": right}


def stepper(network: nn.Module, s: FewShot, arm: Arm) -> Episodic:
    """Adam, its rate along a cosine."""
    optimizer = torch.optim.Adam(network.parameters(), lr=s.learning_rate)
    return Episodic(network, objective, optimizer, schedule=cosine(s.steps, floor=0.01))


def evaluate(stepper: Episodic, s: FewShot, arm: Arm, part: str = "test") -> Measurement:
    """Episodes of scripts never seen."""
    return scores(stepper, s, lambda shot: data(s, arm, 10_000, part, shot))


def scores(stepper: Episodic, s: FewShot, of: Callable[[int], Source[Any]]) -> Measurement:
    """Queries named rightly, with as many shots as in training and with five."""
    found = {}
    for shot in sorted({s.shot, 5}):
        right, source = [], of(shot)
        with stepper.evaluating() as network:
            for index in range(-(-s.test_episodes // s.episodes)):
                batch = to_device(source.batch(index), stepper.learner.device)
                right.append(network(batch).argmax(2) == batch.query_labels)
        found[f"{shot}-shot"] = Proportion.of(torch.cat(right))
    return Measurement(found[f"{s.shot}-shot"], found)


def draw(stepper: Episodic, s: FewShot, arm: Arm) -> Image:
    """Test episodes, and which of their queries are named rightly."""
    return show(stepper, episodes_of(s, "test", 20_000, s.shot).batch(0))


def show(stepper: Episodic, batch: Episodes) -> Image:
    """A sheet of two episodes."""
    with stepper.evaluating() as network:
        named = network(to_device(batch, stepper.learner.device)).argmax(2).cpu()
    return world.episode_sheet(batch, named, count=2)


SYSTEM = System(
    name="prototypical",
    title="Prototypical networks: the nearest class mean",
    what="Four blocks of convolutions embed letters; a class is the mean of its support pictures, "
    "and a query goes to the nearest by squared Euclidean distance. Not conditioned.",
    paper=Paper(
        citation="Snell, Swersky, Zemel 2017: Prototypical Networks for Few-shot Learning. NeurIPS",
        url="https://arxiv.org/abs/1703.05175",
        where="equations 1 and 2, figure 1",
        reports="Omniglot, 5 classes (table 1): 98.8 % from 1 shot, 99.7 % from 5",
    ),
    world="Letters of scripts with two typefaces at least; no test script is trained on.",
    licence="typefaces of Debian's font packages, mostly OFL and Apache-2.0; nothing is shipped",
    presets={
        "tiny": FewShot(
            steps=30, fonts="bundled", size=16, faces=2, letters=8, channels=8, test_episodes=8
        ),
        "small": FewShot(steps=1000),
        "paper": FewShot(steps=100_000, size=28, letters=100, channels=64, episodes=1),
    },
    arms=(
        Arm("prototypical", "the system"),
        Arm("cosine", "the same with cosines in place of distances"),
        Arm("cosine_scaled", "cosines times a learned number"),
        Arm("pixels", "nearest class mean of the raw pixels; nothing is learned but one scale"),
        Arm(
            "shuffled",
            "control: support labels dealt by lot, in the test too, so that chance is left",
        ),
    ),
    build=build,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    claims=(
        above("prototypical", "pixels", 20.0),
        above("prototypical", "shuffled", 50.0, added=True),
        above("prototypical", "cosine", 0.0),
        above("prototypical", "cosine_scaled", 0.0),
        at_least("shuffled", 0.17),
        at_most("shuffled", 0.23),
    ),
    departures=(
        "Trained on five classes, not 60. No query is in a typeface that its class is shown in.",
        "20 x 20 pixels, 16 channels, not 28 x 28, 64; five shots, jittered where there are fewer.",
        "Letters of Unicode scripts in typefaces, not Omniglot's 1,623 characters drawn by hand; "
        "none is rotated to make new classes.",
        "Preset paper has the paper's trunk and image size; its episodes are of 5 classes, not 60.",
    ),
    needs=NEEDS,
    versions=lambda s: render_versions(s.fonts),
    tested_on="504 episodes of 25 queries from 14 scripts (420 letters, 1,380 images) that share "
    "no letter with the 38 training scripts; scripts are the independent units",
    caption=EPISODES,
    measures={f"{k}-shot": f"queries of five classes, {k} shown of each" for k in (1, 5)},
    band="84 % from one shot, 90 % from five; chance is 20 %",
    draw=draw,
)
