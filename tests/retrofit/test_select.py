from __future__ import annotations

import pytest
from jaxtyping import TypeCheckError
from torch import nn

from featurewise.core import Affine, Gate, KindError, LayoutError, Shift
from featurewise.retrofit.select import select


class Tree(nn.Module):
    """layer1, layer2: blocks 0, 1 with conv, bn1, bn2; a shared module under two names."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("layer1", "layer2"):
            blocks = [
                nn.ModuleDict(
                    {"conv": nn.Conv2d(2, 2, 1), "bn1": nn.BatchNorm2d(2), "bn2": nn.BatchNorm2d(2)}
                )
                for _ in range(2)
            ]
            setattr(self, name, nn.ModuleList(blocks))
        self.head = nn.Linear(2, 2)
        self.tied = self.head


def names(at: object) -> list[str]:
    return list(select(Tree(), at, Affine()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("head", ["head"]),
        ("layer2.*.bn2", ["layer2.0.bn2", "layer2.1.bn2"]),
        ("layer*.0.bn*", ["layer1.0.bn1", "layer1.0.bn2", "layer2.0.bn1", "layer2.0.bn2"]),
        ("**.bn1", ["layer1.0.bn1", "layer1.1.bn1", "layer2.0.bn1", "layer2.1.bn1"]),
        ("layer1.**.conv", ["layer1.0.conv", "layer1.1.conv"]),
        ("layer1.0.**", ["layer1.0", "layer1.0.conv", "layer1.0.bn1", "layer1.0.bn2"]),
        ("**.head", ["head"]),
        (nn.Linear, ["head"]),
        (lambda name, module: name.endswith("1.conv"), ["layer1.1.conv", "layer2.1.conv"]),
        (["head", "layer1.1.conv", nn.Linear], ["layer1.1.conv", "head"]),
        ("tied", ["head"]),
    ],
)
def test_selectors(at: object, expected: list[str]) -> None:
    assert names(at) == expected


def test_star_stays_within_one_component() -> None:
    with pytest.raises(LayoutError):
        names("layer1.*bn1")


def test_dots_of_a_pattern_are_dots() -> None:
    with pytest.raises(LayoutError):
        names("layer1.0xbn1")


def test_everything_holds_the_network_itself() -> None:
    assert names("**") == [name for name, _ in Tree().named_modules()]


def test_mapping_gives_each_its_operation_in_the_order_of_the_network() -> None:
    chosen = select(Tree(), {"head": Shift(), "layer1.*.bn1": Gate()}, Affine())
    assert chosen == {"layer1.0.bn1": Gate(), "layer1.1.bn1": Gate(), "head": Shift()}
    assert list(chosen) == ["layer1.0.bn1", "layer1.1.bn1", "head"]


def test_no_match_names_the_near_ones() -> None:
    with pytest.raises(LayoutError, match=r"'layer3.\*.bn2'; near names: .*layer\d.\d.bn2"):
        names("layer3.*.bn2")
    with pytest.raises(LayoutError, match="Conv3d; the network has BatchNorm2d, Conv2d"):
        names(nn.Conv3d)
    with pytest.raises(LayoutError, match="at names no module"):
        names([])


def test_one_selector_of_several_without_match_is_an_error() -> None:
    with pytest.raises(LayoutError, match="'nothing'"):
        names(["head", "nothing"])


def test_two_operations_for_one_site() -> None:
    with pytest.raises(LayoutError, match="two selectors match 'head'"):
        select(Tree(), {"head": Shift(), nn.Linear: Gate()}, Affine())


@pytest.mark.parametrize("at", [3, int, {"head": "film"}])
def test_wrong_kinds(at: object) -> None:
    with pytest.raises((KindError, TypeCheckError)):
        names(at)
