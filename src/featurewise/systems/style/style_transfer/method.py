"""Method: one transfer network for many styles, and the losses that it is trained by.

The network of Dumoulin et al. 2017, table 1, is `featurewise.models.transfer`, what the
losses see is `featurewise.models.perceptual` (Gatys et al. 2016, Johnson et al. 2016).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

import featurewise as fw
from featurewise.common.ranges import Length, Natural, Range
from featurewise.core import Operation
from featurewise.generators import parameter_groups
from featurewise.models.perceptual import (
    LossNetwork,
    Perception,
    content_losses,
    gram_matrices,
    perception,
    style_losses,
)
from featurewise.models.transfer import TransferNetwork
from featurewise.study import system
from featurewise.training.errors import ExperimentError
from featurewise.training.optim import cosine
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.pictures import (
    Collection,
    Painting,
    paintings_called,
    require_distinct_names,
    with_shorter_side,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(system.Config):
    """A transfer network, its styles and its training.

    Attributes:
        condition: by which operation the style conditions every norm: "affine", "scale",
            "shift"; or "none": one unconditional network for all styles.
        shuffled_styles: whether each image is given the id of another image's style, as a
            control.
        only: train a network for this style alone; None: for all of them.
        images: "debian", paintings and photographs of packages; or "patterns", for
            tests.
        styles: names of the paintings; style i is that of painting i.
        new_styles: paintings that are only learned afterwards, by γ and β alone.
        new_style_steps: steps of that.
        new_style_learning_rate: of Adam there.
        reconstruction_steps: steps at the start in which the network learns to keep images
            as they are, whatever the style.
        loss_network: "hed_vgg16" or "mobilenet_v2", pretrained; or "random", for tests.
        style_weight: λ_s, relative to a weight of 1 of the content.
        size: height and width of the images in training.
        painting_size: shorter side of the paintings that the styles are taken from.
        width: channels of the first convolution.
        blocks: residual blocks.
        batch_size: images per batch.
        learning_rate: of Adam.
        table_learning_rate: that of the styles' γ and β, as a multiple.
        test_images: photographs that are evaluated, each in every style.
        classifier_crops: crops of each painting that the style classifier is trained on.
    """

    condition: Literal["affine", "scale", "shift", "none"] = "affine"
    shuffled_styles: bool = False
    only: Natural | None = None
    images: Collection = "debian"
    styles: tuple[str, ...]
    new_styles: Annotated[tuple[str, ...], Length(0)] = ()
    new_style_steps: Natural = 200
    new_style_learning_rate: float = 0.02
    reconstruction_steps: Natural = 0
    loss_network: LossNetwork = "hed_vgg16"
    style_weight: float = 2.0
    size: Annotated[int, Range(8, multiple=4)] = 64
    painting_size: int = 128
    width: int = 16
    blocks: Natural = 5
    batch_size: int = 4
    learning_rate: float = 2e-3
    table_learning_rate: float = 10.0
    test_images: int = 16
    classifier_crops: int = 128

    def __post_init__(self) -> None:
        system.Config.__post_init__(self)
        names = self.styles + self.new_styles
        require_distinct_names(styles=self.styles, styles_and_new_styles=names)
        if self.only is not None and self.only >= len(self.styles):
            raise ExperimentError(f"only={self.only} of {len(self.styles)} styles")

    def paintings(self, *names: str) -> tuple[Painting, ...]:
        """The paintings of these names.

        Raises:
            PictureError: the packages that they come from are not installed, or there is no
                painting of such a name.
        """
        return paintings_called(self.images, *names)

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the styles that the network tells apart, in the order of their ids."""
        return self.styles if self.only is None else (self.styles[self.only],)


@dataclass(frozen=True)
class TransferBatch:
    """Photographs and the styles that they shall have.

    Attributes:
        content: RGB of 8 bits.
        styles: id of a style, which the network is given.
        targets: id of the style that the loss is of; another one only in a control.
        reconstruct: whether the images shall stay as they are.
    """

    content: UInt8[Tensor, "N 3 H W"]
    styles: Int64[Tensor, " N"]
    targets: Int64[Tensor, " N"]
    reconstruct: bool = False


OPERATIONS: Mapping[str, Operation] = {
    "affine": fw.Affine(),
    "scale": fw.Scale(),
    "shift": fw.Shift(),
}


class StyleTransfer(nn.Module):
    """A transfer network whose norms have scale and shift of the style (eq. 5).

    ``z = γ_s (x - μ(x)) / σ(x) + β_s``, with μ and σ over the positions of each map.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.styles = len(config.trained)
        self.painter: nn.Module = TransferNetwork(config.width, config.blocks)
        self.conditioned = config.condition != "none"
        if self.conditioned:
            self.painter = fw.condition(
                self.painter,
                at=nn.InstanceNorm2d,
                operation=OPERATIONS[config.condition],
                generator=fw.Lookup(len(config.trained)),
            )

    def forward(self, batch: TransferBatch) -> Float[Tensor, "N 3 H W"]:
        """Each photograph in the style of its id, with values in [0, 1]."""
        photographs = batch.content / 255
        if self.conditioned:
            painted: Tensor = self.painter(photographs, condition=batch.styles)
        else:
            painted = self.painter(photographs)
        return painted


@dataclass(frozen=True)
class Objective:
    """Content loss plus λ_s times style loss, by a network that is not trained.

    Attributes:
        network: the pretrained network.
        targets: Gram matrices of the styles, by layer.
        weight: λ_s.
    """

    network: Perception
    targets: Mapping[str, Float[Tensor, "S C C"]]
    weight: float

    def losses(
        self,
        painted: Float[Tensor, "N 3 H W"],
        photographs: Float[Tensor, "N 3 H W"],
        styles: Int64[Tensor, " N"],
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        """Content loss and style loss of each image."""
        with torch.no_grad():
            seen = self.network(photographs, last=self.network.content)
        wanted = seen[self.network.content]
        found = self.network(painted)
        return (
            content_losses(found[self.network.content], wanted),
            style_losses(found, self.targets, styles),
        )

    def __call__(
        self, network: nn.Module, batch: TransferBatch
    ) -> tuple[Tensor, Metrics]:
        """The mean loss of a batch, and its two parts."""
        painted = network(batch)
        if batch.reconstruct:
            return F.mse_loss(painted.float(), batch.content / 255), {}
        content, style = self.losses(painted, batch.content / 255, batch.targets)
        loss = content.mean() + self.weight * style.mean()
        parts = {"content": content.mean().detach(), "style": style.mean().detach()}
        return loss, parts


def objective(config: Config, paintings: Sequence[Painting]) -> Objective:
    """The loss by the styles of some paintings, each as large as the config says."""
    network = perception(config.loss_network)
    scaled = [
        with_shorter_side(each.image, config.painting_size) / 255 for each in paintings
    ]
    return Objective(network, gram_matrices(network, scaled), config.style_weight)


def stepper(network: nn.Module, config: Config) -> Supervised:
    """Adam; the losses are computed in bfloat16, but for the Gram matrices.

    Paintings and pretrained weights are read at the first loss, so that a trained network
    is loaded, and paints, without them.
    """

    @cache
    def wanted() -> Objective:
        return objective(config, config.paintings(*config.trained))

    def loss(network: nn.Module, batch: TransferBatch) -> tuple[Tensor, Metrics]:
        return wanted()(network, batch)

    rates = {"heads": config.table_learning_rate * config.learning_rate}
    groups = [
        {**group, "lr": rates.get(group["name"], config.learning_rate)}
        for group in parameter_groups(network, 0.0)
    ]
    return Supervised(
        network,
        loss,
        torch.optim.Adam(groups, config.learning_rate),
        schedule=cosine(config.steps, warmup=min(20, config.steps // 2), floor=0.05),
        bfloat16=True,
        average=0.99,
    )
