"""Arguments made up for models of diffusers and transformers, from their configurations.

What counts is shapes and dtypes: a compiler traces with them. The sizes that a request chooses
(batch, height, ...) can be set; all others follow from the configuration.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from effcomp.errors import ConfigError, SourceError, nearest

__all__ = ["example_inputs"]


@dataclass(slots=True)
class Request:
    """Sizes by name, with the defaults that were asked for noted, so that typos can be told."""

    given: Mapping[str, int]
    config: Any
    asked: dict[str, int]
    random: torch.Generator

    def size(self, name: str, default: int) -> int:
        self.asked[name] = self.given.get(name, default)
        return self.asked[name]

    def field(self, *names: str) -> Any:
        """The first of these fields that the configuration has, and that is not None."""
        for name in names:
            if (value := getattr(self.config, name, None)) is not None:
                return value
        raise SourceError(f"the model's configuration has no {' or '.join(names)}")

    def noise(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.random)

    def ids(self, count: int, *shape: int) -> Tensor:
        return torch.randint(0, max(1, count), shape, generator=self.random)

    @property
    def batch(self) -> int:
        return self.size("batch", 2)


def example_inputs(model: nn.Module, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Named arguments for one call.

    Raises SourceError for a model that nobody here knows how to call, ConfigError for a size that
    it does not have.
    """
    kind = type(model).__name__
    request = Request(sizes, model.config, {}, torch.Generator().manual_seed(0))
    if kind in _DIFFUSERS:
        made = _DIFFUSERS[kind](request)
    elif hasattr(model, "main_input_name") and hasattr(model, "dummy_inputs"):
        made = _transformers(model, request)
    else:
        takes = ", ".join(inspect.signature(model.forward).parameters)
        raise SourceError(
            f"how a {kind} is called is not known here; give its arguments with "
            f"--inputs FILE.safetensors. It takes: {takes}"
        )
    for name in sizes:
        if name not in request.asked:
            raise ConfigError(f"a {kind} has no size {name!r}; {nearest(name, request.asked)}")
    return made


# Diffusion: latents or packed tokens, a time, and what a text encoder returned.


def _flux(r: Request) -> dict[str, Any]:
    height, width = r.size("height", 64), r.size("width", 64)
    text, batch = r.size("text", 512), r.batch
    places = torch.zeros(height, width, 3)
    places[..., 1], places[..., 2] = torch.arange(height)[:, None], torch.arange(width)
    inputs = {
        "hidden_states": r.noise(batch, height * width, r.field("in_channels")),
        "encoder_hidden_states": r.noise(batch, text, r.field("joint_attention_dim")),
        "pooled_projections": r.noise(batch, r.field("pooled_projection_dim")),
        "timestep": torch.linspace(0.9, 0.1, batch),
        "img_ids": places.reshape(-1, 3),
        "txt_ids": torch.zeros(text, 3),
    }
    if r.config.guidance_embeds:
        inputs["guidance"] = torch.full((batch,), 3.5)
    return inputs


def _latents(r: Request, *channels: str) -> Tensor:
    side = r.field("sample_size")
    high, wide = (side, side) if isinstance(side, int) else side
    height, width = r.size("height", high), r.size("width", wide)
    return r.noise(r.batch, r.field(*channels), height, width)


def _times(r: Request) -> Tensor:
    return torch.linspace(900, 100, r.batch)


def _sd3(r: Request) -> dict[str, Any]:
    return {
        "hidden_states": _latents(r, "in_channels"),
        "encoder_hidden_states": r.noise(
            r.batch, r.size("text", 154), r.field("joint_attention_dim")
        ),
        "pooled_projections": r.noise(r.batch, r.field("pooled_projection_dim")),
        "timestep": _times(r),
    }


def _pixart(r: Request) -> dict[str, Any]:
    return {
        "hidden_states": _latents(r, "in_channels"),
        "encoder_hidden_states": r.noise(r.batch, r.size("text", 120), r.field("caption_channels")),
        "timestep": _times(r),
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
    }


def _wan(r: Request) -> dict[str, Any]:
    frames, height, width = r.size("frames", 21), r.size("height", 60), r.size("width", 104)
    return {
        "hidden_states": r.noise(r.batch, r.field("in_channels"), frames, height, width),
        "timestep": _times(r),
        "encoder_hidden_states": r.noise(r.batch, r.size("text", 512), r.field("text_dim")),
    }


def _unet(r: Request) -> dict[str, Any]:
    inputs: dict[str, Any] = {
        "sample": _latents(r, "in_channels"),
        "timestep": torch.tensor(500),
        "encoder_hidden_states": r.noise(
            r.batch, r.size("text", 77), r.field("cross_attention_dim")
        ),
    }
    if r.config.addition_embed_type == "text_time":
        ids = 6
        width = r.field("projection_class_embeddings_input_dim")
        pooled = width - ids * r.field("addition_time_embed_dim")
        inputs["added_cond_kwargs"] = {
            "text_embeds": r.noise(r.batch, pooled),
            "time_ids": torch.zeros(r.batch, ids),
        }
    return inputs


def _vae(r: Request) -> dict[str, Any]:
    return {"sample": _latents(r, "in_channels")}


_DIFFUSERS: Mapping[str, Callable[[Request], dict[str, Any]]] = {
    "AutoencoderKL": _vae,
    "FluxTransformer2DModel": _flux,
    "PixArtTransformer2DModel": _pixart,
    "SD3Transformer2DModel": _sd3,
    "UNet2DConditionModel": _unet,
    "WanTransformer3DModel": _wan,
}


# Language, sight, speech: by the name of a transformers model's main input.


def _transformers(model: nn.Module, r: Request) -> dict[str, Any]:
    takes = inspect.signature(model.forward).parameters
    main = str(model.main_input_name)
    if main not in _MAIN:
        raise SourceError(
            f"how a {type(model).__name__} takes {main} is not known here; give its arguments with "
            f"--inputs FILE.safetensors. It takes: {', '.join(takes)}"
        )
    inputs = _MAIN[main](r)
    if "pixel_values" in takes and main == "input_ids" and hasattr(r.config, "vision_config"):
        inputs |= _pixels(r)
    if "decoder_input_ids" in takes:
        tokens = r.size("decoder_tokens", 16)
        inputs["decoder_input_ids"] = r.ids(_vocabulary(r.config), r.batch, tokens)
    if "use_cache" in takes:
        inputs["use_cache"] = False
    return inputs


def _vocabulary(config: Any) -> int:
    part = config.get_text_config() if hasattr(config, "get_text_config") else config
    return int(part.vocab_size)


def _tokens(r: Request) -> dict[str, Any]:
    return {"input_ids": r.ids(_vocabulary(r.config), r.batch, r.size("tokens", 128))}


def _pixels(r: Request) -> dict[str, Any]:
    config = getattr(r.config, "vision_config", r.config)
    side = config.image_size
    high, wide = (side, side) if isinstance(side, int) else side
    height, width = r.size("height", high), r.size("width", wide)
    channels = getattr(config, "num_channels", 3)
    return {"pixel_values": r.noise(r.batch, channels, height, width)}


def _features(r: Request) -> dict[str, Any]:
    frames = 2 * int(r.field("max_source_positions"))
    return {"input_features": r.noise(r.batch, r.field("num_mel_bins"), r.size("frames", frames))}


def _waves(r: Request) -> dict[str, Any]:
    return {"input_values": r.noise(r.batch, r.size("samples", 16_000))}


_MAIN: Mapping[str, Callable[[Request], dict[str, Any]]] = {
    "input_features": _features,
    "input_ids": _tokens,
    "input_values": _waves,
    "pixel_values": _pixels,
}
