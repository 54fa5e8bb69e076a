"""The 90 question families of CLEVR, in nine groups.

Each family has a plan (the structure of its program) and patterns (its wordings). Families are
numbered as in the question files of CLEVR v1.0: groups in alphabetical order, 0 to 89.
"""

from featurewise.worlds.clevr.families.groups import FAMILIES, GROUPS, Family

__all__ = ["FAMILIES", "GROUPS", "Family"]
