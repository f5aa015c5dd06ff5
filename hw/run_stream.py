"""Which slabs each tile walks: all winners of a pass, the runs of a list, or a channel of the vector unit."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect

from .config import VECTOR_TAPS
from .counter import Countdown
from .descriptor import LAYOUT
from .multiplier import Multipliers
from .skid_buffer import SkidBuffer
from .winner_list import Run


class Tile(data.Struct):
    """Where a tile stands in the loops around it.

    ``last``: of its pass, or of its channel of the vector unit. ``first_pass``, ``last_pass``: of its group; always
    on the vector unit. ``last_group``: of the band. ``ends_group``: no tile of its group follows.
    """

    last: 1
    first_pass: 1
    last_pass: 1
    last_group: 1
    ends_group: 1


class SlabRun(data.Struct):
    """``channels`` slabs one behind the other, the first tap of the first one at ``offset`` for the tile's position 0.

    ``weights``: bytes that its first step reads. ``first``, ``last``: run of its tile. ``loses``: of the vector unit's
    channel, as first (bit 0) and second operand. A tile without winners is one run of no channels.
    """

    offset: 24
    channels: 16
    weights: 7
    first: 1
    last: 1
    tile: Tile
    loses: 2


class RunStream(wiring.Component):
    """Convolution: groups, passes, tiles, runs. Vector: groups, channels, tiles.

    Without a list (``descriptor.lists`` 0) the slabs of the winners lie one behind the other and a tile is one run.
    With lists every group has its own, of runs of channels: two are kept, that in use and the next. With
    ``descriptor.list_once`` one list serves all groups. A tile of the vector unit is a run of one slab, or of none
    where the channel loses.

    Latency: 4 cycles from ``start``, or from the end of the list. Throughput: one run a cycle, without a gap between
    tiles and groups.

    Members
    -------
    start, starting, winners:
        Strobe: the band of this descriptor starts, with so many winners.
    descriptor, vector:
        The same, stable from the next cycle on.
    run_valid, run, list_done:
        A run of the next list; strobe: it is complete.
    list_free:
        A list may come.
    ask, channel, flags:
        Whether a channel wins, as first and as second operand: the answer of three cycles with ``ask`` before.
    o_run:
        The runs.
    """

    def __init__(self, *, max_channels: int):
        self.depth = max(2, (max_channels + 1) // 2)
        super().__init__({
            "start": In(1), "starting": In(LAYOUT), "winners": In(16), "descriptor": In(LAYOUT), "vector": In(1),
            "run_valid": In(1), "run": In(Run), "list_done": In(1), "list_free": Out(1),
            "ask": Out(1), "channel": Out(16), "flags": In(2), "o_run": Out(stream.Signature(SlabRun)),
        })

    def elaborate(self, platform):
        m = Module()
        descriptor, out = self.descriptor, self.o_run
        multipliers = Multipliers(m, platform)
        m.submodules.lists = lists = Memory(shape=Run, depth=2 * self.depth, init=[])
        write, read = lists.write_port(), lists.read_port(domain="sync")

        # The lists: one filled while the other is walked. Kept of each: whether there is any run, whether only one, the
        # run before the last, and whether the walk has come to the last.
        write_bank, read_bank, filled = Signal(), Signal(), Signal(range(self.depth + 1))
        none, at_most_one = Signal(init=1), Signal(init=1)
        before_last = [Signal(range(self.depth), name=f"before_last{n}", reset_less=True) for n in range(2)]
        complete, some, single, at_last = (Signal(2, name=n) for n in ("complete", "some", "single", "at_last"))
        m.d.comb += [
            write.addr.eq(write_bank * self.depth + filled), write.data.eq(self.run), write.en.eq(self.run_valid),
            self.list_free.eq(~complete.bit_select(write_bank, 1)),
        ]
        with m.If(self.run_valid):
            m.d.sync += [filled.eq(filled + 1), none.eq(0), at_most_one.eq(none)]
        with m.If(self.list_done):
            one_run = Mux(self.run_valid, none, at_most_one)
            m.d.sync += [
                complete.bit_select(write_bank, 1).eq(1), write_bank.eq(~write_bank), filled.eq(0), none.eq(1),
                at_most_one.eq(1), some.bit_select(write_bank, 1).eq(self.run_valid | ~none),
                single.bit_select(write_bank, 1).eq(one_run), at_last.bit_select(write_bank, 1).eq(one_run),
            ]
            with m.Switch(write_bank):
                for n in range(2):
                    with m.Case(n):
                        m.d.sync += before_last[n].eq(Mux(self.run_valid, filled - 1, filled - 2))

        # Stage 1: which run. A part is a pass over the winners from ``done`` on, or a channel of the vector unit,
        # ``masked`` in the mask.
        active, index = Signal(), Signal(range(self.depth))
        group, tile, repeat = (Countdown(bits, name=n) for bits, n in ((16, "group"), (24, "tile"), (8, "repeat")))
        column = Countdown(7, name="column")
        winners, done, left, columns, masked = (Signal(bits, name=n, reset_less=True) for n, bits in (
            ("winners", 16), ("done", 16), ("left", 16), ("columns", 7), ("masked", 16)))
        first_part, last_pass, single_pass = Signal(), Signal(), Signal()
        by_list, vector = descriptor.lists, self.vector
        last_part = Mux(vector, column.last, by_list | last_pass)
        last_run = ~by_list | at_last.bit_select(read_bank, 1)
        ready, advance = Signal(), Signal()
        m.submodules.found = found = SkidBuffer(SlabRun)
        connect(m, found.o, wiring.flipped(out))
        m.d.comb += [
            ready.eq(active & (~by_list | complete.bit_select(read_bank, 1))), advance.eq(found.i.ready),
            read.addr.eq(read_bank * self.depth + index), read.en.eq(advance),
        ]
        valid = [Signal(name=f"valid{n}") for n in (1, 2, 3)]
        stage1, stage2, stage3 = (Signal(SlabRun, name=f"stage{n}", reset_less=True) for n in (1, 2, 3))
        columns1, columns2, columns3 = (Signal(7, name=f"columns{n}", reset_less=True) for n in (1, 2, 3))
        start1, start2 = (Signal(16, name=f"start{n}", reset_less=True) for n in (1, 2))
        some1 = Signal()
        with m.If(advance):
            m.d.sync += [
                valid[0].eq(ready), some1.eq(some.bit_select(read_bank, 1)), start1.eq(done),
                stage1.channels.eq(Mux(last_part, left, descriptor.pass_winners)), columns1.eq(columns),
                stage1.first.eq(~by_list | (index == 0)), stage1.last.eq(last_run),
                stage1.tile.last.eq(tile.last), stage1.tile.first_pass.eq(vector | first_part),
                stage1.tile.last_pass.eq(vector | last_part), stage1.tile.last_group.eq(group.last),
                stage1.tile.ends_group.eq(tile.last & last_part),
            ]
        with m.If(advance & ready & by_list):
            m.d.sync += [index.eq(index + 1), at_last.bit_select(read_bank, 1).eq(
                index == Mux(read_bank, before_last[1], before_last[0]))]
            with m.If(last_run):
                m.d.sync += [index.eq(0), at_last.bit_select(read_bank, 1).eq(single.bit_select(read_bank, 1))]
        with m.If(advance & ready & last_run):
            m.d.sync += tile.step()
        with m.If(advance & ready & last_run & tile.last):
            m.d.sync += [*tile.start(descriptor.tiles), first_part.eq(0), *column.step(), *repeat.step()]
            with m.If(repeat.last):
                m.d.sync += repeat.start(descriptor.depth_multiplier)
            with m.If(~vector):
                m.d.sync += [done.eq(done + descriptor.pass_winners), left.eq(left - descriptor.pass_winners),
                             last_pass.eq(left <= descriptor.pass_winners << 1)]
            with m.Elif(repeat.last):
                m.d.sync += [done.eq(done + 1), masked.eq(masked + 1)]
        with m.If(advance & ready & last_run & tile.last & last_part):
            next_columns = Mux(group.before_last, descriptor.last_columns, descriptor.group_columns)
            m.d.sync += [active.eq(~group.last), *group.step(), first_part.eq(1), last_pass.eq(single_pass),
                         columns.eq(next_columns), *column.start(next_columns)]
            with m.If(~vector):
                m.d.sync += [done.eq(0), left.eq(winners)]
            with m.If(by_list & (~descriptor.list_once | group.last)):
                m.d.sync += [complete.bit_select(read_bank, 1).eq(0), read_bank.eq(~read_bank)]

        # Stage 2: its place and size. Stage 3: in bytes, the products with both halves of a slab's. Stage 4: their sum,
        # to be taken.
        middle = len(descriptor.slab_bytes) // 2
        low_bytes, high_bytes = (
            multipliers.product(start2, half, name=f"{name}_bytes", enable=advance)
            for name, half in (("low", descriptor.slab_bytes[:middle]), ("high", descriptor.slab_bytes[middle:])))
        band_base, tile_base = (Signal(24, name=f"{n}_base", reset_less=True) for n in ("band", "tile"))
        channels, reads_weights = Signal(16), Signal()
        first_taps = Mux(descriptor.kernel_w < VECTOR_TAPS, descriptor.kernel_w, VECTOR_TAPS)
        m.d.comb += [
            self.ask.eq(advance), self.channel.eq(masked),
            channels.eq(Mux(vector, descriptor.add | self.flags[0], stage3.channels)),
            reads_weights.eq((channels != 0) & (descriptor.unit_weight == 0) & ~descriptor.add),
        ]
        with m.If(advance):
            m.d.sync += [
                valid[1].eq(valid[0]), stage2.eq(stage1), columns2.eq(columns1),
                start2.eq(Mux(by_list, read.data.start, start1)),
                stage2.channels.eq(Mux(by_list, Mux(some1, read.data.length, 0), stage1.channels)),
                valid[2].eq(valid[1]), stage3.eq(stage2), columns3.eq(columns2),
            ]
        result = Signal(SlabRun)
        m.d.comb += [
            result.eq(stage3), result.channels.eq(channels), result.loses.eq(~self.flags),
            result.offset.eq(tile_base + low_bytes + (high_bytes << middle)),
            result.weights.eq(Mux(reads_weights, Mux(vector, first_taps, columns3), 0)),
        ]
        m.d.comb += [found.i.valid.eq(valid[2]), found.i.payload.eq(result)]
        with m.If(advance & valid[2] & stage3.last):
            m.d.sync += tile_base.eq(Mux(stage3.tile.last, band_base, tile_base + descriptor.tile_bytes))

        with m.If(self.start):
            starting = self.starting
            base = starting.act_base + starting.tap_base
            first_columns = Mux(starting.out_groups == 1, starting.last_columns, starting.group_columns)
            one_pass = self.winners <= starting.pass_winners
            m.d.sync += [
                active.eq(1), index.eq(0), winners.eq(self.winners), done.eq(0), left.eq(self.winners),
                columns.eq(first_columns), *column.start(first_columns), last_pass.eq(one_pass),
                single_pass.eq(one_pass),
                first_part.eq(1), *group.start(starting.out_groups), *tile.start(starting.tiles),
                *repeat.start(starting.depth_multiplier), band_base.eq(base), tile_base.eq(base),
                masked.eq(starting.mask_skip),
            ]
        return m
