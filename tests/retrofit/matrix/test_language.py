"""The Trainer of transformers, and ``generate``: each equal to the same run of the truth."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from .cells import CONDITION, Cell, Pair, capability, close, hooked
from .networks import Inputs, Network

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:torch.utils.data.*"),  # no accelerator to pin
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

SAMPLES = 8  # one batch of the Trainer, by default
BEAMS = 3
WORDS = 3


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(before)


class Samples(torch.utils.data.Dataset[Inputs]):
    """Samples one by one, as a Trainer collates them."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> Inputs:
        return {name: value[index] for name, value in self.inputs.items()}


def trained(net: nn.Module, inputs: Inputs, folder: Path, resume: str | None = None) -> Any:
    """Two steps, each of which is saved."""
    from transformers import Trainer, TrainingArguments

    settings = TrainingArguments(
        str(folder),
        max_steps=2,
        save_steps=1,
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Trainer(model=net, args=settings, train_dataset=Samples(inputs))
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@capability("Hugging Face Trainer")
def test_trainer(network: Network, pair: Pair, cell: Cell, tmp_path: Path) -> None:
    """The loss of the first step is the truth's; a run that is resumed ends as one that is not."""
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    if network.labels is None:
        assert "labels" not in inspect.signature(pair.plain.forward).parameters
        pytest.skip("the network computes no loss from labels")
    inputs = {**network.inputs(SAMPLES), **network.labels(SAMPLES)}
    z = torch.randn(SAMPLES, CONDITION)
    again = copy.deepcopy(pair.net)
    plain = copy.deepcopy(pair.plain)
    run = cell.attempt(
        lambda: trained(pair.net, {**inputs, "condition": z}, tmp_path),
        lambda: trained(plain, inputs, tmp_path / "plain"),
    )
    expected = truth(pair, inputs, z)
    found = [line["loss"] for line in run.state.log_history if "loss" in line]
    assert len(found) == 2
    close(found[0], expected)
    trained(again, {**inputs, "condition": z}, tmp_path, resume=str(tmp_path / "checkpoint-1"))
    for (name, value), other in zip(
        pair.net.state_dict().items(), again.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other), name


def truth(pair: Pair, inputs: Inputs, z: Tensor) -> float:
    """The loss before the first step."""
    pair.plain.train()
    flat = nn.functional.linear(z, pair.head.weight, pair.head.bias)
    with torch.no_grad(), hooked(pair.plain, pair.network.places, flat):
        return float(pair.plain(**inputs).loss)


@capability("generate with beams")
def test_beams(network: Network, pair: Pair, cell: Cell) -> None:
    """Each sample's text is the one that the truth writes for this sample and condition alone."""
    able = getattr(pair.plain, "can_generate", None)
    if able is None or not able():
        pytest.skip("the network generates no text")
    inputs, z = pair.draw()
    prompt = {n: value for n, value in inputs.items() if not n.startswith("decoder_")}
    options = {"num_beams": BEAMS, "max_new_tokens": WORDS, "min_new_tokens": WORDS}
    options |= {"do_sample": False, "pad_token_id": 0}
    found = cell.attempt(
        lambda: pair.net.generate(**prompt, **options, condition=z, repeat="interleave"),
        lambda: pair.plain.generate(**prompt, **options),
    )
    flat = nn.functional.linear(z, pair.head.weight, pair.head.bias).detach()
    for i, text in enumerate(found):
        with hooked(pair.plain, network.places, flat[i : i + 1]):
            alone = pair.plain.generate(**network.row(prompt, i), **options)
        assert torch.equal(text, alone[0]), f"sample {i}"
    assert not torch.equal(found, pair.plain.generate(**prompt, **options))
