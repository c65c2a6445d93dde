"""A compiled kernel as data: machine code, and what a launch has to know of it."""

import functools
from dataclasses import dataclass as plain_dataclass

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from effcomp.errors import ArtifactError

__all__ = ["Cubin", "LaunchFacts", "dump_facts", "load_facts"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", defer_build=True))
class LaunchFacts:
    """What launching a cubin takes, beside its arguments.

    `kernel` is the digest of the plan's kernel and `divisible` the arguments taken to be multiples
    of 16; `digest` identifies the code. `capability` is 90 for sm_90. `shared` is bytes a block;
    `params` are the types of the runtime arguments, in order; `scratch` the bytes a program that
    Triton's own trailing pointers lead to, 0 where a kernel uses none.
    """

    digest: str
    kernel: str
    divisible: tuple[int, ...]
    symbol: str
    capability: int
    num_warps: int
    shared: int
    params: tuple[str, ...]
    scratch: tuple[int, ...] = (0, 0)
    triton: str = ""


@plain_dataclass(frozen=True, slots=True)
class Cubin:
    """A kernel compiled for one target."""

    facts: LaunchFacts
    code: bytes


@functools.cache
def _adapter() -> TypeAdapter[LaunchFacts]:
    return TypeAdapter(LaunchFacts)


def dump_facts(facts: LaunchFacts) -> bytes:
    """Launch facts as JSON."""
    return _adapter().dump_json(facts)


def load_facts(text: bytes, where: str) -> LaunchFacts:
    """Read what `dump_facts` writes. Raises ArtifactError."""
    try:
        return _adapter().validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ArtifactError(
            f"{where}: {'.'.join(map(str, first['loc'])) or 'the text'}: {first['msg']}"
        ) from None
