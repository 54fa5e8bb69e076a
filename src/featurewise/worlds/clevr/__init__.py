"""The CLEVR world: scenes of simple objects, images of them, and questions that need reasoning.

Everything follows from a seed: :func:`sample_scenes` samples scenes, :func:`render` renders them,
and :class:`QuestionGenerator` generates questions. :class:`OnlineSource`, :class:`PoolSource` and
:class:`DiskSource` give training batches. :func:`write_dataset`, :func:`read_scenes` and
:func:`read_questions` write and read the file format of CLEVR v1.0.
"""

from __future__ import annotations

from featurewise.worlds.clevr.batch import Batch, collate
from featurewise.worlds.clevr.data import (
    OnlineSource,
    PoolSource,
    Source,
    build_pool,
    stream,
)
from featurewise.worlds.clevr.disk import DiskSource
from featurewise.worlds.clevr.errors import FormatError, SceneError, WorldError
from featurewise.worlds.clevr.formats import (
    ClevrFolder,
    QuestionRecord,
    SceneRecord,
    iter_questions,
    iter_scenes,
    read_questions,
    read_scenes,
    write_questions,
    write_scenes,
)
from featurewise.worlds.clevr.generate import Recipe
from featurewise.worlds.clevr.images import load_image
from featurewise.worlds.clevr.programs import (
    Program,
    ProgramError,
    Step,
    execute,
    program_from_json,
    program_to_json,
    question_type,
)
from featurewise.worlds.clevr.questions import Question, QuestionGenerator
from featurewise.worlds.clevr.render import Rendering, render
from featurewise.worlds.clevr.scene import Object, Scene, sample_scene, sample_scenes
from featurewise.worlds.clevr.vocabulary import ANSWERS, QUESTION_TYPES, VOCABULARY
from featurewise.worlds.clevr.words import encode, tokenize, unknown_words
from featurewise.worlds.clevr.write import write_dataset

__all__ = [
    "ANSWERS",
    "QUESTION_TYPES",
    "VOCABULARY",
    "Batch",
    "ClevrFolder",
    "DiskSource",
    "FormatError",
    "Object",
    "OnlineSource",
    "PoolSource",
    "Program",
    "ProgramError",
    "Question",
    "QuestionGenerator",
    "QuestionRecord",
    "Recipe",
    "Rendering",
    "Scene",
    "SceneError",
    "SceneRecord",
    "Source",
    "Step",
    "WorldError",
    "build_pool",
    "collate",
    "encode",
    "execute",
    "iter_questions",
    "iter_scenes",
    "load_image",
    "program_from_json",
    "program_to_json",
    "question_type",
    "read_questions",
    "read_scenes",
    "render",
    "sample_scene",
    "sample_scenes",
    "stream",
    "tokenize",
    "unknown_words",
    "write_dataset",
    "write_questions",
    "write_scenes",
]
