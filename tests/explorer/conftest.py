import pytest
import torch
from PIL import Image

from featurewise.analysis import ParameterTable
from featurewise.explorer import (
    AccuracyRow,
    AccuracyTable,
    AnsweredQuestion,
    Claim,
    Curve,
    ImageQuestions,
    Report,
    Score,
)
from featurewise.explorer.overlay import heat


def score(value, count=1000):
    return Score(value, max(0.0, value - 0.03), min(1.0, value + 0.03), count)


def table():
    rows = [
        ("all questions", 0, (0.91, 0.52, 0.4)),
        ("count", 1, (0.85, 0.44, 0.3)),
        ("exist", 1, (0.95, 0.61, None)),
        ("query attribute", 1, (0.93, 0.5, 0.41)),
        ("query color", 2, (0.92, 0.13, 0.1)),
        ("query shape", 2, (1.0, 0.33, 0.0)),
    ]
    return AccuracyTable(
        "Trained just now",
        "Rendered images, held out.",
        ("FiLM", "question only", "FiLM, other questions"),
        tuple(
            AccuracyRow(name, level, tuple(None if v is None else score(v) for v in values))
            for name, level, values in rows
        ),
    )


def parameters():
    torch.manual_seed(0)
    count = 400
    return ParameterTable(
        ("blocks.0.norm", "blocks.1.norm"),
        torch.arange(count) % 2,
        torch.arange(count) // 2 % 10,
        torch.arange(count) // 20,
        1 + 0.5 * torch.randn(count),
        torch.randn(count),
    )


@pytest.fixture(scope="session")
def report():
    image = Image.linear_gradient("L").resize((480, 320)).convert("RGB")
    places = torch.zeros(5, 8)
    places[1, 2], places[3, 6] = 0.7, 0.3
    ranked = (("yes", 0.83), ("no", 0.16), ("2", 0.01))
    questions = tuple(
        AnsweredQuestion(question, ranked, truth, overlay)
        for question, truth, overlay in [
            ("Are there any red cubes?", "yes", heat(image, places)),
            ("Is the <b>large</b> & shiny thing a sphere?", "no", heat(image, places)),
            ("How many things are there?", None, None),
        ]
    )
    return Report(
        title="FiLM answers questions about images",
        summary=(
            "A residual network processes the image; FiLM conditions it on the question.",
            "A & B <i>2018</i>.",
        ),
        claims=(
            Claim("FiLM is at least 15 points above question.", "supported", 39.0),
            Claim("FiLM is at least 15 points above attention.", "refuted", 3.25),
            Claim("FiLM is at least 15 points above shuffled.", "not tested", None),
        ),
        accuracy=(table(),),
        images=(ImageQuestions(image, "Image 1: a small red metal cube.", questions),),
        parameters=parameters(),
        parameters_of="for 20 questions",
        losses=(
            Curve("FiLM", (50, 100, 150), (2.0, 1.1, 0.7)),
            Curve("question only", (50, 100, 150), (2.1, 1.6, 1.5)),
        ),
        facts={"processor": "any", "seeds": "0"},
        commands=("make demo", "featurewise train film"),
    )
