"""Controller for the SDR SDRAM of the ULX3S: 32 MB, 4 banks of 8192 rows of 512 words of 16 bits."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, Signature
from amaranth.utils import exact_log2

from ..axi import AxiSignature
from ..technology import BLOCK_RAM
from .sdram_commands import BANK_BITS, BEAT_WORDS, BURST_BEATS, ROW_BITS, CommandUnit, Segment
from .sdram_timing import SdramTiming

DATA_BITS = 16 * BEAT_WORDS
"""Of the AXI4 slave."""
BYTE_BITS = exact_log2(DATA_BITS // 8)
QUEUE_BEATS = 2 * BURST_BEATS
"""Beats of write data, and of read data, that the controller holds."""
SLVERR = 2


class SdramSignature(Signature):
    """A controller's side of the chip's pins, all outputs registered. One clock, not among them.

    ``cs``, ``ras``, ``cas`` and ``we`` are high when asserted: their pins are inverted. ``dq_oe`` is high in the cycles
    in which ``dq_o`` is to be driven; ``dq_i`` is what comes back.
    """

    def __init__(self):
        super().__init__({
            "clk_en": Out(1), "cs": Out(1), "ras": Out(1), "cas": Out(1), "we": Out(1), "ba": Out(BANK_BITS),
            "a": Out(ROW_BITS), "dqm": Out(2, init=3), "dq_o": Out(16), "dq_oe": Out(1), "dq_i": In(16),
        })


class WordQueue(wiring.Component):
    """Words of 16 bits and two flags, in order, in one block RAM. Latency 2 cycles, a word a cycle.

    Members: ``write``, ``word_in``: never while :data:`QUEUE_BEATS` are held; ``valid``, ``word``, ``take``: the word
    at the output; ``level``: words behind it.
    """

    def __init__(self):
        self.depth = QUEUE_BEATS * BEAT_WORDS
        super().__init__({
            "write": In(1), "word_in": In(18), "level": Out(range(self.depth + 1)),
            "valid": Out(1), "word": Out(18), "take": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        # No word is read while it is written. Said so, the block RAM has no logic behind it to make up for a collision.
        m.submodules.words = words = Memory(shape=18, depth=self.depth, init=[], attrs=BLOCK_RAM | {"no_rw_check": 1})
        writer, reader = words.write_port(), words.read_port(domain="comb")
        first, end, fetch = Signal(range(2 * self.depth)), Signal(range(2 * self.depth)), Signal()
        m.d.comb += [
            writer.addr.eq(end), writer.data.eq(self.word_in), writer.en.eq(self.write), reader.addr.eq(first),
            self.level.eq(end - first), fetch.eq((first != end) & (~self.valid | self.take)),
        ]
        m.d.sync += end.eq(end + self.write)
        with m.If(self.take):
            m.d.sync += self.valid.eq(0)
        with m.If(fetch):
            m.d.sync += [self.valid.eq(1), self.word.eq(reader.data), first.eq(first + 1)]
        return m


class RequestQueue(wiring.Component):
    """Takes AXI bursts and puts them in one order, reads and writes in turn where both wait.

    A write is put in the order only when all of its data are here, so that it never keeps a read waiting for them; it
    is answered at the same time, because a later read comes later in the order. A read is put in the order only when
    there is room for all of its data. Addresses: row | bank | column.

    Members: AXI4's ``ar_*``, ``aw_*``, ``w_*``, ``b_*``; ``o_segment``; ``beat_read``, a beat of read data has left the
    controller; ``word``, ``mask`` (bytes not to write), the next word to write, and ``take_word``.
    Throughput: an address every second cycle, a beat of write data too.
    """

    def __init__(self):
        slave = AxiSignature(data_bits=DATA_BITS).flip().members
        super().__init__({name: slave[name] for name in slave if name.split("_")[0] != "r"} | {
            "o_segment": Out(stream.Signature(Segment)), "beat_read": In(1),
            "word": Out(16), "mask": Out(2), "take_word": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        burst_done = self._build_write_data(m)
        read, read_waiting = self._build_address(m, "ar")
        write, write_waiting = self._build_address(m, "aw")

        # Pick one. The flags lag by a cycle, which the next pick waits for ``busy`` to fall anyway.
        reserved, room = Signal(range(QUEUE_BEATS + 1)), Signal()
        bursts, complete = Signal(range(QUEUE_BEATS + 1)), Signal()
        busy, picked = Signal(), Signal(Segment)
        pick_read, pick_write, write_next = Signal(), Signal(), Signal()
        may_read, may_write = read_waiting & room, write_waiting & complete & ~self.b_valid
        m.d.comb += [
            pick_write.eq(~busy & may_write & (write_next | ~may_read)),
            pick_read.eq(~busy & may_read & ~(write_next & may_write)),
        ]
        m.d.sync += [
            bursts.eq(bursts + burst_done - pick_write), complete.eq(bursts != 0),
            reserved.eq(reserved + Mux(pick_read, read.length + 1, 0) - self.beat_read),
            room.eq(reserved <= QUEUE_BEATS - BURST_BEATS),
        ]
        with m.If(pick_read):
            m.d.sync += [write_next.eq(1), read_waiting.eq(0)]
        with m.If(pick_write):
            m.d.sync += [write_next.eq(0), write_waiting.eq(0), self.b_valid.eq(1),
                         self.b_response.eq(Mux(write.error, SLVERR, 0))]
        with m.Elif(self.b_ready):
            m.d.sync += self.b_valid.eq(0)

        # What crosses a multiple of 16 beats becomes two segments. Within 4 KiB only the bank may change.
        segment, beyond = self.o_segment, Signal(range(2 * BURST_BEATS))
        crosses = beyond[-1]
        m.d.comb += [
            beyond.eq(picked.column[:4] + picked.length), segment.valid.eq(busy), segment.payload.eq(picked),
            segment.p.length.eq(Mux(crosses, ~picked.column[:4], picked.length)), segment.p.final.eq(~crosses),
        ]
        with m.If(busy & segment.ready):
            bursts_on = Cat(picked.column[4:], picked.bank)
            m.d.sync += [busy.eq(crosses), bursts_on.eq(bursts_on + 1), picked.column[:4].eq(0),
                         picked.length.eq(beyond)]
        with m.If(pick_read | pick_write):
            m.d.sync += [busy.eq(1), picked.write.eq(pick_write)]
            for name in ("error", "row", "bank", "column", "length"):
                m.d.sync += picked[name].eq(Mux(pick_write, write[name], read[name]))
        return m

    def _build_address(self, m: Module, channel: str) -> tuple[Signal, Signal]:
        """An address channel's burst that waits to be picked, and whether there is one."""
        burst, waiting = Signal(Segment, name=f"{channel}_burst"), Signal(name=f"{channel}_waiting")
        valid, ready, address, length = (
            getattr(self, f"{channel}_{name}") for name in ("valid", "ready", "address", "length"))
        m.d.comb += ready.eq(~waiting)
        with m.If(valid & ready):
            m.d.sync += [
                waiting.eq(1), Cat(burst.column, burst.bank, burst.row).eq(address[BYTE_BITS:25]),
                burst.error.eq(address[25:].any()), burst.length.eq(length),
            ]
        return burst, waiting

    def _build_write_data(self, m: Module) -> Signal:
        """Beats in, words out; the flag says that the last word of a burst is in the queue."""
        m.submodules.words = words = WordQueue()
        beat, mask, last = Signal(DATA_BITS), Signal(DATA_BITS // 8), Signal()
        left, left_after = Signal(range(BEAT_WORDS + 1)), Signal(range(BEAT_WORDS + 1))
        take, room, burst_done = Signal(), Signal(), Signal()
        m.d.comb += [
            take.eq(self.w_valid & self.w_ready),
            left_after.eq(Mux(take, BEAT_WORDS, Mux(left == 0, 0, left - 1))),
            words.write.eq(left != 0), words.word_in.eq(Cat(beat[:16], mask[:2])), burst_done.eq((left == 1) & last),
            Cat(self.word, self.mask).eq(words.word), words.take.eq(self.take_word),
        ]
        # Room for the beat in work and for one more, counted with a lag of a cycle.
        m.d.sync += [
            left.eq(left_after), room.eq(words.level < (QUEUE_BEATS - 4) * BEAT_WORDS),
            self.w_ready.eq(room & (left_after <= 1)), beat.eq(beat >> 16), mask.eq(mask >> 2),
        ]
        with m.If(take):
            m.d.sync += [beat.eq(self.w_data), mask.eq(~self.w_strobe), last.eq(self.w_last)]
        return burst_done


class SdramController(wiring.Component):
    """AXI4 slave for the chip's 32 MB; beyond them a burst answers SLVERR and changes nothing.

    Bursts are as :class:`hw.axi.AxiSignature` says. Reads and writes are each done in the order of their addresses; a
    read asked for after a write's response sees what was written. Addresses are row | bank | column. Two bursts of read
    data are held here, and two of write data.

    Throughput: 2 bytes a cycle but for refreshes, while the next burst's row can be opened meanwhile: it is open, or in
    another bank. Latency of a read alone, from its address to its first beat: 13 cycles + CAS latency + ``io_latency``
    with its row open, tRCD - 1 (at least 1) more with no row open in its bank, tRP more than that with another one.

    Parameters
    ----------
    timing:
        The chip's times, and the clock's frequency.
    io_latency:
        Cycles that registers of the IO cells and the phase of the chip's clock add, 0 to 7: READ on ``pins`` in cycle n
        has its first word on ``pins.dq_i`` in cycle n + CAS latency + ``io_latency``. 0: a chip on the same clock edge,
        no registers between; 2: a register in the IO cell each way.

    Members: ``axi``, ``pins``. Raises ``ValueError`` for a latency out of range.
    """

    def __init__(self, *, timing: SdramTiming, io_latency: int):
        if not 0 <= io_latency <= 7:
            raise ValueError(f"io_latency: expected 0..7, got {io_latency}")
        self.timing, self.io_latency = timing, io_latency
        super().__init__({"axi": In(AxiSignature(data_bits=DATA_BITS)), "pins": Out(SdramSignature())})

    def elaborate(self, platform):
        m = Module()
        axi, pins = self.axi, self.pins
        m.submodules.requests = requests = RequestQueue()
        m.submodules.commands = commands = CommandUnit(timing=self.timing)
        wiring.connect(m, requests.o_segment, commands.i_segment)
        for name, member in requests.signature.members.items():
            if name in axi.signature.members:
                outer, inner = getattr(axi, name), getattr(requests, name)
                m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)

        # Stage 2: the pins. DQM is high until the chip may be used.
        writing = commands.moving & commands.write
        m.d.comb += requests.take_word.eq(writing)
        m.d.sync += [
            pins.clk_en.eq(1), pins.cs.eq(1), Cat(pins.ras, pins.cas, pins.we).eq(commands.command),
            pins.ba.eq(commands.ba), pins.a.eq(commands.a),
            pins.dq_o.eq(requests.word), pins.dq_oe.eq(writing & ~commands.error),
        ]
        with m.If(commands.initialized):
            m.d.sync += pins.dqm.eq(Mux(writing, requests.mask, 0))

        # Words read come back a fixed time after stage 1. There is room for them.
        m.submodules.words = words = WordQueue()
        arriving = Cat(commands.moving & ~commands.write, commands.error, commands.last)
        for stage in range(1 + self.timing.cas_latency + self.io_latency):
            later = Signal(3, name=f"arriving{stage}")
            m.d.sync += later.eq(arriving)
            arriving = later
        m.d.comb += [words.write.eq(arriving[0]), words.word_in.eq(Cat(pins.dq_i, arriving[1:]))]
        count, take = Signal(range(BEAT_WORDS)), Signal()
        m.d.comb += [
            take.eq(words.valid & (~axi.r_valid | axi.r_ready)), words.take.eq(take),
            requests.beat_read.eq(axi.r_valid & axi.r_ready),
        ]
        with m.If(axi.r_ready):
            m.d.sync += axi.r_valid.eq(0)
        with m.If(take):
            m.d.sync += [
                axi.r_data.eq(Cat(axi.r_data[16:], words.word[:16])),
                axi.r_response.eq(Mux(words.word[16], SLVERR, 0)), axi.r_last.eq(words.word[17]),
                axi.r_valid.eq(count == BEAT_WORDS - 1), count.eq(count + 1),
            ]
        return m
