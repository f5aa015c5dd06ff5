"""The ULX3S: clocks, reset and pins around the system."""

from amaranth.hdl import ClockDomain, ClockSignal, Elaboratable, Module
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer
from amaranth_boards.ulx3s import ULX3S_12F_Platform, ULX3S_45F_Platform, ULX3S_85F_Platform

from ..collisions import undefine_collisions
from ..config import EngineConfig
from .pll import Pll, PllDividers, pll_dividers
from .presets import Board
from .sdram_timing import SdramTiming
from .system import LEDS, System, cycles_per_bit

PLATFORMS = {platform.device: platform for platform in (
    ULX3S_12F_Platform, ULX3S_45F_Platform, ULX3S_85F_Platform)}
OSCILLATOR_HZ = 25_000_000
CORE = "system.engine.core"
"""Where the engine's core is in the design of :class:`Ulx3s`."""
IO_LATENCY = 2
"""Cycles that the registers at the pins add: one on the way out, one on the way in."""

# Nanoseconds, for the phase of the SDRAM's clock. Where chips differ, the one that leaves least room.
ACCESS = {2: 6.0, 3: 5.4}
"""tAC by CAS latency: a word comes so long after the chip's clock edge at most (AS4C16M16SA-7, W9825G6KH-6)."""
HOLD = 2.5
"""tOH: and stays so long after the next edge (AS4C16M16SA-7; the others 2.7 and 3)."""
INPUT_SETUP, INPUT_HOLD = 1.5, 1.0
"""tIS, tIH: what the chip takes must stand so long before and after its clock edge (AS4C16M16SA-7, IS42S16160G-7)."""
PADS = 3.5
"""From the device's clock to the pin of the chip's clock, and from a pin of data to its register: an estimate."""
SKEW = 0.5
"""Between the pin of the chip's clock and the others, all of which leave from registers of IO cells: an estimate."""


def clock_phase(timing: SdramTiming) -> float:
    """By how many degrees the chip's clock lags behind the system's.

    With a period T and a lag L, a word that the chip puts out at an edge of its clock comes to its register PADS + tAC
    + L after the system's edge before that, and goes PADS + tOH + L + T after it. The register takes it 2 T after
    that edge (:data:`IO_LATENCY`), which is the middle of its stay with L = 1.5 T - PADS - (tAC + tOH) / 2. Commands
    change with the system's clock, which bounds L: from tIS, and to T - tIH, with the skew. At 100 MHz L is 0.72 T.
    """
    period = 1e9 / timing.clock_hz
    middle = 1.5 * period - PADS - (ACCESS[timing.cas_latency] + HOLD) / 2
    lag = min(max(middle, INPUT_SETUP + SKEW), period - INPUT_HOLD - SKEW)
    return lag / period * 360


def board_clock(board: Board, frequency_mhz: float) -> PllDividers:
    """The clock nearest to a frequency. Raises ValueError, one line, where PLL, SDRAM or UART cannot follow."""
    dividers = pll_dividers(input_hz=OSCILLATOR_HZ, output_hz=frequency_mhz * 1e6)
    clock_hz = int(dividers.output_hz)
    SdramTiming(clock_hz=clock_hz)
    cycles_per_bit(clock_hz=clock_hz, baud=board.baud)
    return dividers


class Ulx3s(Elaboratable):
    """The top of the design: :class:`hw.boards.system.System` on the board's pins.

    A PLL makes the clock from the oscillator's 25 MHz. Reset until it has locked, and while the button FIRE 1 is
    pressed. Every pin of the SDRAM has its register in the IO cell. The SDRAM's clock is a second output of the PLL,
    because its phase must fit the way out and back (:func:`clock_phase`), which half a period, all that the system's
    clock has to offer, does not; it leaves through a DDR register, so that it is as late as everything else.

    Parameters: ``board``, ``config``, ``dividers`` of the clock (:func:`board_clock`). Raises ``ValueError``.
    """

    def __init__(self, *, board: Board, config: EngineConfig, dividers: PllDividers):
        clock_hz = int(dividers.output_hz)
        timing = SdramTiming(clock_hz=clock_hz)
        self.dividers, self.phase = dividers, clock_phase(timing)
        self.system = System(board=board.name, config=config, clock_hz=clock_hz, baud=board.baud, timing=timing,
                             io_latency=IO_LATENCY)

    def elaborate(self, platform):
        m = Module()
        m.submodules.system = self.system
        self._build_clocks(m, platform)
        self._build_sdram(m, platform)

        uart = platform.request("uart", 0, dir={"rx": "-", "tx": "-", "rts": "-", "dtr": "-"})
        m.submodules.uart_rx = rx = io.Buffer("i", uart.rx)
        m.submodules.uart_tx = tx = io.FFBuffer("o", uart.tx)
        m.d.comb += [self.system.rx.eq(rx.i), tx.o.eq(self.system.tx)]
        for index in range(LEDS):
            m.submodules[f"led{index}"] = led = io.Buffer("o", platform.request("led", index, dir="-"))
            m.d.comb += led.o.eq(self.system.leds[index])
        # The other processor of the board may restart the device unless this is high.
        esp32 = platform.request("esp32", 0, dir=dict.fromkeys(
            ("en", "tx", "rx", "gpio0", "gpio5", "gpio16", "gpio17"), "-"))
        m.submodules.esp32_gpio0 = gpio0 = io.Buffer("o", esp32.gpio0)
        m.d.comb += gpio0.o.eq(1)
        return m

    def _build_clocks(self, m: Module, platform) -> None:
        m.domains.sync = ClockDomain()
        m.domains.sdram = ClockDomain(reset_less=True)
        m.submodules.oscillator = oscillator = io.Buffer("i", platform.request("clk25", 0, dir="-"))
        m.submodules.button = button = io.Buffer("i", platform.request("button_fire", 0, dir="-"))
        m.submodules.pll = pll = Pll(dividers=self.dividers, degrees=self.phase)
        m.submodules.reset = ResetSynchronizer(~pll.locked | button.i)
        m.d.comb += [pll.reference.eq(oscillator.i), ClockSignal("sync").eq(pll.clock),
                     ClockSignal("sdram").eq(pll.shifted)]

    def _build_sdram(self, m: Module, platform) -> None:
        inner = self.system.sdram
        names = [name for name in inner.signature.members if not name.startswith("dq_")]
        pins = platform.request("sdram", 0, dir=dict.fromkeys(("clk", *names, "dq"), "-"))
        for name in names:
            m.submodules[f"sdram_{name}"] = buffer = io.FFBuffer("o", getattr(pins, name))
            m.d.comb += buffer.o.eq(getattr(inner, name))
        m.submodules.sdram_dq = dq = io.FFBuffer("io", pins.dq)
        m.d.comb += [dq.o.eq(inner.dq_o), dq.oe.eq(inner.dq_oe), inner.dq_i.eq(dq.i)]
        m.submodules.sdram_clock = clock = io.DDRBuffer("o", pins.clk, o_domain="sdram")
        m.d.comb += [clock.o[0].eq(1), clock.o[1].eq(0)]


def translate(design: Ulx3s, board: Board) -> tuple[str, str]:
    """The design as RTLIL, its top module being ``top``, and its pins and clocks as LPF."""
    plan = PLATFORMS[board.device]().prepare(design, "top", emit_src=False)
    return undefine_collisions(plan.files["top.il"]), plan.files["top.lpf"]
