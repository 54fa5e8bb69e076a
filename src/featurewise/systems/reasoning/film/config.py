"""The settings of FiLM and of what it is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from featurewise.common.ranges import Decay, Length
from featurewise.study import system
from featurewise.systems.reasoning.film.perception import Perception
from featurewise.worlds.clevr.splits import CurriculumStage, Folder


@dataclass(frozen=True, kw_only=True)
class Config(system.Config):
    """One network, its data and its training.

    Attributes:
        network: how question and image are combined: "film"; "question only" and "image
            only", which ignore the other; "concatenation" of both, pooled; or "stacked
            attention".
        shuffled_questions: whether each question is replaced by that of another image,
            in training and in evaluation.
        curriculum: stages of training, easy ones first; the last is tested on.
        test_images: number of images that are tested on.
        images_per_batch: images in a batch.
        questions_per_image: questions about each image of a batch.
        counts_every: one of so many training questions is replaced by how many things
            there are, in rendered images; None: no question is.
        perception: features that are trained beforehand and then fixed; None: a stem that
            is trained with the rest.
        stem: widths of the stem before its last convolution, where it is trained with the
            rest.
        channels: width C of the trunk.
        blocks: residual blocks of the trunk.
        dilations: of the 3 × 3 convolution of each block, repeated as often as needed.
        context: whether every block but the first also gets, beside the coordinates, the
            maximum of its input over all positions.
        embedding: width of a word vector.
        hidden: width of the GRU.
        features: width of the max-pooled map.
        classifier: width of the classifier's hidden layer; None: that of the map.
        head_std: standard deviation of the head's first weights, times √hidden; at 0
            training starts from the unconditioned trunk.
        learning_rate: of Adam, for what processes images.
        schedule: of the learning rate: "cosine"; or "linear", which falls in the second
            half of the steps only, and has a warmup at the start of each stage.
        head_learning_rate: of the generator's head, as a multiple of ``learning_rate``.
            Adam moves every weight by about as much, so that a head of 128 inputs moves
            γ and β a thirtieth of what one of 4,096 inputs does, as in the paper.
        encoder_learning_rate: of word vectors and GRU, as a multiple of
            ``learning_rate``.
        adam_beta2: decay of Adam's average of squared gradients.
        clip: largest norm of the gradient.
        weight_decay: of weights, those of the head included.
        bfloat16: whether the forward pass runs under bfloat16 autocast, where that is
            computed (see `featurewise.training.hardware.computes_bfloat16`).
        folder: files to train and test on in place of rendered images; the last stage
            then says how large images are.
    """

    FORMER_NAMES: ClassVar = {
        "lessons": "curriculum",
        "held_out": "test_images",
        "pictures": "images_per_batch",
        "questions": "questions_per_image",
        "head_rate": "head_learning_rate",
        "reader_rate": "encoder_learning_rate",
    }

    network: Literal[
        "film", "question only", "image only", "concatenation", "stacked attention"
    ] = "film"
    shuffled_questions: bool = False
    curriculum: tuple[CurriculumStage, ...]
    test_images: int
    images_per_batch: int = 16
    questions_per_image: int = 4
    counts_every: int | None = None
    perception: Perception | None = None
    stem: Annotated[tuple[int, ...], Length(1, 5)] = (32, 64)
    channels: int = 64
    blocks: int = 4
    dilations: tuple[int, ...] = (1,)
    context: bool = False
    embedding: int = 64
    hidden: int = 128
    features: int = 256
    classifier: int | None = None
    head_std: float = 0.0
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "linear"] = "cosine"
    head_learning_rate: float = 10.0
    encoder_learning_rate: float = 3.0
    adam_beta2: Decay = 0.999
    clip: float = 5.0
    weight_decay: float = 1e-5
    bfloat16: bool = True
    folder: Folder | None = None
