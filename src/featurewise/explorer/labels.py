"""Labels of conditions: what kind each is, and which conditions it tells apart."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Final, TypeAlias

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from featurewise.explorer import schema
from featurewise.explorer.bundle import ExplorerError

Label: TypeAlias = schema.CategoryLabel | schema.NumberLabel | schema.TextLabel

MAX_LEVELS: Final = 24
"""Most values of a label that are compared with the others, and most words of a text."""

_EACH: Final = 10
"""Values that occur so often each, on average, are those of a category however many they are."""

_COMMON: Final = 0.9
"""A word that a larger share of the texts has is not compared: nearly all have it."""

_UNKNOWN: Final = ("NaT", "<NA>")
"""How data frames write an unknown date, and another unknown value."""

_WORD: Final = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True)
class Kind:
    """Conditions of one kind, and those they are compared with.

    Attributes:
        level: value of the label, or a word in it.
        other: what it is compared with; empty: all others.
        kind: which conditions are of the kind.
        either: which conditions are compared.
    """

    level: str
    other: str
    kind: Bool[Tensor, "B"]
    either: Bool[Tensor, "B"]


def label(name: str, values: Sequence[Any]) -> Label:
    """A label of the kind that its values have; see `featurewise.explore`.

    Raises:
        ExplorerError: a value is no text, number or date, or a number is infinite.
    """
    plain = [_plain(name, value) for value in values]
    known = [value for value in plain if value is not None]
    distinct = set(known)
    few = len(distinct) <= max(MAX_LEVELS, len(known) // _EACH)
    if known and all(isinstance(value, float) for value in known):
        whole = all(value == int(value) for value in known)
        if not whole or not few:
            numbers = [None if value is None else float(value) for value in plain]
            return schema.NumberLabel(name=name, values=numbers)
        order = sorted(distinct)
        return _category(name, plain, order, [str(int(level)) for level in order])
    plain = [value if value is None or isinstance(value, str) else f"{value:g}" for value in plain]
    texts = [value for value in plain if value is not None]
    sentences = sum(len(value.split()) > 1 for value in texts) > len(texts) / 2
    mostly_different = sentences and len(set(texts)) > len(texts) / 2
    if texts and (not few or mostly_different):
        return schema.TextLabel(name=name, texts=[value or "" for value in plain])
    order = sorted(set(texts), key=_natural)
    return _category(name, plain, order, order)


def _plain(name: str, value: Any) -> Any:
    """A number, a text, or None; other values as texts."""
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise ExplorerError(f"label {name!r} has tensors of {tuple(value.shape)} as values")
        value = value.item()
    elif type(value).__module__ == "numpy" and getattr(value, "dtype", None) is not None:
        if value.ndim:
            raise ExplorerError(f"label {name!r} has arrays of {value.shape} as values")
        value = value.item() if value.dtype.kind in "biuf" else str(value)
    if value is None or isinstance(value, str):
        return None if value in _UNKNOWN else value
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, Real):
        number = float(value)
        if math.isnan(number):
            return None
        if math.isinf(number):
            raise ExplorerError(f"label {name!r} has an infinite value; None stands for unknown")
        return number
    if isinstance(value, list | dict | set):
        raise ExplorerError(
            f"label {name!r} has values of type {type(value).__name__}; give one text or number "
            "for each condition"
        )
    text = str(value)
    return None if text in _UNKNOWN else text


def _natural(text: str) -> tuple[tuple[bool, int, str], ...]:
    """A key that sorts "10" after "2"."""
    parts = re.findall(r"\d+|\D+", text)
    return tuple(
        (not each.isdecimal(), int(each) if each.isdecimal() else 0, each) for each in parts
    )


def _category(
    name: str, values: Sequence[Any], order: Sequence[Any], levels: list[str]
) -> schema.CategoryLabel:
    place = {value: index for index, value in enumerate(order)}
    codes = [-1 if value is None else place[value] for value in values]
    return schema.CategoryLabel(name=name, levels=levels, codes=codes)


def rows(whole: Label, shown: Int64[Tensor, "n"]) -> Label:
    """The label of some of the conditions."""
    chosen = shown.tolist()
    if isinstance(whole, schema.CategoryLabel):
        return replace(whole, codes=[whole.codes[row] for row in chosen])
    if isinstance(whole, schema.NumberLabel):
        return replace(whole, values=[whole.values[row] for row in chosen])
    return replace(whole, texts=[whole.texts[row] for row in chosen])


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation, as the page has them."""
    return _WORD.findall(text.lower())


def kinds(whole: Label, contrasts: Sequence[tuple[str, str]]) -> Iterator[Kind]:
    """Conditions to tell apart: by each value of a category, each frequent word, each contrast.

    Args:
        whole: label of all conditions.
        contrasts: pairs of words, or of several words with "|" between them, for a text label.
    """
    if isinstance(whole, schema.CategoryLabel):
        codes = torch.tensor(whole.codes)
        sizes = Counter(code for code in whole.codes if code >= 0)
        common = sorted(sizes, key=lambda code: (-sizes[code], code))[:MAX_LEVELS]
        if len(common) == 2:  # each level is the other's opposite
            low, high = sorted(common)
            yield Kind(whole.levels[low], whole.levels[high], codes == low, codes >= 0)
            return
        for code in common:
            yield Kind(whole.levels[code], "", codes == code, codes >= 0)
    elif isinstance(whole, schema.TextLabel):
        words = [set(words_of(text)) for text in whole.texts]
        for one, other in contrasts:
            first, second = (
                torch.tensor([bool(group & each) for each in words])
                for group in (_group(one), _group(other))
            )
            yield Kind(one, other, first, first != second)
        known = torch.tensor([bool(each) for each in words])
        counts = Counter(word for each in words for word in each)
        frequent = [word for word in counts if counts[word] <= _COMMON * int(known.sum())]
        for word in sorted(frequent, key=lambda each: (-counts[each], each))[:MAX_LEVELS]:
            yield Kind(word, "", torch.tensor([word in each for each in words]), known)


def check_contrasts(labels: Sequence[Label], contrasts: Sequence[tuple[str, str]]) -> None:
    """Whether the words of each contrast occur.

    Raises:
        ExplorerError: no label is a text, or a word occurs in none.
    """
    texts = [each for each in labels if isinstance(each, schema.TextLabel)]
    if contrasts and not texts:
        raise ExplorerError("contrasts are of words in a text, and no label is a text")
    known = {word for each in texts for text in each.texts for word in words_of(text)}
    for pair in contrasts:
        for group in pair:
            if not _group(group) & known:
                raise ExplorerError(f"contrast {group!r}: no text has this word")


def _group(words: str) -> set[str]:
    return {word.strip().lower() for word in words.split("|")}
