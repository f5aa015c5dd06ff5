"""``winnow synth``: a bitstream for a board, or the engine as SystemVerilog."""

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scripts.options import (
    Failure,
    Refusal,
    board_engine_options,
    command_line,
    engine_config,
    json_option,
    load_network,
)

if TYPE_CHECKING:
    from hw.boards.pll import PllDividers
    from hw.boards.presets import Board
    from hw.config import EngineConfig

DEFAULT_LAYER = "resnet20/stage2_2_conv1"
"""3x3, 32 to 32 channels, on 16x16."""
MEMORY_BYTES_A_CYCLE = 2
"""Of the boards' SDRAM, 16 bits wide."""
LOG_SECONDS = 30
"""Between two lines of progress in a log file."""


@click.command()
@click.option("--board", "board_name", metavar="NAME", help="ulx3s-85f, ulx3s-45f or ulx3s-12f.")
@click.option("--only-verilog", "verilog", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Write the engine alone, winnow.sv with plain AXI4 and AXI4-Lite ports, into this folder.")
@board_engine_options
@click.option("--frequency", type=click.FloatRange(min=0, min_open=True), metavar="MHZ",
              help="Of the engine's clock, the nearest that the PLL makes.  [default: the board's]")
@click.option("--seed", "seeds", type=click.IntRange(0, 2**31 - 1), multiple=True, default=(1,), show_default=True,
              help="Of place and route; may be given several times: the best bitstream is kept.")
@click.option("--placer", type=click.Choice(["heap", "static"]),
              help="Of nextpnr: static gives shorter wires, which may meet in too small a place.  "
                   "[default: the board's]")
@click.option("--router", type=click.Choice(["router1", "router2"]), default="router1", show_default=True,
              help="Of nextpnr: router2 takes minutes where router1 may take an hour, and gives a slower clock.")
@click.option("--layer", metavar="NETWORK/LAYER", default=DEFAULT_LAYER, show_default=True,
              help="The layer whose utilization makes effective of peak GOP/s.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Folder of the bitstream and of what the tools write.  [default: build/BOARD]")
@json_option
def synth(board_name: str | None, verilog: Path | None, frequency: float | None, seeds: tuple[int, ...],
          placer: str | None, router: str, layer: str, out: Path | None, json_path: Path | None, **sizes) -> None:
    """Make a bitstream for a board with Yosys and nextpnr from PyPI, or write the engine as SystemVerilog.

    The bitstream has engine, memory controller and host link (docs/fpga.md). Whether the engine fits is said before the
    tools run. Exit code 1 if the clock is slower than was asked for; the bitstream is kept.

    \b
    Examples:
      winnow synth --board ulx3s-45f
      winnow synth --board ulx3s-85f --seed 1 --seed 2 --seed 3 --json ulx3s-85f.json
      winnow synth --board ulx3s-85f --rows 8 --cols 8 --frequency 75
      winnow synth --only-verilog rtl --rows 16 --cols 16 --axi-width 128
    """
    if board_name is None and verilog is None:
        raise click.UsageError("--board, --only-verilog: expected one of them")
    board = _board(board_name) if board_name else None
    config = engine_config(board and board.config, **sizes)
    if verilog:
        _write_verilog(verilog, config)
    else:
        tools = ("--placer", placer or board.placer, "--router", router)
        _synthesize(board, config, tools, frequency or board.frequency_mhz, tuple(dict.fromkeys(seeds)), layer,
                    out or Path("build") / board.name, json_path)


def _board(name: str) -> "Board":
    from hw.boards.presets import BOARDS, REFUSED

    if name in REFUSED:
        raise Refusal(f"--board: {name}: {REFUSED[name]}")
    if name not in BOARDS:
        raise Refusal(f"--board: expected one of {', '.join(BOARDS)}, got {name}")
    return BOARDS[name]


def _write_verilog(folder: Path, config: "EngineConfig") -> None:
    from hw.verilog import emit
    from scripts.verilog_header import verilog_header
    from sim.report import write_whole

    folder.mkdir(parents=True, exist_ok=True)
    text = verilog_header(config) + "\n" + emit(config)
    write_whole(folder / "winnow.sv", lambda partial: partial.write_text(text))
    click.echo(f"{folder / 'winnow.sv'}: {config.rows}x{config.columns} array, {config.axi_data_bits}-bit AXI, "
               f"{len(text.splitlines()):,} lines")


def _synthesize(board: "Board", config: "EngineConfig", tools: tuple[str, ...], frequency: float,
                seeds: tuple[int, ...], layer: str, folder: Path, json_path: Path | None) -> None:
    """What can be refused is refused before the tools run."""
    from hw.boards.flow import FlowError, ToolMissing, build, tool_versions
    from hw.boards.report import summary, summary_text
    from sim.report import write_json

    try:
        versions = tool_versions()
    except ToolMissing as error:
        raise Refusal(str(error)) from None
    if config.axi_data_bits != board.config.axi_data_bits:
        raise Refusal(f"--axi-width: expected {board.config.axi_data_bits}, that of the board's memory, "
                      f"got {config.axi_data_bits}")
    dividers = _clock(board, frequency)
    utilization = _utilization(layer, config)
    config = _fit(board, config)
    folder.mkdir(parents=True, exist_ok=True)
    with _Progress() as progress:
        from hw.boards.floorplan import floorplan
        from hw.boards.ulx3s import CORE, Ulx3s, translate

        progress("elaboration", f"{config.rows}x{config.columns} array")
        rtlil, constraints = translate(Ulx3s(board=board, config=config, dividers=dividers), board)
        try:
            bitstream, placements = build(rtlil=rtlil, constraints=constraints, name=f"winnow-{board.name}",
                                          options=(*board.nextpnr_options, *tools),
                                          frequency_mhz=float(dividers.output_hz / 10**6),
                                          places=floorplan(board.device, config, core=CORE), seeds=seeds,
                                          folder=folder, progress=progress)
        except FlowError as error:
            raise Failure(str(error)) from None

    found = summary(board=board, config=config, frequency_mhz=float(dividers.output_hz / 10**6),
                    placements=placements, layer=layer, utilization=utilization)
    found |= {"tools": versions, "command": command_line(), "bitstream": str(bitstream)}
    if json_path:
        write_json(json_path, found)
    click.echo(summary_text(found))
    if not found["met"]:
        raise Failure(f"slower than {found['frequency_mhz']:g} MHz; try other seeds, or a lower --frequency")


def _fit(board: "Board", config: "EngineConfig") -> "EngineConfig":
    """The engine with the multiplier blocks that the device has to spare.

    Raises Refusal if it does not fit, as fast as may be: large arrays take long to elaborate.
    """
    from hw.boards.resources import FitError, count_resources, least_resources, require_fit
    from hw.engine import Engine
    from hw.technology import Technology

    try:
        require_fit(board, config, least_resources(config), at_least=True)
        needed = count_resources(Engine(config=config), Technology.ECP5)
        require_fit(board, config, needed)
    except FitError as error:
        raise Refusal(str(error)) from None
    return replace(config, spare_multipliers=config.spare_multipliers + board.multipliers - needed.multipliers)


def _clock(board: "Board", frequency: float) -> "PllDividers":
    from hw.boards.ulx3s import board_clock

    try:
        return board_clock(board, frequency)
    except ValueError as error:
        raise Refusal(f"--frequency: {error}") from None


def _utilization(name: str, config: "EngineConfig") -> float:
    """The array's predicted utilization in a layer, all channels taking part. Raises Refusal.

    The model's memory gives a beat a cycle; with the board's the layer takes at least as long as its bytes.
    """
    from sim.estimate import estimate_layers
    from sim.network import network_questions

    network_name, _, layer_name = name.rpartition("/")
    if not network_name:
        raise Refusal(f"--layer: expected NETWORK/LAYER, got {name}")
    network = load_network(network_name)
    questions = {question.name: question for question in network_questions(network, config, dense=True)
                 if question is not None and question.shape.weighted and not question.shape.vector}
    if layer_name not in questions:
        raise Refusal(f"--layer: expected a layer of {network_name} that runs on the array: {', '.join(questions)}; "
                      f"got {layer_name}")
    one, = estimate_layers([questions[layer_name]], config)
    moved = sum(one.predicted.bytes_read.values()) + sum(one.predicted.bytes_written.values())
    return one.ideal_cycles / max(one.predicted.cycles, moved / MEMORY_BYTES_A_CYCLE)


class _Progress:
    """Shows the step, the time since the start, and what is going on: one line that changes, or lines of a log."""

    def __init__(self):
        self._start, self._shown, self._step = time.monotonic(), 0.0, ""
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_) -> None:
        if self._terminal:
            click.echo("\r\x1b[K", nl=False, err=True)

    def __call__(self, step: str, detail: str) -> None:
        now = time.monotonic()
        if step == self._step and now - self._shown < (0.2 if self._terminal else LOG_SECONDS):
            return
        self._step, self._shown = step, now
        minutes, seconds = divmod(int(now - self._start), 60)
        line = f"{minutes}:{seconds:02} {step}: {detail}"
        click.echo(f"\r\x1b[K{line[:100]}" if self._terminal else line, nl=not self._terminal, err=True)
