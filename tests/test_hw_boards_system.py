"""The board's system: how it is put together, its clocks and its pins."""

import gc
import json
import random
import re
import warnings
from fractions import Fraction
from itertools import pairwise

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from hw.axi import AxiLiteSignature, AxiSignature
from hw.boards.pll import Pll, PllDividers, PllError, pll_dividers
from hw.boards.presets import BOARDS
from hw.boards.sdram import SdramController
from hw.boards.sdram_timing import SdramTiming
from hw.boards.system import System, connect_axi, cycles_per_bit, identity
from hw.boards.ulx3s import ACCESS, HOLD, INPUT_HOLD, INPUT_SETUP, PADS, SKEW, board_clock, clock_phase
from hw.config import EngineConfig
from hw.engine import Engine
from hw.link.host_link import HostLink

from .board_design import small_design
from .hw_helpers import refusal, simulate

MHZ = 1_000_000
FREQUENCIES = [25, 33, 48, 50, 62.5, 75, 80, 96, 100, 105, 112.5, 120, 125, 130, 133]


# Clocks


@pytest.mark.parametrize("frequency", FREQUENCIES)
def test_dividers_keep_the_datasheet_s_ranges(frequency):
    found = pll_dividers(input_hz=25 * MHZ, output_hz=frequency * MHZ)
    detector = Fraction(25 * MHZ, found.input_divider)
    oscillator = detector * found.feedback_divider
    assert 10 * MHZ <= detector <= 400 * MHZ and 400 * MHZ <= oscillator <= 800 * MHZ
    assert found.output_hz == oscillator / found.output_divider
    assert all(1 <= divider <= 128 for divider in
               (found.input_divider, found.feedback_divider, found.output_divider))
    # No other dividers come nearer: 25 MHz reaches the detector whole or halved.
    reachable = [Fraction(25 * MHZ * feedback, divider * output) for divider in (1, 2) for feedback in range(1, 129)
                 if 400 <= Fraction(25 * feedback, divider) <= 800 for output in range(1, 129)]
    nearest = min(abs(one - Fraction(frequency * MHZ)) for one in reachable)
    assert abs(found.output_hz - Fraction(frequency * MHZ)) == nearest
    assert nearest <= frequency * MHZ / 100


def test_dividers_of_known_clocks():
    assert pll_dividers(input_hz=25 * MHZ, output_hz=100e6) == PllDividers(
        input_hz=25 * MHZ, input_divider=1, feedback_divider=24, output_divider=6)
    assert pll_dividers(input_hz=12 * MHZ, output_hz=48e6).oscillator_hz in [n * 12 * MHZ for n in range(34, 67)]


@pytest.mark.parametrize("degrees, steps", [(0, (0, 0)), (90, (1, 4)), (180, (3, 0)), (270, (4, 4)), (7.5, (0, 1))])
def test_phase_in_periods_and_eighths_of_the_oscillator(degrees, steps):
    assert pll_dividers(input_hz=25 * MHZ, output_hz=100e6).phase(degrees) == steps


@pytest.mark.parametrize("input_hz, output_hz, message", [
    (7 * MHZ, 100e6, "input_hz: expected 8000000..400000000, got 7000000"),
    (25 * MHZ, 401e6, "output_hz: expected 3125000..400000000, got 4.01e+08"),
    (8 * MHZ, 100e6, "output_hz: no dividers make 1e+08 of 8000000 within 2 %"),
])
def test_clocks_that_cannot_be_made(input_hz, output_hz, message):
    with pytest.raises(PllError, match=f"^{re.escape(message)}$"):
        pll_dividers(input_hz=input_hz, output_hz=output_hz)


@pytest.mark.parametrize("degrees, message", [
    (360, "degrees: expected 0..360, got 360"), (-1, "degrees: expected 0..360, got -1"),
    (300, "degrees: 300 of a clock divided by 80 is too long a delay"),
])
def test_phases_that_cannot_be_made(degrees, message):
    dividers = PllDividers(input_hz=25 * MHZ, input_divider=1, feedback_divider=16, output_divider=80)
    assert refusal(Pll, dividers=dividers, degrees=degrees) == message


@pytest.mark.parametrize("frequency", FREQUENCIES)
def test_the_sdram_s_clock_leaves_room_on_both_sides(frequency):
    timing = SdramTiming(clock_hz=int(frequency * MHZ))
    period = 1000 / frequency
    lag = clock_phase(timing) / 360 * period
    # The chip takes what changes with the system's clock, in the middle of nowhere.
    assert lag - SKEW >= INPUT_SETUP - 1e-9 and period - lag - SKEW >= INPUT_HOLD - 1e-9
    # A word stands at its register from so long after a system edge to so long, the second edge after within.
    comes, goes = lag + PADS + ACCESS[timing.cas_latency], lag + period + PADS + HOLD
    assert comes < 2 * period - 1 and goes > 2 * period + 1
    if frequency >= 75:
        assert 2 * period - comes == pytest.approx(goes - 2 * period, abs=1.6)


def test_clock_of_a_board():
    board = BOARDS["ulx3s-85f"]
    assert board_clock(board, 112.5).output_hz == 112_500_000
    for frequency, message in ((200, "clock_hz: expected"), (500, "output_hz: expected"),
                               (40, "baud: expected within 2 % of 40000000 / n")):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            board_clock(board, frequency)


@pytest.mark.parametrize("clock_hz, baud, cycles", [
    (100 * MHZ, 3 * MHZ, 33), (100 * MHZ, 1 * MHZ, 100), (125 * MHZ, 3 * MHZ, 42), (8 * MHZ, 2 * MHZ, 4)])
def test_cycles_of_a_bit(clock_hz, baud, cycles):
    assert cycles_per_bit(clock_hz=clock_hz, baud=baud) == cycles


@pytest.mark.parametrize("clock_hz, baud", [(25 * MHZ, 3 * MHZ), (10 * MHZ, 3 * MHZ), (100 * MHZ, 50 * MHZ)])
def test_rates_that_are_too_far_off(clock_hz, baud):
    message = f"baud: expected within 2 % of {clock_hz} / n for an n from 4 on, got {baud}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        cycles_per_bit(clock_hz=clock_hz, baud=baud)


# The system


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_identity_is_enough_to_build_programs(board):
    text = identity(board=board.name, config=board.config, clock_hz=100 * MHZ)
    assert len(text) <= 1023
    found = json.loads(text)
    assert EngineConfig(**found.pop("engine")) == board.config
    assert found == {"board": board.name, "clock_hz": 100 * MHZ, "memory_bytes": 32 << 20}


def test_the_memory_is_32_bits_wide():
    found = refusal(System, board="b", config=EngineConfig(), clock_hz=100 * MHZ, baud=MHZ)
    assert found == "axi_data_bits: expected 32, the memory's, got 128"


def plain_names(prefix: str, names: str) -> dict[str, str]:
    """AXI's own names of ``names``, written out here: CHANNEL_FIELD to PREFIX_SIGNAL."""
    signals = {"valid": "valid", "ready": "ready", "address": "addr", "length": "len", "data": "data",
               "response": "resp", "last": "last", "strobe": "strb"}
    return {name: f"{prefix}_{name.split('_')[0]}{signals[name.split('_')[1]]}" for name in names.split()}


MASTER = plain_names(
    "m_axi", "ar_valid ar_ready ar_address ar_length r_valid r_ready r_data r_response r_last aw_valid aw_ready "
    "aw_address aw_length w_valid w_ready w_data w_strobe w_last b_valid b_ready b_response")
SLAVE = plain_names("s_axil", "aw_valid aw_ready aw_address w_valid w_ready w_data b_valid b_ready b_response ar_valid "
                    "ar_ready ar_address r_valid r_ready r_data r_response")


@pytest.mark.parametrize("signature, prefix, names, ours_drive", [
    (AxiSignature(data_bits=32).flip(), "m_axi", MASTER, "ar_ready r_valid r_data r_response r_last aw_ready w_ready "
     "b_valid b_response"),
    (AxiLiteSignature(), "s_axil", SLAVE, "aw_valid aw_address w_valid w_data b_ready ar_valid ar_address r_ready"),
])
def test_axi_meets_the_engine_s_ports(signature, prefix, names, ours_drive):
    config = EngineConfig(rows=2, columns=2, axi_data_bits=32)
    engine, ours = ends_only(Engine)(config=config).signature.create(), signature.create()
    m = Module()
    connect_axi(m, ours, engine, prefix)
    assert set(names) == set(ours.signature.members)
    rng = random.Random(1)

    async def bench(ctx):
        for ours_name, plain_name in names.items():
            ends = [getattr(ours, ours_name), getattr(engine, plain_name)]
            source, sink = ends if ours_name in ours_drive.split() else ends[::-1]
            for value in (0, (1 << len(source)) - 1, rng.getrandbits(len(source))):
                ctx.set(source, value)
                await ctx.delay(1e-9)
                assert ctx.get(sink) == value, ours_name

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()


def ends_only(cls):
    """A component with the ports of ``cls`` and nothing behind them."""
    class Ends(wiring.Component):
        def __init__(self, **parameters):
            with warnings.catch_warnings(action="ignore"):
                members = dict(cls(**parameters).signature.members)
                gc.collect()
            super().__init__(members)

        def elaborate(self, platform):
            return Module()

    return Ends


def test_who_is_connected_to_whom(monkeypatch):
    for cls in (Engine, HostLink, SdramController):
        monkeypatch.setattr(f"hw.boards.system.{cls.__name__}", ends_only(cls))
    made = []
    monkeypatch.setattr("hw.boards.system.Engine", lambda **parameters: made.append(ends_only(Engine)(**parameters))
                        or made[-1])
    config = EngineConfig(rows=2, columns=2, axi_data_bits=32)
    system = System(board="b", config=config, clock_hz=25 * MHZ, baud=MHZ)

    async def bench(ctx):
        link, memory, engine = system.link, system.memory, made[0]
        # The pins of the UART and of the chip.
        for value in (0, 1):
            ctx.set(system.rx, value)
            ctx.set(link.tx, 1 - value)
            ctx.set(memory.pins.a, 0x1234 * value)
            ctx.set(system.sdram.dq_i, 0xABCD * value)
            await ctx.tick()
            assert ctx.get(link.rx) == value and ctx.get(system.tx) == 1 - value
            assert ctx.get(system.sdram.a) == 0x1234 * value and ctx.get(memory.pins.dq_i) == 0xABCD * value
        # The link writes the engine's registers and sees its interrupt.
        ctx.set(link.registers.aw_address, 0x44)
        ctx.set(engine.irq, 1)
        await ctx.tick()
        assert ctx.get(engine.s_axil_awaddr) == 0x44 and ctx.get(link.irq) == 1
        # Both read memory, each its own data.
        for valid, address, answer, other in (
                (link.axi.ar_valid, link.axi.ar_address, link.axi.r_valid, engine.m_axi_rvalid),
                (engine.m_axi_arvalid, engine.m_axi_araddr, engine.m_axi_rvalid, link.axi.r_valid)):
            ctx.set(valid, 1)
            ctx.set(address, 0x1000 + len(made))
            await ctx.tick()
            ctx.set(valid, 0)
            ctx.set(memory.axi.ar_ready, 1)
            await ctx.tick().until(memory.axi.ar_valid)
            assert ctx.get(memory.axi.ar_address) == 0x1000 + len(made)
            ctx.set(memory.axi.r_valid, 1)
            ctx.set(memory.axi.r_last, 1)
            await ctx.tick().until(memory.axi.r_ready)
            ctx.set(memory.axi.r_valid, 0)
            for _ in range(10):
                if ctx.get(answer):
                    break
                await ctx.tick()
            assert ctx.get(answer) and not ctx.get(other)
            for ready in (link.axi.r_ready, engine.m_axi_rready):
                ctx.set(ready, 1)
            await ctx.tick()
            for ready in (link.axi.r_ready, engine.m_axi_rready):
                ctx.set(ready, 0)
            made.append(None)
        assert ctx.get(system.leds) >> 1 == 0b111

    simulate(system, bench, cycles=200)


def test_leds_blink_and_stay_lit_for_a_while(monkeypatch):
    for cls in (Engine, HostLink, SdramController):
        monkeypatch.setattr(f"hw.boards.system.{cls.__name__}", ends_only(cls))
    monkeypatch.setattr("hw.boards.system.BLINK_HZ", 1_000_000)
    system = System(board="b", config=EngineConfig(rows=2, columns=2, axi_data_bits=32), clock_hz=26 * MHZ, baud=MHZ)

    async def bench(ctx):
        ctx.set(system.link.tx, 1)
        for _ in range(100):
            await ctx.tick()
        seen = []
        ctx.set(system.rx, 0)
        for _ in range(100):
            await ctx.tick()
            ctx.set(system.rx, 1)
            seen.append(ctx.get(system.leds))
        changes = [cycle for cycle in range(1, 100) if (seen[cycle] ^ seen[cycle - 1]) & 1]
        assert {after - before for before, after in pairwise(changes)} == {13}
        lit = [cycle for cycle in range(100) if seen[cycle] & 2]
        assert lit == list(range(lit[0], lit[-1] + 1)) and 13 <= len(lit) <= 40 and lit[0] < 5
        assert not any(leds & 0b1100 for leds in seen)

    simulate(system, bench, cycles=1000)


# Pins


# ulx3s_v20.lpf of the board's makers (https://github.com/emard/ulx3s), bit 0 first.
PINS = {
    "clk25_0__io": "G2", "button_fire_0__io": "R1", "uart_0__rx__io": "M1", "uart_0__tx__io": "L4",
    "led_0__io": "B2", "led_1__io": "C2", "led_2__io": "C1", "led_3__io": "D2", "esp32_0__gpio0__io": "L2",
    "sdram_0__clk__io": "F19", "sdram_0__clk_en__io": "F20", "sdram_0__cs__io": "P20", "sdram_0__we__io": "T20",
    "sdram_0__ras__io": "R20", "sdram_0__cas__io": "T19", "sdram_0__ba__io": "P19 N20", "sdram_0__dqm__io": "U19 E20",
    "sdram_0__a__io": "M20 M19 L20 L19 K20 K19 K18 J20 J19 H20 N19 G20 G19",
    "sdram_0__dq__io": "J16 L18 M18 N18 P18 T18 T17 U20 E19 D20 D19 C20 E18 F18 J18 J17",
}


def test_pins(monkeypatch):
    board = BOARDS["ulx3s-85f"]
    rtlil, constraints = small_design(board, board_clock(board, 100), monkeypatch)
    found = dict(re.findall(r'^LOCATE COMP "(.*?)" SITE "(.*?)";$', constraints, re.M))
    expected = {}
    for name, sites in PINS.items():
        sites = sites.split()
        expected |= {f"{name}[{bit}]" if len(sites) > 1 else name: site for bit, site in enumerate(sites)}
    assert found == expected
    assert 'FREQUENCY PORT "clk25_0__io" 25000000.0 HZ;' in constraints
    # 38 pins of the SDRAM and the UART's have a register for what goes out and one for direction, the clock the latter.
    for cell, count in (("OFS1P3DX", 39 + 40), ("IFS1P3DX", 16), ("ODDRX1F", 1), ("EHXPLLL", 1)):
        assert len(re.findall(rf"^  cell \\{cell} ", rtlil, re.M)) == count, cell
