"""Launching cubins through the CUDA driver: one launcher for kernels compiled here and elsewhere.

It needs neither Triton nor a C compiler, and the driver library only once a kernel is loaded. What
a launch passes is laid out when it is bound; a call fills in the pointers that only it knows.
Triton kernels take two pointers more than their arguments, to scratch memory (3.6 and 3.7 alike).
"""

import ctypes
import functools
import struct
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch

from effcomp.errors import DeviceError, KernelError, PlanError
from effcomp.plan.cubin import Cubin, LaunchFacts
from effcomp.runtime.bound import Action
from effcomp.runtime.calls import Slots

__all__ = ["LoadedKernel", "capability_of", "fits"]

_STATIC_SHARED = 48 * 1024  # what a block may use without asking
_MAX_SHARED_OPTIN = 97  # CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
_MAX_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
_PREFER_SHARED = 1  # CU_FUNC_CACHE_PREFER_SHARED
_INVALID_CONTEXT = 201
_ARCHITECTURE_SPECIFIC = 90  # from here on Triton compiles for one GPU: sm_90a
_FORMATS = {
    "i64": "<q", "i32": "<i", "i16": "<h", "i8": "<b", "u8": "<B", "bool": "<?",
    "f64": "<d", "f32": "<f", "f16": "<e",
}  # fmt: skip

_INT, _UINT, _POINTER = ctypes.c_int, ctypes.c_uint, ctypes.c_void_p


def capability_of(device: torch.device) -> int:
    """The compute capability of a CUDA device: 90 for sm_90."""
    major, minor = torch.cuda.get_device_capability(device)
    return major * 10 + minor


def fits(facts: LaunchFacts, capability: int) -> bool:
    """Whether a GPU of this capability can run the code: the same, or an older minor of it."""
    if facts.capability == capability or facts.capability >= _ARCHITECTURE_SPECIFIC:
        return facts.capability == capability
    return facts.capability // 10 == capability // 10 and facts.capability < capability


class LoadedKernel:
    """A kernel loaded on a CUDA device."""

    def __init__(self, cubin: Cubin, name: str, device: torch.device) -> None:
        self.facts, self.name, self.index = cubin.facts, name, device.index or 0
        self._driver = _driver()
        self._driver.enter(self.index)
        # The driver reads the code in place for as long as it is loaded.
        self._code = ctypes.create_string_buffer(cubin.code, len(cubin.code))
        self._function = self._load()

    def bind(
        self, args: Sequence[Any], late: Sequence[tuple[int, int]], grid: tuple[int, int, int]
    ) -> Action:
        """A launch with these arguments on torch's current stream.

        `late` are the positions of pointers that a call takes from its slots.
        """
        facts = self.facts
        if len(args) != len(facts.params):
            raise PlanError(f"kernel {self.name} takes {len(facts.params)} arguments")
        scratch = [_scratch(size, grid, self.index) for size in facts.scratch]
        # One 8-byte place for every parameter, and the array of their addresses.
        values = (ctypes.c_uint64 * max(1, len(args) + len(scratch)))()
        for i, (arg, kind) in enumerate(zip(args, facts.params, strict=True)):
            values[i] = _packed(arg, kind, self.name)
        for i, memory in enumerate(scratch, len(args)):
            values[i] = 0 if memory is None else memory.data_ptr()
        base = ctypes.addressof(values)
        addresses = (_POINTER * len(values))(*(base + 8 * i for i in range(len(values))))
        threads = (_UINT(32 * facts.num_warps), _UINT(1), _UINT(1))
        fixed = (self._function, *map(_UINT, grid), *threads, _UINT(facts.shared))
        parameters, nothing = ctypes.cast(addresses, _POINTER), _POINTER(0)
        start, index, failed = self._driver.launch, self.index, self._failed
        stream: Callable[[int], int] = torch._C._cuda_getCurrentRawStream  # pyright: ignore[reportAttributeAccessIssue]
        pointers = tuple(late)
        # What the launch points to has to live as long as it: `fixed` and the closure hold it.
        kept = (values, addresses, scratch, self)

        def launch(slots: Slots, _kept: Any = kept) -> None:
            for position, id in pointers:
                values[position] = slots[id].data_ptr()
            if code := start(*fixed, stream(index), parameters, nothing):
                failed(code, lambda: start(*fixed, stream(index), parameters, nothing))

        return launch

    def _load(self) -> ctypes.c_void_p:
        driver, facts = self._driver, self.facts
        module, function = _POINTER(), _POINTER()
        self._check(driver.library.cuModuleLoadData(ctypes.byref(module), self._code))
        symbol = facts.symbol.encode()
        self._check(driver.library.cuModuleGetFunction(ctypes.byref(function), module, symbol))
        if facts.shared > _STATIC_SHARED:
            most = driver.attribute(_MAX_SHARED_OPTIN, self.index)
            if facts.shared > most:
                raise KernelError(
                    f"kernel {self.name} needs {facts.shared} bytes of shared memory a block, "
                    f"cuda:{self.index} has {most}"
                )
            self._check(driver.library.cuFuncSetCacheConfig(function, _INT(_PREFER_SHARED)))
            self._check(
                driver.library.cuFuncSetAttribute(
                    function, _INT(_MAX_DYNAMIC_SHARED), _INT(facts.shared)
                )
            )
        return function

    def _check(self, code: int) -> None:
        if code:
            raise KernelError(f"kernel {self.name} does not load: {self._driver.text(code)}")

    def _failed(self, code: int, again: Callable[[], int]) -> None:
        """Launch again where this thread had no context yet; everything else is an error."""
        if code == _INVALID_CONTEXT:
            self._driver.enter(self.index)
            code = again()
        if code:
            raise KernelError(f"kernel {self.name} did not launch: {self._driver.text(code)}")


class _Driver:
    """The CUDA driver library, as far as it is needed here."""

    def __init__(self) -> None:
        try:
            self.library = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise DeviceError(f"the CUDA driver library cannot be loaded: {error}") from error
        self.launch: Any = self.library.cuLaunchKernel
        self.launch.argtypes = [_POINTER, *[_UINT] * 7, _POINTER, _POINTER, _POINTER]
        self._contexts: dict[int, ctypes.c_void_p] = {}
        self._lock = threading.Lock()

    def enter(self, index: int) -> None:
        """Make a device's primary context, which is torch's too, this thread's."""
        with self._lock:
            if index not in self._contexts:
                context = _POINTER()
                self._require(self.library.cuInit(_UINT(0)))
                device = self._device(index)
                self._require(self.library.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
                self._contexts[index] = context
        self._require(self.library.cuCtxSetCurrent(self._contexts[index]))

    def attribute(self, number: int, index: int) -> int:
        """A number that the driver knows of a device."""
        value, device = _INT(), self._device(index)
        code = self.library.cuDeviceGetAttribute(ctypes.byref(value), _INT(number), device)
        self._require(code)
        return value.value

    def text(self, code: int) -> str:
        """What an error code means."""
        found = ctypes.c_char_p()
        self.library.cuGetErrorString(_INT(code), ctypes.byref(found))
        return f"{(found.value or b'unknown error').decode()} (CUDA error {code})"

    def _device(self, index: int) -> ctypes.c_int:
        device = _INT()
        self._require(self.library.cuDeviceGet(ctypes.byref(device), _INT(index)))
        return device

    def _require(self, code: int) -> None:
        if code:
            raise DeviceError(f"the CUDA driver does not start: {self.text(code)}")


@functools.cache
def _driver() -> _Driver:
    return _Driver()


def _packed(value: Any, kind: str, name: str) -> int:
    """An argument as the 8 bytes that a parameter points to; pointers may come as integers."""
    if kind.startswith("*"):
        if value is None:
            return 0
        return value.data_ptr() if isinstance(value, torch.Tensor) else int(value)
    try:
        return int.from_bytes(struct.pack(_FORMATS[kind], value), "little")
    except (KeyError, struct.error) as error:
        raise PlanError(f"kernel {name} cannot take {value!r} as {kind}: {error}") from None


def _scratch(size: int, grid: tuple[int, int, int], index: int) -> torch.Tensor | None:
    """Scratch memory of a launch: so many bytes for every program."""
    if not size:
        return None
    count = grid[0] * grid[1] * grid[2]
    with torch.inference_mode(False):
        return torch.empty(size * count, dtype=torch.uint8, device=torch.device("cuda", index))
