"""The GRU of ``Recurrent`` compared with ``nn.GRU``: ratios of CPU time per training step.

    OMP_NUM_THREADS=1 python benchmarks/recurrent.py [--hidden 256 1024] [--rounds 5]

A batch holds 128 sequences with lengths as those of CLEVR questions: 5 to 45 tokens, 18 on average,
from a vocabulary of 90. A step is embedding, GRU, loss and all gradients. The implementations
alternate within a round; a ratio is the median over rounds of time(nn.GRU) / time(ours), so that
more than 1 means ours is faster. Times are CPU times of one thread, so that other jobs have little
influence. Values and gradients are compared with a float64 ``nn.GRU`` in the same run.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from featurewise.generators.recurrent import RecurrentEncoder

VOCABULARY, EMBEDDING, BATCH, SHORTEST, LONGEST = 90, 200, 128, 5, 45

Step = Callable[[], Tensor]


def questions(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Tokens (B, T) and lengths (B,), of mean 18."""
    torch.manual_seed(seed)
    share = torch.distributions.Beta(1.3, 2.7).sample((BATCH,))
    lengths = (SHORTEST + share * (LONGEST - SHORTEST)).round().long()
    tokens = torch.randint(1, VOCABULARY, (BATCH, LONGEST))
    return tokens.where(torch.arange(LONGEST) < lengths.unsqueeze(1), 0), lengths


def implementations(encoder: RecurrentEncoder, tokens: Tensor, lengths: Tensor) -> dict[str, Step]:
    """Forward passes with the same weights: nn.GRU on padded and on packed batches, and ours."""
    embedding = encoder.embedding
    gru = nn.GRU(embedding.embedding_dim, encoder.recurrent.hidden_size, batch_first=True)
    gru.to(embedding.weight.dtype).load_state_dict(encoder.recurrent.state_dict())

    def padded() -> Tensor:
        return gru(embedding(tokens))[0][torch.arange(len(tokens)), lengths - 1]

    def packed() -> Tensor:
        words = pack_padded_sequence(embedding(tokens), lengths, True, enforce_sorted=False)
        return gru(words)[1][0]

    return {"padded": padded, "packed": packed, "ours": lambda: encoder((tokens, lengths))}


def timed(step: Step, half: bool) -> float:
    """CPU seconds of one training step."""
    start = time.thread_time()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        states = step()
    states.float().square().sum().backward()
    return time.thread_time() - start


def error(encoder: RecurrentEncoder, tokens: Tensor, lengths: Tensor, half: bool) -> float:
    """Largest relative error of values and gradients against float64."""
    exact = copy.deepcopy(encoder).double()
    found = []
    for model, step in (
        (encoder, implementations(encoder, tokens, lengths)["ours"]),
        (exact, implementations(exact, tokens, lengths)["packed"]),
    ):
        with torch.autocast("cpu", torch.bfloat16, enabled=half and model is encoder):
            states = step()
        grad = torch.autograd.grad(states.square().sum(), model.embedding.weight)[0]
        found.append((states.detach(), grad))
    return max(float((a - b).norm() / b.norm()) for a, b in zip(*found, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tokens, lengths = questions()
    print(f"batch {BATCH}, mean length {lengths.float().mean():.1f}, torch {torch.__version__}")
    print(
        f"{'hidden':>6} {'dtype':>5} {'ours ms':>8} {'vs padded':>9} {'vs packed':>9} {'error':>8}"
    )
    for hidden in options.hidden:
        encoder = RecurrentEncoder(VOCABULARY, EMBEDDING, hidden, "gru")
        steps = implementations(encoder, tokens, lengths)
        for half in (False, True):
            for step in steps.values():
                timed(step, half)
            rounds = [{n: timed(s, half) for n, s in steps.items()} for _ in range(options.rounds)]
            ours = median(r["ours"] for r in rounds) * 1e3
            padded, packed = (
                median(r[n] / r["ours"] for r in rounds) for n in ("padded", "packed")
            )
            worst = error(encoder, tokens, lengths, half)
            dtype = "bf16" if half else "fp32"
            print(f"{hidden:6} {dtype:>5} {ours:8.0f} {padded:9.2f} {packed:9.2f} {worst:8.0e}")


if __name__ == "__main__":
    main()
