"""A conditioned network in Lightning: training, modes, checkpoints that resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featurewise.generators import Linear
from featurewise.retrofit import Conditioned, condition

lightning = pytest.importorskip("lightning", reason="lightning is not installed")

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning", "ignore:::lightning.*")


class Task(lightning.LightningModule):  # type: ignore[misc, name-defined]
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        x, y, z = batch
        return F.cross_entropy(self.net(x, condition=z), y)

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        self.log("loss", self.training_step(batch, index))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=0.05)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )


def conditioned() -> Conditioned:
    return condition(network(), at="0", generator=Linear(2), freeze=True)


def fit(net: nn.Module, folder: Path, epochs: int, **arguments: Any) -> Any:
    torch.manual_seed(1)
    examples = torch.utils.data.TensorDataset(
        torch.randn(16, 3, 6, 6), torch.randint(3, (16,)), torch.randn(16, 2)
    )
    loader = torch.utils.data.DataLoader(examples, batch_size=4)
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(Task(net), loader, loader, **arguments)
    return trainer


def test_fit_resume_and_frozen_statistics(tmp_path: Path) -> None:
    net = conditioned()
    before = {name: b.clone() for name, b in net.backbone.named_buffers()}
    first = fit(net, tmp_path, 1)
    first.save_checkpoint(tmp_path / "one.ckpt")
    loss = float(first.callback_metrics["loss"])
    whole, resumed = conditioned(), conditioned()
    assert float(fit(whole, tmp_path, 3).callback_metrics["loss"]) < loss
    fit(resumed, tmp_path, 3, ckpt_path=tmp_path / "one.ckpt", weights_only=False)
    for (name, one), two in zip(
        whole.state_dict().items(), resumed.state_dict().items(), strict=True
    ):
        assert torch.equal(one, two[1]), name
    for trained in (net, whole, resumed):
        for name, buffer in trained.backbone.named_buffers():
            assert torch.equal(buffer, before[name]), name
