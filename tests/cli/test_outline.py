"""The outline that is read from the text of a system equals its record."""

import pytest

from featurewise.cli import discovery
from featurewise.cli.outline import Outline, read_outline, read_title


@pytest.mark.parametrize("name", discovery.names())
def test_the_outline_equals_the_record(name):
    record = discovery.load(name)
    arms = {arm.name: arm.what for arm in record.arms}
    presets = {preset: record.cost.get(preset, "") for preset in record.presets}
    for part, expected in (("title", record.prose.title), ("presets", presets), ("arms", arms)):
        assert getattr(read_outline(discovery._files()[name][1]), part) in (None, expected)
        assert discovery.outline(name, part) == expected
    assert read_title(discovery._files()[name][1]) == record.prose.title


def test_values_may_be_names(tmp_path):
    (tmp_path / "sizes.py").write_text('PRESETS = {"tiny": 1, "small": 2}')
    (tmp_path / "system.py").write_text(
        '"""T. Nobody 2020, eq. 1."""\n'
        "from here.sizes import PRESETS\n"
        'ARMS = (Arm("a", "one " "two"),)\n'
        'SYSTEM: System = System(presets=PRESETS, arms=ARMS, cost={"tiny": "1 s"})\n'
    )
    assert read_outline(tmp_path / "system.py") == Outline(
        "T", {"tiny": "1 s", "small": ""}, {"a": "one two"}
    )


@pytest.mark.parametrize(
    "text",
    [
        "SYSTEM = replace(OTHER, name='x')",
        "SYSTEM = OTHER",
        "x = 1",
        "SYSTEM = System(doc=T, presets=made(), arms=[f(x) for x in y])",
        "from far.away import ARMS\nSYSTEM = System(arms=ARMS)",
    ],
)
def test_computed_values_are_unknown(tmp_path, text):
    (tmp_path / "system.py").write_text(text)
    assert read_outline(tmp_path / "system.py") == Outline()
