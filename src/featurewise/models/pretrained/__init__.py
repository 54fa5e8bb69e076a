"""Real pretrained networks, written from their papers, and word vectors.

Each module has a network, ``load``, which reads its weights from the cache, and ``prepare``, which
makes its inputs from images of 8 bits. The weights come from packages that are installed
separately; ``featurewise weights convert`` converts them once, into safetensors.
"""

from featurewise.models.pretrained.efficientnet_lite0 import EfficientNetLite0
from featurewise.models.pretrained.errors import WeightsError
from featurewise.models.pretrained.glove import WordVectors, word_vectors
from featurewise.models.pretrained.hed_vgg16 import HedVGG16
from featurewise.models.pretrained.imagenet import class_names
from featurewise.models.pretrained.mobilenet_v2 import MobileNetV2

__all__ = [
    "EfficientNetLite0",
    "HedVGG16",
    "MobileNetV2",
    "WeightsError",
    "WordVectors",
    "class_names",
    "word_vectors",
]
