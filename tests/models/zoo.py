"""Tiny instances of model classes nobody here wrote, with weights made up from a seed.

Every entry builds the real diffusers or transformers class with one or two layers, at least two
heads, grouped-query attention where the family has it, and several experts where it has experts.

    entry = ZOO["flux"]
    model = entry.build(dtype=torch.float32)
    expected = entry.output(model(**entry.inputs(batch=2)))
    changed = entry.output(model(**entry.inputs(batch=2, size="changed")))

`size="changed"` asks for another resolution or sequence length, so that a compiled model meets a
shape it was not compiled for. An entry's `note` says what is peculiar about it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

__all__ = ["ZOO", "Entry"]

Size = Literal["default", "changed"]
Inputs = dict[str, Any]

VOCAB = 96


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the zoo.

    `make` builds the bare module on the CPU; `feed(dtype, batch, changed)` its keyword arguments;
    `output` takes from what the module returns the tensors that are worth comparing.
    """

    name: str
    make: Callable[[], nn.Module]
    feed: Callable[[torch.dtype, int, bool], Inputs]
    output: Callable[[Any], Tensor | tuple[Tensor, ...]]
    finish: Callable[[nn.Module], nn.Module] = lambda module: module
    note: str = ""

    def build(
        self,
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> nn.Module:
        """Build in eval mode with deterministic weights; parameters require gradients."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = fill(self.make(), seed)
        # `to` of diffusers' classes warns of a cast that is meant here, so torch's own is called.
        return self.finish(nn.Module.to(module, device=device, dtype=dtype).eval())

    def inputs(
        self, batch: int = 2, size: Size = "default", dtype: torch.dtype = torch.float32
    ) -> Inputs:
        """Keyword arguments of one call, the same for the same request."""
        return self.feed(dtype, batch, size == "changed")


# Notes that concern several entries. Every entry is one Dynamo graph without a break (torch 2.13,
# transformers 5.23, diffusers 0.42), and a changed size or batch costs one recompile each.
MOE_NOTE = """The library's default experts implementation is `grouped_mm`, chosen when the model is
built: no loop over experts and no graph break. In bfloat16 it is `torch.nn.functional.grouped_mm`;
in any other dtype, under compile only, it becomes the opaque custom op
`transformers::grouped_mm_fallback`, while eager float32 still calls the former."""
DECODE_NOTE = """The static cache counts its own length in a tensor that every call advances in
place, next to the keys and values: a second call decodes the next position, so compare modules
that were built separately and called equally often. The cache fixes the batch to 2."""


def fill(module: nn.Module, seed: int) -> nn.Module:
    """Give every parameter values that keep activations of order one and no two channels alike.

    The libraries' own initialisation leaves zeros in places (adaLN gates, output projections),
    and a block that multiplies by zero hides every error before it.
    """
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=random)
            if name.endswith(("A_log", "dt_proj.bias")):
                continue  # Mamba: the decay must stay negative and the step small
            if parameter.ndim >= 2:
                per_expert = "experts" in name and parameter.ndim == 3
                fan_in = parameter.shape[-1] if per_expert else parameter[0].numel()
                parameter.copy_(noise / math.sqrt(fan_in))
            elif name.endswith("weight"):
                parameter.copy_(1 + 0.1 * noise)
            else:
                parameter.copy_(0.1 * noise)
    return module


def noise(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def tokens(batch: int, length: int, seed: int = 5) -> Tensor:
    """Token numbers of at least 3: what is below stands for padding, begin and end."""
    random = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCAB, (batch, length), generator=random)


def first(output: Any) -> Tensor:
    return output[0]


def logits(output: Any) -> Tensor:
    return output.logits


# ---- diffusion -------------------------------------------------------------------------------


def _flux() -> nn.Module:
    from diffusers import FluxTransformer2DModel

    return FluxTransformer2DModel(
        num_layers=1,
        num_single_layers=1,
        num_attention_heads=2,
        attention_head_dim=16,
        axes_dims_rope=(4, 6, 6),
        joint_attention_dim=24,
        pooled_projection_dim=16,
        in_channels=8,
        guidance_embeds=True,
    )


def _flux_inputs(dtype: torch.dtype, batch: int, changed: bool) -> Inputs:
    height, width, text = (6, 4, 7) if changed else (4, 4, 6)
    ids = torch.zeros(height, width, 3)
    ids[..., 1] = torch.arange(height)[:, None]
    ids[..., 2] = torch.arange(width)
    return {
        "hidden_states": noise((batch, height * width, 8), dtype, 1),
        "encoder_hidden_states": noise((batch, text, 24), dtype, 2),
        "pooled_projections": noise((batch, 16), dtype, 3),
        "timestep": torch.linspace(0.5, 0.25, batch).to(dtype),
        "guidance": torch.full((batch,), 4.0),
        "img_ids": ids.reshape(-1, 3),
        "txt_ids": torch.zeros(text, 3),
        "return_dict": False,
    }


def _wan() -> nn.Module:
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        ffn_dim=48,
        text_dim=20,
        freq_dim=16,
        rope_max_seq_len=32,
    )


def _wan_inputs(dtype: torch.dtype, batch: int, changed: bool) -> Inputs:
    frames, height, width = (3, 6, 4) if changed else (2, 4, 4)
    return {
        "hidden_states": noise((batch, 4, frames, height, width), dtype, 1),
        "timestep": torch.arange(700, 700 - 50 * batch, -50),
        "encoder_hidden_states": noise((batch, 6, 20), dtype, 2),
        "return_dict": False,
    }


def _sd3() -> nn.Module:
    from diffusers import SD3Transformer2DModel

    return SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=24,
        caption_projection_dim=32,
        pooled_projection_dim=16,
        pos_embed_max_size=12,
        qk_norm="rms_norm",
        dual_attention_layers=(0,),
    )


def _sd3_inputs(dtype: torch.dtype, batch: int, changed: bool) -> Inputs:
    side, text = (12, 7) if changed else (8, 6)
    return {
        "hidden_states": noise((batch, 4, side, side), dtype, 1),
        "encoder_hidden_states": noise((batch, text, 24), dtype, 2),
        "pooled_projections": noise((batch, 16), dtype, 3),
        "timestep": torch.arange(700, 700 - 50 * batch, -50),
        "return_dict": False,
    }


def _pixart() -> nn.Module:
    from diffusers import PixArtTransformer2DModel

    return PixArtTransformer2DModel(
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=8,
        cross_attention_dim=32,
        caption_channels=20,
        sample_size=8,
        norm_num_groups=4,
        use_additional_conditions=False,
    )


def _pixart_inputs(dtype: torch.dtype, batch: int, changed: bool) -> Inputs:
    side, text = (12, 7) if changed else (8, 6)
    mask = torch.ones(batch, text, dtype=torch.long)
    mask[-1, text // 2 :] = 0
    return {
        "hidden_states": noise((batch, 4, side, side), dtype, 1),
        "encoder_hidden_states": noise((batch, text, 20), dtype, 2),
        "encoder_attention_mask": mask,
        "timestep": torch.arange(700, 700 - 50 * batch, -50),
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
        "return_dict": False,
    }


def _unet() -> nn.Module:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=24,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=64,
    )


def _unet_inputs(dtype: torch.dtype, batch: int, changed: bool) -> Inputs:
    side = 12 if changed else 8
    return {
        "sample": noise((batch, 4, side, side), dtype, 1),
        "timestep": torch.tensor(700),
        "encoder_hidden_states": noise((batch, 6, 24), dtype, 2),
        "added_cond_kwargs": {
            "text_embeds": noise((batch, 16), dtype, 3),
            "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]]).repeat(batch, 1).to(dtype),
        },
        "return_dict": False,
    }


def _vae() -> nn.Module:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    )


def _vae_inputs(dtype: torch.dtype, batch: int, changed: bool) -> Inputs:
    side = 24 if changed else 16
    return {"sample": noise((batch, 3, side, side), dtype, 1), "return_dict": False}


# ---- language, sight, speech -----------------------------------------------------------------


def _llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            attn_implementation="sdpa",
        )
    )


def _qwen_moe() -> nn.Module:
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    return Qwen3MoeForCausalLM(
        Qwen3MoeConfig(
            vocab_size=VOCAB,
            hidden_size=32,
            intermediate_size=48,
            moe_intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            num_experts=6,
            num_experts_per_tok=2,
            norm_topk_prob=True,
            decoder_sparse_step=1,
            max_position_embeddings=64,
            attn_implementation="sdpa",
        )
    )


def _mixtral() -> nn.Module:
    from transformers import MixtralConfig, MixtralForCausalLM

    return MixtralForCausalLM(
        MixtralConfig(
            vocab_size=VOCAB,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            num_local_experts=4,
            num_experts_per_tok=2,
            max_position_embeddings=64,
            attn_implementation="sdpa",
        )
    )


def _causal_inputs(_: torch.dtype, batch: int, changed: bool) -> Inputs:
    return {"input_ids": tokens(batch, 13 if changed else 8), "use_cache": False}


def _mamba() -> nn.Module:
    from transformers import MambaConfig, MambaForCausalLM

    return MambaForCausalLM(
        MambaConfig(vocab_size=VOCAB, hidden_size=24, state_size=8, num_hidden_layers=2)
    )


class DecodeStep(nn.Module):
    """One decoding step of a causal LM over a static key-value cache, which it mutates."""

    PAST, CAPACITY, BATCH = 5, 16, 2

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        from transformers import StaticCache

        self.model = model
        self.cache = StaticCache(config=model.config, max_cache_len=self.CAPACITY)
        with torch.no_grad():
            past = tokens(self.BATCH, self.PAST).to(model.device)
            model(input_ids=past, past_key_values=self.cache)

    def forward(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        return self.model(
            input_ids=input_ids,
            position_ids=position_ids,
            past_key_values=self.cache,
            use_cache=True,
        ).logits


def _decode_step(model: nn.Module) -> nn.Module:
    return DecodeStep(model, model.dtype).eval()


def _decode_inputs(_: torch.dtype, batch: int, changed: bool) -> Inputs:
    length = 2 if changed else 1
    where = torch.arange(DecodeStep.PAST, DecodeStep.PAST + length)
    return {"input_ids": tokens(batch, length, seed=6), "position_ids": where[None]}


def _bert() -> nn.Module:
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(
        BertConfig(
            vocab_size=VOCAB,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=32,
            attn_implementation="sdpa",
        )
    )


def _padded_inputs(_: torch.dtype, batch: int, changed: bool) -> Inputs:
    length = 13 if changed else 8
    mask = torch.ones(batch, length, dtype=torch.long)
    mask[-1, length - 3 :] = 0
    return {"input_ids": tokens(batch, length), "attention_mask": mask}


def _vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(
        ViTConfig(
            image_size=16,
            patch_size=4,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_labels=7,
            attn_implementation="sdpa",
        )
    )


def _vit_inputs(dtype: torch.dtype, batch: int, changed: bool) -> Inputs:
    side = 24 if changed else 16
    return {
        "pixel_values": noise((batch, 3, side, side), dtype, 1),
        "interpolate_pos_encoding": changed,
    }


def _t5() -> nn.Module:
    from transformers import T5Config, T5ForConditionalGeneration

    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=VOCAB,
            d_model=32,
            d_kv=8,
            d_ff=48,
            num_layers=2,
            num_heads=2,
            decoder_start_token_id=0,
            feed_forward_proj="gated-gelu",
        )
    )


def _t5_inputs(_: torch.dtype, batch: int, changed: bool) -> Inputs:
    return {
        **_padded_inputs(_, batch, changed),
        "decoder_input_ids": tokens(batch, 9 if changed else 5, seed=6),
        "use_cache": False,
    }


def _whisper() -> nn.Module:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    return WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=VOCAB,
            num_mel_bins=8,
            d_model=32,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=48,
            decoder_ffn_dim=48,
            max_source_positions=10,
            max_target_positions=16,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
            attn_implementation="sdpa",
        )
    )


def _whisper_inputs(dtype: torch.dtype, batch: int, changed: bool) -> Inputs:
    return {
        "input_features": noise((batch, 8, 20), dtype, 1),
        "decoder_input_ids": tokens(batch, 9 if changed else 5),
        "use_cache": False,
    }


def _clip() -> nn.Module:
    from transformers import CLIPConfig, CLIPModel

    tower = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    text = {"vocab_size": VOCAB, "max_position_embeddings": 16}
    ends = {"bos_token_id": 1, "eos_token_id": 2}
    image = {"image_size": 16, "patch_size": 4}
    return CLIPModel(
        CLIPConfig(
            text_config={**tower, **text, **ends},
            vision_config={**tower, **image},
            projection_dim=24,
            attn_implementation="sdpa",
        )
    )


def _clip_inputs(dtype: torch.dtype, batch: int, changed: bool) -> Inputs:
    return {
        **_padded_inputs(dtype, batch, changed),
        "pixel_values": noise((batch, 3, 16, 16), dtype, 1),
    }


def _clip_output(output: Any) -> tuple[Tensor, ...]:
    return output.logits_per_image, output.text_embeds, output.image_embeds


ENTRIES = (
    Entry(
        "flux",
        _flux,
        _flux_inputs,
        first,
        note="Multiplies times by 1,000 in its own dtype: these inputs stay exact in bfloat16.",
    ),
    Entry(
        "wan",
        _wan,
        _wan_inputs,
        first,
        note="Norms, modulation and time embedding compute in float32 whatever the dtype is.",
    ),
    Entry("sd3", _sd3, _sd3_inputs, first),
    Entry(
        "pixart",
        _pixart,
        _pixart_inputs,
        first,
        note="Another size than the configured one computes its position table in the graph.",
    ),
    Entry("unet", _unet, _unet_inputs, first),
    Entry("vae", _vae, _vae_inputs, first),
    Entry("llama", _llama, _causal_inputs, logits),
    Entry("llama_decode", _llama, _decode_inputs, lambda o: o, _decode_step, DECODE_NOTE),
    Entry("qwen_moe", _qwen_moe, _causal_inputs, logits, note=MOE_NOTE),
    Entry("mixtral", _mixtral, _causal_inputs, logits, note=MOE_NOTE),
    Entry("bert", _bert, _padded_inputs, logits),
    Entry(
        "vit",
        _vit,
        _vit_inputs,
        logits,
        note="The changed size interpolates the position table (bicubic): other ops, a new graph.",
    ),
    Entry("t5", _t5, _t5_inputs, logits),
    Entry(
        "whisper",
        _whisper,
        _whisper_inputs,
        logits,
        note="The encoder takes one length only; the changed size is the decoder's.",
    ),
    Entry(
        "mamba",
        _mamba,
        _causal_inputs,
        logits,
        note="Without its CUDA packages the scan is a Python loop: unrolled over the tokens.",
    ),
    Entry("clip", _clip, _clip_inputs, _clip_output),
)
ZOO = {entry.name: entry for entry in ENTRIES}
