"""Fetches descriptors and asks for everything a band needs, winners only, in the order in which it is used."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from .config import EngineConfig
from .counter import Countdown
from .descriptor import DESCRIPTOR_BYTES, LAYOUT, OP_CONVOLUTION, OP_VECTOR, PARAMETER_BYTES, MaskSource, Select
from .multiplier import Multipliers
from .reader import Kind, Segment
from .skid_buffer import SkidBuffer
from .winner_list import Run

PARAMETER_BANKS = 2


class Job(data.Struct):
    """One walk over the winners: a strip of activations, or a group's weights."""

    weights: 1
    base: 32
    destination: 24
    stride: 32
    strip_load: 24
    strip_rows: 16


class SegmentWalker(wiring.Component):
    """Turns a job and the runs of winners into segments.

    Throughput: one segment a cycle after a latency of 4 cycles; runs whose data are contiguous in memory and on chip
    are one segment. An activation job ends with a mark (a segment of length 0 with ``strip_end``).

    Members: ``i_job``; ``i_run``, ``exhausted``, ``rewind`` (a :class:`WinnerList`'s walk); ``descriptor`` (stable
    during a job); ``o_segment``.
    """

    def __init__(self):
        super().__init__({
            "i_job": In(stream.Signature(Job)),
            "descriptor": In(LAYOUT),
            "i_run": In(stream.Signature(Run)),
            "exhausted": In(1),
            "rewind": Out(1),
            "o_segment": Out(stream.Signature(Segment)),
        })

    def elaborate(self, platform):
        m = Module()
        job, descriptor = Signal(Job, reset_less=True), self.descriptor
        running, merge, by_rows, mark = Signal(), Signal(), Signal(), Signal()
        m.submodules.segments = segments = SkidBuffer(Segment)
        connect(m, segments.o, wiring.flipped(self.o_segment))
        out, out_free = segments.i.p, segments.i.ready

        # Stage 1: offsets and sizes of a run, as products with both halves of what a channel takes.
        # Stage 2: expand the run into channels and rows.
        multipliers = Multipliers(m, platform)
        valid1, valid2 = Signal(), Signal()
        offset1, size1, length1 = Signal(32), Signal(32), Signal(16, reset_less=True)
        place1 = Signal(24)
        address2, size2, row_address = (
            Signal(32, name=n, reset_less=True) for n in ("address2", "size2", "row_address"))
        channels, rows = Countdown(16, name="channels"), Countdown(16, name="rows")
        first_row, destination = Signal(), Signal(24, reset_less=True)
        advance1, run_done = Signal(), Signal()

        m.d.comb += [
            advance1.eq(running & (~valid1 | ~valid2 | run_done)),
            self.i_run.ready.eq(advance1),
        ]
        with m.If(advance1):
            m.d.sync += [valid1.eq(self.i_run.valid), length1.eq(self.i_run.p.length)]
        for name, result, count, size in (
                ("offset1", offset1, self.i_run.p.start, job.stride), ("size1", size1, self.i_run.p.length, job.stride),
                ("place1", place1, self.i_run.p.start, descriptor.slab_bytes)):
            low, high = (multipliers.product(count, half, name=f"{name}_{part}", enable=advance1)
                         for part, half in (("low", size[:16]), ("high", size[16:])))
            m.d.comb += result.eq(Cat(low[:16], (low[16:] + high)[:16]))
        row_count = Mux(by_rows, job.strip_rows, 1)
        m.d.comb += [
            run_done.eq(valid2 & out_free & rows.last & channels.last), segments.i.valid.eq(valid2 | mark),
            out.kind.eq(Mux(job.weights, Kind.WEIGHTS, Kind.ACTIVATIONS)),
            out.address.eq(Mux(by_rows, row_address, address2)),
            out.bytes.eq(Mux(merge, size2, Mux(by_rows, descriptor.in_cols, job.strip_load))),
            out.destination.eq(destination), out.start.eq(~by_rows | first_row),
        ]
        with m.If(mark):
            m.d.comb += [out.bytes.eq(0), out.start.eq(0), out.strip_end.eq(1)]
        with m.If(valid2 & out_free):
            with m.If(~rows.last):
                m.d.sync += [row_address.eq(row_address + descriptor.in_row_pitch), first_row.eq(0), *rows.step()]
            with m.Else():
                m.d.sync += [
                    destination.eq(destination + Mux(merge, size2, descriptor.slab_bytes)),
                    address2.eq(address2 + descriptor.in_plane),
                    row_address.eq(address2 + descriptor.in_plane),
                    first_row.eq(1), *rows.start(row_count), *channels.step(),
                ]
            with m.If(run_done):
                m.d.sync += valid2.eq(0)
        with m.If(running & valid1 & (~valid2 | run_done)):
            m.d.sync += [
                valid2.eq(1),
                address2.eq(job.base + offset1),
                row_address.eq(job.base + offset1),
                size2.eq(size1),
                first_row.eq(1), *rows.start(row_count), *channels.start(Mux(merge, 1, length1)),
            ]
            with m.If(descriptor.act_dense):
                m.d.sync += destination.eq(job.destination + place1)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.rewind.eq(self.i_job.valid)
                merges = self.i_job.p.weights | descriptor.act_merge
                m.d.sync += [job.eq(self.i_job.payload), destination.eq(self.i_job.p.destination), merge.eq(merges),
                             by_rows.eq(~merges & ~descriptor.act_contiguous)]
                with m.If(self.i_job.valid):
                    m.d.sync += running.eq(1)
                    m.next = "WALK"
            with m.State("WALK"):
                with m.If(self.exhausted & ~valid1 & ~valid2 & out_free):
                    m.d.sync += running.eq(0)
                    m.d.comb += [self.i_job.ready.eq(1), mark.eq(~job.weights)]
                    m.next = "IDLE"
        return m


class Loader(wiring.Component):
    """Walks a program: fetch a descriptor, check it, and order its data.

    Order within a band: mask, first strip of activations, parameters and weights of the first group, remaining
    strips, then parameters and weights of the groups that follow. The weights of a vector band are all in its first
    group; the second operand of an addition is the second strip, with a mask of its own before it. Each item is read as
    soon as there is room for it, so the loading of later items hides behind the computing of earlier ones.

    Members
    -------
    start, program_address, program_length:
        Strobe and where the program lies.
    word_valid, word:
        The words of a descriptor as they arrive, beat by beat.
    o_descriptor, winners, slot:
        The checked descriptor, its number of winning channels, and which of the channel flags are its own, offered to
        the scheduler until taken.
    build, build_all, operand, blocks, list_done, list_winners:
        The winner list's controls; ``operand``: of an addition's second operand; ``blocks``: of the winners whose block
        is in a group's block mask.
    capture, list_free:
        The list that is built is for the scheduler, too; it can take another one.
    ahead:
        What is read belongs to a layer that has not begun.
    o_job, o_segment:
        Walks for the segment walker, and single segments (descriptor, mask, parameters). A segment is only offered
        while the walker is idle, so the order of the two is the order of the data.
    quiet:
        Every descriptor handed over has completed, results in memory.
    scheduler_idle:
        The scheduler has finished every descriptor handed over.
    parameters_freed:
        Strobe: one bank of the parameter store is free again.
    invalid:
        Level: the descriptor is malformed.
    finished:
        Level: the whole program has been ordered and handed over.
    """

    def __init__(self, *, config: EngineConfig):
        self.config = config
        super().__init__({
            "start": In(1), "program_address": In(32), "program_length": In(32),
            "word_valid": In(1), "word": In(config.axi_data_bits),
            "o_descriptor": Out(stream.Signature(LAYOUT)),
            "winners": Out(16), "slot": Out(1),
            "build": Out(1), "build_all": Out(1), "operand": Out(1), "blocks": Out(1), "capture": Out(1),
            "list_free": In(1), "ahead": Out(1),
            "list_done": In(1), "list_winners": In(16),
            "o_job": Out(stream.Signature(Job)),
            "o_segment": Out(stream.Signature(Segment)),
            "quiet": In(1), "scheduler_idle": In(1), "parameters_freed": In(1),
            "invalid": Out(1), "finished": Out(1),
        })

    def is_malformed(self, m: Module, descriptor, address):
        """Sizes of zero or larger than this engine, or a program off the 16-byte grid; one cycle later."""
        config = self.config
        positive = ("in_channels", "in_rows", "in_cols", "in_row_pitch", "strip_rows", "last_strip_rows", "strips",
                    "pitch", "stride_x", "stride_y", "load_phases", "out_groups", "group_columns", "last_columns",
                    "kernel_h", "kernel_w", "tiles", "tile_positions", "last_rows", "out_rows", "out_cols",
                    "out_cols_last", "out_strip_rows", "positions", "pool_h", "pool_w", "pool_stride_x", "chunk",
                    "out_channels", "weight_block", "weight_block_last", "pass_winners", "depth_multiplier",
                    "lane_step")
        vector = descriptor.op == OP_VECTOR
        bounded = {"stride_x": 4, "stride_y": 4, "lane_step": 4,
                   "group_columns": config.columns, "last_columns": config.columns,
                   "in_channels": config.max_channels, "chunk": config.axi_bytes, "mask_source": int(MaskSource.KEEP),
                   "mask_source_2": int(MaskSource.MEMORY)}
        aligned = {"mask_base": 1, "mask_base_2": 1, "block_mask_base": 1, "block_mask_group": 1, "parameter_base": 4}
        checks = [(descriptor.op != OP_CONVOLUTION) & ~vector]
        checks += [descriptor[name] > Mux(vector, config.vector_lanes, config.rows)
                   for name in ("tile_positions", "last_rows")]
        checks += [(descriptor.out_channels > config.max_channels)
                   & ((descriptor.select != Select.ALL) | descriptor.score_resume | ~descriptor.score_final)]
        checks += [descriptor.in_channels <= descriptor.mask_skip]
        checks += [descriptor.load_phases > descriptor.stride_x]
        checks += [descriptor.weights_ahead & (descriptor.lists | descriptor.add
                                               | (descriptor.mask_source != MaskSource.ALL))]
        checks += [descriptor.act_resident & descriptor.add]
        checks += [descriptor.lists & (vector | ~descriptor.act_dense | (descriptor.strips != 1))]
        checks += [descriptor.add & (~vector | (descriptor.strips != 2) | (descriptor.mask_source == MaskSource.KEEP))]
        checks += [descriptor[name] == 0 for name in positive]
        checks += [descriptor[name] > high for name, high in bounded.items() if high < 2 ** len(descriptor[name]) - 1]
        checks += [descriptor[name][:bits] != 0 for name, bits in aligned.items()]
        checks += [address[:4] != 0]
        of_whole_groups, malformed = Signal(32, reset_less=True), Signal()
        of_others, most = Signal(17, reset_less=True), Signal(17, reset_less=True)
        m.d.sync += [
            # Columns that are more than there are have a check of their own.
            of_whole_groups.eq(descriptor.group_columns[:config.columns.bit_length()] * descriptor.out_groups),
            of_others.eq(descriptor.first_channel + descriptor.last_columns),
            most.eq(descriptor.out_channels + descriptor.group_columns),
        ]
        checks += [of_whole_groups + of_others > most]
        flags = Signal(len(checks), reset_less=True)
        m.d.sync += [flags[i].eq(check) for i, check in enumerate(checks)]
        m.d.sync += malformed.eq(flags.any())
        return malformed

    def elaborate(self, platform):
        m = Module()
        config = self.config
        words = DESCRIPTOR_BYTES // config.axi_bytes
        raw = Signal(8 * DESCRIPTOR_BYTES, reset_less=True)
        descriptor = LAYOUT(raw)
        received = Signal(range(words + 1))
        with m.If(self.word_valid):
            m.d.sync += [raw.eq(Cat(raw[config.axi_data_bits:], self.word)), received.eq(received + 1)]
        address, left = (Signal(32, name=n, reset_less=True) for n in ("address", "left"))
        malformed = self.is_malformed(m, descriptor, address)

        offered, offering = Signal(), Signal()
        m.d.comb += [
            self.o_descriptor.payload.eq(raw),
            self.o_descriptor.valid.eq(offering & ~offered & self.list_done),
            self.winners.eq(self.list_winners),
        ]
        with m.If(self.o_descriptor.valid & self.o_descriptor.ready):
            m.d.sync += offered.eq(1)

        banks_free = Signal(range(PARAMETER_BANKS + 1), init=PARAMETER_BANKS)
        bank_taken = Signal()
        m.d.sync += banks_free.eq(banks_free + self.parameters_freed - bank_taken)

        job, segment = self.o_job, self.o_segment
        strips, groups = (Countdown(16, name=name) for name in ("strips", "groups"))
        strips_begun, strips_ended, groups_begun = Signal(), Signal(), Signal()
        strip_base, weight_base, parameter_base, block_mask_base = (Signal(32, name=n, reset_less=True) for n in (
            "strip_base", "weight_base", "parameter_base", "block_mask_base"))
        strip_destination = Signal(24, reset_less=True)
        rows_left = Signal()
        second = Signal()
        vector = descriptor.op == OP_VECTOR
        ahead = Signal()
        m.d.comb += [
            self.operand.eq(second), self.capture.eq(self.blocks | descriptor.list_once),
            self.ahead.eq(ahead & ~offering),
        ]
        last_strip, last_group = strips.last, groups.last
        columns = Mux(last_group, descriptor.last_columns, descriptor.group_columns)
        block = Mux(last_group, descriptor.weight_block_last, descriptor.weight_block)
        check_wait, none_left = Signal(2), Signal()
        m.d.sync += [self.build.eq(0), self.build_all.eq(0)]

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [address.eq(self.program_address), left.eq(self.program_length),
                             none_left.eq(self.program_length == 0)]
                with m.If(self.start):
                    m.next = "NEXT"
            with m.State("NEXT"):
                m.d.sync += received.eq(0)
                with m.If(none_left):
                    m.d.comb += self.finished.eq(1)
                with m.Else():
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += [
                    segment.valid.eq(1),
                    segment.p.kind.eq(Kind.DESCRIPTOR),
                    segment.p.address.eq(address),
                    segment.p.bytes.eq(DESCRIPTOR_BYTES),
                ]
                with m.If(segment.ready):
                    m.d.sync += [address.eq(address + DESCRIPTOR_BYTES), left.eq(left - 1), none_left.eq(left == 1)]
                    m.next = "RECEIVE"
            with m.State("RECEIVE"):
                m.d.sync += check_wait.eq(2)
                with m.If(received == words):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += [
                    check_wait.eq(check_wait - 1),
                    *strips.start(descriptor.strips), *groups.start(descriptor.out_groups),
                    strips_begun.eq(0), strips_ended.eq(0), groups_begun.eq(0),
                    rows_left.eq(~descriptor.act_resident), second.eq(0), ahead.eq(0),
                    offered.eq(0), offering.eq(0),
                    strip_base.eq(descriptor.in_base), strip_destination.eq(descriptor.act_base),
                    weight_base.eq(descriptor.weight_base), parameter_base.eq(descriptor.parameter_base),
                    block_mask_base.eq(descriptor.block_mask_base), self.blocks.eq(0),
                ]
                with m.If(check_wait == 0):
                    with m.If(malformed):
                        m.next = "MALFORMED"
                    with m.Else():
                        with m.If(descriptor.mask_source != MaskSource.KEEP):
                            m.d.sync += self.slot.eq(~self.slot)
                        m.next = "WAIT"
            with m.State("MALFORMED"):
                m.d.comb += self.invalid.eq(1)
            with m.State("WAIT"):
                with m.If((self.quiet | ~descriptor.barrier) & (self.scheduler_idle | descriptor.act_prefetch)
                          & self.list_done):
                    with m.If(descriptor.mask_source == MaskSource.KEEP):
                        m.d.sync += offering.eq(1)
                        m.next = "ACTIVATIONS"
                    with m.Else():
                        m.d.sync += [self.build.eq(1), self.build_all.eq(descriptor.mask_source == MaskSource.ALL)]
                        m.next = "MASK"
                with m.Elif(descriptor.weights_ahead & self.list_done):
                    m.d.sync += [self.build.eq(1), self.build_all.eq(1), ahead.eq(1)]
                    m.next = "MASK"
            with m.State("MASK"):
                source = Mux(second, descriptor.mask_source_2, descriptor.mask_source)
                m.d.sync += offering.eq((second | ~descriptor.add) & ~ahead)
                m.d.comb += [
                    segment.p.kind.eq(Kind.MASK),
                    segment.p.address.eq(Mux(second, descriptor.mask_base_2, descriptor.mask_base)),
                    segment.p.bytes.eq((descriptor.in_channels + 7) >> 3),
                    segment.valid.eq(source == MaskSource.MEMORY),
                ]
                with m.If(segment.ready | ~segment.valid):
                    m.next = "ACTIVATIONS"
                    with m.If(second | ahead):
                        m.next = "PARAMETERS"
                    with m.Elif(descriptor.act_resident):
                        m.next = "BLOCKS"
            with m.State("SECOND_OPERAND"):
                m.d.sync += [self.build.eq(1), self.build_all.eq(descriptor.mask_source_2 == MaskSource.ALL)]
                m.next = "MASK"
            with m.State("ACTIVATIONS"):
                m.d.comb += [
                    job.valid.eq(1),
                    job.p.weights.eq(0),
                    job.p.base.eq(strip_base),
                    job.p.destination.eq(strip_destination),
                    job.p.stride.eq(descriptor.in_plane),
                    job.p.strip_load.eq(Mux(last_strip, descriptor.last_strip_load, descriptor.strip_load)),
                    job.p.strip_rows.eq(Mux(last_strip, descriptor.last_strip_rows, descriptor.strip_rows)),
                ]
                with m.If(job.ready):
                    m.d.sync += [
                        *strips.step(), strips_begun.eq(1), strips_ended.eq(last_strip),
                        strip_base.eq(strip_base + descriptor.strip_pitch),
                        strip_destination.eq(strip_destination + descriptor.strip_bytes),
                    ]
                    with m.If(~strips_begun & ~ahead):
                        m.next = "BLOCKS"
                        with m.If(descriptor.add):
                            m.d.sync += second.eq(1)
                            m.next = "SECOND_OPERAND"
                    with m.Elif(last_strip):
                        m.next = "GROUP_DONE"
            with m.State("BARRIER"):
                with m.If(self.quiet):
                    m.d.sync += offering.eq(1)
                    m.next = "ACTIVATIONS"
                    with m.If(descriptor.act_resident):
                        m.next = "GROUP_DONE"
            with m.State("BLOCKS"):
                with m.If(~descriptor.lists | descriptor.list_once):
                    m.next = "PARAMETERS"
                with m.Elif(self.list_free & self.list_done):
                    m.d.sync += [self.build.eq(1), self.blocks.eq(1)]
                    m.next = "BLOCK_MASK"
            with m.State("BLOCK_MASK"):
                m.d.comb += [
                    segment.valid.eq(1),
                    segment.p.kind.eq(Kind.MASK),
                    segment.p.address.eq(block_mask_base),
                    segment.p.bytes.eq((descriptor.in_channels + 7) >> 3),
                ]
                with m.If(segment.ready):
                    m.d.sync += block_mask_base.eq(block_mask_base + descriptor.block_mask_group)
                    m.next = "PARAMETERS"
            with m.State("PARAMETERS"):
                m.d.comb += [
                    segment.valid.eq((banks_free != 0) & descriptor.sum_end),
                    segment.p.kind.eq(Kind.PARAMETERS),
                    segment.p.address.eq(parameter_base),
                    segment.p.bytes.eq(Mux(descriptor.parameter_shared, 1, columns) * PARAMETER_BYTES),
                    segment.p.start.eq(1), segment.p.strip_end.eq(1),
                    bank_taken.eq(segment.valid & segment.ready),
                ]
                with m.If((segment.valid & segment.ready) | ~descriptor.sum_end):
                    with m.If(~descriptor.parameter_shared):
                        m.d.sync += parameter_base.eq(parameter_base + descriptor.group_columns * PARAMETER_BYTES)
                    m.next = "WEIGHTS"
            with m.State("WEIGHTS"):
                none = descriptor.weight_reuse | (
                    vector & ((descriptor.unit_weight != 0) | descriptor.add | groups_begun))
                m.d.comb += [
                    job.valid.eq(~none),
                    job.p.weights.eq(1),
                    job.p.base.eq(weight_base),
                    job.p.stride.eq(block),
                ]
                with m.If(job.ready | none):
                    with m.If(ahead & ~offering):
                        m.next = "BARRIER"
                    with m.Elif(rows_left & ~strips_ended):
                        m.d.sync += rows_left.eq(0)
                        m.next = "ACTIVATIONS"
                    with m.Else():
                        m.next = "GROUP_DONE"
            with m.State("GROUP_DONE"):
                m.d.sync += rows_left.eq(0)
                with m.If(last_group):
                    m.next = "HAND_OVER"
                with m.Else():
                    m.d.sync += [*groups.step(), groups_begun.eq(1),
                                 weight_base.eq(weight_base + descriptor.weight_group)]
                    m.next = "BLOCKS"
            with m.State("HAND_OVER"):
                with m.If(offered):
                    m.next = "NEXT"
        return m
