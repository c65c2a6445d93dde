"""What a user is told: about options, devices, and whatever cannot be used."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from effcomp.api import device_of, recording, target_of
from effcomp.errors import ConfigError, DeviceError, FallbackWarning
from tests.models.zoo import ZOO


def _compile(**request: Any) -> Any:
    return torch.compile(nn.Linear(4, 4), backend="effcomp", **request)


def _told(caught: pytest.ExceptionInfo[BaseException]) -> BaseException:
    """What effcomp raised: Dynamo wraps errors of a backend."""
    return getattr(caught.value, "inner_exception", caught.value)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"options": {"cuda_graph": "on"}}, "no option 'cuda_graph'; did you mean 'cuda_graphs'?"),
        ({"options": {"wings": 2}}, "no option 'wings'; it knows: cache, cuda_graphs"),
        ({"mode": "max-autotun"}, "no mode 'max-autotun'; it knows: default, reduce-overhead"),
        ({"mode": "reduce-overheat"}, "did you mean 'reduce-overhead'?"),
        ({"options": {"regions": "perhaps"}}, "option 'regions' of effcomp cannot be 'perhaps'"),
        ({"options": {"horizontal_rows": -1}}, "option 'horizontal_rows' of effcomp cannot be -1"),
        ({"options": {"disable": ("fuse-nothing",)}}, "names no pass 'fuse-nothing'; there are: "),
        ({"options": {"pipeline": "decompose,fly"}}, "'fly'"),
    ],
)
def test_options_are_checked(request_: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=r"effcomp|pass") as caught:
        _compile(**request_)(torch.randn(2, 4))
    told = _told(caught)
    assert isinstance(told, ConfigError)
    assert message in str(told)


def test_targets_are_checked() -> None:
    with pytest.raises(DeviceError, match=r"no target 'cuda:42'; there are: cpu, cuda:100"):
        target_of("cuda:42")
    with pytest.raises(DeviceError, match="for cuda and cpu, not for 'mps'; move the model"):
        target_of(torch.device("mps"))


def test_tensors_of_two_devices_run_eagerly_and_say_so() -> None:
    def both(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, y + 1

    with pytest.warns(FallbackWarning, match="a graph runs eagerly"):
        mine, other = torch.compile(both, backend="effcomp")(
            torch.ones(2), torch.ones(2, device="meta")
        )
    assert torch.equal(mine, torch.full((2,), 2.0))
    assert other.device.type == "meta"
    with pytest.raises(DeviceError, match="several devices: cpu, meta; move them to one"):
        device_of([torch.ones(2), torch.ones(2, device="meta")])


def test_a_pass_can_be_left_out() -> None:
    entry = ZOO["bert"]
    module, inputs = entry.build(), entry.inputs()
    with torch.no_grad(), recording() as records:
        whole = torch.compile(module, backend="effcomp")(**inputs).logits
        torch._dynamo.reset()
        options = {"disable": ("canonicalize",)}
        part = torch.compile(module, backend="effcomp", options=options)(**inputs).logits
    torch.testing.assert_close(part, whole, rtol=1e-4, atol=1e-5)
    stages = [{stage.spec.partition("{")[0] for stage in record.run.stages} for record in records]
    assert "canonicalize" in stages[0]
    assert "canonicalize" not in stages[1]


def test_a_shape_error_stays_torchs() -> None:
    """What is wrong in the model is reported as without the compiler."""
    with pytest.raises(RuntimeError, match=r"shape|size|mat1"):
        _compile()(torch.randn(2, 5))
