"""A conditioned network in the Trainer of transformers, its ``generate``, PEFT and accelerate."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from featurewise.generators import Linear
from featurewise.retrofit import Conditioned, condition

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:torch.utils.data.*"),  # no accelerator to pin
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

VOCABULARY = 40
WIDTH = 16


def gpt2() -> nn.Module:  # tied embeddings
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2
    )
    made: nn.Module = transformers.GPT2LMHeadModel(config)
    return made


def llama() -> nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    made: nn.Module = transformers.LlamaForCausalLM(config)
    return made


def vit() -> nn.Module:
    config = transformers.ViTConfig(
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * WIDTH,
        image_size=8,
        patch_size=4,
        num_labels=3,
    )
    made: nn.Module = transformers.ViTForImageClassification(config)
    return made


def bert() -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=2 * WIDTH,
    )
    made: nn.Module = transformers.BertForQuestionAnswering(config)
    return made


def t5() -> nn.Module:
    config = transformers.T5Config(
        vocab_size=VOCABULARY,
        d_model=WIDTH,
        d_kv=8,
        d_ff=2 * WIDTH,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
    )
    made: nn.Module = transformers.T5ForConditionalGeneration(config)
    return made


SITES = {gpt2: "**.ln_1", llama: "**.o_proj", vit: "**.layernorm_before", bert: "**.LayerNorm"}
SITES[t5] = "decoder.**.wo"


class Examples(torch.utils.data.Dataset[dict[str, Any]]):
    """Examples with a column that the network does not use."""

    def __init__(self, make: Callable[[], nn.Module], count: int = 12) -> None:
        self.make, self.count = make, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.count:
            raise IndexError
        rng = torch.Generator().manual_seed(index)
        example: dict[str, Any] = {"condition": torch.randn(3, generator=rng), "note": 1.0}
        if self.make is vit:
            pixels = torch.randn(3, 8, 8, generator=rng)
            return example | {"pixel_values": pixels, "labels": index % 3}
        tokens = torch.randint(3, VOCABULARY, (6,), generator=rng)
        if self.make is bert:
            return example | {"input_ids": tokens, "start_positions": 1, "end_positions": 2}
        return example | {"input_ids": tokens, "labels": tokens.clone()}


def plain(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make()


def conditioned(make: Callable[[], nn.Module], moved: bool = True, **arguments: Any) -> Conditioned:
    net = condition(plain(make), at=SITES[make], generator=Linear(3), **arguments)
    if moved:
        nn.init.normal_(net.generator.head.weight, std=0.3)
    return net


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(before)


def trainer(net: nn.Module, folder: Path, make: Callable[[], nn.Module], **arguments: Any) -> Any:
    settings = {"num_train_epochs": 2, "report_to": [], "disable_tqdm": True, "use_cpu": True}
    settings |= {"per_device_train_batch_size": 4, "learning_rate": 1e-2}
    examples = Examples(make)
    return transformers.Trainer(
        model=net,
        args=transformers.TrainingArguments(str(folder), **(settings | arguments)),
        train_dataset=examples,
        eval_dataset=examples,
    )


@pytest.mark.parametrize("make", [gpt2, llama, vit, bert], ids=lambda m: m.__name__)
def test_train_save_resume_evaluate_predict(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    net = conditioned(make)
    run = trainer(net, tmp_path, make, save_steps=3)
    before = run.evaluate()["eval_loss"]
    run.train()
    after = run.evaluate()["eval_loss"]
    assert after < before
    predicted = run.predict(Examples(make))
    assert predicted.metrics["test_loss"] == pytest.approx(after)
    first = predicted.predictions[0] if make is bert else predicted.predictions
    assert first.shape[0] == 12  # and no cache of keys and values beside it
    # Killed after the third step, and gone on with, it ends as if it had not been.
    again = conditioned(make)
    trainer(again, tmp_path, make, save_steps=3).train(
        resume_from_checkpoint=str(tmp_path / "checkpoint-3")
    )
    for (name, one), two in zip(net.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, two), name


@pytest.mark.parametrize("make", [gpt2, llama, vit, bert], ids=lambda m: m.__name__)
def test_initially_it_trains_like_the_unconditioned_network(
    make: Callable[[], nn.Module], tmp_path: Path
) -> None:
    net, twin = conditioned(make, moved=False), plain(make)
    runs = [trainer(network, tmp_path / "run", make) for network in (net, twin)]
    assert runs[0].label_names == runs[1].label_names
    assert runs[0].model_accepts_loss_kwargs == runs[1].model_accepts_loss_kwargs
    twins_examples = [run.evaluate()["eval_loss"] for run in (runs[0],)]
    # The plain network's own collator drops the condition as it drops the note.
    assert twins_examples[0] == runs[1].evaluate()["eval_loss"]


@pytest.mark.parametrize("make", [gpt2, llama], ids=lambda m: m.__name__)
def test_activation_checkpointing_changes_no_value(
    make: Callable[[], nn.Module], tmp_path: Path
) -> None:
    state = []
    for checkpointed in (False, True):
        net = conditioned(make, freeze=True)
        trainer(
            net, tmp_path / str(checkpointed), make, gradient_checkpointing=checkpointed
        ).train()
        assert net.is_gradient_checkpointing is checkpointed
        state.append(net.generator.state_dict())
    for name in state[0]:
        assert torch.allclose(state[0][name], state[1][name], atol=1e-6), name


def test_label_smoothing_shifts_the_labels_of_a_language_model(tmp_path: Path) -> None:
    net, twin = conditioned(llama, moved=False), plain(llama)
    losses = [
        trainer(network, tmp_path / "run", llama, label_smoothing_factor=0.1).evaluate()[
            "eval_loss"
        ]
        for network in (net, twin)
    ]
    assert losses[0] == losses[1]


def test_a_quantised_network_is_trained_with_its_conditioner(tmp_path: Path) -> None:
    network = plain(llama)
    network.is_quantized = True
    with pytest.raises(ValueError, match="purely quantized"):
        trainer(network, tmp_path, llama)
    trainer(condition(network, at=SITES[llama], generator=Linear(3)), tmp_path, llama)


def test_a_checkpoint_of_the_conditioner_alone(tmp_path: Path) -> None:
    class ConditionerTrainer(transformers.Trainer):  # type: ignore[misc, name-defined]
        def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
            state = self.model.state_dict()
            super()._save(
                output_dir, {n: t for n, t in state.items() if n.startswith("generator.")}
            )
            folder = Path(output_dir or self.args.output_dir)
            self.model.save_pretrained(folder / "conditioner")

    def run(net: Conditioned) -> Any:
        settings = transformers.TrainingArguments(
            str(tmp_path),
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            save_steps=3,
            num_train_epochs=2,
            per_device_train_batch_size=4,
        )
        return ConditionerTrainer(model=net, args=settings, train_dataset=Examples(gpt2))

    net = conditioned(gpt2, freeze=True)
    run(net).train()
    folder = tmp_path / "checkpoint-3"
    assert (folder / "model.safetensors").stat().st_size < 30_000
    again = conditioned(gpt2, freeze=True)
    run(again).train(resume_from_checkpoint=str(folder))
    assert torch.equal(again.generator.head.weight, net.generator.head.weight)
    loaded = Conditioned.from_pretrained(tmp_path / "checkpoint-6/conditioner", plain(gpt2))
    assert torch.equal(loaded.generator.head.weight, net.generator.head.weight)


# --- generate ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample", [False, True], ids=["greedy", "sampling"])
@pytest.mark.parametrize("make", [gpt2, llama, t5], ids=lambda m: m.__name__)
def test_generate(make: Callable[[], nn.Module], sample: bool) -> None:
    net = conditioned(make).eval()
    for parameter in net.backbone.parameters():
        parameter.data.mul_(3)  # so that some tokens are far likelier than others
    tokens = torch.randint(3, VOCABULARY, (2, 4))
    mask, z = torch.ones_like(tokens), 3 * torch.randn(2, 3)
    arguments = {
        "max_new_tokens": 8,
        "do_sample": sample,
        "attention_mask": mask,
        "pad_token_id": 0,
    }

    def seeded(generate: Callable[..., Tensor], **more: Any) -> Tensor:
        torch.manual_seed(0)
        return generate(tokens, **arguments, **more)

    found = seeded(net.generate, condition=z)
    with net.using(condition=z):
        assert torch.equal(seeded(net.generate), found)
    assert not torch.equal(found, seeded(net.backbone.generate))
    if not sample:  # each row alone, without the cache
        for row in range(2):
            alone = net.generate(
                tokens[row : row + 1],
                condition=z[row : row + 1],
                **arguments | {"attention_mask": mask[row : row + 1]},
                use_cache=False,
            )
            kept = alone.shape[1]
            assert torch.equal(alone[0], found[row, :kept])
            assert (found[row, kept:] == 0).all()


def test_predict_with_generate(tmp_path: Path) -> None:
    net = conditioned(t5)
    run = transformers.Seq2SeqTrainer(
        model=net,
        args=transformers.Seq2SeqTrainingArguments(
            str(tmp_path),
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            predict_with_generate=True,
            generation_max_length=5,
        ),
        eval_dataset=Examples(t5),
    )
    assert run.evaluate()["eval_loss"] > 0
    assert run.predict(Examples(t5)).predictions.shape[0] == 12


# --- PEFT ----------------------------------------------------------------------------------------


def test_a_peft_backbone_in_the_trainer(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    network = peft.get_peft_model(plain(llama), peft.LoraConfig(target_modules=["q_proj"], r=2))
    net = condition(network, at="**.o_proj", generator=Linear(3))
    run = trainer(net, tmp_path, llama)
    assert run.label_names == ["labels"]
    before = run.evaluate()["eval_loss"]
    run.train()
    assert run.evaluate()["eval_loss"] < before
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    assert all("lora" in name or name.startswith("generator.") for name in trained)
    tokens = torch.randint(3, VOCABULARY, (2, 4))
    assert net.generate(tokens, max_new_tokens=2, condition=torch.randn(2, 3)).shape == (2, 6)


# --- accelerate ----------------------------------------------------------------------------------


def test_accelerate_prepares_saves_and_loads(tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerate.state.AcceleratorState._reset_state(True)
    accelerator = accelerate.Accelerator(cpu=True)
    net = conditioned(gpt2)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    loader = torch.utils.data.DataLoader(Examples(gpt2), batch_size=4)
    model, optimizer, loader = accelerator.prepare(net, optimizer, loader)
    for batch in loader:
        batch.pop("note")
        loss = model(**batch).loss
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
    assert accelerator.gather(loss).isfinite().all()
    accelerator.save_state(str(tmp_path / "state"))
    state = copy.deepcopy(net.state_dict())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    accelerator.load_state(str(tmp_path / "state"))
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    assert accelerator.unwrap_model(model) is net


@pytest.mark.parametrize("first", ["placed", "conditioned"])
def test_accelerate_places_the_network(first: str) -> None:
    accelerate = pytest.importorskip("accelerate")
    expected = conditioned(llama).eval()
    tokens, z = torch.randint(3, VOCABULARY, (2, 4)), torch.randn(2, 3)
    if first == "placed":
        network = accelerate.dispatch_model(plain(llama), {"": "cpu"}, force_hooks=True)
        net = condition(network, at=SITES[llama], generator=Linear(3)).eval()
        net.generator.load_state_dict(expected.generator.state_dict())
    else:
        net = accelerate.dispatch_model(copy.deepcopy(expected), {"": "cpu"}, force_hooks=True)
    assert torch.equal(net(tokens, condition=z).logits, expected(tokens, condition=z).logits)
    accelerate.hooks.remove_hook_from_module(net, recurse=True)
    assert torch.equal(net(tokens, condition=z).logits, expected(tokens, condition=z).logits)
    sizes = accelerate.utils.compute_module_sizes(net)
    assert sizes["backbone"] + sizes["generator"] == sizes[""]
