"""The register block: starts programs, counts what they cost, and ends them with an interrupt, whatever happens."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .delay import delay
from .registers import COUNTERS, IDENTITY_VALUE, PROFILE_WORDS, Error, Register

WATCHDOG_CYCLES = 1 << 13
"""Cycles without any progress and with nothing outstanding after which a program is given up."""
RESET_CYCLES = 64
"""Of the core's reset, behind a program and behind the engine's own: half of them to come to all blocks, one a cycle,
and half to leave them."""
AHEAD = ("read_weights", "read_parameters", "read_beats")
"""Counters of what may be read for a layer before it begins."""
PROFILE_HOLD = 7
"""Counters recorded before the next layer may start: those that its loading changes."""


class Registers(wiring.Component):
    """AXI4-Lite slave for the map of :class:`hw.registers.Register`.

    One access at a time, two cycles for a write, six for a read; unknown addresses read 0 and ignore writes; strobes
    are ignored (registers are written whole).

    Members: ``s_axil_*``; ``start``, ``clear`` (strobes, a cycle behind the write); ``program_address``,
    ``program_length``, ``window_base``, ``window_limit``; ``status``; ``read_index`` (word of the counters or of the
    profile that is asked for, profile when ``read_profile``), ``read_value`` (the answer three cycles later).
    """

    def __init__(self, *, index_bits: int):
        self.index_bits = index_bits
        super().__init__({
            "awaddr": In(16), "awvalid": In(1), "awready": Out(1),
            "wdata": In(32), "wvalid": In(1), "wready": Out(1),
            "bvalid": Out(1), "bready": In(1),
            "araddr": In(16), "arvalid": In(1), "arready": Out(1),
            "rdata": Out(32), "rvalid": Out(1), "rready": In(1),
            "start": Out(1), "clear": Out(1),
            "program_address": Out(32), "program_length": Out(32), "window_base": Out(32), "window_limit": Out(32),
            "status": In(32), "read_index": Out(index_bits), "read_profile": Out(1), "read_value": In(32),
        })

    def elaborate(self, platform):
        m = Module()
        writable = {
            Register.PROGRAM_ADDRESS: self.program_address, Register.PROGRAM_LENGTH: self.program_length,
            Register.WINDOW_BASE: self.window_base, Register.WINDOW_LIMIT: self.window_limit,
        }
        accept = Signal()
        m.d.comb += [
            accept.eq(self.awvalid & self.wvalid & ~self.bvalid), self.awready.eq(accept), self.wready.eq(accept),
        ]
        m.d.sync += [self.start.eq(0), self.clear.eq(0)]
        with m.If(self.bready):
            m.d.sync += self.bvalid.eq(0)
        with m.If(accept):
            m.d.sync += self.bvalid.eq(1)
            with m.Switch(self.awaddr):
                with m.Case(Register.CONTROL):
                    m.d.sync += [self.start.eq(self.wdata[0]), self.clear.eq(self.wdata[1])]
                for address, register in writable.items():
                    with m.Case(address):
                        m.d.sync += register.eq(self.wdata)

        # The address, which word it is, then the counters' three cycles, then the answer.
        address, asked = Signal(16), Signal(5)
        m.d.comb += self.arready.eq((asked == 0) & ~self.rvalid)
        m.d.sync += [
            self.read_profile.eq(address >= Register.PROFILE),
            self.read_index.eq(Mux(address >= Register.PROFILE, (address - Register.PROFILE) >> 2,
                                   (address - Register.COUNTERS) >> 2)),
        ]
        m.d.sync += asked.eq(Cat(self.arvalid & self.arready, asked))
        with m.If(self.arvalid & self.arready):
            m.d.sync += address.eq(self.araddr)
        with m.If(self.rready):
            m.d.sync += self.rvalid.eq(0)
        with m.If(asked[-1]):
            m.d.sync += [self.rvalid.eq(1), self.rdata.eq(0)]
            with m.Switch(address):
                with m.Case(Register.IDENTITY):
                    m.d.sync += self.rdata.eq(IDENTITY_VALUE)
                with m.Case(Register.STATUS):
                    m.d.sync += self.rdata.eq(self.status)
                for offset, register in writable.items():
                    with m.Case(offset):
                        m.d.sync += self.rdata.eq(register)
            counters_end = Register.COUNTERS + 4 * len(COUNTERS)
            profile_end = Register.PROFILE + (4 << self.index_bits)
            with m.If(((address >= Register.COUNTERS) & (address < counters_end))
                      | ((address >= Register.PROFILE) & (address < profile_end))):
                m.d.sync += self.rdata.eq(self.read_value)
        return m


class Control(wiring.Component):
    """Runs one program at a time: start the core, wait until it is finished or fails, reset the core, interrupt.

    Behind its own reset it resets the core, too; a ``start`` in that time is kept.

    On an error nothing new is issued on AXI, what is outstanding is completed, and only then the program ends; so the
    interrupt always comes, as long as the memory answers. It comes :data:`RESET_CYCLES` after the program's end.

    Members
    -------
    start, clear, program_length, status, irq:
        The registers' side.
    core_start:
        Start strobe of the core, one cycle after ``start``, two where that was kept.
    core_reset:
        Its reset, high for the first half of :data:`RESET_CYCLES`.
    abort:
        Level: stop issuing.
    finished:
        The program has been ordered and everything in it has completed.
    invalid, outside, read_failed, write_failed:
        Errors, level.
    axi_idle, progress:
        Nothing was outstanding in the cycle before; something moved.
    running:
        High from start to the program's end.
    """

    def __init__(self):
        super().__init__({
            "start": In(1), "clear": In(1), "status": Out(32), "irq": Out(1),
            "core_reset": Out(1, init=1), "core_start": Out(1), "abort": Out(1, init=1), "running": Out(1),
            "finished": In(1), "invalid": In(1), "outside": In(1), "read_failed": In(1), "write_failed": In(1),
            "axi_idle": In(1), "progress": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        error = Signal(Error, init=Error.NONE)
        busy, kept, done, quiet = Signal(), Signal(), Signal(), Signal(2)
        left = Signal(range(RESET_CYCLES), init=RESET_CYCLES - 1)
        watchdog, expired = Signal(range(WATCHDOG_CYCLES)), Signal()
        m.d.sync += self.core_reset.eq(0)
        m.d.comb += [
            self.status.eq(busy | kept | done << 1 | (error != Error.NONE) << 2 | error << 8),
            self.irq.eq(done),
        ]
        with m.If(self.clear):
            m.d.sync += done.eq(0)
        with m.FSM(init="RESET"):
            with m.State("IDLE"):
                m.d.sync += left.eq(RESET_CYCLES - 1)
                with m.If(self.start | kept):
                    m.d.sync += [busy.eq(1), kept.eq(0), self.running.eq(1), done.eq(0), error.eq(Error.NONE),
                                 watchdog.eq(0), expired.eq(0)]
                    m.next = "START"
            with m.State("START"):
                m.d.comb += self.core_start.eq(1)
                m.next = "RUN"
            with m.State("RUN"):
                moves = self.progress | ~self.axi_idle
                m.d.sync += [watchdog.eq(Mux(moves, 0, watchdog + 1)),
                             expired.eq((watchdog == WATCHDOG_CYCLES - 2) & ~moves)]
                causes = (
                    (self.invalid, Error.DESCRIPTOR), (self.outside, Error.WINDOW), (self.read_failed, Error.READ),
                    (self.write_failed, Error.WRITE), (expired, Error.TIMEOUT),
                )
                with m.If(self.finished):
                    m.d.sync += [self.running.eq(0), self.abort.eq(1)]
                    m.next = "RESET"
                for condition, code in causes:
                    with m.If(condition):
                        m.d.sync += [error.eq(code), self.running.eq(1), self.abort.eq(1), quiet.eq(0)]
                        m.next = "ABORT"
            with m.State("ABORT"):
                # Three cycles: the reader hears of it in the second, and that it is not idle is known a cycle later.
                m.d.sync += quiet.eq(Cat(self.axi_idle, quiet))
                with m.If(self.axi_idle & quiet.all()):
                    m.d.sync += self.running.eq(0)
                    m.next = "RESET"
            with m.State("RESET"):
                m.d.sync += [self.core_reset.eq(left >= RESET_CYCLES // 2), left.eq(left - 1)]
                with m.If(self.start & ~busy):
                    m.d.sync += kept.eq(1)
                with m.If(left == 0):
                    m.d.sync += [busy.eq(0), done.eq(busy), self.abort.eq(0)]
                    m.next = "IDLE"
        return m


def pick(m: Module, values: list[Signal], index, name: str):
    """The value of this index, two cycles later: of each four one, then one of these."""
    fours = [values[start:start + 4] for start in range(0, len(values), 4)]
    of_fours = [Signal.like(four[0], name=f"{name}_of_four{n}", reset_less=True) for n, four in enumerate(fours)]
    picked = Signal.like(values[0], name=name, reset_less=True)
    m.d.sync += [one.eq(Array(four)[index[:2]]) for one, four in zip(of_fours, fours, strict=True)]
    m.d.sync += picked.eq(Array(of_fours)[delay(m, index[2:], 1, f"{name}_four")])
    return picked


class Counters(wiring.Component):
    """The performance counters and their record for every finished layer.

    Latency: what happens in a cycle stands in the counters two cycles later.

    Members: ``clear`` (strobe), ``increments`` (one amount for each of :data:`hw.registers.COUNTERS`, 16 bits each),
    ``ahead`` (level: what is read of :data:`AHEAD` is counted when this falls, for the layer that it belongs to),
    ``layer_done`` (strobe: record), ``recording`` (level: counters that the next layer's loading changes are still to
    be recorded), ``index``, ``profile``, ``value`` (read: a word three cycles later).
    """

    def __init__(self, *, layers: int):
        self.layers = layers
        self.index_bits = exact_log2(layers * PROFILE_WORDS)
        super().__init__({
            "clear": In(1), "increments": In(16 * len(COUNTERS)), "ahead": In(1), "layer_done": In(1),
            "recording": Out(1),
            "index": In(self.index_bits), "profile": In(1), "value": Out(32),
        })

    def elaborate(self, platform):
        m = Module()
        # Cleared, not reset: so the engine's reset need not come to them.
        values = [Signal(32, name=f"count_{name}", reset_less=True) for name in COUNTERS]
        ahead = Signal()
        m.d.sync += ahead.eq(self.ahead)
        for n, value in enumerate(values):
            increment, waiting = Signal(16, name=f"increment_{COUNTERS[n]}", reset_less=True), 0
            m.d.sync += increment.eq(Mux(self.clear, 0, self.increments.word_select(n, 16)))
            if COUNTERS[n] in AHEAD:
                waiting = Signal(32, name=f"ahead_{COUNTERS[n]}", reset_less=True)
                m.d.sync += waiting.eq(Mux(ahead & ~self.clear, waiting + increment, 0))
            m.d.sync += value.eq(Mux(self.clear, 0, Mux(
                ahead & (COUNTERS[n] in AHEAD), value, value + increment + waiting)))
        m.submodules.records = records = Memory(shape=32, depth=max(2, self.layers * PROFILE_WORDS), init=[])
        write = records.write_port()
        # The host may read while a program runs.
        read = records.read_port(domain="sync", transparent_for=[write])
        layer, position = Signal(range(max(2, self.layers))), Signal(range(PROFILE_WORDS), init=len(COUNTERS))
        active, last_counted = position != len(COUNTERS), Signal()
        m.d.sync += last_counted.eq(self.layer_done)
        place, write_enable = (delay(m, value, 2, name) for value, name in (
            (layer * PROFILE_WORDS + position, "place"), (active, "write_enable")))
        m.d.comb += [
            write.addr.eq(place), write.data.eq(pick(m, values, position, "recorded")), write.en.eq(write_enable),
            self.recording.eq(last_counted | (position < PROFILE_HOLD)),
            read.addr.eq(self.index), read.en.eq(1),
        ]
        with m.If(self.clear):
            m.d.sync += [layer.eq(0), position.eq(len(COUNTERS))]
        with m.Elif(last_counted):
            m.d.sync += position.eq(0)
        with m.Elif(active):
            m.d.sync += position.eq(position + 1)
            with m.If(position == len(COUNTERS) - 1):
                m.d.sync += layer.eq(layer + 1)
        record, from_profile = Signal(32), delay(m, self.profile, 2, "from_profile")
        m.d.sync += [
            record.eq(read.data),
            self.value.eq(Mux(from_profile, record, pick(m, values, self.index[:5], "counter"))),
        ]
        return m
