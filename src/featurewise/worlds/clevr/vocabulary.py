"""The words of the CLEVR world: attributes, relations, answers, and the tokens of questions.

The order of every tuple must not change: indices into them are stored in tensors, data sets and
trained weights. Source: Johnson et al. 2017, *CLEVR: A Diagnostic Dataset for Compositional
Language and Elementary Visual Reasoning*.
"""

from __future__ import annotations

from typing import Final

SHAPES: Final = ("cube", "sphere", "cylinder")
SIZES: Final = ("large", "small")
MATERIALS: Final = ("rubber", "metal")
COLORS: Final = ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow")
RELATIONS: Final = ("left", "right", "behind", "front")

#: Attribute name -> its values, in the order in which a description names them.
ATTRIBUTES: Final[dict[str, tuple[str, ...]]] = {
    "size": SIZES,
    "color": COLORS,
    "material": MATERIALS,
    "shape": SHAPES,
}

#: All 28 answers; output i of a classifier is the logit of ANSWERS[i].
ANSWERS: Final = (
    "yes",
    "no",
    *(str(n) for n in range(11)),
    *COLORS,
    *SHAPES,
    *SIZES,
    *MATERIALS,
)

#: Size -> half extent of the object in Blender units.
RADIUS: Final[dict[str, float]] = {"large": 0.7, "small": 0.35}

#: CLEVR-CoGenT: the colours a shape may have in condition A and in condition B.
COGENT_COLORS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "A": {
        "cube": ("gray", "blue", "brown", "yellow"),
        "cylinder": ("red", "green", "purple", "cyan"),
        "sphere": COLORS,
    },
    "B": {
        "cube": ("red", "green", "purple", "cyan"),
        "cylinder": ("gray", "blue", "brown", "yellow"),
        "sphere": COLORS,
    },
}

#: The 13 question types of accuracy tables: the last function of the program.
QUESTION_TYPES: Final = (
    "exist",
    "count",
    "equal_integer",
    "less_than",
    "greater_than",
    "query_size",
    "query_color",
    "query_material",
    "query_shape",
    "equal_size",
    "equal_color",
    "equal_material",
    "equal_shape",
)

PAD: Final = "<pad>"
UNKNOWN: Final = "<unk>"

#: Index -> token. The order must not change: indices are stored in data sets and trained weights.
VOCABULARY: Final[tuple[str, ...]] = (
    PAD,
    UNKNOWN,
    ";",
    ",",
    "a",
    "an",
    "and",
    "another",
    "any",
    "anything",
    "are",
    "as",
    "ball",
    "balls",
    "behind",
    "big",
    "block",
    "blocks",
    "blue",
    "both",
    "brown",
    "color",
    "cube",
    "cubes",
    "cyan",
    "cylinder",
    "cylinders",
    "do",
    "does",
    "either",
    "else",
    "equal",
    "fewer",
    "front",
    "gray",
    "greater",
    "green",
    "has",
    "have",
    "how",
    "in",
    "is",
    "it",
    "its",
    "large",
    "left",
    "less",
    "made",
    "many",
    "material",
    "matte",
    "metal",
    "metallic",
    "more",
    "number",
    "object",
    "objects",
    "of",
    "on",
    "or",
    "other",
    "purple",
    "red",
    "right",
    "rubber",
    "same",
    "shape",
    "shiny",
    "side",
    "size",
    "small",
    "sphere",
    "spheres",
    "than",
    "that",
    "the",
    "there",
    "thing",
    "things",
    "tiny",
    "to",
    "visible",
    "what",
    "yellow",
)
