"""Exit codes: one table, for the shell, for `--help`, and for the documentation."""

from enum import IntEnum

from effcomp.errors import (
    CaptureError,
    ConfigError,
    DeviceError,
    EffcompError,
    KernelError,
    LoweringError,
    MlirError,
    PassError,
    VerifyError,
)

__all__ = ["ExitCode", "exit_code_of"]


class ExitCode(IntEnum):
    """What a command's exit code says: in two words, and as the documentation has it."""

    brief: str
    meaning: str

    def __new__(cls, code: int, brief: str, meaning: str) -> "ExitCode":
        made = int.__new__(cls, code)
        made._value_ = code
        made.brief, made.meaning = brief, meaning
        return made

    OK = 0, "done", "done"
    CHECK = (
        1,
        "a check failed",
        "a check did not hold: digests, numbers, or something effcomp needs is missing",
    )
    USAGE = (
        2,
        "wrong usage",
        "the command line is wrong: an unknown command, option, pass, target or input",
    )
    INPUT = (
        3,
        "bad input",
        "a file is missing, unreadable, malformed, or does not fit what reads it",
    )
    COMPILE = 4, "cannot compile", "the model or graph cannot be captured, verified or compiled"
    DEVICE = 5, "device", "a device is missing, unsupported or out of memory"
    INTERNAL = (
        70,
        "internal",
        "a mistake in effcomp or in a library below it; `--traceback` shows where",
    )
    INTERRUPTED = 130, "interrupted", "interrupted; nothing half-written is left behind"


_CODES: tuple[tuple[type[Exception], ExitCode], ...] = (
    (ConfigError, ExitCode.USAGE),
    (DeviceError, ExitCode.DEVICE),
    (CaptureError, ExitCode.COMPILE),
    (VerifyError, ExitCode.COMPILE),
    (PassError, ExitCode.COMPILE),
    (LoweringError, ExitCode.COMPILE),
    (KernelError, ExitCode.COMPILE),
    (MlirError, ExitCode.COMPILE),
    (EffcompError, ExitCode.INPUT),
    (OSError, ExitCode.INPUT),
    (KeyboardInterrupt, ExitCode.INTERRUPTED),  # pyright: ignore[reportAssignmentType]
)


def exit_code_of(error: BaseException) -> ExitCode:
    """The code a command ends with when `error` reaches its top."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    if type(error).__name__ == "OutOfMemoryError":  # torch's: it is not imported for its sake
        return ExitCode.DEVICE
    return ExitCode.INTERNAL
