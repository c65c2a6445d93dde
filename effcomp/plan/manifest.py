"""What an artifact says of itself: the first thing read, and what everything else is checked by."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from effcomp.errors import ArtifactError
from effcomp.plan.signature import Signature

__all__ = [
    "ARTIFACT_VERSION",
    "Binding",
    "Entry",
    "FromCall",
    "FromWeight",
    "Manifest",
    "SourceFile",
    "TargetEntry",
    "Versions",
    "WeightEntry",
    "Weights",
    "dump_manifest",
    "load_manifest",
]

ARTIFACT_VERSION = 1
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class Entry:
    """A file of the artifact: its size and the SHA-256 of its content."""

    size: int
    sha256: str


@dataclass(frozen=True, config=_STRICT)
class Versions:
    """What built the artifact."""

    effcomp: str
    torch: str
    triton: str = ""


@dataclass(frozen=True, config=_STRICT)
class FromCall:
    """A port that takes input `index` of the call."""

    index: int
    kind: Literal["call"] = "call"


@dataclass(frozen=True, config=_STRICT)
class FromWeight:
    """A port that takes the weight of this name."""

    name: str
    kind: Literal["weight"] = "weight"


Binding = Annotated[FromCall | FromWeight, Field(discriminator="kind")]


@dataclass(frozen=True, config=_STRICT)
class WeightEntry:
    """One name of the model's state: dtype, shape and strides that plans expect.

    `tensor` names the stored tensor: tied weights share one. A constant is in no state dict.
    `state`: calls write to it.
    """

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    tensor: str
    kind: Literal["parameter", "buffer", "constant"] = "parameter"
    state: bool = False


@dataclass(frozen=True, config=_STRICT)
class SourceFile:
    """A safetensors file that holds weights, beside the artifact or at an absolute path.

    `header` is the SHA-256 of its header, which says where every tensor lies.
    """

    path: str
    size: int
    header: str


@dataclass(frozen=True, config=_STRICT)
class Weights:
    """The model's state by name.

    `files` hold tensors that the artifact does not; `places` says in which file, and under which
    name there, a stored tensor lies. `chunks` are SHA-256 digests of the embedded data, one for
    every `chunk_bytes` of it.
    """

    entries: dict[str, WeightEntry]
    files: tuple[SourceFile, ...] = ()
    places: dict[str, tuple[int, str]] = Field(default_factory=dict[str, tuple[int, str]])
    chunks: tuple[str, ...] = ()
    chunk_bytes: int = 1 << 26


@dataclass(frozen=True, config=_STRICT)
class TargetEntry:
    """How a target's plan is loaded."""

    cuda_graphs: Literal["auto", "on", "off"] = "auto"
    regions: Literal["auto", "always", "never"] = "auto"


@dataclass(frozen=True, config=_STRICT)
class Manifest:
    """The contents of an artifact. `bindings` say, port by port, what the plans are called with."""

    name: str
    versions: Versions
    signature: Signature
    bindings: tuple[Binding, ...]
    targets: dict[str, TargetEntry]
    weights: Weights
    entries: dict[str, Entry] = Field(default_factory=dict[str, Entry])
    format: Literal["effcomp artifact"] = "effcomp artifact"
    version: int = ARTIFACT_VERSION


_ADAPTER: TypeAdapter[Manifest] = TypeAdapter(Manifest)
_HEAD: TypeAdapter[dict[str, object]] = TypeAdapter(dict[str, object])


def dump_manifest(manifest: Manifest) -> bytes:
    """The manifest as JSON."""
    return _ADAPTER.dump_json(manifest)


def load_manifest(text: bytes) -> Manifest:
    """Read what `dump_manifest` writes. Raises ArtifactError."""
    try:
        head = _HEAD.validate_json(text)
        version = head.get("version")
        if head.get("format") == "effcomp artifact" and version != ARTIFACT_VERSION:
            raise ArtifactError(
                f"the artifact has format version {version}, this effcomp reads version "
                f"{ARTIFACT_VERSION}: compile the model again, or use the effcomp that made it"
            )
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the text"
        raise ArtifactError(f"not an artifact's manifest: {where}: {first['msg']}") from None
