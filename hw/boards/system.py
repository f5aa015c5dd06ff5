"""A board's system above its pins: host link, engine, and the memory that they share."""

import json
from dataclasses import asdict

from amaranth.hdl import Cat, ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..config import EngineConfig
from ..engine import Engine
from ..link.host_link import HostLink
from .arbiter import AxiArbiter
from .sdram import DATA_BITS, SdramController, SdramSignature
from .sdram_timing import SdramTiming

MEMORY_BYTES = 1 << 25
LEDS = 4
BLINK_HZ = 10
"""An event is shown for the length of half a blink at least."""
_AXI_NAMES = {"address": "addr", "length": "len", "response": "resp", "strobe": "strb"}


def identity(*, board: str, config: EngineConfig, clock_hz: int) -> bytes:
    """What the board says about itself to the host, JSON: ``board``, ``clock_hz``, ``memory_bytes``, and the sizes of
    the ``engine``, from which its programs are built."""
    fields = {"board": board, "clock_hz": clock_hz, "memory_bytes": MEMORY_BYTES, "engine": asdict(config)}
    return json.dumps(fields, separators=(",", ":")).encode()


def cycles_per_bit(*, clock_hz: int, baud: int) -> int:
    """Clock cycles of a bit. Raises ValueError for a rate that is 2 % off, or too fast."""
    cycles = round(clock_hz / baud)
    if cycles < 4 or abs(cycles * baud - clock_hz) * 50 > clock_hz:
        raise ValueError(f"baud: expected within 2 % of {clock_hz} / n for an n from 4 on, got {baud}")
    return cycles


def connect_axi(m: Module, ours, engine: Engine, prefix: str) -> None:
    """Connect an interface of :mod:`hw.axi`, as the engine's side of it is named, to the engine's plain ports.

    ``ours`` drives what its signature calls Out, and is driven by the rest.
    """
    for name, member in ours.signature.members.items():
        channel, field = name.split("_")
        mine, plain = getattr(ours, name), getattr(engine, f"{prefix}_{channel}{_AXI_NAMES.get(field, field)}")
        m.d.comb += plain.eq(mine) if member.flow == Out else mine.eq(plain)


class System(wiring.Component):
    """Host link and engine, both masters of the SDRAM; the link is master of the engine's registers.

    One clock. Nothing starts by itself: the host writes memory, starts the engine and waits for its interrupt.

    Parameters
    ----------
    board:
        Its name, for the host.
    config:
        The engine, whose AXI is as wide as the memory's; else ValueError.
    clock_hz:
        Frequency of the clock, as :class:`hw.boards.sdram_timing.SdramTiming` takes it.
    baud:
        Of the UART, as :func:`cycles_per_bit` takes it.
    timing:
        Of the SDRAM, by default that of the boards' chips at ``clock_hz``.
    io_latency:
        Of :class:`hw.boards.sdram.SdramController`: 0 without registers at the pins.

    Members
    -------
    rx, tx:
        The UART.
    sdram:
        The chip's pins.
    leds:
        Blinking while the clock runs; and lit for a while at least: a byte on the UART, a burst of the engine, the
        engine's interrupt.
    """

    def __init__(self, *, board: str, config: EngineConfig, clock_hz: int, baud: int,
                 timing: SdramTiming | None = None, io_latency: int = 0):
        if config.axi_data_bits != DATA_BITS:
            raise ValueError(f"axi_data_bits: expected {DATA_BITS}, the memory's, got {config.axi_data_bits}")
        cycles = cycles_per_bit(clock_hz=clock_hz, baud=baud)
        self.config, self.clock_hz = config, clock_hz
        self.link = HostLink(
            cycles_per_bit=cycles, cycles_per_millisecond=max(1, clock_hz // 1000),
            identity=identity(board=board, config=config, clock_hz=clock_hz))
        self.memory = SdramController(timing=timing or SdramTiming(clock_hz=clock_hz), io_latency=io_latency)
        super().__init__({
            "rx": In(1, init=1), "tx": Out(1, init=1), "sdram": Out(SdramSignature()), "leds": Out(LEDS),
        })

    def elaborate(self, platform):
        m = Module()
        link, memory = self.link, self.memory
        engine, arbiter = Engine(config=self.config), AxiArbiter(masters=2, data_bits=DATA_BITS)
        for name, block in (("link", link), ("engine", engine), ("arbiter", arbiter), ("memory", memory)):
            # The same clock, and its reset a cycle later from a register of the block's own: none has far to go.
            reset = Signal(name=f"{name}_reset", init=1, reset_less=True)
            m.domains += ClockDomain(name)
            m.d.comb += [ClockSignal(name).eq(ClockSignal()), ResetSignal(name).eq(reset)]
            m.d.sync += reset.eq(ResetSignal())
            m.submodules[name] = DomainRenamer(name)(block)
        connect(m, link.axi, arbiter.masters[0])
        connect(m, arbiter.slave, memory.axi)
        connect(m, memory.pins, flipped(self.sdram))
        connect_axi(m, arbiter.masters[1], engine, "m_axi")
        connect_axi(m, link.registers, engine, "s_axil")
        m.d.comb += [link.rx.eq(self.rx), link.irq.eq(engine.irq)]
        m.d.sync += self.tx.eq(link.tx)  # its pin may be far from the link

        half_blink = self.clock_hz // BLINK_HZ // 2
        count, tick, blink = Signal(range(half_blink)), Signal(), Signal()
        m.d.sync += [tick.eq(count == half_blink - 2), count.eq(count + 1), blink.eq(blink ^ tick),
                     self.leds[0].eq(blink)]
        with m.If(tick):
            m.d.sync += count.eq(0)
        events = Signal(LEDS - 1)
        m.d.sync += events.eq(Cat(~(self.rx & self.tx), engine.m_axi_arvalid | engine.m_axi_awvalid, engine.irq))
        for led in range(1, LEDS):
            recent = Signal(2, name=f"recent{led}")
            with m.If(events[led - 1]):
                m.d.sync += recent.eq(3)
            with m.Elif(tick):
                m.d.sync += recent.eq(recent >> 1)
            m.d.sync += self.leds[led].eq(recent[0])
        return m
