"""``winnow host``: networks on a board behind a serial port, or on a simulated one."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scripts.inputs import data_set_options
from scripts.options import INPUT_FILE, Failure, Refusal, command_line, json_option, seed_option
from scripts.wta import wta_option

if TYPE_CHECKING:
    from scripts.board import Board

SIMULATED = "sim:"
"""A port that begins so is a simulated board."""
SLOWDOWN = 1000
"""Of a simulated board: some 100 MHz against at least as many kHz."""
BAUD = 3_000_000


@click.group(short_help="Networks on a board behind a serial port: load, run, selftest, counters.")
@click.option("--port", envvar="WINNOW_PORT", show_envvar=True, metavar="PORT",
              help="A serial port (/dev/ttyUSB0, COM3), a URL of pyserial, or sim:BOARD for a simulated board.")
@click.option("--baud", type=click.IntRange(min=1), default=BAUD, show_default=True, help="Of the bitstream's UART.")
def host(port: str | None, baud: int) -> None:
    """Use a board that has a bitstream of winnow synth: load a network, run images, test it, read its counters.

    The board says which engine it has, and programs are made for that. What runs is compared with the golden model,
    byte for byte. A connection that is lost is waited for, and work goes on where it was. sim:ulx3s-45f is a simulation
    of that board from its UART's pins to its memory chip, some thousand times slower; its memory is kept from command
    to command. Exit codes: 0 all is well, 1 a result is wrong, 2 the board or the input is.

    \b
    Examples:
      winnow host --port /dev/ttyUSB0 load lenet4
      winnow host --port /dev/ttyUSB0 run digit.png
      winnow host --port /dev/ttyUSB0 run --data DATA --images 100 --json report.json
      winnow host --port /dev/ttyUSB0 selftest --jobs 100
      winnow host --port sim:ulx3s-45f selftest
    """


def _simulated() -> bool:
    port = click.get_current_context().parent.params["port"]
    return port is not None and port.startswith(SIMULATED)


@contextmanager
def open_board() -> "Iterator[Board]":
    """The board of ``--port``; idle at the end, also where the command is interrupted.

    Raises Refusal, one line, where there is none, or where it refuses or is lost.
    """
    options = click.get_current_context().parent.params
    if options["port"] is None:
        raise click.UsageError("--port: expected a serial port, or sim:BOARD, got none")

    from hw.link.client import Link, LinkError, open_port
    from scripts.board import Board, EngineError

    def announce(line: str) -> None:
        click.echo(line, err=True)

    try:
        if _simulated():
            with _simulation(options["port"].removeprefix(SIMULATED), announce) as simulation:
                try:
                    link = Link(open_port(simulation.port, BAUD), slowdown=SLOWDOWN)
                    link.name = options["port"]
                    yield Board(link, announce=announce, reconnects=False)
                    link.close()
                except LinkError:
                    if reason := simulation.failure:
                        raise Failure(reason) from None
                    raise
            return
        link = Link(open_port(options["port"], options["baud"]))
        board = Board(link, announce=announce)
        try:
            yield board
        except KeyboardInterrupt:
            link.identify()
            board.settle()
            raise
        finally:
            link.close()
    except LinkError as error:
        raise Refusal(str(error)) from None
    except EngineError as error:
        raise Failure(str(error)) from None


@contextmanager
def _simulation(name: str, announce) -> Iterator[Any]:
    """A simulated board; at the end a line that says what was simulated."""
    from hw.boards.presets import BOARDS, REFUSED
    from sim.board import SimulatedBoard
    from sim.verilator import SimulationError

    if name in REFUSED:
        raise Refusal(f"{SIMULATED}{name}: {REFUSED[name]}")
    if name not in BOARDS:
        raise Refusal(f"--port: expected {SIMULATED} and one of {', '.join(BOARDS)}, got {SIMULATED}{name}")
    try:
        simulation = SimulatedBoard(name, announce=announce)
    except SimulationError as error:
        raise Refusal(str(error)) from None
    announce(f"Simulating {name} at its pins: what takes a board a second takes minutes.")
    try:
        yield simulation
    finally:
        if done := simulation.stop():
            announce(f"Simulated {done[0]:,} cycles in {done[1]:.0f} s.")


@host.command(short_help="Write a network into the board's memory.")
@click.argument("network", metavar="NET")
@wta_option
@click.option("--dense", is_flag=True, help="Rank nothing and skip nothing.")
@click.option("--verify/--no-verify", default=None,
              help="Read back what was written.  [default: yes, of a simulated board no]")
def load(network: str, wta: str | None, dense: bool, verify: bool | None) -> None:
    """Write a network's program, weights and constants into the board's memory; they stay until it loses power.

    NET is as of winnow run. A network that the board's engine cannot run, or that does not fit its memory, is refused
    before anything is written.

    \b
    Examples:
      winnow host --port /dev/ttyUSB0 load lenet4
      winnow host --port /dev/ttyUSB0 load mobilenet.npz --wta all=0.5
    """
    from scripts.board_load import load_network

    verify = not _simulated() if verify is None else verify
    with open_board() as board:
        report = load_network(board, network, wta=wta, dense=dense, verify=verify)
    click.echo(report)


@host.command("run", short_help="Run images through the network that is loaded.")
@click.argument("files", type=INPUT_FILE, nargs=-1, metavar="IMAGE...")
@data_set_options
@click.option("--images", "count", type=click.IntRange(min=1), metavar="N",
              help="The first N inputs.  [default: all images; of --data 1]")
@click.option("--no-check", is_flag=True, help="Do not compare with the golden model.")
@click.option("--every-layer", is_flag=True,
              help="Compare the output, scores and winners of every layer, not the last one's output alone.")
@json_option
def run_images(files: tuple[Path, ...], data: Path | None, dataset: str | None, part: str, count: int | None,
               no_check: bool, every_layer: bool, json_path: Path | None) -> None:
    """Run images through the network that is loaded: the five largest classes, frames a second, cycles of each layer.

    Images are prepared as by winnow run. Exit code 1 when a byte differs from the golden model's.

    \b
    Examples:
      winnow host --port /dev/ttyUSB0 run digit.png
      winnow host --port /dev/ttyUSB0 run --data DATA --images 100
    """
    if no_check and every_layer:
        raise click.UsageError("--no-check, --every-layer: expected one of them, got both")
    if not files and data is None:
        raise click.UsageError("expected IMAGE or --data, got neither")

    from scripts.board_run import run_inputs, text

    with open_board() as board:
        report, inputs = run_inputs(
            board, files=files, data=data, dataset=dataset, part=part, count=count or (None if files else 1),
            check=not no_check, every_layer=every_layer, simulated=_simulated())
    click.echo(text(report, inputs))
    if json_path:
        from sim.report import write_json

        write_json(json_path, report | {"command": command_line()})
    if report.get("differences"):
        raise Failure(f"not bit-exact: {report['differences'][0]}")


@host.command(short_help="Test memory, and random layers on the engine, bit for bit.")
@click.option("--jobs", type=click.IntRange(min=0), default=None,
              help="How many random layers.  [default: 20, on a simulated board 3]")
@seed_option
@json_option
def selftest(jobs: int | None, seed: int, json_path: Path | None) -> None:
    """Test memory, then run random layers and compare each byte with the golden model; a network must be loaded anew.

    Exit code 1, and one line that says what is wrong, at the first byte that differs.

    \b
    Examples:
      winnow host --port /dev/ttyUSB0 selftest
      winnow host --port /dev/ttyUSB0 selftest --jobs 1000 --seed 1
    """
    from scripts.board_test import SIZES, test_board

    simulated = _simulated()
    sizes = SIZES[simulated]
    started = time.monotonic()
    with open_board() as board:
        report = test_board(board, jobs=sizes.jobs if jobs is None else jobs, seed=seed, sizes=sizes)
    click.echo(f"{report['board']}: {report['memory_bytes_tested']:,} bytes of memory and {report['jobs']} layers "
               f"tested in {time.monotonic() - started:.0f} s, {report['cycles']:,} cycles of the engine: all exact")
    if json_path:
        from sim.report import write_json

        write_json(json_path, report | {"command": command_line()})


@host.command(short_help="Show the engine's counters.")
def counters() -> None:
    """Show the engine's counters, of the program that ran last, and what the board says about itself.

    \b
    Examples:
      winnow host --port /dev/ttyUSB0 counters
    """
    with open_board() as board:
        status, found = board.persist(lambda: (board.status(), board.counters()))
        identity = board.identity

    from scripts.board_run import describe
    from sim.report import table

    click.echo(describe(identity))
    click.echo(f"status: {_status_words(status)}\n")
    click.echo(table(["name", "count"], [[name, f"{value:,}"] for name, value in found.items()]))


def _status_words(status: int) -> str:
    from scripts.board import ERROR, error_name

    words = [word for bit, word in enumerate(("busy", "done", "error")) if status >> bit & 1]
    if status & ERROR:
        words[-1] += f" {error_name(status)}"
    return ", ".join(words) or "idle"
