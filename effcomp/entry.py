"""What the entry point of the group `torch_dynamo_backends` names.

`torch.compile(model, backend="effcomp")` imports this when it looks the name up, just before
Dynamo traces, which no backend is told of otherwise: the time for the garbage collector to look
away. It looks again when the first graph is compiled (`effcomp.garbage`).
"""

from effcomp import garbage
from effcomp.api import backend

__all__ = ["backend"]

garbage.set_aside()
