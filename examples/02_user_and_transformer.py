"""FiLM a text transformer on a user id.

Learn: ``condition`` on GPT-2 of Hugging Face, frozen; a table of users as the generator, mixed in
every batch; and a user who comes later, learnt by N numbers while all else stays as it was.
"""

# %% Fifty people and what they say
# Everybody has a town, a drink, a colour and a sport, and talks of two of them at a time.
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
NEW, LENGTH = 50, 10  # user 50 comes later
likes = torch.randint(8, (NEW + 1, 4))


def said_by(users: Tensor) -> Tensor:
    """Sentences ``(B, LENGTH)`` as word numbers."""
    said = []
    for user in users:
        one, two = (FACTS[k][likes[user, k]] for k in torch.randperm(4)[:2])
        said.append([WORDS.index(word) for word in f"{one} and {two} . .".split()[:LENGTH]])
    return torch.tensor(said)


def loss(run: torch.nn.Module, tokens: Tensor, **told: Tensor) -> Tensor:
    """Cross-entropy of the next words, sentence by sentence."""
    logits = run(tokens[:, :-1], **told).logits.mT
    return torch.nn.functional.cross_entropy(logits, tokens[:, 1:], reduction="none").mean(1)


def train(run: torch.nn.Module, wanted: list[Tensor], steps: int, rate: float, how: str) -> None:
    """Adam; ``how`` says what the network is told: nothing, who speaks, or a task of its own."""
    optimizer = torch.optim.Adam(wanted)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps)
    for _ in range(steps):
        users = torch.full((32,), NEW) if how == "task" else torch.randint(NEW, (32,))
        told = {"": {}, "condition": {"condition": users}, "task": {"task": wanted[0]}}[how]
        optimizer.zero_grad()
        loss(run, said_by(users), **told).mean().backward()
        optimizer.step()
        schedule.step()


# %% The language first, then the people, then the newcomer
numbers = {"vocab_size": len(WORDS), "n_positions": LENGTH, "bos_token_id": 0, "eos_token_id": 0}
gpt = GPT2LMHeadModel(GPT2Config(n_embd=64, n_layer=2, n_head=4, **numbers)).eval()
train(gpt, list(gpt.parameters()), 300, 3e-3, "")
net = fw.condition(gpt.requires_grad_(False), at="transformer.**.ln_*", generator=fw.Lookup(NEW))
train(net, list(net.generator.parameters()), 400, 0.1, "condition")
task = torch.zeros(net.layout.size, requires_grad=True)
train(net, [task], 100, 0.1, "task")

# %% Perplexity before and after, on new sentences
ids = torch.arange(NEW).repeat_interleave(8)
tokens, later = said_by(ids), said_by(torch.full((64,), NEW))
with torch.no_grad():
    told = ({"task": 0 * task}, {"condition": ids}, {"condition": ids.roll(8)})
    before, after, wrong = (loss(net, tokens, **t).view(-1, 8).mean(1).exp() for t in told)
    new = [loss(net, later, task=given).mean().exp().item() for given in (0 * task, task)]
print(
    f"fifty users: {before.mean():.2f} -> {after.mean():.2f}; as somebody else {wrong.mean():.2f}"
)
print(f"the newcomer: {new[0]:.2f} -> {new[1]:.2f}, by {net.layout.size} numbers")
print(f"claim: perplexity falls for every user: {'held' if (after < before).all() else 'failed'}")
print(f"claim: and for the newcomer: {'held' if new[1] < new[0] - 0.2 else 'failed'}")
