"""Milliseconds."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Timer(wiring.Component):
    """Says when a time is over.

    Parameters
    ----------
    cycles_per_millisecond:
        Clock cycles, at least 1; else ValueError.

    Members
    -------
    start, milliseconds:
        Strobe: the time from now on, 0 to 65535.
    expired:
        High before the first start; low from the cycle after ``start`` on, for ``cycles_per_millisecond`` cycles each
        millisecond, and one.
    """

    def __init__(self, *, cycles_per_millisecond: int):
        if cycles_per_millisecond < 1:
            raise ValueError(f"cycles_per_millisecond: expected at least 1, got {cycles_per_millisecond}")
        self.cycles_per_millisecond = cycles_per_millisecond
        super().__init__({"start": In(1), "milliseconds": In(16), "expired": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        last_cycle = self.cycles_per_millisecond - 1
        cycle, left = Signal(range(self.cycles_per_millisecond)), Signal(16)
        wraps = Signal()
        m.d.comb += wraps.eq(cycle == last_cycle)
        with m.If(self.start):
            m.d.sync += [cycle.eq(0), left.eq(self.milliseconds), self.expired.eq(0)]
        with m.Elif(left == 0):
            m.d.sync += self.expired.eq(1)
        with m.Else():
            m.d.sync += [cycle.eq(Mux(wraps, 0, cycle + 1)), left.eq(left - wraps)]
        return m
