"""Registers behind each other."""

from amaranth.hdl import Module, Signal


def delay(m: Module, value, cycles: int, name: str):
    """``value`` as it was ``cycles`` cycles before, of the same shape; the registers are called NAME_0 and so on.

    They have no reset: one that lasts as long as the delay leaves in them what the value is meanwhile.
    """
    for stage in range(cycles):
        later = Signal(value.shape(), name=f"{name}_{stage}", reset_less=True)
        m.d.sync += later.eq(value)
        value = later
    return value
