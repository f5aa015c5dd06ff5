"""A register between two streams that cuts both ways: neither ready nor valid passes through it in the same cycle."""

from amaranth.hdl import Module, Mux, ShapeLike, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class SkidBuffer(wiring.Component):
    """Passes on what comes, in order. Latency: 1 cycle. Throughput: one a cycle.

    ``i.ready`` is a register's output: what still comes while the next stage has just stopped waits in a second
    register. Members: ``i``, ``o``.
    """

    def __init__(self, shape: ShapeLike):
        self.shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        payload, spare_valid = Value.cast(self.i.payload), Signal()
        held, spare = (Signal(len(payload), name=n, reset_less=True) for n in ("held", "spare"))
        m.d.comb += [self.i.ready.eq(~spare_valid), Value.cast(self.o.payload).eq(held)]
        with m.If(~spare_valid):
            m.d.sync += spare.eq(payload)
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [
                self.o.valid.eq(spare_valid | self.i.valid), held.eq(Mux(spare_valid, spare, payload)),
                spare_valid.eq(0),
            ]
        with m.Elif(self.i.valid):
            m.d.sync += spare_valid.eq(1)
        return m
