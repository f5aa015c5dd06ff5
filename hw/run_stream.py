"""Which slabs each tile of a convolution walks: all winners of a pass, or the runs of a list."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .descriptor import LAYOUT
from .winner_list import Run


class SlabRun(data.Struct):
    """``channels`` slabs one behind the other, the first at ``offset`` from the first slab of all.

    ``tile_first``, ``tile_last``: run of its tile. ``first_pass``, ``last_pass``: of its group. A tile without winners
    is one run of no channels.
    """

    offset: 24
    channels: 16
    tile_first: 1
    tile_last: 1
    first_pass: 1
    last_pass: 1


class RunStream(wiring.Component):
    """Groups, passes, tiles, runs.

    Without a list (``descriptor.lists`` 0) the slabs of the winners lie one behind the other and a tile is one run.
    With lists every group has its own, of runs of channels: two are kept, that in use and the next. With
    ``descriptor.list_once`` one list serves all groups.

    Latency: 3 cycles from ``start``, or from the end of the list. Throughput: one run a cycle, without a gap between
    tiles and groups.

    Members
    -------
    start, descriptor, winners:
        Strobe: a band starts; stable from then on.
    run_valid, run, list_done:
        A run of the next list; strobe: it is complete.
    list_free:
        A list may come.
    o_run:
        The runs.
    """

    def __init__(self, *, max_channels: int):
        self.depth = max(2, (max_channels + 1) // 2)
        super().__init__({
            "start": In(1), "descriptor": In(LAYOUT), "winners": In(16),
            "run_valid": In(1), "run": In(Run), "list_done": In(1), "list_free": Out(1),
            "o_run": Out(stream.Signature(SlabRun)),
        })

    def elaborate(self, platform):
        m = Module()
        descriptor, out = self.descriptor, self.o_run
        m.submodules.lists = lists = Memory(shape=Run, depth=2 * self.depth, init=[])
        write, read = lists.write_port(), lists.read_port(domain="sync")

        # The lists: one filled while the other is walked.
        write_bank, read_bank, filled = Signal(), Signal(), Signal(range(self.depth + 1))
        lengths = [Signal(range(self.depth + 1), name=f"length{n}") for n in range(2)]
        complete = Signal(2)
        m.d.comb += [
            write.addr.eq(write_bank * self.depth + filled), write.data.eq(self.run), write.en.eq(self.run_valid),
            self.list_free.eq(~complete.bit_select(write_bank, 1)),
        ]
        with m.If(self.run_valid):
            m.d.sync += filled.eq(filled + 1)
        with m.If(self.list_done):
            m.d.sync += [complete.bit_select(write_bank, 1).eq(1), write_bank.eq(~write_bank), filled.eq(0)]
            with m.Switch(write_bank):
                for n in range(2):
                    with m.Case(n):
                        m.d.sync += lengths[n].eq(filled + self.run_valid)

        # Stage 1: which run.
        active, index = Signal(), Signal(range(self.depth + 1))
        group, tile, done = Signal(16), Signal(24), Signal(16)
        left = Signal(16)
        by_list = descriptor.lists
        length = Mux(read_bank, lengths[1], lengths[0])
        advance, valid1 = Signal(), Signal()
        last_pass = by_list | (left <= descriptor.pass_winners)
        last_run = ~by_list | (index + 1 >= length)
        m.d.comb += [
            left.eq(self.winners - done), read.addr.eq(read_bank * self.depth + index), read.en.eq(advance),
            advance.eq(~out.valid | out.ready),
        ]
        ready = active & (~by_list | complete.bit_select(read_bank, 1))
        stage1 = Signal(SlabRun)
        pass_start1, pass_channels1 = Signal(16), Signal(16)
        some1 = Signal()
        with m.If(advance):
            m.d.sync += [
                valid1.eq(ready), some1.eq(length != 0), pass_start1.eq(done),
                pass_channels1.eq(Mux(last_pass, left, descriptor.pass_winners)),
                stage1.tile_first.eq(~by_list | (index == 0)), stage1.tile_last.eq(last_run),
                stage1.first_pass.eq(by_list | (done == 0)), stage1.last_pass.eq(last_pass),
            ]
            with m.If(ready):
                m.d.sync += index.eq(index + 1)
                with m.If(last_run):
                    m.d.sync += [index.eq(0), tile.eq(tile + 1)]
                    with m.If(tile == descriptor.tiles - 1):
                        m.d.sync += [tile.eq(0), done.eq(done + descriptor.pass_winners)]
                        with m.If(last_pass):
                            m.d.sync += [done.eq(0), group.eq(group + 1), active.eq(group != descriptor.out_groups - 1)]
                            with m.If(by_list & (~descriptor.list_once | (group == descriptor.out_groups - 1))):
                                m.d.sync += [complete.bit_select(read_bank, 1).eq(0), read_bank.eq(~read_bank)]

        # Stage 2: its place and size. Stage 3: in bytes.
        valid2 = Signal()
        stage2, start2 = Signal(SlabRun), Signal(16)
        with m.If(advance):
            m.d.sync += [
                valid2.eq(valid1), stage2.eq(stage1), start2.eq(Mux(by_list, read.data.start, pass_start1)),
                stage2.channels.eq(Mux(by_list, Mux(some1, read.data.length, 0), pass_channels1)),
                out.valid.eq(valid2), out.payload.eq(stage2), out.p.offset.eq(start2 * descriptor.slab_bytes),
            ]
        with m.If(self.start):
            m.d.sync += [active.eq(1), index.eq(0), group.eq(0), tile.eq(0), done.eq(0), valid1.eq(0), valid2.eq(0),
                         out.valid.eq(0)]
        return m
