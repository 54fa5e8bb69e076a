"""Replace PEFT's IA³ by a generator.

Learn: the same sites, the same number of parameters per task and the same function, but as a
lookup table for batches of mixed tasks, in training too. IA³ of PEFT trains one adapter at a time.
"""

# %% A small language model that follows rules
# Its input is a token for the rule and five digits; the label is the largest, the least, the
# first or the last of them. In 30 % of the training sequences a blank replaces the rule.
import torch
from peft import IA3Config, get_peft_model
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

import featurewise as fw

torch.manual_seed(0)
RULES, BLANK = ("largest", "least", "first", "last"), 10
ends = {"bos_token_id": None, "eos_token_id": None, "vocab_size": 16, "use_cache": False}
size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
heads = {"num_attention_heads": 4, "num_key_value_heads": 4}
llama = LlamaForCausalLM(LlamaConfig(**heads, **size, **ends))


def tasks(rules: Tensor, hidden: float = 1.0) -> tuple[Tensor, Tensor]:
    """Tokens ``(B, 6)`` and labels ``(B,)``; a rule is hidden with probability ``hidden``."""
    x = torch.randint(10, (len(rules), 5))
    answers = torch.stack((x.amax(1), x.amin(1), x[:, 0], x[:, -1]), 1)
    first = torch.where(torch.rand(len(rules)) < hidden, BLANK, BLANK + 1 + rules)
    return torch.cat((first[:, None], x), 1), answers[torch.arange(len(rules)), rules]


def train(net: nn.Module, steps: int, lr: float, count: int = 4, hidden: float = 1.0) -> None:
    """Adam on batches of the first ``count`` rules."""
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps)
    for _ in range(steps):
        rules = torch.randint(count, (64,))
        tokens, right = tasks(rules, hidden)
        given = {"condition": rules} if isinstance(net, fw.Conditioned) else {}
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(tokens, **given).logits[:, -1], right).backward()
        optimizer.step()
        schedule.step()


train(llama, 500, 3e-3, hidden=0.3)
llama.requires_grad_(False)
rules = torch.arange(4).repeat(250)
tokens, right = tasks(rules)  # the rule is hidden from here on

# %% With PEFT: one adapter, one rule
names = ["k_proj", "v_proj", "down_proj"]
peft = get_peft_model(llama, IA3Config(target_modules=names, feedforward_modules=names[2:]))
train(peft, 100, 0.1, count=1)
vectors = torch.cat([p.flatten() for name, p in peft.named_parameters() if "ia3_l" in name])
by_peft = peft(tokens).logits[:, -1]
llama = peft.unload()

# %% The same with featurewise, first with the trained vectors of PEFT
# IA³ scales the input of `down_proj`; scaling the output of `up_proj` is equivalent.
sites = [
    f"model.layers.*.{name}" for name in ("self_attn.k_proj", "self_attn.v_proj", "mlp.up_proj")
]
net = fw.condition(llama, at=sites, operation=fw.Scale(), generator=fw.Lookup(4))
same = net(tokens, task=vectors - 1).logits[:, -1]
error = (same - by_peft).abs().max().item()
print(f"{net.layout.size} numbers per rule, PEFT {vectors.numel()}; outputs differ by {error:.0e}")
print(f"check: equal to PEFT with its vectors: {'passed' if error < 1e-4 else 'failed'}")

# %% Then train all rules in every batch
train(net, 200, 0.1)
ours = net(tokens, condition=rules).logits[:, -1]
for name, logits in (("IA³", by_peft), ("Lookup", ours)):
    accuracy = logits.argmax(1).eq(right).view(250, 4).float().mean(0)
    print(f"{name:6s}", {rule: f"{a:.0%}" for rule, a in zip(RULES, accuracy, strict=True)})
print(
    f"check: every rule above 90 % in one batch: {'passed' if accuracy.min() > 0.9 else 'failed'}"
)
