"""What a user may ask for: `mode=` and `options=`, validated with clear errors."""

import difflib
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from effcomp.errors import ConfigError

MODES: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "reduce-overhead": {"cuda_graphs": "on"},
}
"""The modes of torch.compile that effcomp knows, as the options they stand for."""


class Config(BaseModel):
    """Every option of a compilation. Lossless: no option here changes results beyond rounding."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cuda_graphs: Literal["auto", "on", "off"] = Field(
        "auto", description="Replay launches as CUDA graphs; auto: where launch times show."
    )
    regions: Literal["auto", "always", "never"] = Field(
        "auto", description="On a CPU, compile fused regions to C++; auto: those worth the seconds."
    )
    disable: tuple[str, ...] = Field((), description="Names of passes to leave out.")
    pipeline: str | None = Field(
        None, description="A textual pipeline to run instead of the target's own."
    )
    target: str | None = Field(
        None, description="Compile for this target ('cuda:90') instead of the inputs' device."
    )
    trace: tuple[str, ...] = Field(
        (), description="Names of rules whose nearest misses `explain` tells."
    )
    cache: bool = Field(True, description="Keep compiled plans on disk for the next process.")
    progress: bool | None = Field(
        None, description="Show a progress bar on stderr; None: only on a terminal."
    )
    horizontal_rows: int = Field(
        1024,
        ge=0,
        description="Join linears that share an input of at most so many rows; 0: never.",
    )

    @classmethod
    def from_user(cls, mode: str | None, options: Mapping[str, Any] | None) -> "Config":
        """What torch.compile's `mode` and `options` ask for. Raises ConfigError."""
        if mode is not None and mode not in MODES:
            raise ConfigError(f"effcomp has no mode {mode!r}; {_known(mode, MODES)}")
        given = dict(options or {})
        for name in given:
            if name not in cls.model_fields:
                raise ConfigError(
                    f"effcomp has no option {name!r}; {_known(name, cls.model_fields)}"
                )
        try:
            return cls.model_validate({**MODES[mode or "default"], **given})
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            raise ConfigError(
                f"option {name!r} of effcomp cannot be {first['input']!r}: {first['msg']}"
            ) from None

    def key(self) -> str:
        """The options that shape a plan, as text for the cache key."""
        return self.model_dump_json(exclude={"cache", "progress", "trace"})


def _known(name: str, names: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    begin = f"did you mean {near[0]!r}? It" if near else "it"
    return f"{begin} knows: {', '.join(sorted(names))}."
