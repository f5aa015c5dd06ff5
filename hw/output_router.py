"""Where results go: to memory, to the activation buffer for the next layer, or to both."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from .config import EngineConfig
from .descriptor import LAYOUT
from .writer import WriteKind, WriteRun, chunk_layout

RUNS = 16
"""Runs that have been announced and whose chunks are still to come; more than the stages between them."""


class OutputRouter(wiring.Component):
    """Passes runs and their chunks on to the writer, and writes those of results on chip where the descriptor says so.

    On chip a byte of address ``a`` lies at offset ``a + chip_offset`` of the activation buffer, modulo 2**24: planes
    one behind the other, as in memory. Scores and winners always go to memory. Latency: none to the writer, 2
    cycles to the activation buffer.

    Members
    -------
    descriptor:
        ``out_to_chip``, ``out_to_memory``, ``chip_offset``; of the run offered.
    i_run, i_chunk:
        The write-back's.
    o_run, o_chunk:
        The writer's.
    claims:
        A chunk is written on chip in the next cycle: the activation buffer's write port is taken then.
    write_enable, write_offset, write_data, write_count:
        The activation buffer's write port, from lane 0.
    """

    def __init__(self, *, config: EngineConfig):
        self.config = config
        axi_bytes = config.axi_bytes
        super().__init__({
            "descriptor": In(LAYOUT),
            "i_run": In(stream.Signature(WriteRun)), "i_chunk": In(chunk_layout(axi_bytes)),
            "o_run": Out(stream.Signature(WriteRun)), "o_chunk": Out(chunk_layout(axi_bytes)),
            "claims": Out(1), "write_enable": Out(1), "write_offset": Out(24), "write_data": Out(8 * axi_bytes),
            "write_count": Out(range(axi_bytes + 1)),
        })

    def elaborate(self, platform):
        m = Module()
        descriptor, run, chunk = self.descriptor, self.i_run, self.i_chunk
        route = data.StructLayout({"chip": 1, "memory": 1, "offset": 24})
        m.submodules.routes = routes = SyncFIFOBuffered(width=route.size, depth=RUNS)
        new, head = route(routes.w_data), route(routes.r_data)
        is_result = run.p.kind == WriteKind.ACTIVATIONS
        m.d.comb += [
            new.chip.eq(is_result & descriptor.out_to_chip), new.memory.eq(~is_result | descriptor.out_to_memory),
            new.offset.eq(run.p.address + descriptor.chip_offset),
            self.o_run.payload.eq(run.payload), self.o_run.valid.eq(run.valid & new.memory & routes.w_rdy),
            run.ready.eq(routes.w_rdy & self.o_run.ready), routes.w_en.eq(run.valid & run.ready),
            routes.r_en.eq(chunk.valid & chunk.last),
        ]
        offset, now = Signal(24, reset_less=True), Signal(24)
        place, taken = Signal(24, reset_less=True), Signal(chunk_layout(self.config.axi_bytes), reset_less=True)
        m.d.comb += [
            self.o_chunk.eq(chunk), self.o_chunk.valid.eq(chunk.valid & head.memory),
            now.eq(offset),
        ]
        with m.If(chunk.first):
            m.d.comb += now.eq(head.offset)
        with m.If(chunk.valid):
            m.d.sync += [offset.eq(now + chunk.count), place.eq(now), taken.eq(chunk)]
        m.d.sync += [
            self.claims.eq(chunk.valid & head.chip), self.write_enable.eq(self.claims), self.write_offset.eq(place),
            self.write_data.eq(taken.data), self.write_count.eq(taken.count),
        ]
        return m
