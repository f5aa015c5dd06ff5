"""The whole engine: what the folder's other files describe, in the order that data flows."""

from amaranth.hdl import ClockDomain, ClockSignal, DomainRenamer, Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from .addition import Addition
from .array import SystolicArray
from .buffer import BankedBuffer
from .channel_flags import ChannelFlags
from .config import EngineConfig
from .control import RESET_CYCLES, Control, Counters, Registers
from .drain import Drain
from .feed import Feed
from .loader import Loader, SegmentWalker
from .output_router import OutputRouter
from .ranking import RankingUnit
from .reader import Kind, Reader
from .registers import COUNTERS
from .requantize import ParameterStore
from .scheduler import Scheduler
from .score import ScoreUnit
from .strip_walker import label_layout
from .unpacker import Unpacker
from .vector_unit import VectorUnit
from .winner_list import WinnerList
from .write_back import WriteBack
from .writer import WriteKind, Writer


class Core(wiring.Component):
    """Everything but the registers: from descriptors and tensors in memory to results, scores and winners in memory.

    All of it has the same reset, ``reset``, and is to be in a clock domain that has none: it comes to the blocks one
    behind the other. State has it; not what counts beside a valid alone, and not what is passed on cycle by cycle,
    which a reset that lasts longer than the pipeline empties. Blocks that have no state are not reset at all.

    Members: ``reset``, high for at least as many cycles as there are blocks, and low for as many before ``start``;
    ``start``, ``program_address``, ``program_length``, ``window_base``, ``window_limit``, ``abort``;
    ``finished``, ``invalid``, ``outside``, ``read_failed``, ``write_failed``, ``axi_idle``, ``progress`` as of
    :class:`hw.control.Control`; ``increments``, ``ahead``, ``layer_done``, ``recording`` as of
    :class:`hw.control.Counters`; AXI4 channels ``ar_*``, ``r_*``, ``aw_*``, ``w_*``, ``b_*``.
    """

    def __init__(self, *, config: EngineConfig):
        self.config = config
        data_bits = config.axi_data_bits
        super().__init__({
            "reset": In(1), "start": In(1), "program_address": In(32), "program_length": In(32),
            "window_base": In(32), "window_limit": In(32), "abort": In(1), "running": In(1),
            "finished": Out(1), "invalid": Out(1), "outside": Out(1), "read_failed": Out(1), "write_failed": Out(1),
            "axi_idle": Out(1), "progress": Out(1),
            "increments": Out(16 * len(COUNTERS)), "layer_done": Out(1), "recording": In(1),
            "ahead": Out(1), "ar_valid": Out(1), "ar_ready": In(1), "ar_address": Out(32), "ar_length": Out(8),
            "r_valid": In(1), "r_ready": Out(1), "r_data": In(data_bits), "r_response": In(2),
            "aw_valid": Out(1), "aw_ready": In(1), "aw_address": Out(32), "aw_length": Out(8),
            "w_valid": Out(1), "w_ready": In(1), "w_data": Out(data_bits), "w_strobe": Out(data_bits // 8),
            "w_last": Out(1), "b_valid": In(1), "b_ready": Out(1), "b_response": In(2),
        })

    def elaborate(self, platform):
        m = Module()
        config, axi_bytes = self.config, self.config.axi_bytes
        resets = [self.reset]

        def attach(name: str, block: wiring.Component) -> wiring.Component:
            """A block whose reset is a register of its own, a cycle behind that of the one before: none has to reach
            all of the engine within a cycle."""
            resets.append(Signal(name=f"{name}_reset"))
            m.d.sync += resets[-1].eq(resets[-2])
            m.submodules[name] = ResetInserter(resets[-1])(block)
            return block

        # Loading.
        winner_list = attach("winner_list", WinnerList(
            max_channels=config.max_channels, word_bits=config.axi_data_bits))
        flags = attach("flags", ChannelFlags(max_channels=config.max_channels))
        loader = attach("loader", Loader(config=config))
        walker = attach("walker", SegmentWalker())
        reader = attach("reader", Reader(
            axi_bytes=axi_bytes, outstanding=config.outstanding_reads,
            weight_buffer_bytes=config.weight_buffer_bytes))
        unpacker = attach("unpacker", Unpacker(axi_bytes=axi_bytes))
        # On-chip operands and constants.
        m.submodules.act_buffer = act_buffer = BankedBuffer(
            banks=config.act_banks, ring_bytes=config.act_buffer_bytes, write_bytes=axi_bytes,
            read_bytes=config.act_banks)
        m.submodules.weight_buffer = weight_buffer = BankedBuffer(
            banks=config.weight_banks, ring_bytes=config.weight_buffer_bytes, write_bytes=axi_bytes,
            read_bytes=config.weight_read_bytes)
        parameters = attach("parameters", ParameterStore(columns=config.columns, axi_bytes=axi_bytes))
        # Computing.
        scheduler = attach("scheduler", Scheduler(config=config))
        m.submodules.feed = feed = Feed(config=config)
        m.submodules.array = array = SystolicArray(
            rows=config.rows, columns=config.columns, weight_bits=config.weight_bits)
        vector_unit = attach("vector_unit", VectorUnit(
            lanes=config.vector_lanes, weight_bits=config.weight_bits,
            blocks=max(0, config.spare_multipliers - Addition.PRODUCTS * config.requantize_lanes)))
        drain = attach("drain", Drain(config=config, array_latency=SystolicArray.LATENCY))
        # Results.
        m.submodules.output_buffer = output_buffer = BankedBuffer(
            banks=config.output_banks, ring_bytes=config.output_ring_bytes, rings=config.columns,
            write_bytes=config.requantize_lanes, read_bytes=axi_bytes)
        write_back = attach("write_back", WriteBack(config=config))
        m.submodules.score = score = ScoreUnit(
            chunk_bytes=axi_bytes, max_channels=config.max_channels, label=label_layout(config.columns))
        ranking = attach("ranking", RankingUnit(max_channels=config.max_channels, lanes=config.rank_lanes))
        router = attach("router", OutputRouter(config=config))
        writer = attach("writer", Writer(axi_bytes=axi_bytes))
        assert 2 * len(resets) <= RESET_CYCLES

        # Loading: the walker's segments go before the loader's own, which are offered only while it is idle.
        connect(m, loader.o_job, walker.i_job)
        connect(m, winner_list.o_run, walker.i_run)
        m.d.comb += [
            loader.start.eq(self.start), loader.program_address.eq(self.program_address),
            loader.program_length.eq(self.program_length),
            winner_list.build.eq(loader.build), winner_list.build_all.eq(loader.build_all),
            winner_list.channels.eq(loader.o_descriptor.p.in_channels),
            winner_list.skip.eq(loader.o_descriptor.p.mask_skip), winner_list.rewind.eq(walker.rewind),
            loader.list_done.eq(winner_list.done), loader.list_winners.eq(winner_list.winners),
            walker.exhausted.eq(winner_list.exhausted), walker.descriptor.eq(loader.o_descriptor.p),
            reader.i_segment.valid.eq(walker.o_segment.valid | loader.o_segment.valid),
            reader.i_segment.payload.eq(
                Mux(walker.o_segment.valid, walker.o_segment.payload.as_value(), loader.o_segment.payload.as_value())),
            walker.o_segment.ready.eq(reader.i_segment.ready),
            loader.o_segment.ready.eq(reader.i_segment.ready & ~walker.o_segment.valid),
            loader.parameters_freed.eq(drain.parameters_switch),
        ]
        beat = reader.o_beat
        arriving = Signal(range(axi_bytes + 1))
        weights_arrived = Signal(range(axi_bytes + 1))
        m.d.comb += [
            loader.word.eq(beat.p.data), winner_list.i_mask.p.word.eq(beat.p.data >> (beat.p.first << 3)),
            winner_list.i_mask.p.chunks.eq((beat.p.count + 1) >> 1),
            parameters.i_beat.payload.eq(beat.payload), unpacker.i_beat.payload.eq(beat.payload),
            unpacker.descriptor.eq(loader.o_descriptor.p),
            weight_buffer.write_data.eq(beat.p.data), weight_buffer.write_first.eq(beat.p.first),
            weight_buffer.write_count.eq(beat.p.count),
        ]
        with m.Switch(beat.p.kind):
            with m.Case(Kind.DESCRIPTOR):
                # It replaces one that beats on their way may still need.
                m.d.comb += [loader.word_valid.eq(beat.valid & unpacker.idle), beat.ready.eq(unpacker.idle)]
            with m.Case(Kind.MASK):
                m.d.comb += [winner_list.i_mask.valid.eq(beat.valid), beat.ready.eq(winner_list.i_mask.ready)]
            with m.Case(Kind.PARAMETERS):
                m.d.comb += [parameters.i_beat.valid.eq(beat.valid), beat.ready.eq(1)]
            with m.Case(Kind.ACTIVATIONS):
                m.d.comb += [unpacker.i_beat.valid.eq(beat.valid), beat.ready.eq(unpacker.i_beat.ready)]
            with m.Default():
                m.d.comb += [weight_buffer.write_enable.eq(beat.valid), beat.ready.eq(1),
                             arriving.eq(Mux(beat.valid, beat.p.count, 0))]
        weight_end = Signal(range(config.weight_buffer_bytes + axi_bytes))
        m.d.comb += weight_end.eq(weight_buffer.write_offset + arriving)
        position = Signal(range(config.weight_buffer_bytes))
        m.d.comb += weight_buffer.write_offset.eq(position)
        m.d.sync += [
            weights_arrived.eq(arriving),
            position.eq(Mux(weight_end >= config.weight_buffer_bytes,
                            weight_end - config.weight_buffer_bytes, weight_end)),
        ]
        with m.If(self.reset):
            m.d.sync += position.eq(0)
        m.d.comb += [
            unpacker.stall.eq(router.claims), act_buffer.write_enable.eq(unpacker.write_enable | router.write_enable),
            act_buffer.write_first.eq(Mux(router.write_enable, 0, unpacker.write_first)),
        ]
        for name in ("write_offset", "write_data", "write_count"):
            m.d.comb += getattr(act_buffer, name).eq(
                Mux(router.write_enable, getattr(router, name), getattr(unpacker, name)))

        # Computing.
        in_work = scheduler.o_descriptor.p
        connect(m, loader.o_descriptor, scheduler.i_descriptor)
        connect(m, scheduler.o_descriptor, drain.i_descriptor)
        connect(m, vector_unit.o_sums, drain.i_vector)
        connect(m, drain.o_descriptor, write_back.i_descriptor)
        m.d.comb += [
            scheduler.winners.eq(loader.winners), scheduler.slot.eq(loader.slot),
            scheduler.run_valid.eq(winner_list.run_added & loader.capture), scheduler.run.eq(winner_list.added),
            scheduler.list_done.eq(winner_list.completed & loader.capture), loader.list_free.eq(scheduler.list_free),
            flags.write.eq((winner_list.chunk_taken & ~loader.blocks) | (loader.build & loader.build_all)),
            flags.chunk_slot.eq(loader.slot), flags.chunk_start.eq(loader.build),
            flags.chunk_next.eq(winner_list.chunk_taken),
            winner_list.limit.eq(Mux(loader.blocks, flags.chunk_flags, ~0)),
            flags.write_slot.eq(loader.slot), flags.write_operand.eq(loader.operand),
            flags.write_chunk.eq(winner_list.chunk_base >> 4), flags.write_bits.eq(winner_list.chunk_bits),
            flags.write_all.eq(loader.build & loader.build_all),
            flags.ask.eq(scheduler.ask), flags.slot.eq(scheduler.flag_slot),
            flags.channel.eq(scheduler.flag_channel),
            scheduler.flags.eq(flags.flags), scheduler.strip_loaded.eq(unpacker.strip_loaded),
            scheduler.weights_loaded.eq(weights_arrived), scheduler.next_array_free.eq(drain.next_array_free),
            scheduler.next_vector_free.eq(vector_unit.next_free),
            act_buffer.read_enable.eq(scheduler.issue), act_buffer.read_offset.eq(scheduler.act_offset),
            weight_buffer.read_enable.eq(scheduler.issue), weight_buffer.read_offset.eq(scheduler.weight_offset),
            feed.issue.eq(scheduler.issue), feed.vector.eq(scheduler.vector), feed.first.eq(scheduler.first),
            feed.last.eq(scheduler.last), feed.operand.eq(scheduler.operand),
            feed.lane_inside.eq(scheduler.lane_inside), feed.unit_weight.eq(Mux(in_work.add, 1, in_work.unit_weight)),
            feed.lane_step.eq(in_work.lane_step), feed.weight_zero_point.eq(in_work.weight_zero_point),
            feed.zero_point.eq(Mux(scheduler.operand, in_work.in_zero_point_2, in_work.in_zero_point)),
            feed.act_data.eq(act_buffer.read_data), feed.weight_data.eq(weight_buffer.read_data),
            array.acts.eq(feed.acts), array.weights.eq(feed.weights),
            array.first.eq(feed.array_first), array.last.eq(feed.array_last),
            vector_unit.issue.eq(feed.vector_issue), vector_unit.first.eq(feed.vector_first),
            vector_unit.last.eq(feed.vector_last), vector_unit.operand.eq(feed.vector_operand),
            vector_unit.add.eq(in_work.add), vector_unit.acts.eq(feed.vector_acts),
            vector_unit.weights.eq(feed.vector_weights), vector_unit.tile_issued.eq(scheduler.vector_issued),
            drain.array_issued.eq(scheduler.array_issued), drain.vector_issued.eq(scheduler.vector_issued),
            drain.tile.eq(scheduler.tile), drain.sums.eq(array.sums),
            parameters.column.eq(drain.column), parameters.switch.eq(drain.parameters_switch),
            drain.parameters.eq(parameters.parameters), drain.parameters_loaded.eq(parameters.loaded),
        ]

        # A cycle late: it is known late in the cycle that a step is issued.
        m.d.sync += reader.weights_freed.eq(scheduler.weights_freed)

        # Results.
        connect(m, write_back.o_run, router.i_run)
        connect(m, router.o_run, writer.i_run)
        connect(m, ranking.o_winners, write_back.i_winners)
        m.d.comb += [
            output_buffer.write_enable.eq(drain.write_enable), output_buffer.write_ring.eq(drain.write_ring),
            output_buffer.write_offset.eq(drain.write_offset), output_buffer.write_data.eq(drain.write_data),
            output_buffer.write_first.eq(0), output_buffer.write_count.eq(drain.write_count),
            output_buffer.read_enable.eq(write_back.read_enable), output_buffer.read_ring.eq(write_back.read_ring),
            output_buffer.read_offset.eq(write_back.read_offset), write_back.read_data.eq(output_buffer.read_data),
            write_back.tile_drained.eq(drain.tile_drained), drain.positions_freed.eq(write_back.positions_freed),
            score.descriptor.eq(write_back.descriptor), ranking.descriptor.eq(write_back.descriptor),
            score.valid.eq(write_back.score_valid), score.data.eq(write_back.score_data),
            score.count.eq(write_back.score_count), score.start.eq(write_back.score_start),
            score.end.eq(write_back.score_end), score.resume.eq(write_back.score_resume),
            score.final.eq(write_back.score_final), score.channel.eq(write_back.score_channel),
            score.label.eq(write_back.score_label), write_back.score_in_valid.eq(score.score_valid),
            write_back.score_in.eq(score.score), write_back.score_in_label.eq(score.score_label),
            ranking.score_valid.eq(score.score_valid), ranking.score_channel.eq(score.score_channel),
            ranking.score.eq(score.score), ranking.select.eq(write_back.select),
            write_back.ranking_ready.eq(ranking.ready), ranking.bound_request.eq(write_back.bound_request),
            write_back.bound_valid.eq(ranking.bound_valid), write_back.bound.eq(ranking.bound),
            write_back.hold.eq(writer.hold), router.descriptor.eq(write_back.descriptor),
            router.i_chunk.eq(write_back.o_chunk), writer.chunk.eq(router.o_chunk),
            write_back.writer_idle.eq(writer.idle),
        ]

        # AXI and program end.
        for master in (reader, writer):
            m.d.comb += [master.window_base.eq(self.window_base), master.window_limit.eq(self.window_limit),
                         master.abort.eq(self.abort)]
        for master, channels in ((reader, ("ar", "r")), (writer, ("aw", "w", "b"))):
            for name in self.signature.members:
                if name.split("_")[0] in channels and "_" in name:
                    inner, outer = getattr(master, name), getattr(self, name)
                    into_core = self.signature.members[name].flow == In
                    m.d.comb += inner.eq(outer) if into_core else outer.eq(inner)
        # A cycle late, which is early enough: a descriptor is handed over two cycles before the loader asks again.
        quiet, scheduler_idle = Signal(), Signal()
        m.d.sync += [quiet.eq(scheduler.idle & drain.idle & write_back.idle & writer.idle & ~self.recording),
                     scheduler_idle.eq(scheduler.idle)]
        m.d.sync += self.axi_idle.eq(reader.idle & writer.idle)
        m.d.sync += self.progress.eq(
            scheduler.issue | write_back.read_enable | ranking.waiting | drain.write_enable)
        m.d.comb += [
            loader.quiet.eq(quiet), loader.scheduler_idle.eq(scheduler_idle),
            self.finished.eq(loader.finished & quiet), self.invalid.eq(loader.invalid),
            self.outside.eq(reader.outside | writer.outside), self.read_failed.eq(reader.failed),
            self.write_failed.eq(writer.failed), self.layer_done.eq(write_back.layer_done), self.ahead.eq(loader.ahead),
        ]

        # What happened in this cycle, for the counters.
        def read_of(kind):
            return Mux(reader.issued & (reader.issued_kind == kind), reader.issued_bytes, 0)

        def written(kind):
            return Mux(writer.issued & (writer.issued_kind == kind), writer.issued_bytes, 0)

        idle = self.running & scheduler.idle
        output_busy = ~(drain.idle & write_back.idle & writer.idle)
        increments = {
            "cycles": self.running, "array_active": scheduler.issue,
            "stall_program": idle & ~output_busy, "stall_output": idle & output_busy,
            "stall_activations": scheduler.waits_activations, "stall_weights": scheduler.waits_weights,
            "stall_drain": scheduler.waits_drain, "rank_exposed": ranking.waiting,
            "read_activations": read_of(Kind.ACTIVATIONS), "read_weights": read_of(Kind.WEIGHTS),
            "read_parameters": read_of(Kind.PARAMETERS), "read_mask": read_of(Kind.MASK),
            "read_program": read_of(Kind.DESCRIPTOR), "read_beats": Mux(reader.issued, reader.issued_beats, 0),
            "write_activations": written(WriteKind.ACTIVATIONS), "write_mask": written(WriteKind.MASK),
            "write_beats": Mux(writer.issued, writer.issued_beats, 0),
        }
        m.d.comb += [self.increments.word_select(n, 16).eq(increments[name]) for n, name in enumerate(COUNTERS)]
        return m


class Engine(wiring.Component):
    """The engine with plain AXI4 master (``m_axi_*``), AXI4-Lite slave (``s_axil_*``) and interrupt ports.

    One clock, one synchronous reset. AXI4: INCR bursts of full width, at most 16 beats, one ID, in order; all other
    attributes constant. The interrupt is a level, cleared through the registers.
    """

    def __init__(self, *, config: EngineConfig):
        self.config = config
        bits = config.axi_data_bits
        super().__init__({
            "m_axi_awid": Out(1), "m_axi_awaddr": Out(32), "m_axi_awlen": Out(8), "m_axi_awsize": Out(3),
            "m_axi_awburst": Out(2), "m_axi_awvalid": Out(1), "m_axi_awready": In(1),
            "m_axi_wdata": Out(bits), "m_axi_wstrb": Out(bits // 8), "m_axi_wlast": Out(1), "m_axi_wvalid": Out(1),
            "m_axi_wready": In(1),
            "m_axi_bid": In(1), "m_axi_bresp": In(2), "m_axi_bvalid": In(1), "m_axi_bready": Out(1),
            "m_axi_arid": Out(1), "m_axi_araddr": Out(32), "m_axi_arlen": Out(8), "m_axi_arsize": Out(3),
            "m_axi_arburst": Out(2), "m_axi_arvalid": Out(1), "m_axi_arready": In(1),
            "m_axi_rid": In(1), "m_axi_rdata": In(bits), "m_axi_rresp": In(2), "m_axi_rlast": In(1),
            "m_axi_rvalid": In(1), "m_axi_rready": Out(1),
            "s_axil_awaddr": In(16), "s_axil_awprot": In(3), "s_axil_awvalid": In(1), "s_axil_awready": Out(1),
            "s_axil_wdata": In(32), "s_axil_wstrb": In(4), "s_axil_wvalid": In(1), "s_axil_wready": Out(1),
            "s_axil_bresp": Out(2), "s_axil_bvalid": Out(1), "s_axil_bready": In(1),
            "s_axil_araddr": In(16), "s_axil_arprot": In(3), "s_axil_arvalid": In(1), "s_axil_arready": Out(1),
            "s_axil_rdata": Out(32), "s_axil_rresp": Out(2), "s_axil_rvalid": Out(1), "s_axil_rready": In(1),
            "irq": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.control = control = Control()
        m.submodules.counters = counters = Counters(layers=config.profile_layers)
        m.submodules.registers = registers = Registers(index_bits=counters.index_bits)
        core = Core(config=config)
        m.domains.core = ClockDomain(reset_less=True)
        m.d.comb += ClockSignal("core").eq(ClockSignal())
        m.submodules.core = DomainRenamer("core")(core)

        beat_size = (config.axi_bytes - 1).bit_length()
        for channel in ("aw", "ar"):
            m.d.comb += [
                self._port(channel, "size").eq(beat_size), self._port(channel, "burst").eq(1),
                self._port(channel, "addr").eq(getattr(core, f"{channel}_address")),
                self._port(channel, "len").eq(getattr(core, f"{channel}_length")),
                # Nothing is asked for while a reset is on its way to the block that asks.
                self._port(channel, "valid").eq(getattr(core, f"{channel}_valid") & ~control.core_reset),
                getattr(core, f"{channel}_ready").eq(self._port(channel, "ready")),
            ]
        m.d.comb += [
            self.m_axi_wdata.eq(core.w_data), self.m_axi_wstrb.eq(core.w_strobe), self.m_axi_wlast.eq(core.w_last),
            self.m_axi_wvalid.eq(core.w_valid & ~control.core_reset), core.w_ready.eq(self.m_axi_wready),
            core.b_valid.eq(self.m_axi_bvalid), core.b_response.eq(self.m_axi_bresp),
            self.m_axi_bready.eq(core.b_ready),
            core.r_valid.eq(self.m_axi_rvalid), core.r_data.eq(self.m_axi_rdata), core.r_response.eq(self.m_axi_rresp),
            self.m_axi_rready.eq(core.r_ready),
        ]
        for name in ("awaddr", "awvalid", "wdata", "wvalid", "bready", "araddr", "arvalid", "rready"):
            m.d.comb += getattr(registers, name).eq(getattr(self, f"s_axil_{name}"))
        for name in ("awready", "wready", "bvalid", "arready", "rdata", "rvalid"):
            m.d.comb += getattr(self, f"s_axil_{name}").eq(getattr(registers, name))

        m.d.comb += [
            control.start.eq(registers.start), control.clear.eq(registers.clear), registers.status.eq(control.status),
            self.irq.eq(control.irq), counters.clear.eq(control.core_start),
            counters.increments.eq(core.increments), counters.ahead.eq(core.ahead),
            counters.layer_done.eq(core.layer_done),
            counters.index.eq(registers.read_index), counters.profile.eq(registers.read_profile),
            registers.read_value.eq(counters.value), core.recording.eq(counters.recording),
            core.reset.eq(control.core_reset),
            core.start.eq(control.core_start), core.abort.eq(control.abort), core.running.eq(control.running),
            core.program_address.eq(registers.program_address), core.program_length.eq(registers.program_length),
            core.window_base.eq(registers.window_base), core.window_limit.eq(registers.window_limit),
        ]
        for name in ("finished", "invalid", "outside", "read_failed", "write_failed", "axi_idle", "progress"):
            m.d.comb += getattr(control, name).eq(getattr(core, name))
        return m

    def _port(self, channel: str, name: str):
        return getattr(self, f"m_axi_{channel}{name}")
