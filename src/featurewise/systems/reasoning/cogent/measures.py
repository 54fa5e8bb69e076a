"""What is measured of CoGenT."""

from __future__ import annotations

from typing import Final, get_args

from featurewise.study.metric import PERCENT, Metric
from featurewise.systems.reasoning.cogent.method import Method
from featurewise.systems.reasoning.cogent.parts import PARTS

METHODS: Final = get_args(Method)
SHARES: Final = {"1/16": PARTS, "1/4": 4, "all": 1}
"""Name -> the scenes of B that a copy is fine-tuned on are divided by this number."""


def _share(name: str, what: str) -> Metric:
    return Metric(name, what, PERCENT, "higher")


ACCURACY = _share(
    "accuracy",
    "share of questions about scenes of condition B that are answered correctly; its "
    "interval treats the questions about one scene as dependent",
)
ON_A = _share("accuracy, A", "the same about scenes of condition A")
_UNKNOWN = "on questions of B that name just one combination which does not occur in A"
DIRECT = _share(
    "unknown", f"accuracy {_UNKNOWN}; FiLM parameters of the question itself"
)
SUM = _share("unknown, sum", f"accuracy {_UNKNOWN}; parameters a + b - c")
RANDOM_C = _share(
    "unknown, random c", "the same, with c of another of these questions in place of c"
)
RANDOM_ALL = _share("unknown, random", "the same, with a, b and c of other questions")
OVERALL_SUM = _share(
    "accuracy, sum", "accuracy on B, with a + b - c for questions that allow it"
)
THERE = _share(
    "unknown, there",
    f"accuracy {_UNKNOWN}, if the answer is neither no nor 0; parameters of the question",
)
THERE_SUM = _share("unknown, there, sum", "the same with parameters a + b - c")
APPLICABLE = Metric("applicable", "share of B's questions that name just one", PERCENT)
_GAIN = (
    "accuracy with a + b - c less that with the question itself, on the same questions"
)
GAIN = Metric("gain", _GAIN, "points", "higher", (-100.0, 100.0))
GAIN_LOW = Metric(
    "gain, lower end",
    f"{_GAIN}: lower end of its 95 % interval, by a bootstrap over scenes",
    "points",
    "higher",
    (-100.0, 100.0),
)
BY_METHOD: Final = {
    (condition, method, share): _share(
        f"{condition}, {method}, {share}",
        f"accuracy on {condition} after fine-tuning on scenes of B: {share} of them; "
        + {
            "all": "all weights change",
            "EWC": "all weights change, held by elastic weight consolidation",
            "generator": "the FiLM generator alone changes",
        }[method],
    )
    for condition in ("A", "B")
    for method in METHODS
    for share in SHARES
}
METRICS = (
    *(ACCURACY, ON_A, OVERALL_SUM, APPLICABLE, DIRECT, SUM, RANDOM_C, RANDOM_ALL),
    *(THERE, THERE_SUM, GAIN, GAIN_LOW),
    *BY_METHOD.values(),
)
