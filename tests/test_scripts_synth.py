"""The command that makes bitstreams: what it refuses, what it shows and writes; the engine as SystemVerilog."""

import gc
import json
import re
import shlex
import warnings
from dataclasses import asdict, replace

import pytest

import hw.boards.flow as flow
from golden.networks import build as network_of
from hw.boards.floorplan import floorplan
from hw.boards.pll import pll_dividers
from hw.boards.presets import BOARDS, Board
from hw.boards.report import Clock, Placement
from hw.boards.resources import count_resources
from hw.config import EngineConfig
from hw.engine import Engine
from hw.plan import make_plan
from hw.registers import COUNTERS, Register
from hw.technology import Technology
from scripts.cli import main
from sim.analytical import predict
from sim.network import layer_shape
from sim.workload import Workload

BOARD = BOARDS["ulx3s-12f"]
FIT = "the LFE5U-12F of ulx3s-12f has 28 and 56"
ARRAY_LAYERS = "conv1, conv2, fc1, fc2"


def run(*arguments) -> int:
    return main(["synth", *map(str, arguments)])


# What is refused, before anything runs


@pytest.fixture
def idle(monkeypatch):
    """No tool may be started."""
    def fail(*_, **__):
        raise AssertionError("a tool was started")

    monkeypatch.setattr(flow, "build", fail)


@pytest.mark.parametrize("arguments, message", [
    ("", "--board, --only-verilog: expected one of them"),
    ("--board basys3", "--board: expected one of ulx3s-85f, ulx3s-45f, ulx3s-12f, got basys3"),
    ("--board icebreaker", r"--board: icebreaker: the smallest engine needs [\d,]+ LUT4s and \d+ block RAMs, the "
     "iCE40UP5K has 5,280 and 30; the small board is ulx3s-12f"),
    ("--board ulx3s-12f --rows 4 --cols 7",
     rf"4x7 array with [\d,]+ \+ [\d,]+ bytes of buffers: needs \d+ multipliers and \d+ block RAMs, {FIT}"),
    ("--board ulx3s-12f --rows 64 --cols 64", "64x64 array with .*: needs at least 4,096 multipliers and "
     rf"\d+ block RAMs, {FIT}"),
    ("--board ulx3s-12f --rows 2 --act-buffer-bytes 131072",
     rf"2x\d array with 131,072 .*: needs at least \d multipliers and \d+ block RAMs, {FIT}"),
    ("--board ulx3s-85f --rows 0", "--rows: expected 1..64, got 0"),
    ("--board ulx3s-85f --weight-buffer-bytes 1000",
     "--weight-buffer-bytes: expected a multiple of 16 from .*, got 1000"),
    ("--board ulx3s-85f --axi-width 128", "--axi-width: expected 32, that of the board's memory, got 128"),
    ("--board ulx3s-85f --frequency 150", "--frequency: clock_hz: expected .*, got 150000000"),
    ("--board ulx3s-85f --frequency -5", "Invalid value for '--frequency': -5.0 is not in the range x>0."),
    ("--board ulx3s-85f --layer conv1", "--layer: expected NETWORK/LAYER, got conv1"),
    ("--board ulx3s-85f --layer lenet4/conv9",
     f"--layer: expected a layer of lenet4 that runs on the array: {ARRAY_LAYERS}; got conv9"),
    ("--board ulx3s-85f --layer nonet/conv", "nonet: expected NETWORK.npz, NETWORK.json, or one of .*"),
    ("--board ulx3s-85f --seed -1", "Invalid value for '--seed': -1 is not in the range 0<=x<=2147483647."),
])
def test_bad_requests(arguments, message, idle, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(*shlex.split(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and re.fullmatch(f"winnow: error: {message}\n", captured.err), captured.err
    assert not list(tmp_path.iterdir())


def test_a_missing_tool_is_named(idle, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(flow, "PACKAGES", ("winnow-no-such-package",))
    assert run("--board", "ulx3s-12f") == 2
    assert capsys.readouterr().err == ("winnow: error: winnow-no-such-package is not installed: "
                                       "pip install 'winnow-accelerator[fpga]'\n")


# What is made


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """The design is not translated, and the tools are not run: a placement for each seed, and what they were asked."""
    calls = []

    def build(**arguments):
        calls.append(arguments)
        arguments["progress"]("synthesis", "pass 2.44 ABC9")
        arguments["progress"]("synthesis", "pass 2.45 CLEAN")
        arguments["progress"]("routing, seed 1", "routing, 12 arcs left")
        seeds = arguments["seeds"]
        return arguments["folder"] / "winnow.bit", [
            Placement(seed=seed, clocks={"clock": Clock(achieved=100.0 + seed, asked=calls[0]["asked"])},
                      used={"luts": 9, "flip_flops": 8, "multipliers": 16, "block_rams": 7},
                      available={"luts": 90, "flip_flops": 80, "multipliers": 28, "block_rams": 56},
                      critical_path=["engine.core.loader", "engine.core.reader"]) for seed in sorted(seeds)[::-1]]

    def translate(design, board):
        calls.append({"asked": float(design.dividers.output_hz) / 1e6, "design": design})
        return "rtlil", "constraints"

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(flow, "build", build)
    monkeypatch.setattr("hw.boards.ulx3s.Ulx3s", lambda **parameters: type("Design", (), parameters))
    monkeypatch.setattr("hw.boards.ulx3s.translate", translate)
    return calls


def expected_utilization(config: EngineConfig) -> float:
    """Of ResNet-20's convolution of 32 to 32 channels on 16x16, by the analytical model."""
    node = next(node for node in network_of("resnet20").layers if node.name == "stage2_2_conv1")
    predicted = predict(Workload(plan=make_plan(layer_shape(node, config), config), winners=[32]))
    moved = sum(predicted.bytes_read.values()) + sum(predicted.bytes_written.values())
    return 32 * 32 * 9 * 256 / (config.rows * config.columns) / max(predicted.cycles, moved / 2)


def filled(config: EngineConfig, board: Board = BOARD) -> EngineConfig:
    """With the multipliers that the board has to spare, of which there are some."""
    spare = board.multipliers - count_resources(Engine(config=config), Technology.ECP5).multipliers
    assert spare > 0
    return replace(config, spare_multipliers=spare)


def test_a_bitstream(asked, capsys, tmp_path):
    assert run("--board", "ulx3s-12f", "--seed", 1, "--seed", 3, "--seed", 1, "--frequency", 101,
               "--placer", "heap", "--router", "router2", "--json", "report.json") == 0
    captured = capsys.readouterr()
    translated, arguments = asked
    clock = pll_dividers(input_hz=25_000_000, output_hz=101e6)
    assert translated["design"].dividers == clock and translated["design"].config == filled(BOARD.config)
    folder = tmp_path / "build" / "ulx3s-12f"
    assert {name: arguments[name] for name in ("rtlil", "constraints", "name", "options", "seeds")} == {
        "rtlil": "rtlil", "constraints": "constraints", "name": "winnow-ulx3s-12f", "seeds": (1, 3),
        "options": ("--12k", "--package", "CABGA381", "--speed", "6", "--placer", "heap", "--router", "router2")}
    assert arguments["places"] == {} and arguments["frequency_mhz"] == pytest.approx(float(clock.output_hz) / 1e6)
    assert folder.is_dir() and folder.samefile(arguments["folder"])
    found = json.loads((tmp_path / "report.json").read_text())
    assert (found["board"], found["seed"], found["met"]) == ("ulx3s-12f", 3, True)
    assert found["seeds"] == {"3": {"clock": 103.0}, "1": {"clock": 101.0}}
    assert found["frequency_mhz"] == pytest.approx(float(clock.output_hz) / 1e6)
    assert found["macs"] == BOARD.config.rows * BOARD.config.columns
    assert found["peak_gops"] == pytest.approx(2 * found["macs"] * found["frequency_mhz"] / 1000)
    assert found["layer"] == "resnet20/stage2_2_conv1"
    assert found["utilization"] == pytest.approx(expected_utilization(BOARD.config))
    assert found["effective_gops"] == pytest.approx(found["peak_gops"] * found["utilization"])
    assert found["command"].startswith("winnow synth --board ulx3s-12f --seed 1")
    assert set(found["tools"]) == set(flow.PACKAGES)
    assert found["bitstream"] == "build/ulx3s-12f/winnow.bit"
    for words in ("engine.core.loader -> engine.core.reader", "seed 3         clock 103.0 MHz, kept"):
        assert words in captured.out
    # A log gets a line for each step, not for all that happens in it.
    assert re.fullmatch(r"0:\d\d elaboration: .*\n0:\d\d synthesis: pass 2.44 ABC9\n0:\d\d routing, seed 1: "
                        r"routing, 12 arcs left\n", captured.err)


def test_too_slow_is_exit_code_1(asked, capsys, tmp_path):
    assert run("--board", "ulx3s-12f", "--frequency", 125, "--out", tmp_path / "here", "--json", "report.json") == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "winnow: error: slower than 125 MHz; try other seeds, or a lower --frequency")
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["met"] is False and (tmp_path / "here").is_dir()
    assert found["peak_gops"] == pytest.approx(2 * found["macs"] * 101 / 1000)


def test_a_tool_that_fails_is_exit_code_1(asked, capsys, monkeypatch):
    def fail(**_):
        raise flow.FlowError("synthesis: ERROR: no")

    monkeypatch.setattr(flow, "build", fail)
    assert run("--board", "ulx3s-12f") == 1
    assert capsys.readouterr().err.splitlines()[-1] == "winnow: error: synthesis: ERROR: no"


@pytest.mark.parametrize("board, placer", [("ulx3s-12f", "static"), ("ulx3s-45f", "heap"), ("ulx3s-85f", "static")])
def test_placer_and_floorplan_of_the_board(asked, board, placer):
    run("--board", board)
    _, arguments = asked
    assert arguments["options"][-4:] == ("--placer", placer, "--router", "router1")
    places = floorplan(BOARDS[board].device, filled(BOARDS[board].config, BOARDS[board]), core="system.engine.core")
    assert arguments["places"] == places and bool(places) == (board == "ulx3s-85f")


def test_sizes_replace_those_of_the_board(asked):
    run("--board", "ulx3s-12f", "--rows", 1, "--cols", 2, "--act-buffer-bytes", 8192)
    expected = asdict(BOARD.config) | {"rows": 1, "columns": 2, "act_buffer_bytes": 8192}
    assert asked[0]["design"].config == filled(EngineConfig(**expected))


# The engine as SystemVerilog


@pytest.fixture
def emitted(monkeypatch):
    """Verilog is not made; what it would be made of."""
    configs = []
    monkeypatch.setattr("hw.verilog.emit", lambda config: configs.append(config) or "module winnow();\nendmodule\n")
    return configs


def test_only_verilog(capsys, tmp_path, emitted):
    folder = tmp_path / "new" / "rtl"
    sizes = ("--rows", 2, "--cols", 3, "--axi-width", 64, "--act-buffer-bytes", 4096, "--weight-buffer-bytes", 2048)
    assert run("--only-verilog", folder, *sizes) == 0
    assert capsys.readouterr().out.startswith(f"{folder / 'winnow.sv'}: 2x3 array, 64-bit AXI, ")
    assert emitted == [EngineConfig(rows=2, columns=3, axi_data_bits=64, act_buffer_bytes=4096,
                                    weight_buffer_bytes=2048)]
    header, _, source = (folder / "winnow.sv").read_text().partition("\n\n")
    assert source == "module winnow();\nendmodule\n"
    assert all(line.startswith("//") and len(line) <= 120 for line in header.splitlines())
    for name, value in asdict(emitted[0]).items():
        assert re.search(rf"^//     {name} +{value}$", header, re.M)
    # The registers' offsets, and everything that a port begins with.
    offsets = dict(re.findall(r"^//     0x(\w{4}) (\w+) ", header, re.M))
    assert offsets == {f"{register.value:04X}": register.name for register in Register}
    assert all(counter in header for counter in COUNTERS)
    with warnings.catch_warnings(action="ignore"):
        ports = {"clk", "rst", *Engine(config=emitted[0]).signature.members}
        gc.collect()
    documented = re.findall(r"^//     (clk|rst|irq|\w+_\*) ", header, re.M)
    assert all(any(re.fullmatch(name.replace("*", ".*"), port) for name in documented) for port in ports)
    assert all(any(re.fullmatch(name.replace("*", ".*"), port) for port in ports) for name in documented)


def test_only_verilog_of_a_board(tmp_path, emitted):
    run("--only-verilog", tmp_path, "--board", "ulx3s-85f", "--rows", 4)
    assert emitted == [EngineConfig(**asdict(BOARDS["ulx3s-85f"].config) | {"rows": 4})]
