"""Quantities as people read them."""


def show_bytes(count: float) -> str:
    """Bytes in the largest binary unit that leaves a whole number before the point."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}" if unit != "B" else f"{count:.0f} B"


def show_flops(count: float) -> str:
    """FLOPs in the largest decimal unit that leaves a whole number before the point."""
    value, unit = float(count), "FLOP"
    for larger in ("kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}" if unit != "FLOP" else f"{count:.0f} FLOP"


def show_seconds(seconds: float) -> str:
    """Seconds in the largest unit that leaves a whole number before the point, to three digits."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
