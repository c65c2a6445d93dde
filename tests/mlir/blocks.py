"""The blocks that models are made of, tiny."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.models.zoo import fill, noise

Block = tuple[nn.Module, tuple[Tensor, ...]]


class Mlp(nn.Module):
    """Two linears with a gelu between, and a norm before them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(24)
        self.up = nn.Linear(24, 48)
        self.down = nn.Linear(48, 24)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(nn.functional.gelu(self.up(self.norm(x)), approximate="tanh"))


class Attention(nn.Module):
    """Causal attention of two heads, normed before."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(32)
        self.qkv = nn.Linear(32, 96, bias=False)
        self.out = nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.qkv(self.norm(x)).chunk(3, dim=-1)
        q, k, v = (part.view(batch, length, 2, 16).transpose(1, 2) for part in parts)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class Flux(nn.Module):
    """diffusers' double block of FLUX, with its rotary embedding and modulation."""

    def __init__(self) -> None:
        super().__init__()
        from diffusers.models.transformers.transformer_flux import FluxTransformerBlock

        self.block = FluxTransformerBlock(dim=32, num_attention_heads=2, attention_head_dim=16)

    def forward(self, x: Tensor, text: Tensor, temb: Tensor, angles: Tensor) -> tuple[Tensor, ...]:
        return self.block(x, text, temb, (angles.cos(), angles.sin()))


class Llama(nn.Module):
    """A layer of transformers' Llama, grouped-query attention and rotary embedding included."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import LlamaConfig
        from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

        config = LlamaConfig(
            hidden_size=32,
            intermediate_size=48,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            attn_implementation="sdpa",
        )
        self.layer = LlamaDecoderLayer(config, 0)
        self.rotary = LlamaRotaryEmbedding(config)

    def forward(self, x: Tensor) -> Tensor:
        positions = torch.arange(x.shape[1], device=x.device)[None]
        found = self.layer(x, position_embeddings=self.rotary(x, positions))
        return found[0] if isinstance(found, tuple) else found


class Residual(nn.Module):
    """A block of a UNet's decoder: group norm, silu, convolution, upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, 8)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.up = nn.Upsample(scale_factor=2.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(x + self.conv(nn.functional.silu(self.norm(x))))


def _f32(*shape: int, seed: int = 1) -> Tensor:
    return noise(shape, torch.float32, seed)


def _built(make: Callable[[], nn.Module], *inputs: Tensor) -> Callable[[], Block]:
    def build() -> Block:
        return fill(make(), seed=0).eval(), inputs

    return build


BLOCKS: dict[str, Callable[[], Block]] = {
    "mlp": _built(Mlp, _f32(2, 5, 24)),
    "attention": _built(Attention, _f32(2, 6, 32)),
    "flux": _built(
        Flux, _f32(1, 9, 32), _f32(1, 4, 32, seed=2), _f32(1, 32, seed=3), _f32(13, 16, seed=4)
    ),
    "llama": _built(Llama, _f32(2, 7, 32)),
    "residual": _built(Residual, _f32(1, 8, 6, 6)),
}


def outputs(found: Any) -> tuple[Tensor, ...]:
    return tuple(found) if isinstance(found, tuple | list) else (found,)
