"""Condition a text transformer on a user id.

Learn: ``condition`` on a frozen GPT-2 of Hugging Face; a lookup table of users as the generator,
with several users per batch; and a new user, added by training N numbers and nothing else.
"""

# %% Sentences of fifty users
# Each user has a town, a drink, a colour and a sport. A sentence states two of them.
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

import featurewise as fw

torch.manual_seed(0)
FACTS = [
    [f"{start} {end}" for end in ends.split()]
    for start, ends in (
        ("i live in", "oslo lima cairo delhi quito paris tokyo accra"),
        ("i drink", "tea coffee milk juice water cocoa mate cider"),
        ("my coat is", "red blue green white black yellow purple grey"),
        ("on sunday i", "swim run climb row dance sail ski skate"),
    )
]
WORDS = sorted({"and", ".", *" ".join(fact for facts in FACTS for fact in facts).split()})
NEW, LENGTH = 50, 10  # user 50 is added later
likes = torch.randint(8, (NEW + 1, 4))


def sentences_of(users: Tensor) -> Tensor:
    """Token ids ``(B, LENGTH)`` of one sentence per user."""
    rows = []
    for user in users:
        one, two = (FACTS[k][likes[user, k]] for k in torch.randperm(4)[:2])
        rows.append([WORDS.index(word) for word in f"{one} and {two} . .".split()[:LENGTH]])
    return torch.tensor(rows)


def loss(run: torch.nn.Module, tokens: Tensor, **given: Tensor) -> Tensor:
    """Cross-entropy of the next tokens in nats, one mean per sentence."""
    logits = run(tokens[:, :-1], **given).logits.mT
    return torch.nn.functional.cross_entropy(logits, tokens[:, 1:], reduction="none").mean(1)


def train(run: torch.nn.Module, trained: list[Tensor], steps: int, lr: float, mode: str) -> None:
    """Adam on ``trained``; ``mode``: no condition (""), the user ("condition"), or a "task"."""
    optimizer = torch.optim.Adam(trained)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps)
    for _ in range(steps):
        users = torch.full((32,), NEW) if mode == "task" else torch.randint(NEW, (32,))
        given = {"": {}, "condition": {"condition": users}, "task": {"task": trained[0]}}[mode]
        optimizer.zero_grad()
        loss(run, sentences_of(users), **given).mean().backward()
        optimizer.step()
        schedule.step()


# %% Train the language model, then the users, then the new user
numbers = {"vocab_size": len(WORDS), "n_positions": LENGTH, "bos_token_id": 0, "eos_token_id": 0}
gpt = GPT2LMHeadModel(GPT2Config(n_embd=64, n_layer=2, n_head=4, **numbers)).eval()
train(gpt, list(gpt.parameters()), 300, 3e-3, "")
net = fw.condition(gpt.requires_grad_(False), at="transformer.**.ln_*", generator=fw.Lookup(NEW))
train(net, list(net.generator.parameters()), 400, 0.1, "condition")
task = torch.zeros(net.layout.size, requires_grad=True)
train(net, [task], 100, 0.1, "task")

# %% Perplexity before and after training, on new sentences
ids = torch.arange(NEW).repeat_interleave(8)
tokens, later = sentences_of(ids), sentences_of(torch.full((64,), NEW))
with torch.no_grad():
    given = ({"task": 0 * task}, {"condition": ids}, {"condition": ids.roll(8)})
    before, after, shuffled = (loss(net, tokens, **g).view(-1, 8).mean(1).exp() for g in given)
    new = [loss(net, later, task=t).mean().exp().item() for t in (0 * task, task)]
print(f"perplexity of fifty users: {before.mean():.2f} -> {after.mean():.2f}")
print(f"with the id of another user: {shuffled.mean():.2f}")
print(f"the new user: {new[0]:.2f} -> {new[1]:.2f}, with {net.layout.size} trained numbers")
print(f"check: perplexity falls for each user: {'passed' if (after < before).all() else 'failed'}")
print(f"check: and for the new user: {'passed' if new[1] < new[0] - 0.2 else 'failed'}")
