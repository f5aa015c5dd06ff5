"""Registers behind each other."""

from amaranth.hdl import Module, Signal


def delay(m: Module, value, cycles: int, name: str):
    """``value`` as it was ``cycles`` cycles before, of the same shape; the registers are called NAME_0 and so on."""
    for stage in range(cycles):
        later = Signal(value.shape(), name=f"{name}_{stage}")
        m.d.sync += later.eq(value)
        value = later
    return value
