"""Content of an explorer page: records of plain values, and the names of arrays beside them.

The page's own types are generated from these records (``make page``). A record names an array, such
as ``"sites/0/gamma"``; the bundle holds arrays by name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

FORMAT: Final = 2
"""Version of this schema; a page and a bundle of different versions do not fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many of all are shown.

    Attributes:
        shown: number that the bundle holds.
        total: number there were before sampling.
    """

    shown: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The network that the task representations are of.

    Attributes:
        name: as a reader knows it.
        digest: first 16 hexadecimal digits of the SHA-256 of all values.
        version: of featurewise, that made the bundle.
    """

    name: str
    digest: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryLabel:
    """A label with few values, such as the type of a question.

    Attributes:
        kind: tells labels apart.
        name: of the label.
        levels: its values.
        codes: for each condition the position of its value in ``levels``, -1 where unknown.
    """

    kind: Literal["category"] = "category"
    name: str
    levels: list[str]
    codes: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberLabel:
    """A label that is a number, such as the number of words.

    Attributes:
        kind: tells labels apart.
        name: of the label.
        values: of each condition, None where unknown.
    """

    kind: Literal["number"] = "number"
    name: str
    values: list[float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLabel:
    """A label that is a text, such as the question itself; its words are labels, too.

    Attributes:
        kind: tells labels apart.
        name: of the label.
        texts: of each condition.
    """

    kind: Literal["text"] = "text"
    name: str
    texts: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbnails:
    """Small images that belong to conditions, several of which may share one.

    Attributes:
        name: what they show.
        images: ``data:`` URLs.
        alts: their descriptions.
        codes: for each condition the position of its image, -1 where it has none.
    """

    name: str
    images: list[str]
    alts: list[str]
    codes: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a site's operation.

    Attributes:
        name: such as "gamma".
        origin: its value where the raw parameter is 0, as in a network that was not trained; None
            where that differs between features.
        array: (conditions, features), the effective values.
    """

    name: str
    origin: float | None
    array: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What becomes of the network without the condition in one feature.

    Attributes:
        name: of the measure, as in "accuracy lost".
        unit: of the measure, as in "points".
        definition: a sentence.
        array: (features,).
    """

    name: str
    unit: str
    definition: str
    array: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteValues:
    """Parameters of one site that have one value a feature, or one that has others.

    A parameter such as a factor of a low-rank matrix stands at a site of its own, called
    "site (parameter)", and its entries stand in place of features.

    Attributes:
        name: of the site.
        operation: as in "Affine".
        features: how many of its features are shown.
        numbers: index in the site of each feature that is shown.
        parameters: of the operation.
        effects: measures of each feature.
    """

    name: str
    operation: str
    features: Count
    numbers: list[int]
    parameters: list[Parameter]
    effects: list[Effect] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purity:
    """How often near neighbours share a label.

    Attributes:
        label: name of a category label.
        neighbours: number of nearest neighbours.
        share: mean share of them with the same label.
        random: the same of random neighbours.
    """

    label: str
    neighbours: int
    share: float
    random: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """Every condition as a point in the plane.

    Attributes:
        name: of the method, as in "t-SNE".
        of: name of the site whose parameters are projected, or "all sites".
        settings: of the method, as in "perplexity 30".
        seed: of the method; None where it has none.
        explained: share of the variance along each axis; empty where the method has none.
        array: (conditions, 2).
        purity: of the points, by label.
    """

    name: str
    of: str
    settings: str
    seed: int | None
    explained: list[float]
    array: str
    purity: list[Purity]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What the network answers.

    Attributes:
        names: of the answers.
        unit: of a value, as in "probability".
        array: (steps, answers).
    """

    names: list[str]
    unit: str
    array: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpolation:
    """Straight line from the task representation of one condition to that of another.

    Attributes:
        start: position of the condition at weight 0.
        end: position of the condition at weight 1.
        weights: of the steps.
        nearest: for each step the position of the nearest condition.
        outputs: what the network answers at each step; None where that was not computed.
        images: ``data:`` URL of what the network generates at each step; may be empty.
    """

    start: int
    end: int
    weights: list[float]
    nearest: list[int]
    outputs: Outputs | None = None
    images: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """A + B - C of three task representations.

    Attributes:
        a: position of the condition A.
        b: position of the condition B.
        c: position of the condition C.
        expected: what the result should stand for, in words; empty where nothing is expected.
        nearest: positions of the conditions nearest to the result, A, B and C left out.
        distances: their distances, in multiples of the mean distance of two conditions.
        outputs: what the network answers, of one step; None where that was not computed.
        images: ``data:`` URL of what the network generates; may be empty.
    """

    a: int
    b: int
    c: int
    expected: str
    nearest: list[int]
    distances: list[float]
    outputs: Outputs | None = None
    images: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """What the network answers where γ and β of one feature have other values.

    Attributes:
        site: name of the site.
        feature: index of the feature in the site.
        condition: position of the condition whose other parameters are kept.
        across: name of the parameter along the columns, and its values.
        up: name of the parameter along the rows, and its values.
        columns: values of ``across``.
        rows: values of ``up``.
        outputs: row by row, of rows times columns steps; None where that was not computed.
        images: ``data:`` URLs, row by row; may be empty.
    """

    site: str
    feature: int
    condition: int
    across: str
    up: str
    columns: list[float]
    rows: list[float]
    outputs: Outputs | None = None
    images: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One value over training.

    Attributes:
        name: of the value.
        unit: of the value; empty where it has none.
        steps: training steps.
        values: at these steps.
    """

    name: str
    unit: str
    steps: list[int]
    values: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One parameter of one site over training.

    Attributes:
        site: name of the site.
        parameter: its name.
        steps: training steps.
        levels: quantiles, as in 0.05, 0.25, 0.5, 0.75, 0.95.
        array: (steps, levels).
    """

    site: str
    parameter: str
    steps: list[int]
    levels: list[float]
    array: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterStatistics:
    """One parameter of one site, over all conditions.

    Attributes:
        site: name of the site.
        parameter: its name.
        explained: share of its variance that is explained by which feature it belongs to; 0 of a
            single condition.
        negative: share of negative values.
        minimum: least value.
        maximum: greatest value.
    """

    site: str
    parameter: str
    explained: float
    negative: float
    minimum: float
    maximum: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AxesStatistics:
    """Main axes of the scatters of γ and β.

    Attributes:
        site: name of the site.
        quarters: share of the features whose main axis is in each quarter of 0 to 180 degrees.
    """

    site: str
    quarters: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Separation:
    """The feature that tells the conditions with one value of a label from the others best.

    Attributes:
        label: name of the label.
        level: its value; of a text label, a word in it, or several with "|" between them.
        other: the value that it is separated from; empty: all others.
        site: name of the site.
        feature: index of the feature in the site; of the entry, where a parameter has not one
            value a feature.
        parameter: name of the parameter.
        auc: area under the ROC curve, 0.5 to 1.
        probability: of a best feature as good if the label meant nothing (permutation test).
        corrected: of one as extreme for any of the labels' values if none meant anything.
        conditions: number of conditions of either kind.
    """

    label: str
    level: str
    other: str
    site: str
    feature: int
    parameter: str
    auc: float
    probability: float
    corrected: float
    conditions: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """All that a page shows of one network, but the numbers in arrays.

    Attributes:
        format: version of this schema.
        title: of the page.
        model: the network.
        data: a sentence about the conditions.
        seed: of sampling and projections.
        conditions: how many are shown.
        labels: of the conditions; the first is the one that points are colored by at first.
        thumbnails: images of the conditions.
        sites: values of the parameters, from the first site to the last.
        projections: conditions as points.
        interpolations: from one condition to another.
        arithmetic: sums and differences of conditions.
        grids: other values of one feature.
        curves: values over training.
        histories: parameters over training.
        parameters: statistics of each parameter of each site.
        axes: statistics of sites with γ and β.
        separations: what features tell apart: contrasts first, then the best first.
    """

    format: int = FORMAT
    title: str
    model: Model
    data: str
    seed: int
    conditions: Count
    labels: list[CategoryLabel | NumberLabel | TextLabel]
    thumbnails: Thumbnails | None
    sites: list[SiteValues]
    projections: list[Projection]
    interpolations: list[Interpolation]
    arithmetic: list[Arithmetic]
    grids: list[Grid]
    curves: list[Curve]
    histories: list[History]
    parameters: list[ParameterStatistics]
    axes: list[AxesStatistics]
    separations: list[Separation]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedArray:
    """An array as the page reads it.

    Attributes:
        shape: its shape.
        data: little-endian float32, row by row: first byte of every number, then all second
            bytes, third, fourth; compressed (zlib, RFC 1950), in base64.
    """

    shape: list[int]
    data: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PageBundle:
    """One network, as the page reads it.

    Attributes:
        content: all but arrays.
        arrays: by name.
    """

    content: Content
    arrays: dict[str, PackedArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageData:
    """What the page reads at its start.

    Attributes:
        bundles: one or more networks; several can be seen side by side.
        server: address of the server that computes what the file does not hold; None in a file.
    """

    bundles: list[PageBundle]
    server: str | None = None
