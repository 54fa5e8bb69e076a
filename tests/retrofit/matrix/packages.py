"""More columns, of ``make matrix`` alone: networks of packages, made small, with random weights.

``places`` is written by hand, as in ``networks.py``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .networks import Inputs, Network, Place, each, images, livened, next_words, timm, tokens

WORDS = 31
LANGUAGE: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 12,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION: dict[str, Any] = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "image_size": 16,
    "patch_size": 4,
}
PAIRS: dict[str, Any] = {  # an encoder and a decoder
    "vocab_size": WORDS,
    "d_model": 8,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 12,
    "decoder_ffn_dim": 12,
    "dropout": 0.0,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


# --- how they are made ---------------------------------------------------------------------------


def shaken(network: nn.Module) -> nn.Module:
    """Norms, biases and layer scales away from their initial values, under which sites are mute."""
    with torch.no_grad():
        for p in network.parameters():
            if p.ndim <= 1:
                p.add_(torch.randn_like(p), alpha=0.2)
    return network


def transformer(name: str, **settings: Any) -> Callable[[], nn.Module]:
    """A network of transformers and its configuration, which lies beside it."""

    def build() -> nn.Module:
        import transformers

        kind = getattr(transformers, name)
        return livened(kind(kind.config_class(**settings)))

    return build


def clip() -> nn.Module:
    from transformers import CLIPConfig, CLIPModel

    text = {**LANGUAGE, "max_position_embeddings": 8, "projection_dim": 6}
    del text["num_key_value_heads"]
    vision = {**VISION, "projection_dim": 6}
    return livened(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=6)))


def detr() -> nn.Module:
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

    backbone = ResNetConfig(
        embedding_size=4,
        hidden_sizes=[4, 8],
        depths=[1, 1],
        layer_type="basic",
        out_features=["stage2"],
    )
    settings = {key: value for key, value in PAIRS.items() if not key.endswith(("_id", "_size"))}
    config = DetrConfig(backbone_config=backbone, num_queries=4, num_labels=5, **settings)
    return livened(DetrForObjectDetection(config))


def of(module: str, name: str, **settings: Any) -> Callable[[], nn.Module]:
    """A class of another package, with norms that tell."""

    def build() -> nn.Module:
        return shaken(getattr(importlib.import_module(module), name)(**settings))

    return build


def vision_convnext() -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    widths = ((8, 12), (12, 16), (16, None))
    blocks = [CNBlockConfig(width, out, 1) for width, out in widths]
    return livened(ConvNeXt(blocks, num_classes=5))


def mixer() -> nn.Module:
    from timm.models.mlp_mixer import MlpMixer

    network = MlpMixer(img_size=32, patch_size=16, embed_dim=12, num_blocks=2, num_classes=5)
    return livened(network)


def segformer() -> nn.Module:
    from segmentation_models_pytorch import Segformer

    network = Segformer(
        encoder_name="mit_b0", encoder_weights=None, decoder_segmentation_channels=16, classes=3
    )
    for module in network.modules():
        if hasattr(module, "drop_prob"):  # branches are dropped at random while training
            module.drop_prob = 0.0
    return shaken(network)


def named(name: str, *shape: int) -> Callable[[int], Inputs]:
    """One input of random numbers."""
    return lambda batch: {name: torch.randn(batch, *shape)}


def together(*parts: Callable[[int], Inputs]) -> Callable[[int], Inputs]:
    return lambda batch: {name: value for part in parts for name, value in part(batch).items()}


def classes(*shape: int, count: int = 5) -> Callable[[int], Inputs]:
    """Labels."""
    return lambda batch: {"labels": torch.randint(count, (batch, *shape))}


def boxes(batch: int) -> Inputs:
    """Labels of a detector."""
    one = {"class_labels": torch.tensor([1]), "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.2]])}
    return {"labels": [one] * batch}


def logits(output: Any) -> Tensor:
    found: Tensor = output.logits
    return found


def sample(output: Any) -> Tensor:
    found: Tensor = output.sample
    return found


pixels = named("pixel_values", 3, 16, 16)
word_ids = tokens("input_ids")
both_ids = together(word_ids, tokens("decoder_input_ids", 4))
translated = classes(4, count=WORDS)

extra = partial(Network, extra=True)
of_timm = partial(extra, package="timm")
of_vision = partial(extra, package="torchvision")
of_transformers = partial(extra, package="transformers")
of_diffusers = partial(extra, package="diffusers", tensor=sample, axis=1)
of_smp = partial(extra, package="segmentation_models_pytorch", axis=1)
of_monai = partial(extra, package="monai", axis=1)


CACHED = (
    "a run in evaluation mode with gradients leaves cached biases with a graph, which torch "
    "cannot copy"
)


# --- the table -----------------------------------------------------------------------------------

MORE: tuple[Network, ...] = (
    of_timm(
        "LeViT, timm",
        timm(
            "levit_128s",
            img_size=32,
            embed_dim=(16, 24, 32),
            key_dim=4,
            num_heads=(2, 3, 4),
            depth=(1, 1, 1),
            drop_path_rate=0.0,
        ),
        images(32),
        "stages.*.blocks.*.mlp",
        tuple(Place(f"stages.{i}.blocks.0.mlp", 16 + 8 * i, -1) for i in range(3)),
        blocks=("stages.0.blocks.0", "stages.2.blocks.0"),
        options={"axis": -1},
        cannot={"deepcopy": CACHED},
        prepares=True,
    ),
    of_timm(
        "EfficientFormer, timm",
        timm("efficientformer_l1", embed_dims=(4, 8, 12, 16), depths=(1, 1, 1, 2), num_vit=1),
        images(224),
        "stages.*.blocks.*.mlp.fc2",  # convolutions, then a linear map of tokens
        (
            *(Place(f"stages.{i}.blocks.0.mlp.fc2", 4 + 4 * i, 1) for i in range(4)),
            Place("stages.3.blocks.2.mlp.fc2", 16, -1),
        ),
        blocks=("stages.0.blocks.0", "stages.3.blocks.2"),
        cannot={"deepcopy": CACHED},
        prepares=True,
    ),
    of_timm(
        "ConvNeXt, timm",
        lambda: livened(timm("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 12, 16, 20))()),
        images(32),
        "stages.*.blocks.*.norm",  # layer norms, channels first
        tuple(Place(f"stages.{i}.blocks.0.norm", 8 + 4 * i, 1) for i in range(4)),
        blocks=("stages.0.blocks.0", "stages.2.blocks.0"),
    ),
    of_timm(
        "Swin, timm",
        timm(
            "swin_tiny_patch4_window7_224",
            img_size=32,
            window_size=4,
            embed_dim=8,
            depths=(1, 2),
            num_heads=(2, 2),
            drop_path_rate=0.0,
        ),
        images(32),
        "layers.*.blocks.*.mlp",
        (
            Place("layers.0.blocks.0.mlp", 8, -1),
            Place("layers.1.blocks.0.mlp", 16, -1),
            Place("layers.1.blocks.1.mlp", 16, -1),
        ),
        blocks=("layers.0.blocks.0", "layers.1.blocks.1"),
        options={"axis": -1},
    ),
    of_timm(
        "RegNet, timm",
        timm("regnetx_002"),
        images(32),
        ["s1.*.conv3.bn", "s2.*.conv3.bn", "s3.*.conv3.bn"],
        (
            Place("s1.b1.conv3.bn", 24, 1),
            Place("s2.b1.conv3.bn", 56, 1),
            *(Place(f"s3.b{i}.conv3.bn", 152, 1) for i in range(1, 5)),
        ),
        blocks=("s1.b1", "s3.b2"),
    ),
    of_timm(
        "MLP-Mixer, timm",
        mixer,
        images(32),
        "blocks.*.mlp_channels",
        each("blocks", 2, ("mlp_channels", 12, -1)),
        blocks=("blocks.0", "blocks.1"),
        options={"axis": -1},
    ),
    of_vision(
        "ConvNeXt, torchvision",
        vision_convnext,
        images(32),
        nn.LayerNorm,  # both layouts
        (
            Place("features.0.1", 8, 1),
            Place("features.1.0.block.2", 8, -1),
            Place("features.2.0", 8, 1),
            Place("features.3.0.block.2", 12, -1),
            Place("features.4.0", 12, 1),
            Place("features.5.0.block.2", 16, -1),
            Place("classifier.0", 16, 1),
        ),
        blocks=("features.1.0", "features.5.0"),
    ),
    of_vision(
        "Swin, torchvision",
        of(
            "torchvision.models",
            "SwinTransformer",
            patch_size=[4, 4],
            embed_dim=8,
            depths=[1, 2],
            num_heads=[2, 2],
            window_size=[4, 4],
            stochastic_depth_prob=0.0,
            num_classes=5,
        ),
        images(32),
        "features.*.*.mlp",
        (
            Place("features.1.0.mlp", 8, -1),
            Place("features.3.0.mlp", 16, -1),
            Place("features.3.1.mlp", 16, -1),
        ),
        blocks=("features.1.0", "features.3.1"),
        options={"axis": -1},
    ),
    of_vision(
        "MobileNetV2, torchvision",
        of(
            "torchvision.models",
            "MobileNetV2",
            num_classes=5,
            inverted_residual_setting=[[1, 8, 1, 1], [2, 16, 2, 2]],
            dropout=0.0,
        ),
        images(32),
        ["features.1.conv.2", "features.*.conv.3"],
        (
            Place("features.1.conv.2", 8, 1),
            Place("features.2.conv.3", 16, 1),
            Place("features.3.conv.3", 16, 1),
        ),
        blocks=("features.1", "features.3"),
    ),
    of_transformers(
        "ViT, transformers",
        transformer("ViTForImageClassification", **VISION, num_labels=5, hidden_dropout_prob=0.0),
        pixels,
        "vit.layers.*.layernorm_*",
        each("vit.layers", 2, ("layernorm_before", 8, -1), ("layernorm_after", 8, -1)),
        tensor=logits,
        blocks=("vit.layers.0", "vit.layers.1"),
        labels=classes(),
    ),
    of_transformers(
        "Segformer, transformers",
        transformer(
            "SegformerForSemanticSegmentation",
            num_encoder_blocks=2,
            depths=[1, 1],
            sr_ratios=[2, 1],
            hidden_sizes=[8, 12],
            patch_sizes=[7, 3],
            strides=[4, 2],
            num_attention_heads=[1, 2],
            mlp_ratios=[2, 2],
            decoder_hidden_size=8,
            num_labels=5,
            drop_path_rate=0.0,
            classifier_dropout_prob=0.0,
        ),
        pixels,
        "segformer.stages.*.blocks.*.mlp",
        (
            Place("segformer.stages.0.blocks.0.mlp", 8, -1),
            Place("segformer.stages.1.blocks.0.mlp", 12, -1),
        ),
        tensor=logits,
        axis=1,
        blocks=("segformer.stages.0.blocks.0", "segformer.stages.1.blocks.0"),
        options={"axis": -1},
        labels=classes(16, 16),
        prepares=True,
    ),
    of_transformers(
        "BEiT, transformers",
        transformer(
            "BeitForSemanticSegmentation",
            **{**VISION, "num_hidden_layers": 5},
            num_labels=5,
            out_indices=[2, 3, 4, 5],  # the embeddings are the first: the last layer is not used
            pool_scales=[1, 2],
            use_auxiliary_head=False,
            drop_path_rate=0.0,
        ),
        pixels,
        [f"beit.layers.{i}.attention.q_proj" for i in range(4)],
        each("beit.layers", 4, ("attention.q_proj", 8, -1)),
        tensor=logits,
        axis=1,
        blocks=("beit.layers.0", "beit.layers.3"),
        labels=classes(16, 16),
        prepares=True,
    ),
    of_transformers(
        "DPT, transformers",
        transformer(
            "DPTForSemanticSegmentation",
            **{**VISION, "num_hidden_layers": 4},
            num_labels=5,
            backbone_out_indices=[0, 1, 2, 3],
            neck_hidden_sizes=[4, 4, 8, 8],
            fusion_hidden_size=8,
            semantic_classifier_dropout=0.0,
        ),
        pixels,
        "dpt.encoder.layer.*.output.dense",
        each("dpt.encoder.layer", 4, ("output.dense", 8, -1)),
        tensor=logits,
        axis=1,
        blocks=("dpt.encoder.layer.0", "dpt.encoder.layer.3"),
        labels=classes(64, 64),
        prepares=True,
    ),
    of_transformers(
        "DETR, transformers",
        detr,
        named("pixel_values", 3, 32, 32),
        "model.*.layers.*.mlp",
        (
            *each("model.encoder.layers", 2, ("mlp", 8, -1)),
            *each("model.decoder.layers", 2, ("mlp", 8, -1)),
        ),
        tensor=lambda output: torch.cat([output.logits, output.pred_boxes], -1),
        blocks=("model.encoder.layers.0", "model.decoder.layers.1"),
        options={"axis": -1},
        labels=boxes,
        cannot={
            "Hugging Face Trainer": "labels are dictionaries, which the Trainer's default collator "
            "cannot batch"
        },
    ),
    of_transformers(
        "CLIP, transformers",
        clip,
        together(pixels, word_ids),
        "**.mlp.fc2",
        (
            *each("text_model.encoder.layers", 2, ("mlp.fc2", 8, -1)),
            *each("vision_model.encoder.layers", 2, ("mlp.fc2", 8, -1)),
        ),
        tensor=lambda output: torch.cat([output.image_embeds, output.text_embeds], -1),
        blocks=("text_model.encoder.layers.0", "vision_model.encoder.layers.1"),
    ),
    of_transformers(
        "Llama, transformers",
        transformer("LlamaForCausalLM", **LANGUAGE),
        word_ids,
        ["model.layers.*.input_layernorm", "model.layers.*.self_attn.o_proj"],
        each("model.layers", 2, ("self_attn.o_proj", 8, -1), ("input_layernorm", 8, -1)),
        tensor=logits,
        blocks=("model.layers.0", "model.layers.1"),
        labels=next_words(5),
    ),
    of_transformers(
        "Qwen3, transformers",
        transformer("Qwen3ForCausalLM", **LANGUAGE, head_dim=6),
        word_ids,
        "**.q_norm",  # of every head
        each("model.layers", 2, ("self_attn.q_norm", 6, -1)),
        tensor=logits,
        blocks=("model.layers.0", "model.layers.1"),
        labels=next_words(5),
    ),
    of_transformers(
        "Gemma 3, transformers",
        transformer(
            "Gemma3ForCausalLM",
            **LANGUAGE,
            head_dim=6,
            sliding_window=4,
            layer_types=["sliding_attention", "full_attention"],
        ),
        word_ids,
        "model.layers.*.pre_feedforward_layernorm",
        each("model.layers", 2, ("pre_feedforward_layernorm", 8, -1)),
        tensor=logits,
        blocks=("model.layers.0", "model.layers.1"),
        labels=next_words(5),
    ),
    of_transformers(
        "Mixtral, transformers",
        transformer("MixtralForCausalLM", **LANGUAGE, num_local_experts=3),
        word_ids,
        "model.layers.*.self_attn.o_proj",
        each("model.layers", 2, ("self_attn.o_proj", 8, -1)),
        tensor=logits,
        blocks=("model.layers.0", "model.layers.1"),
        labels=next_words(5),
    ),
    of_transformers(
        "Mamba, transformers",
        transformer(
            "MambaForCausalLM",
            vocab_size=WORDS,
            hidden_size=8,
            state_size=4,
            num_hidden_layers=2,
            time_step_rank=2,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        ),
        word_ids,
        "backbone.layers.*.norm",
        each("backbone.layers", 2, ("norm", 8, -1)),
        tensor=logits,
        blocks=("backbone.layers.0", "backbone.layers.1"),
        labels=next_words(5),
    ),
    of_transformers(
        "T5, transformers",
        transformer(
            "T5ForConditionalGeneration",
            vocab_size=WORDS,
            d_model=8,
            d_kv=4,
            d_ff=12,
            num_layers=2,
            num_heads=2,
            dropout_rate=0.0,
            decoder_start_token_id=0,
        ),
        both_ids,
        "**.DenseReluDense",
        (
            *each("encoder.block", 2, ("layer.1.DenseReluDense", 8, -1)),
            *each("decoder.block", 2, ("layer.2.DenseReluDense", 8, -1)),
        ),
        tensor=logits,
        blocks=("encoder.block.0", "decoder.block.1"),
        rounds=True,
        options={"axis": -1},
        labels=translated,
    ),
    of_transformers(
        "BART, transformers",
        transformer("BartForConditionalGeneration", **PAIRS, max_position_embeddings=16),
        both_ids,
        "**.fc2",
        (
            *each("model.encoder.layers", 2, ("fc2", 8, -1)),
            *each("model.decoder.layers", 2, ("fc2", 8, -1)),
        ),
        tensor=logits,
        blocks=("model.encoder.layers.0", "model.decoder.layers.1"),
        labels=translated,
    ),
    of_transformers(
        "Whisper, transformers",
        transformer(
            "WhisperForConditionalGeneration",
            **PAIRS,
            num_mel_bins=6,
            max_source_positions=8,
            max_target_positions=16,
            decoder_start_token_id=1,
        ),
        together(named("input_features", 6, 16), tokens("decoder_input_ids", 4)),
        "**.fc2",
        (
            *each("model.encoder.layers", 2, ("fc2", 8, -1)),
            *each("model.decoder.layers", 2, ("fc2", 8, -1)),
        ),
        tensor=logits,
        blocks=("model.encoder.layers.0", "model.decoder.layers.1"),
        labels=translated,
    ),
    of_diffusers(
        "UNet2DCondition, diffusers",
        of(
            "diffusers",
            "UNet2DConditionModel",
            sample_size=8,
            in_channels=2,
            out_channels=2,
            block_out_channels=(4, 8),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=2,
            attention_head_dim=4,
            cross_attention_dim=6,
        ),
        together(
            named("sample", 2, 8, 8),
            lambda batch: {"timestep": torch.arange(batch)},
            named("encoder_hidden_states", 3, 6),
        ),
        ["**.transformer_blocks.*.norm2", "**.resnets.*.norm2"],
        (
            Place("down_blocks.0.resnets.0.norm2", 4, 1),
            Place("down_blocks.1.attentions.0.transformer_blocks.0.norm2", 8, -1),
            Place("down_blocks.1.resnets.0.norm2", 8, 1),
            Place("up_blocks.0.attentions.0.transformer_blocks.0.norm2", 8, -1),
            Place("up_blocks.0.attentions.1.transformer_blocks.0.norm2", 8, -1),
            Place("up_blocks.0.resnets.0.norm2", 8, 1),
            Place("up_blocks.0.resnets.1.norm2", 8, 1),
            Place("up_blocks.1.resnets.0.norm2", 4, 1),
            Place("up_blocks.1.resnets.1.norm2", 4, 1),
            Place("mid_block.attentions.0.transformer_blocks.0.norm2", 8, -1),
            Place("mid_block.resnets.0.norm2", 8, 1),
            Place("mid_block.resnets.1.norm2", 8, 1),
        ),
        blocks=("down_blocks.1", "mid_block"),
    ),
    of_diffusers(
        "AutoencoderKL, diffusers",
        of(
            "diffusers",
            "AutoencoderKL",
            in_channels=2,
            out_channels=2,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(4, 8),
            latent_channels=2,
            norm_num_groups=2,
            sample_size=8,
        ),
        named("sample", 2, 8, 8),
        "*.mid_block.resnets.*.norm2",
        (
            *each("encoder.mid_block.resnets", 2, ("norm2", 8, 1)),
            *each("decoder.mid_block.resnets", 2, ("norm2", 8, 1)),
        ),
        blocks=("encoder.mid_block", "decoder.mid_block"),
    ),
    of_smp(
        "Unet, smp",
        of(
            "segmentation_models_pytorch",
            "Unet",
            encoder_name="resnet18",
            encoder_weights=None,
            encoder_depth=3,
            decoder_channels=(16, 12, 8),
            classes=3,
        ),
        images(32),
        "decoder.blocks.*.conv2.1",
        tuple(Place(f"decoder.blocks.{i}.conv2.1", 16 - 4 * i, 1) for i in range(3)),
        blocks=("decoder.blocks.1", "decoder.blocks.2"),
    ),
    of_smp(
        "FPN, smp",
        of(
            "segmentation_models_pytorch",
            "FPN",
            encoder_name="resnet18",
            encoder_weights=None,
            decoder_pyramid_channels=16,
            decoder_segmentation_channels=32,
            decoder_dropout=0.0,
            classes=3,
        ),
        images(64),
        "decoder.seg_blocks.*.block.0.block.1",
        each("decoder.seg_blocks", 4, ("block.0.block.1", 32, 1)),
        blocks=("decoder.seg_blocks.0", "decoder.seg_blocks.3"),
    ),
    of_smp(
        "Segformer, smp",
        segformer,
        images(64),
        "decoder.mlp_stage.*.linear",
        each("decoder.mlp_stage", 4, ("linear", 16, -1)),
        blocks=("decoder.mlp_stage.0", "decoder.mlp_stage.3"),
    ),
    of_monai(
        "UNet 3-d, MONAI",
        of(
            "monai.networks.nets",
            "UNet",
            spatial_dims=3,
            in_channels=1,
            out_channels=2,
            channels=(4, 8),
            strides=(2,),
            num_res_units=1,
            norm="instance",
        ),
        named("x", 1, 8, 8, 8),
        nn.InstanceNorm3d,
        (
            Place("model.0.conv.unit0.adn.N", 4, 1),
            Place("model.1.submodule.conv.unit0.adn.N", 8, 1),
            Place("model.2.0.adn.N", 2, 1),
        ),
        blocks=("model.0", "model.2"),
    ),
    of_monai(
        "DynUNet, MONAI",
        of(
            "monai.networks.nets",
            "DynUNet",
            spatial_dims=2,
            in_channels=1,
            out_channels=2,
            kernel_size=[3, 3, 3],
            strides=[1, 2, 2],
            upsample_kernel_size=[2, 2],
            filters=[4, 8, 12],
            norm_name=("INSTANCE", {"affine": True}),
        ),
        images(16, 1),
        "*.norm2",
        (Place("input_block.norm2", 4, 1), Place("bottleneck.norm2", 12, 1)),
        blocks=("input_block", "bottleneck"),
    ),
    of_monai(
        "SwinUNETR, MONAI",
        of(
            "monai.networks.nets",
            "SwinUNETR",
            in_channels=1,
            out_channels=2,
            feature_size=12,
            spatial_dims=2,
            depths=(1, 1, 1, 1),
            num_heads=(2, 2, 2, 2),
            window_size=4,
        ),
        named("x_in", 1, 64, 64),
        "swinViT.layers*.*.blocks.*.mlp",
        tuple(Place(f"swinViT.layers{i}.0.blocks.0.mlp", 6 * 2**i, -1) for i in range(1, 5)),
        blocks=("swinViT.layers1.0", "swinViT.layers3.0"),
        options={"axis": -1},
        cannot={
            "torch.compile, fullgraph, no recompilation": "the size of the input is checked by a "
            "branch on numbers of NumPy, which `fullgraph` refuses"
        },
    ),
)
