"""What the entry point of the group `torch_dynamo_backends` names.

`torch.compile(model, backend="effcomp")` imports this when it looks the name up, just before
Dynamo traces, which no backend is told of otherwise: the time for the garbage collector to look
away. It looks again when the first graph was compiled (`effcomp.garbage`).
"""

from effcomp import garbage

garbage.set_aside()

from effcomp.api import backend  # noqa: E402 - imports are part of what it looks away from

__all__ = ["backend"]
