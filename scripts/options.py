"""Options, files and errors that the commands share; nothing heavy is imported here, so that help comes at once."""

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tqdm import tqdm

    from golden.network import QuantizedNetwork
    from hw.config import EngineConfig
    from sim.simulator import Simulator

DEFAULT_RATE = 0.5
"""Winners of each layer, where neither the network nor the command says how many."""


class Failure(click.ClickException):
    """Something was measured and found wrong: exit code 1."""

    exit_code = 1


class Refusal(click.ClickException):
    """Something that cannot be run, or an environment that cannot run it: exit code 2."""

    exit_code = 2


class OutputPath(click.Path):
    """A file that will be written: refused before any work is done if its folder is absent or not writable."""

    name = "file"

    def __init__(self, *suffixes: str):
        super().__init__(dir_okay=False, writable=True, path_type=Path)
        self.suffixes = suffixes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = super().convert(value, param, ctx)
        if not path.absolute().parent.is_dir():
            self.fail(f"expected an existing folder, got {path.absolute().parent}", param, ctx)
        if not os.access(path.absolute().parent, os.W_OK):
            self.fail(f"expected a writable folder, got {path.absolute().parent}", param, ctx)
        if self.suffixes and path.suffix not in self.suffixes:
            self.fail(f"expected a name that ends with {' or '.join(self.suffixes)}, got {path.name}", param, ctx)
        return path


INPUT_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)

_SIZES = (
    ("rows", 16, "Rows of the array: output pixels at a time."),
    ("cols", 16, "Columns of the array: output channels at a time."),
    ("act-buffer-bytes", 131072, "Activation buffer on chip."),
    ("weight-buffer-bytes", 131072, "Weight buffer on chip."),
)


def engine_options(command: Callable) -> Callable:
    """Add the engine's sizes; :func:`engine_config` takes them."""
    return _add_sizes(command, {name: default for name, default, _ in _SIZES} | {"axi-width": "128"}, True, (64, 128))


def board_engine_options(command: Callable) -> Callable:
    """Add the engine's sizes, None unless given, so that those of a board hold; of no board, the usual defaults."""
    return _add_sizes(command, {}, "the board's", (32, 64, 128))


def _add_sizes(command: Callable, defaults: Mapping[str, Any], shown: bool | str, widths: tuple[int, ...]) -> Callable:
    axi = click.option("--axi-width", type=click.Choice([str(width) for width in widths]),
                       default=defaults.get("axi-width"), show_default=shown, help="Data bits of the AXI4 master.")
    command = axi(command)
    for name, _, text in reversed(_SIZES):
        command = click.option(f"--{name}", type=int, default=defaults.get(name), show_default=shown,
                               help=text)(command)
    return command


def engine_config(base: "EngineConfig | None" = None, *, rows: int | None, cols: int | None,
                  act_buffer_bytes: int | None, weight_buffer_bytes: int | None,
                  axi_width: str | None) -> "EngineConfig":
    """The engine of these options; what is None is as in ``base``, or in an engine of default sizes.

    Raises Refusal, naming the option.
    """
    from hw.config import ConfigError, EngineConfig

    sizes = {"rows": rows, "columns": cols, "act_buffer_bytes": act_buffer_bytes,
             "weight_buffer_bytes": weight_buffer_bytes, "axi_data_bits": axi_width and int(axi_width)}
    try:
        return replace(base or EngineConfig(), **{name: size for name, size in sizes.items() if size is not None})
    except ConfigError as error:
        field, _, expected = str(error).partition(":")
        option = {"columns": "cols", "axi_data_bits": "axi-width"}.get(field, field).replace("_", "-")
        raise Refusal(f"--{option}:{expected}") from None


def memory_option(default: str) -> Callable:
    """Add ``--memory`` with this default."""
    return click.option("--memory", type=click.Choice(["fast", "stall"]), default=default, show_default=True,
                        help="Memory behind the AXI port: fixed latencies, or random stalls on every channel (slow).")


seed_option = click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True,
                           help="Of all randomness.")
json_option = click.option("--json", "json_path", type=OutputPath(), help="Write the report as JSON.")


def winner_options(command: Callable) -> Callable:
    """Add the winner rates; :func:`with_winners` takes them."""
    command = click.option("--winner-rates", "rates_path", type=INPUT_FILE, metavar="FILE.json",
                           help="Winners of each layer, {\"NAME\": rate}; layers not named rank nothing.")(command)
    return click.option("--winner-rate", type=click.FloatRange(0, 1, min_open=True),
                        help="Winners among the channels of every layer whose losers a convolution can skip.  "
                             f"[default: the network's own rules; {DEFAULT_RATE} where it has none]")(command)


def is_network_file(name: str) -> bool:
    """Whether a name is that of a file, not of a network known by name."""
    return Path(name).suffix in (".npz", ".json")


def load_network(name: str) -> "QuantizedNetwork":
    """The network of this name or file. Raises Refusal or JobError, before any weight is drawn."""
    from golden.checks import JobError
    from golden.network import QuantizedNetwork
    from golden.networks import PATTERNS, build, names

    if is_network_file(name):
        if not Path(name).is_file():
            raise Refusal(f"{name}: expected an existing file, got no such file")
        try:
            return QuantizedNetwork.load(name)
        except JobError as error:
            prefix = "" if str(error).startswith(name) else f"{name}: "
            raise Refusal(f"{prefix}{error}") from None
    known = name in names() or any(name.startswith(pattern.partition("WIDTH")[0]) for pattern in PATTERNS)
    if not known:
        raise Refusal(f"{name}: expected NETWORK.npz, NETWORK.json, or one of {', '.join((*names(), *PATTERNS))}")
    return build(name)


def with_winners(network: "QuantizedNetwork", rate: float | None, rates_path: Path | None) -> "QuantizedNetwork":
    """The network with the winners of :func:`winner_options`. Raises Refusal or JobError."""
    if rate is not None and rates_path is not None:
        raise click.UsageError("--winner-rate, --winner-rates: expected one of them, got both")
    if rates_path is not None:
        from golden.network import read_rates

        return network.with_winners(read_rates(rates_path))
    if rate is None and not any(node.ranking for node in network.layers):
        rate = DEFAULT_RATE
    return network if rate is None else network.with_winners(rate)


def command_line() -> str:
    """The command as it was typed."""
    return shlex.join(["winnow", *click.get_current_context().find_root().obj])


def open_simulator(config: "EngineConfig", memory: str, waves: Path | None = None) -> "Simulator":
    """The compiled simulator, built at the first use of a configuration with a line that says so.

    Raises Refusal: what fails here is the environment, not the engine.
    """
    from sim.simulator import Simulator
    from sim.verilator import SimulationError

    try:
        return Simulator(config, memory, waves, announce=lambda line: click.echo(line, err=True))
    except SimulationError as error:
        raise Refusal(str(error)) from None


@contextmanager
def progress_bar(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr; yields what sets its position. A log file gets a line every 10 seconds at most."""
    with _bar(total=total, desc=label, unit=unit, unit_scale=unit in ("cycles", "products")) as bar:
        def move(position: int) -> None:
            bar.total = max(bar.total, position)
            bar.update(position - bar.n)

        yield move


def progress_of(items: Iterable, label: str) -> Iterable:
    """A progress bar like :func:`progress_bar` over the batches of a training or an evaluation."""
    return _bar(items, desc=label, unit="batch")


def _bar(*items: Iterable, **settings: Any) -> "tqdm":
    from tqdm import tqdm

    terminal = sys.stderr.isatty()
    interval = 0.2 if terminal else 10
    return tqdm(*items, mininterval=interval, maxinterval=interval, dynamic_ncols=True, leave=False,
                delay=0 if terminal else 5, **settings)


# Where the errors are defined that mean: what the user gave cannot be run.
_REFUSALS = {"golden.checks": "JobError", "golden.digits": "DigitsError", "golden.dataset_files": "DatasetError",
             "hw.config": "ConfigError", "hw.plan": "PlanError", "sim.topology": "TopologyError"}


def run(group: click.Group, arguments: Sequence[str]) -> int:
    """Run a command; returns the exit code. Errors are one line on stderr, ``winnow: error: ...``."""
    try:
        return group.main(list(arguments), prog_name="winnow", standalone_mode=False, obj=list(arguments)) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.Abort:
        click.echo("winnow: interrupted", err=True)
        return 130
    except click.ClickException as error:
        return _complain(error.format_message(), error.exit_code)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # what reads our output has ended: so do we, without a complaint at exit
        return 1
    except OSError as error:
        return _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error), 2)
    except Exception as error:
        # An error of a module that was never imported cannot have been raised, and importing them takes seconds.
        if any(module in sys.modules and isinstance(error, getattr(sys.modules[module], name))
               for module, name in _REFUSALS.items()):
            return _complain(str(error), 2)
        if "sim.verilator" in sys.modules and isinstance(error, sys.modules["sim.verilator"].SimulationError):
            return _complain(str(error), 1)
        raise


def _complain(message: str, code: int) -> int:
    click.echo(f"winnow: error: {' '.join(message.split())}", err=True)
    return code
