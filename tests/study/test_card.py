"""The record of a toy system, trained from record to card."""

import dataclasses
import json
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from featurewise.study import card
from featurewise.study.claims import above, at_least
from featurewise.study.results import Measurement, Proportion, Results, Trial
from featurewise.study.run import describe_run, train
from featurewise.study.system import Arm, Claim, Paper, Settings, System, Verdict
from featurewise.training import ClosedForm, ExperimentError, Intervals, Supervised, hardware


@dataclass(frozen=True, slots=True, kw_only=True)
class Toy(Settings):
    width: int


class Signs:
    """Is the sum positive? The `blind` arm sees noise instead."""

    def __init__(self, seed, blind):
        self.seed, self.blind = seed, blind

    def batch(self, index):
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        x = torch.randn(64, 4, generator=generator)
        y = (x.sum(1) > 0).long()
        return (torch.randn(64, 4, generator=generator) if self.blind else x), y


def objective(network, batch):
    logits = network(batch[0])
    return nn.functional.cross_entropy(logits, batch[1]), {}


def build(settings, arm):
    width = settings.width
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))


def stepper(network, settings, arm):
    return Supervised(network, objective, torch.optim.Adam(network.parameters(), 0.05))


def evaluate(stepper, settings, arm):
    x, y = Signs(10**6, arm.name == "blind").batch(0)
    with stepper.evaluating() as network:
        right = network(x).argmax(1) == y
    by_type = {
        name: Proportion(int(right[y == kind].sum()), int((y == kind).sum()))
        for kind, name in enumerate(("negative", "positive"))
    }
    return Measurement(Proportion(int(right.sum()), len(y)), by_type, {"wrong": 1.5})


def beats(results):
    gap = results.mean("film").value - results.mean("blind").value
    return Verdict(gap, low=0.2)


TOY = System(
    name="toy",
    title="A toy",
    what="Two layers on sums.",
    paper=Paper("Nobody 2020, Sums", "https://example.org", "eq. 1"),
    world="Random numbers.",
    licence="none needed",
    presets={
        "tiny": Toy(steps=30, width=8, every=Intervals(log=10, evaluate=15)),
        "small": Toy(steps=300, width=16),
        "paper": Toy(steps=3000, width=64),
    },
    arms=(Arm("film", "the system"), Arm("blind", "sees noise | instead")),
    build=build,
    stepper=stepper,
    data=lambda settings, arm, seed: Signs(seed, arm.name == "blind"),
    evaluate=evaluate,
    claims=(
        Claim("At least 20 points above blind.", beats),
        at_least("film", 0.99, why="It is small."),
        above("film", "shuffled", 50, added=True),
    ),
    departures=("It is a toy.",),
    band="about 95 %",
    cost={"tiny": "1 second", "small": "2 seconds", "paper": "9 seconds"},
)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    trials = [
        train(folder / f"{arm}{seed}", TOY, describe_run(TOY, preset="tiny", arm=arm, seed=seed))
        for arm, seeds in [("film", (0, 1)), ("blind", (0,))]
        for seed in seeds
    ]
    again = train(folder / "film0", TOY, describe_run(TOY, preset="tiny"))
    assert again.measured == trials[0].measured  # a finished run is measured, not trained, again
    return Results("toy", "tiny", tuple(trials), hardware.describe())


def test_a_trial_learns_and_repeats(results, tmp_path):
    film = results.of("film")[0]
    assert film.measured.number() > 0.85
    assert (film.steps, film.parameters) == (30, 4 * 8 + 8 + 8 * 2 + 2)
    again = train(tmp_path, TOY, describe_run(TOY, preset="tiny"))
    assert again.measured == film.measured
    assert results.of("blind")[0].measured.number() < 0.75


def test_card(results):
    markdown = card.to_markdown(TOY, results)
    for expected in (
        "# A toy",
        "Nobody 2020, Sums <https://example.org>, eq. 1.",
        "| small | `featurewise run toy --preset small` | 300 | expected: 2 seconds |",
        "| tiny | `featurewise run toy --preset tiny` | 30 | ",
        "**Partial**: 2 of 2 arms, 1 of 3 seeds; missing: film with seed 2; blind with seed 1, 2.",
        "| `blind` | sees noise \\| instead |",
        "| At least 20 points above blind. | tiny | no interval |",
        "| `accuracy` of `film` is at least 0.99. | tiny | refuted |",
        " | It is small. |",
        "above `shuffled`. | tiny | not tested | – | Stated after the results were known. |",
        "refuted where none of it does, inconclusive otherwise. One seed gives no interval",
        "The paper gives no number for this experiment.",
        "### Preset `tiny`",
        "Seeds 0, 1.",
        "Test set: size not recorded.",
        "Settings were chosen on: not recorded.",
        "### By type",
        "| wrong | 1.5 [1.5, 1.5] | 1.5 |",
        "- It is a toy.",
        "Licence: none needed.",
        f"torch {torch.__version__}",
    ):
        assert expected in markdown
    for line in markdown.splitlines():
        assert not line.startswith("|") or line.replace("\\|", "").count("|") >= 3


def test_card_without_results():
    markdown = card.to_markdown(TOY)
    assert "None yet." in markdown
    assert markdown.count("not tested") == 3


def test_a_card_of_two_presets_judges_each(results):
    other = dataclasses.replace(results, preset="small", trials=results.trials[:1])
    markdown = card.to_markdown(TOY, results, other)
    assert "| At least 20 points above blind. | tiny | no interval |" in markdown
    assert "| At least 20 points above blind. | small | not tested | – |" in markdown
    assert "is at least 0.99. | small | one seed | " in markdown
    assert markdown.index("### Preset `tiny`") < markdown.index("### Preset `small`")


def test_card_json_says_the_same(results):
    content = json.loads(card.to_json(TOY, results), parse_constant=pytest.fail)
    assert [claim["verdicts"][0]["verdict"] for claim in content["claims"]] == [
        "no interval",
        "refuted",
        "not tested",
    ]
    assert [claim["added"] for claim in content["claims"]] == [False, False, True]
    film, blind = (content["results"][0]["arms"][arm] for arm in ("film", "blind"))
    assert film["accuracy"]["value"] == pytest.approx(results.mean("film").value)
    assert (film["accuracy"]["over"], blind["accuracy"]["over"]) == ("seeds", "questions")
    assert blind["accuracy"]["low"] == results.of("blind")[0].measured.accuracy.interval.low
    assert content["presets"]["tiny"]["settings"]["width"] == 8
    assert content["results"][0]["hardware"]["torch"] == torch.__version__


def test_what_is_shown_once_is_not_shown_again():
    """The score and the parameters have columns; large numbers are whole, proportions end at 1."""
    trials = tuple(
        Trial(
            "film",
            seed,
            1,
            1.0,
            8192,
            Measurement(
                Proportion(right, 100),
                {"even": Proportion(right, 100)},
                {"loss": 0.25, "parameters": 8192.0, "counted": 12345.6},
            ),
        )
        for seed, right in enumerate((100, 90, 100))
    )
    scored = dataclasses.replace(TOY, score="loss", better="lower")
    text = card.to_markdown(scored, Results("toy", "tiny", trials))
    assert "| film | 0.25 [0.25, 0.25] | 3 | 8,192 |" in text
    assert "\n| loss |" not in text
    assert "\n| parameters |" not in text
    assert "| counted | 12,346 [12,346, 12,346] |" in text
    assert "| even | 96.7 [82.3, 100.0] |" in text


def test_a_system_that_is_solved_has_as_many_parameters_as_its_solution(tmp_path):
    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.zeros(4))

        def forward(self, batch):
            return (batch[0] - self.mean).sum(1)

    def solve(network, batch):
        network.mean.copy_(batch[0].mean(0))
        return {"loss": torch.zeros(())}

    def evaluate(trained, settings, arm):
        return Measurement(values={"mean": float(trained.network.mean[0])})

    solved = dataclasses.replace(
        TOY,
        build=lambda settings, arm: Mean(),
        stepper=lambda network, settings, arm: ClosedForm(network, solve),
        evaluate=evaluate,
        score="mean",
    )
    assert train(tmp_path, solved, describe_run(solved, preset="tiny")).parameters == 4


def test_drift_is_found(results, tmp_path):
    assert len(card.stale(TOY, [results], tmp_path)) == 2
    card.save(TOY, [results], tmp_path)
    assert card.stale(TOY, [results], tmp_path) == []
    changed = dataclasses.replace(TOY, departures=("It is a big toy.",))
    assert len(card.stale(changed, [results], tmp_path)) == 2


def verdict_of(values, claim):
    """The row of a claim in the card of a toy whose arms measured these accuracies of 100."""
    trials = tuple(
        Trial(arm, seed, 1, 1.0, 1, Measurement(Proportion(right, 100)))
        for arm, numbers in values.items()
        for seed, right in enumerate(numbers)
    )
    system = dataclasses.replace(TOY, claims=(claim,))
    (row,) = [
        line
        for line in card.to_markdown(system, Results("toy", "tiny", trials)).splitlines()
        if line.startswith(f"| {claim.sentence} |")
    ]
    return row


def test_a_refuted_claim_says_why_and_a_supported_one_does_not():
    arms = {"film": (70, 71, 72), "blind": (60, 61, 62)}
    refuted = verdict_of(arms, above("film", "blind", 20, why="Sums are easy."))
    assert refuted.endswith("| refuted | 10 [10, 10] | Sums are easy. |")
    supported = verdict_of(arms, above("film", "blind", 5, why="Sums are easy."))
    assert supported.endswith("| supported | 10 [10, 10] |  |")
    beyond = verdict_of(arms, above("film", "blind", 40, why="Sums are easy."))
    assert "| bar beyond the scale | 10 [10, 10] | No result could meet the bar. Sums" in beyond


def test_seconds_are_a_median_with_its_range():
    """A mean of 22, 409 and 18 is of no trial."""
    trials = tuple(
        Trial("film", seed, 1, seconds, 1, Measurement(Proportion(1, 2)))
        for seed, seconds in enumerate((22.0, 409.2, 18.3))
    )
    text = card.to_markdown(TOY, Results("toy", "tiny", trials))
    assert "| 22.0 (18.3 to 409.2) |" in text and "149" not in text
    assert "| 22.0 |" in card.to_markdown(TOY, Results("toy", "tiny", trials[:1]))


def test_a_figure_has_its_caption():
    drawn = dataclasses.replace(
        TOY,
        draw=lambda *_: None,
        caption="Loss over steps.",
        captions={"blind": "Noise in 0 to 1."},
    )
    trials = [Trial(arm, 0, 1, 1.0, 1, Measurement(Proportion(1, 2))) for arm in ("film", "blind")]
    sheets = {"tiny": {"film": "film.png", "blind": "blind.png"}}
    text = card.to_markdown(drawn, Results("toy", "tiny", tuple(trials)), sheets=sheets)
    assert (
        "#### What the arms do\n\nLoss over steps.\n\n"
        "**film**\n\n![Figure of what arm film does](film.png)\n\n"
        "**blind**: Noise in 0 to 1.\n\n![Figure of what arm blind does](blind.png)"
    ) in text


def test_what_renders_the_data_is_said():
    system = dataclasses.replace(
        TOY,
        needs="a font, `apt-get install fonts-x`",
        tested_on="3 families",
        tuned_on="validation families",
        limits=("It is easy.",),
    )
    trial = Trial("film", 0, 1, 1.0, 1, Measurement(Proportion(1, 2)))
    found = Results("toy", "tiny", (trial,), {}, {"fonts-x": "1.2-3", "FreeType": "2.13"})
    text = card.to_markdown(system, found)
    for expected in (
        "To install: a font, `apt-get install fonts-x`",
        "The data were rendered by: fonts-x 1.2-3, FreeType 2.13.",
        "Test set: 3 families.",
        "Settings were chosen on: validation families.",
        "## What it cannot show\n\n- It is easy.",
    ):
        assert expected in text
    older = dataclasses.replace(found, data_versions={})
    assert "rendered by: versions not recorded." in card.to_markdown(system, older)


CONTROL = Arm("blind", "control: sees noise", control_of="wide")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name": "Toy System"}, "called like its file"),
        (
            {"presets": {"tiny": Toy(steps=1, width=1)}},
            "toy: needs presets .*tiny.*small.*paper",
        ),
        ({"cost": {"large": "hours"}}, "costs of presets alone"),
        ({"arms": ()}, "toy: arms must have different names"),
        ({"arms": (Arm("a", "x"), Arm("a", "y"))}, "toy: arms must have different names"),
        ({"claims": ()}, "toy: a system claims something"),
        ({"draw": lambda *_: None}, "toy: what draw draws needs a caption"),
        (
            {"arms": (Arm("film", "the system"), Arm("blind", "control: sees noise"))},
            "toy: a claim must compare blind with film: blind is a control",
        ),
        (
            {
                "arms": (Arm("film", "the system"), Arm("wide", "wider"), CONTROL),
                "claims": (above("film", "blind", 5),),
            },
            "toy: a claim must compare blind with wide",
        ),
        (
            {
                "arms": (Arm("film", "the system"), CONTROL),
                "claims": (above("film", "blind", 5),),
            },
            "toy: arm 'wide' is unknown",
        ),
    ],
)
def test_incomplete_records_are_refused(change, complaint):
    with pytest.raises(ExperimentError, match=complaint):
        dataclasses.replace(TOY, **change)


def test_unknown_names_list_the_known():
    with pytest.raises(ExperimentError, match="toy: arm 'flim' is unknown; there is film, blind"):
        TOY.arm("flim")
    with pytest.raises(
        ExperimentError, match="toy: preset 'huge' is unknown; there is tiny, small"
    ):
        TOY.preset("huge")
    with pytest.raises(ExperimentError, match="a claim without a number"):
        Claim("It is better.", beats)
    with pytest.raises(ExperimentError, match="at least 1 step"):
        Toy(steps=0, width=1)


def test_hardware():
    found = hardware.describe()
    assert int(found["cores"]) >= 1
    assert found["threads"] == str(torch.get_num_threads())
    assert found["torch"] == torch.__version__
    assert all(isinstance(value, str) and value for value in found.values())
