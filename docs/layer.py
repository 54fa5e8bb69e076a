"""The page on which a FiLM layer is moved by hand: values of the shipped network, in a template."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from featurewise.cli import discovery, example
from featurewise.study.model import load_network
from featurewise.systems.reasoning.film.network import image_features
from featurewise.worlds.clevr import collate
from featurewise.worlds.clevr.images import load_image
from featurewise.worlds.clevr.words import encode

TEMPLATE: Final = Path(__file__).with_name("layer.template.html")
QUESTIONS: Final = (
    example.QUESTION,
    "How many metal things are there?",
    "Are there any green things?",
    "What is the shape of the small rubber thing?",
)
SITE: Final = "blocks.0.norm"
MAPS: Final = 3


def values() -> dict[str, Any]:
    """Feature maps of the first block for the example image, and γ and β for some questions.

    The maps are those before the first FiLM layer, hence the same for all questions. The three are
    shown whose γ varies most between the questions, weighted against maps that are above 0 nowhere
    or everywhere.
    """
    found = discovery.find("film")
    network, config = load_network(found.folder, found.system)
    width, height = config.curriculum[-1].recipe.width, config.curriculum[-1].recipe.height
    image = load_image(example.IMAGE, width, height)
    none = [-1] * len(QUESTIONS)
    batch = collate(image[None], [0] * len(QUESTIONS), [encode(q) for q in QUESTIONS], none, none)
    with torch.no_grad():
        task = network.trunk.represent((batch.questions, batch.lengths))
    parameters = task.effective()[SITE]
    kept: list[Tensor] = []
    norm = network.trunk.backbone.blocks[0].norm
    handle = norm.register_forward_hook(lambda module, given, made: kept.append(made))
    with torch.no_grad():
        features = image_features(network.stem, image[None])
        network.trunk.backbone(features)
    handle.remove()
    (maps,) = kept[0]
    gamma, beta = (parameters[name][:, :, None, None] for name in ("gamma", "beta"))
    above = (gamma * maps + beta > 0).float().mean((2, 3))
    change = parameters["gamma"].std(0) / parameters["gamma"].abs().mean(0)
    chosen = ((above * (1 - above)).mean(0) * change).topk(MAPS).indices.sort().values
    return {
        "image": "data:image/png;base64," + b64encode(example.IMAGE.read_bytes()).decode(),
        "numbers": chosen.tolist(),
        "maps": [rounded(maps[index]) for index in chosen],
        "questions": [
            {
                "text": text,
                "gamma": rounded(parameters["gamma"][row, chosen]),
                "beta": rounded(parameters["beta"][row, chosen]),
            }
            for row, text in enumerate(QUESTIONS)
        ],
    }


def rounded(tensor: Tensor) -> Any:
    """Nested lists of numbers with three decimals."""
    return [rounded(each) if each.ndim else round(float(each), 3) for each in tensor.detach()]


def page() -> str:
    """The page, which needs no other file."""
    template = TEMPLATE.read_text(encoding="utf-8")
    return template.replace("/*VALUES*/", json.dumps(values()))
