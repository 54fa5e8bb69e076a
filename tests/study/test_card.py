"""The record of a toy system, trained from record to card."""

import dataclasses
import json
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from featurewise.common.dataset import DatasetFacts
from featurewise.study import card
from featurewise.study.claims import Claim, Criterion, Statement, Verdict, above, at_least
from featurewise.study.metric import ACCURACY, Metric
from featurewise.study.results import Measurement, Proportion, Results, Trial
from featurewise.study.run import describe_run, train
from featurewise.study.system import Arm, Config, Paper, System
from featurewise.training import ClosedForm, ExperimentError, Intervals, Supervised, hardware


@dataclass(frozen=True, slots=True, kw_only=True)
class Toy(Config):
    width: int
    noise: bool = False


class Signs:
    """Is the sum positive? The `blind` arm sees noise instead."""

    def __init__(self, seed, blind):
        self.seed, self.blind = seed, blind

    def batch(self, index):
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        x = torch.randn(64, 4, generator=generator)
        y = (x.sum(1) > 0).long()
        return (torch.randn(64, 4, generator=generator) if self.blind else x), y


class Layers(nn.Sequential):
    """Takes a batch, as networks of systems do."""

    def forward(self, batch):
        return super().forward(batch[0])


def objective(network, batch):
    logits = network(batch)
    return nn.functional.cross_entropy(logits, batch[1]), {}


def build(config):
    width = config.width
    return Layers(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))


def stepper(network, config):
    return Supervised(network, objective, torch.optim.Adam(network.parameters(), 0.05))


def evaluate(stepper, config):
    x, y = Signs(10**6, config.noise).batch(0)
    with stepper.evaluating() as network:
        right = network((x, y)).argmax(1) == y
    by_type = {
        name: Proportion(int(right[y == kind].sum()), int((y == kind).sum()))
        for kind, name in enumerate(("negative", "positive"))
    }
    return Measurement(Proportion(int(right.sum()), len(y)), by_type, {"wrong": 1.5})


def beats(results):
    gap = results.mean("film").value - results.mean("blind").value
    return Verdict(gap, low=0.2)


LOSS = Metric("loss", "mean error", "nats", "lower")
METRICS = (
    Metric("negative", "of negative sums, share classified correctly", "%"),
    Metric("positive", "of positive sums, share classified correctly", "%"),
    Metric("wrong", "errors"),
    LOSS,
)

TOY = System(
    name="toy",
    doc="A toy. Nobody 2020, eq. 1.\n\nTwo layers on sums::\n\n    y = x > 0\n\n``y`` is a sign.",
    paper=Paper("Nobody 2020, Sums", "https://example.org", "eq. 1"),
    world=DatasetFacts("Random numbers.", "none needed"),
    presets={
        "tiny": Toy(steps=30, width=8, intervals=Intervals(log=10, evaluate=15)),
        "small": Toy(steps=300, width=16),
        "paper": Toy(steps=3000, width=64),
    },
    arms=(Arm("film", "the system"), Arm("blind", "sees noise | instead", noise=True)),
    build=build,
    stepper=stepper,
    data=lambda config, seed: Signs(seed, config.noise),
    evaluate=evaluate,
    claims=(
        Claim("It beats blind.", Criterion("At least 20 points above blind.", beats)),
        Claim(
            "It is nearly perfect.",
            at_least(ACCURACY, "film", 99),
            Statement("sums are easy", "table 2", "99.9 %", "no: real sums"),
            why="It is small.",
        ),
        Claim("Order matters.", above(ACCURACY, "film", "shuffled", 50), added=("tiny",)),
    ),
    departures=("It is a toy.",),
    expected="about 95 %",
    finding="Sums are learned.",
    metrics=METRICS,
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


CLAIMS = (Claim("It beats blind.", above(LOSS, "film", "blind", 5)),)


def page(*results, system=TOY, **options):
    return card.to_markdown(card.content(system, *results, **options))


def test_card(results):
    markdown = page(results)
    for expected in (
        "# A toy",
        "[Nobody 2020, Sums](https://example.org), eq. 1.",
        "## What was found\n\nSums are learned.",
        "3 claims at preset `tiny`, 2 seeds: 1 no interval, 1 refuted, 1 not tested.",
        "Two layers on sums:\n\n```text\ny = x > 0\n```\n\n`y` is a sign.",
        "| small | `featurewise run toy --preset small` | 300 | expected: 2 seconds |",
        "| tiny | `featurewise run toy --preset tiny` | 30 | ",
        "Expected: about 95 %.",
        "**Partial**: 2 of 2 arms, 1 of 3 seeds; missing: film with seed 2; blind with seed 1, 2.",
        "| `blind` | sees noise \\| instead |",
        "| It beats blind. At least 20 points above blind. | – | – | ",
        "| It is nearly perfect. Accuracy of `film` is at least 99 %. "
        "| sums are easy (table 2) | 99.9 % | ",
        " | refuted | no: real sums | It is small. |",
        " | not tested | – | Stated after the results were known. |",
        "refuted where none of it does, inconclusive otherwise. One seed gives no interval",
        "| wrong | – | errors |",
        "### Preset `tiny`",
        "Seeds 0, 1.",
        "Test set: size not recorded.",
        "Settings were chosen on: not recorded.",
        "#### accuracy (%) of each seed",
        "- It is a toy.",
        "Licence: none needed.",
        f"torch {torch.__version__}",
    ):
        assert expected in markdown, expected
    for line in markdown.splitlines():
        assert not line.startswith("|") or line.replace("\\|", "").count("|") >= 3


def test_card_without_results():
    markdown = page()
    assert "None yet." in markdown and "3 claims, none tested yet." in markdown
    assert markdown.count("| not tested |") == 3


def test_a_card_of_two_presets_has_a_verdict_at_each(results):
    other = dataclasses.replace(results, preset="small", trials=results.trials[:1])
    markdown = page(results, other)
    assert "| tiny | no interval |" in markdown
    assert "small | not tested" not in markdown  # where another preset has a verdict
    assert "| small | one seed | no: real sums |" in markdown
    assert markdown.index("### Preset `tiny`") < markdown.index("### Preset `small`")


def test_card_json_says_the_same(results):
    text = card.to_json(card.content(TOY, results))
    content = json.loads(text, parse_constant=pytest.fail)
    assert [claim["verdicts"][0]["verdict"] for claim in content["claims"]] == [
        "no interval",
        "refuted",
        "not tested",
    ]
    assert [claim["added"] for claim in content["claims"]] == [[], [], ["tiny"]]
    arms = (content["results"][0]["arms"][arm]["numbers"] for arm in ("film", "blind"))
    film, blind = (numbers["accuracy"] for numbers in arms)
    assert film["value"] == pytest.approx(100 * results.mean("film").value)
    assert list(film["by_seed"]) == ["0", "1"]
    assert (film["over"], blind["over"]) == ("seeds", "test samples")
    assert blind["low"] == 100 * results.of("blind")[0].measured.accuracy.interval.low
    assert content["presets"]["tiny"]["settings"]["width"] == 8
    assert content["results"][0]["hardware"]["torch"] == torch.__version__


def test_numbers_are_shown_in_their_unit_and_within_their_scale():
    """Shares in % that end at 100, large numbers whole, and no metric that was not measured."""
    metrics = (Metric("even", "share of even ones", "%"), Metric("counted", "of all"), LOSS)
    trials = tuple(
        Trial(
            "film",
            seed,
            1,
            1.0,
            8192,
            Measurement.of(None, {metrics[0]: Proportion(right, 100), metrics[1]: 12345.6}),
        )
        for seed, right in enumerate((100, 90, 100))
    )
    system = dataclasses.replace(TOY, score=metrics[0], metrics=metrics, claims=CLAIMS)
    text = page(Results("toy", "tiny", trials), system=system)
    assert "| arm | even (%) | counted |" in text
    assert "| `film` | 96.7 [82.3, 100.0] | 12,346 [12,346, 12,346] |" in text
    assert "| `film` | 8,192 | 1 | 1.0 |" in text


def test_what_a_trial_costs_is_counted(tmp_path):
    trial = train(tmp_path, TOY, describe_run(TOY, preset="tiny"))
    assert trial.flops == 2 * 64 * (4 * 8 + 8 * 2)
    assert trial.peak_memory is None or trial.peak_memory > 10**7
    assert [step for step, _ in trial.curve] == [10, 20, 30]
    assert trial.curve[-1][1] < trial.curve[0][1]
    found = Results("toy", "tiny", (trial,))
    assert Results.from_json(found.to_json()) == found
    arm = card.content(TOY, found)["results"][0]["arms"]["film"]
    assert arm["curves"]["0"] == [list(point) for point in trial.curve]


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

    mean = Metric("mean", "of the first input")

    def evaluate(trained, config):
        return Measurement.of(None, {mean: float(trained.network.mean[0])})

    solved = dataclasses.replace(
        TOY,
        build=lambda config: Mean(),
        stepper=lambda network, config: ClosedForm(network, solve),
        evaluate=evaluate,
        score=mean,
        metrics=(mean,),
    )
    assert train(tmp_path, solved, describe_run(solved, preset="tiny")).parameters == 4


def test_drift_is_found(results, tmp_path):
    facts = card.content(TOY, results)
    assert len(card.stale(tmp_path, facts)) == 2
    card.save(tmp_path, facts)
    assert card.stale(tmp_path, facts) == []
    changed = dataclasses.replace(TOY, departures=("It is a big toy.",))
    assert len(card.stale(tmp_path, card.content(changed, results))) == 2


def verdict_of(values, criterion):
    """The row of a claim in the card of a toy whose arms measured these accuracies of 100."""
    trials = tuple(
        Trial(arm, seed, 1, 1.0, 1, Measurement(Proportion(right, 100)))
        for arm, numbers in values.items()
        for seed, right in enumerate(numbers)
    )
    claim = Claim("Sums are hard.", criterion, why="Sums are easy.")
    system = dataclasses.replace(TOY, claims=(claim,))
    text = page(Results("toy", "tiny", trials), system=system)
    (row,) = [line for line in text.splitlines() if line.startswith(f"| {claim.sentence} ")]
    return row


def test_a_refuted_claim_says_why_and_a_supported_one_does_not():
    arms = {"film": (70, 71, 72), "blind": (60, 61, 62)}
    refuted = verdict_of(arms, above(ACCURACY, "film", "blind", 20))
    assert refuted.endswith("| 10.0 [10.0, 10.0] points | refuted | – | Sums are easy. |")
    supported = verdict_of(arms, above(ACCURACY, "film", "blind", 5))
    assert supported.endswith("| 10.0 [10.0, 10.0] points | supported | – | – |")
    beyond = verdict_of(arms, above(ACCURACY, "film", "blind", 40))
    assert "points | bar beyond the scale | – | No result could meet the bar. Sums" in beyond


def test_seconds_are_a_median_with_its_range():
    """A mean of 22, 409 and 18 is of no trial."""
    trials = tuple(
        Trial("film", seed, 1, seconds, 1, Measurement(Proportion(1, 2)))
        for seed, seconds in enumerate((22.0, 409.2, 18.3))
    )
    text = page(Results("toy", "tiny", trials))
    assert "| 22.0 (18.3 to 409.2) |" in text and "149" not in text
    assert "| 22.0 |" in page(Results("toy", "tiny", trials[:1]))


def test_a_figure_has_its_caption():
    figured = dataclasses.replace(
        TOY,
        draw=lambda *_: None,
        caption="Loss over steps.",
        captions={"blind": "Noise in 0 to 1."},
    )
    trials = [Trial(arm, 0, 1, 1.0, 1, Measurement(Proportion(1, 2))) for arm in ("film", "blind")]
    sheets = {"tiny": {"film": "film.png", "blind": "blind.png"}}
    text = page(Results("toy", "tiny", tuple(trials)), system=figured, sheets=sheets)
    assert (
        "#### What the arms do\n\nLoss over steps.\n\n"
        "**film**\n\n![Figure of what arm film does](film.png)\n\n"
        "**blind**: Noise in 0 to 1.\n\n![Figure of what arm blind does](blind.png)"
    ) in text


def test_what_renders_the_data_is_said():
    system = dataclasses.replace(
        TOY,
        world=dataclasses.replace(TOY.world, needs="a font, `apt-get install fonts-x`"),
        tested_on="3 families",
        tuned_on="validation families",
        limits=("It is easy.",),
        remarks={"tiny": "Other data than at small.", "paper": "Never run."},
    )
    trial = Trial("film", 0, 1, 1.0, 1, Measurement(Proportion(1, 2)))
    found = Results("toy", "tiny", (trial,), {}, {"fonts-x": "1.2-3", "FreeType": "2.13"})
    text = page(found, system=system)
    for expected in (
        "To install: a font, `apt-get install fonts-x`",
        "The data were rendered by: fonts-x 1.2-3, FreeType 2.13.",
        "Test set: 3 families.",
        "Settings were chosen on: validation families.",
        "## What it cannot show\n\n- It is easy.",
        "### Preset `tiny`",
        "Other data than at small.",
    ):
        assert expected in text
    assert "Never run." not in text
    older = dataclasses.replace(found, data_versions={})
    assert "rendered by: versions not recorded." in page(older, system=system)


CONTROL = Arm("blind", "control: sees noise", control_of="wide")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name": "Toy System"}, "called like its file"),
        (
            {"presets": {"tiny": Toy(steps=1, width=1)}},
            "toy: needs presets .*tiny.*small.*paper",
        ),
        ({"cost": {"large": "hours"}}, "costs and remarks of presets alone"),
        ({"remarks": {"large": "long"}}, "costs and remarks of presets alone"),
        ({"arms": ()}, "toy: arms must have different names"),
        ({"arms": (Arm("a", "x"), Arm("a", "y"))}, "toy: arms must have different names"),
        ({"claims": ()}, "toy: a system claims something"),
        ({"draw": lambda *_: None}, "toy: what draw gives needs a caption"),
        (
            {"arms": (Arm("film", "the system"), Arm("blind", "control: sees noise"))},
            "toy: a claim must compare blind with film: blind is a control",
        ),
        ({"arms": (Arm("film", "the system", depth=3),)}, "toy: film changes depth, which is no"),
        ({"metrics": (LOSS, LOSS)}, "toy: two metrics have one name"),
        ({"score": Metric("time", "in seconds")}, "toy: time is not among its metrics"),
        ({"doc": ""}, "toy: the docstring of a system's file begins"),
        ({"doc": "A toy without a body. Nobody 2020."}, "toy: the docstring of a system's file"),
        (
            {
                "arms": (Arm("film", "the system"), Arm("wide", "wider"), CONTROL),
                "claims": CLAIMS,
            },
            "toy: a claim must compare blind with wide",
        ),
        (
            {
                "arms": (Arm("film", "the system"), CONTROL),
                "claims": CLAIMS,
            },
            "toy: arm 'wide' is unknown",
        ),
    ],
)
def test_incomplete_records_are_refused(change, complaint):
    with pytest.raises(ExperimentError, match=complaint):
        dataclasses.replace(TOY, **change)


def test_an_arm_is_the_preset_with_its_changes():
    assert TOY.config("tiny", "film") == TOY.preset("tiny")
    assert TOY.config("tiny", "blind") == dataclasses.replace(TOY.preset("tiny"), noise=True)
    assert TOY.config(Toy(steps=5, width=1), "blind") == Toy(steps=5, width=1, noise=True)
    with pytest.raises(ExperimentError, match="an arm is called like a file"):
        Arm("../blind", "sees noise")


def test_unknown_names_list_the_known():
    with pytest.raises(ExperimentError, match="toy: arm 'flim' is unknown; there is film, blind"):
        TOY.arm("flim")
    with pytest.raises(
        ExperimentError, match="toy: preset 'huge' is unknown; there is tiny, small"
    ):
        TOY.preset("huge")
    with pytest.raises(ExperimentError, match="toy: metric 'nats' is unknown"):
        TOY.metric("nats")
    with pytest.raises(ExperimentError, match="^steps must be 1 or more, got 0"):
        Toy(steps=0, width=1)


def test_hardware():
    found = hardware.describe()
    assert int(found["cores"]) >= 1
    assert found["threads"] == str(torch.get_num_threads())
    assert found["torch"] == torch.__version__
    assert all(isinstance(value, str) and value for value in found.values())


def test_a_metric_that_a_system_defines_itself_has_one_row(results):
    own = Metric("accuracy", "share of sums whose sign is right", "%", "higher")
    system = dataclasses.replace(TOY, metrics=(own, *TOY.metrics))
    said = card.content(system, results)["metrics"]
    assert [each["what"] for each in said if each["name"] == "accuracy"] == [own.what]
