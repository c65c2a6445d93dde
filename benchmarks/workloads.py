"""The measured models: published shapes with the depth cut, never the width or the token count.

    workload = build("flux", device="cuda")
    workload.prepare()
    output = workload.module(**workload.inputs)

`tiny=True` shrinks everything so that a CPU can run the same code in milliseconds.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

__all__ = ["WORKLOADS", "Workload", "build"]


@dataclass(frozen=True, slots=True)
class Workload:
    """A module and one call of it.

    `prepare` runs before every call, outside the timed region: it puts back what a call mutates.
    """

    name: str
    module: nn.Module
    inputs: dict[str, Any]
    prepare: Callable[[], None] = lambda: None

    def in_float32(self) -> Workload:
        """Copy module, state and inputs to float32: what every backend's error is taken against."""
        module = copy.deepcopy(self.module)
        prepare = self.prepare
        if isinstance(module, DecodeStep):
            module.cache_in_float32()
            prepare = module.rewind
        nn.Module.to(module, torch.float32)
        return Workload(self.name, module, _in_float32(self.inputs), prepare)


def _in_float32(value: Any) -> Any:
    match value:
        case Tensor() if value.is_floating_point():
            return value.float()
        case dict():
            return {key: _in_float32(item) for key, item in value.items()}
        case _:
            return value


def _fill(module: nn.Module, dtype: torch.dtype, device: str, seed: int = 0) -> nn.Module:
    """Deterministic small random weights, made where they stay."""
    random = torch.Generator(device=device).manual_seed(seed)
    with torch.no_grad():
        for state in (*module.parameters(), *module.buffers()):  # fake ones too, unlike Module.to
            if state.is_floating_point():
                state.data = state.data.to(device, dtype)
        for name, parameter in module.named_parameters():
            if parameter.ndim < 2 and "norm" in name and name.endswith("weight"):
                parameter.fill_(1.0)
                continue
            scale = 0.5 / math.sqrt(parameter[0].numel()) if parameter.ndim >= 2 else 0.02
            noise = torch.randn(parameter.shape, generator=random, device=device)
            parameter.copy_(noise.mul_(scale))
    return module.eval().requires_grad_(False)


def _noise(shape: tuple[int, ...], dtype: torch.dtype, device: str, seed: int) -> Tensor:
    random = torch.Generator(device=device).manual_seed(seed)
    return torch.randn(shape, generator=random, device=device).to(dtype)


def flux(device: str, tiny: bool) -> Workload:
    """FLUX.1-dev transformer (diffusers), 1024 x 1024: 4,096 image and 512 text tokens, 24 x 128.

    2 double and 4 single blocks of 19 and 38.
    """
    from diffusers import FluxTransformer2DModel

    dtype, side, text = torch.bfloat16, 64, 512
    options: dict[str, Any] = {"num_layers": 2, "num_single_layers": 4, "guidance_embeds": True}
    if tiny:
        side, text = 8, 16
        options |= {"num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 8}
        options |= {"axes_dims_rope": (4, 6, 6), "joint_attention_dim": 32}
        options |= {"pooled_projection_dim": 16}
    with torch.device(device):
        module = _fill(FluxTransformer2DModel(**options), dtype, device)
    config = cast(Any, module).config
    ids = torch.zeros(side, side, 3, device=device, dtype=dtype)
    ids[..., 1] = torch.arange(side, device=device)[:, None]
    ids[..., 2] = torch.arange(side, device=device)
    inputs = {
        "hidden_states": _noise((1, side * side, config.in_channels), dtype, device, 1),
        "encoder_hidden_states": _noise((1, text, config.joint_attention_dim), dtype, device, 2),
        "pooled_projections": _noise((1, config.pooled_projection_dim), dtype, device, 3),
        # The model multiplies both by 1,000 in its own dtype. These stay exact in bfloat16: with
        # others that one rounding would hide every other difference from float32.
        "timestep": torch.full((1,), 0.5, device=device, dtype=dtype),
        "guidance": torch.full((1,), 4.0, device=device),
        "img_ids": ids.view(-1, 3),
        "txt_ids": torch.zeros(text, 3, device=device, dtype=dtype),
        "return_dict": False,
    }
    return Workload("flux", module, inputs)


def wan(device: str, tiny: bool) -> Workload:
    """Wan2.1-T2V-1.3B transformer (diffusers), 81 frames at 480p: 32,760 tokens, 12 heads x 128.

    4 blocks of 30.
    """
    from diffusers import WanTransformer3DModel

    dtype, frames, height, width, text = torch.bfloat16, 21, 60, 104, 512
    options: dict[str, Any] = {"num_layers": 4, "ffn_dim": 8960}
    options |= {"num_attention_heads": 12, "attention_head_dim": 128}
    if tiny:
        frames, height, width, text = 3, 8, 8, 8
        options |= {"num_attention_heads": 2, "attention_head_dim": 12}
        options |= {"ffn_dim": 64, "text_dim": 32}
    with torch.device(device):
        module = _fill(WanTransformer3DModel(**options), dtype, device)
    config = cast(Any, module).config
    inputs = {
        "hidden_states": _noise((1, config.in_channels, frames, height, width), dtype, device, 1),
        "timestep": torch.full((1,), 700, device=device, dtype=torch.long),
        "encoder_hidden_states": _noise((1, text, config.text_dim), dtype, device, 2),
        "return_dict": False,
    }
    return Workload("wan", module, inputs)


def sdxl_unet(device: str, tiny: bool) -> Workload:
    """SDXL UNet (diffusers), 1024 x 1024, whole, float16, the batch of 2 of guidance."""
    from diffusers import UNet2DConditionModel

    dtype, side = torch.float16, 128
    options: dict[str, Any] = {
        "sample_size": 128,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (320, 640, 1280),
        "layers_per_block": 2,
        "transformer_layers_per_block": [1, 2, 10],
        "cross_attention_dim": 2048,
        "attention_head_dim": [5, 10, 20],
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    }
    if tiny:
        side = 16
        options |= {"block_out_channels": (32, 64, 64), "transformer_layers_per_block": 1}
        options |= {"cross_attention_dim": 32, "attention_head_dim": [2, 4, 4]}
        options |= {"layers_per_block": 1}
    with torch.device(device):
        module = _fill(UNet2DConditionModel(**options), dtype, device)
    width = cast(Any, module).config.cross_attention_dim
    time_ids = torch.tensor([[1024.0, 1024, 0, 0, 1024, 1024]] * 2, device=device, dtype=dtype)
    inputs = {
        "sample": _noise((2, 4, side, side), dtype, device, 1),
        "timestep": torch.tensor(700, device=device),
        "encoder_hidden_states": _noise((2, 77, width), dtype, device, 2),
        "added_cond_kwargs": {
            "text_embeds": _noise((2, 1280), dtype, device, 3),
            "time_ids": time_ids,
        },
        "return_dict": False,
    }
    return Workload("sdxl_unet", module, inputs)


def _tokens(vocabulary: int, count: int, device: str) -> Tensor:
    random = torch.Generator(device=device).manual_seed(5)
    return torch.randint(0, vocabulary, (1, count), device=device, generator=random)


def _llama(device: str, tiny: bool, layers: int) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    options: dict[str, Any] = {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": layers,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
    }
    if tiny:
        options |= {"hidden_size": 64, "intermediate_size": 128, "vocab_size": 128}
        options |= {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}
    with torch.device(device):
        return _fill(LlamaForCausalLM(LlamaConfig(**options)), torch.bfloat16, device)


def _last_logits(name: str, module: nn.Module, tokens: int, device: str) -> Workload:
    inputs = {
        "input_ids": _tokens(cast(Any, module).config.vocab_size, tokens, device),
        "use_cache": False,
        "logits_to_keep": 1,
        "return_dict": False,
    }
    return Workload(name, module, inputs)


def llama_prefill(device: str, tiny: bool) -> Workload:
    """Llama-3-8B shapes (transformers), 4 layers of 32, 8,192 tokens, the last logits only."""
    return _last_logits("llama_prefill", _llama(device, tiny, 4), 64 if tiny else 8192, device)


class DecodeStep(nn.Module):
    """One decoding step of a transformers LM near the end of a full static cache."""

    def __init__(self, model: nn.Module, capacity: int, device: str) -> None:
        super().__init__()
        from transformers import StaticCache

        self.model, self.position = model, capacity - 8
        config = cast(Any, model).config
        self.cache = StaticCache(config=config, max_cache_len=capacity)
        with torch.no_grad():  # the cache allocates itself on first use
            model(input_ids=_tokens(config.vocab_size, 1, device), past_key_values=self.cache)
        for number, layer in enumerate(self.layers()):
            for seed, state in enumerate((layer.keys, layer.values)):
                noise = _noise(tuple(state.shape), state.dtype, device, 100 + 2 * number + seed)
                state[:, :, : self.position] = noise[:, :, : self.position]
        self.rewind()

    def layers(self) -> Any:
        """The cache's layers: classes that declare neither `keys` nor `values`."""
        return self.cache.layers

    def rewind(self) -> None:
        """Put the cache back to `position`: it counts its length in a tensor, one up every call."""
        for layer in self.layers():
            length = getattr(layer, "cumulative_length", None)
            if isinstance(length, Tensor):
                length.fill_(self.position)

    def cache_in_float32(self) -> None:
        for layer in self.layers():
            layer.keys, layer.values = layer.keys.float(), layer.values.float()
            layer.dtype = torch.float32

    def forward(self, input_ids: Tensor, cache_position: Tensor) -> Tensor:
        return self.model(
            input_ids=input_ids,
            past_key_values=self.cache,
            cache_position=cache_position,
            position_ids=cache_position[None],
            use_cache=True,
            logits_to_keep=1,
            return_dict=False,
        )[0]


def llama_decode(device: str, tiny: bool) -> Workload:
    """Llama-3-8B shapes, 8 layers of 32, one token at the end of a cache of 8,192 positions."""
    model = _llama(device, tiny, 8)
    step = DecodeStep(model, 128 if tiny else 8192, device).eval()
    inputs = {
        "input_ids": _tokens(cast(Any, model).config.vocab_size, 1, device),
        "cache_position": torch.tensor([step.position], device=device),
    }
    return Workload("llama_decode", step, inputs, step.rewind)


def qwen_moe(device: str, tiny: bool) -> Workload:
    """Qwen3-30B-A3B shapes (transformers), 2 layers of 48: 128 experts, 8 active, 4,096 tokens."""
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    options: dict[str, Any] = {
        "hidden_size": 2048,
        "num_hidden_layers": 2,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "moe_intermediate_size": 768,
        "intermediate_size": 6144,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "vocab_size": 151936,
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
    }
    if tiny:
        options |= {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
        options |= {"head_dim": 16, "moe_intermediate_size": 32, "intermediate_size": 64}
        options |= {"num_experts": 8, "num_experts_per_tok": 2, "vocab_size": 128}
    with torch.device(device):
        module = _fill(Qwen3MoeForCausalLM(Qwen3MoeConfig(**options)), torch.bfloat16, device)
    return _last_logits("qwen_moe", module, 32 if tiny else 4096, device)


WORKLOADS: dict[str, Callable[[str, bool], Workload]] = {
    "flux": flux,
    "wan": wan,
    "llama_prefill": llama_prefill,
    "llama_decode": llama_decode,
    "sdxl_unet": sdxl_unet,
    "qwen_moe": qwen_moe,
}


def build(name: str, device: str = "cuda", tiny: bool = False) -> Workload:
    """Build a workload by its name."""
    if name not in WORKLOADS:
        raise ValueError(f"no workload named {name!r}; there are {', '.join(WORKLOADS)}")
    return WORKLOADS[name](device, tiny)
