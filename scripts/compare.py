"""``winnow compare``: what dynamic sparsity brings on the engine, beside the same in software."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scripts.options import (
    DEFAULT_RATE,
    INPUT_FILE,
    Failure,
    OutputPath,
    Refusal,
    command_line,
    engine_config,
    engine_options,
    open_simulator,
    progress_bar,
    seed_option,
    winner_options,
    with_winners,
)

if TYPE_CHECKING:
    import numpy as np

    from golden.job import Job
    from golden.network import QuantizedNetwork
    from hw.config import EngineConfig
    from sim.compare import Clock
    from sim.compare_subject import Subject
    from sim.execute import Outcome
    from sim.host_cpu import HostCpu

SOFTWARE_CYCLES = 600_000_000
RTL_CYCLES = 3_000_000
STANDARD_OUTPUT = Path("-")


class JsonFile(OutputPath):
    """A file for the report, or ``-``, which is also what the option alone means: standard output."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return STANDARD_OUTPUT if str(value) == "-" else super().convert(value, param, ctx)


@click.command()
@click.argument("subject_name", metavar="NETWORK|JOB.npz")
@winner_options
@engine_options
@seed_option
@click.option("--software-cycles", type=click.IntRange(min=0), default=SOFTWARE_CYCLES, show_default=True,
              metavar="N", help="Cycles of the soft core to simulate, about; dearer layers are extrapolated. 0: none.")
@click.option("--rtl-cycles", type=click.IntRange(min=0), default=RTL_CYCLES, show_default=True, metavar="N",
              help="Simulate the engine in RTL up to so many predicted cycles; beyond, the analytical model has to do.")
@click.option("--host/--no-host", "with_host", default=True, show_default=True,
              help="Time the layers in PyTorch on this computer's CPU, too.")
@click.option("--repetitions", type=click.IntRange(min=1), default=7, show_default=True, help="Of these times.")
@click.option("--board-report", type=INPUT_FILE, metavar="FILE.json",
              help="Report of winnow synth --json, for milliseconds and frames a second at its frequency.")
@click.option("--core-mhz", type=click.FloatRange(min=0, min_open=True), metavar="MHZ",
              help="The core's frequency.  [default: the engine's]")
@click.option("--statistics", type=INPUT_FILE, metavar="FILE.json",
              help="Of winnow winners --json: which channels win how often, for the page.")
@click.option("--json", "json_path", type=JsonFile(), is_flag=False, flag_value="-", metavar="[FILE]",
              help="Write the report as JSON, to standard output if no file is named.")
@click.option("--html", type=OutputPath(".html"), metavar="FILE", help="Write the report as one page for a browser.")
@click.option("--trace", type=OutputPath(".json"), metavar="FILE",
              help="Write the runs as a trace for Perfetto or Chrome.")
def compare(subject_name: str, winner_rate: float | None, rates_path: Path | None, seed: int, software_cycles: int,
            rtl_cycles: int, with_host: bool, repetitions: int, board_report: Path | None, core_mhz: float | None,
            statistics: Path | None, json_path: Path | None, html: Path | None, trace: Path | None, **sizes) -> None:
    """Compare the engine, dense and with winners, with good software at the same sparsity.

    NETWORK is a name (lenet4, resnet18, ...), a file of a network or a published model; JOB.npz is a layer job, whose
    mask is drawn at --winner-rate if that is given or it has none. Software is C, int8, bit-exact with the golden
    model, on a simulated VexRiscv soft core: naive, blocked over four output channels, winners by index list, winners
    packed; and the ranking. What has been measured is kept, so a second time is quick. Plain output- and
    weight-stationary arrays are counted as SCALE-Sim does.

    \b
    Examples:
      winnow compare lenet4
      winnow compare lenet4 --winner-rate 0.5 --html lenet4.html --trace lenet4.trace.json
      winnow compare resnet18 --winner-rate 0.5 --rows 7 --cols 32 --json resnet18.json
      winnow compare JOB.npz --winner-rate 0.25 --no-host
      winnow compare lenet4 --rows 2 --cols 4 --board-report ulx3s-45f.json --core-mhz 60
    """
    config = engine_config(**sizes)
    engine_clock, core_clock = _clocks(board_report, core_mhz, config)
    kept = _statistics(statistics)
    subject, config = _subject(subject_name, winner_rate, rates_path, config, seed)

    from sim.compare import compare_report, comparison_tables

    outcomes = _simulate(subject, config, seed) if subject.predicted_cycles <= rtl_cycles else None
    software = _software(subject, software_cycles) if software_cycles else None
    host = _host(subject, repetitions) if with_host else None
    report = _preamble(subject, config, seed, engine_clock, core_clock, software is not None, kept, host is not None)
    report |= compare_report(subject=subject, config=config, outcomes=outcomes, software=software, host=host,
                             engine_clock=engine_clock, core_clock=core_clock)
    differences = [f"{run}: {line}" for run, one in (outcomes or {}).items() for line in one.differences]
    report |= {"bit_exact": not differences if outcomes else None, "differences": differences}

    if json_path == STANDARD_OUTPUT:
        click.echo(json.dumps(report, indent=2))
    else:
        _say(report, comparison_tables(report))
    _write(report, None if json_path == STANDARD_OUTPUT else json_path, html, trace)
    if differences:
        raise Failure(f"not bit-exact: {differences[0]}")


def _clocks(board_report: Path | None, core_mhz: float | None, config: "EngineConfig") -> "tuple[Clock, Clock]":
    """Of the engine and of the core. Raises Refusal for a report of another engine."""
    from sim.compare import Clock

    if board_report is None:
        return Clock(), Clock(mhz=core_mhz, source="--core-mhz" if core_mhz else None)
    try:
        found = json.loads(board_report.read_text())
        size, mhz, board = (found["rows"], found["cols"]), float(found["fmax_mhz"]["clock"]), found["board"]
    except (ValueError, KeyError, TypeError):
        raise Refusal(f"--board-report: {board_report}: expected a report of winnow synth --json") from None
    if size != (config.rows, config.columns):
        raise Refusal(f"--board-report: {board_report} is of an engine of {size[0]}x{size[1]}, expected "
                      f"{config.rows}x{config.columns}: give --rows {size[0]} --cols {size[1]}")
    source = f"{board}, placed and routed"
    return (Clock(mhz=mhz, source=source),
            Clock(mhz=core_mhz or mhz, source="--core-mhz" if core_mhz else f"the engine's clock on {board}"))


def _statistics(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        found = json.loads(path.read_text())
        if not isinstance(found["layers"], dict):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise Refusal(f"--statistics: {path}: expected a report of winnow winners NETWORK.npz --json") from None
    return found


def _subject(name: str, rate: float | None, rates: Path | None, config: "EngineConfig",
             seed: int) -> "tuple[Subject, EngineConfig]":
    """What is compared, run by the golden model, and the engine with what the network needs of it."""
    from scripts.models import read_network
    from sim.compare_subject import JobSubject, NetworkSubject
    from sim.network import engine_for, recording

    job = _job(name)
    if job is not None:
        if rates is not None:
            raise Refusal("--winner-rates: expected a network, got a job; --winner-rate is for both")
        return JobSubject(Path(name).stem, _with_mask(job, rate, seed), config), config
    network = with_winners(read_network(name), rate, rates)
    config = recording(engine_for(network, config), len(network.layers))
    with progress_bar("golden model", 2 * sum(node.macs for node in network.layers), "products") as move:
        return NetworkSubject(network, _image(network, seed), config, move), config


def _job(name: str) -> "Job | None":
    """The job in a file, None where it is none: a network, or no file."""
    from golden.job import load_job
    from golden.npz import NpzReader

    if Path(name).suffix != ".npz" or not Path(name).is_file():
        return None
    with NpzReader(name) as npz:
        if "input" not in npz and "input_1" not in npz:
            return None
    return load_job(name)


def _with_mask(job: "Job", rate: float | None, seed: int) -> "Job":
    """The job with a mask of a rate on every input, drawn, if one is given, or there is none."""
    import numpy as np

    from golden.job import AddJob
    from sim.estimate import winner_count

    rng = np.random.default_rng(seed)
    masks = {}
    inputs = {"channel_mask_1": "input_1", "channel_mask_2": "input_2"} if isinstance(job, AddJob) else {
        "channel_mask": "input"}
    if rate is None and any(getattr(job, name) is not None for name in inputs):
        return job
    for name, map in inputs.items():
        channels = len(getattr(job, map))
        masks[name] = np.zeros(channels, np.uint8)
        masks[name][rng.permutation(channels)[: winner_count(rate or DEFAULT_RATE, channels)]] = 1
    return replace(job, **masks)


def _image(network: "QuantizedNetwork", seed: int) -> "np.ndarray":
    """The first of the digits for networks that take one, if they are installed; otherwise random pixels."""
    import numpy as np

    from golden import digits
    from golden.preprocess import quantize_pixels

    if network.input.shape == (1, digits.SIZE, digits.SIZE):
        try:
            return quantize_pixels(network, digits.bundled().images[:1])[0]
        except digits.DigitsError as error:
            click.echo(f"Random pixels in place of a digit ({error})", err=True)
    return np.random.default_rng(seed).integers(-128, 128, network.input.shape, np.int8)


def _simulate(subject: "Subject", config: "EngineConfig", seed: int) -> "dict[str, Outcome]":
    """Both runs in RTL."""
    from sim.compare_subject import RUNS
    from sim.execute import execute

    chains = [subject.chain(run) for run in RUNS]
    simulator = open_simulator(config, "fast")
    with progress_bar("engine in RTL", sum(chain.predicted_cycles for chain in chains), "cycles") as move:
        outcomes = list(execute(simulator, chains, seed=seed, progress=lambda _, cycles: move(cycles)))
    return dict(zip(RUNS, outcomes, strict=True))


def _software(subject: "Subject", budget: int) -> list[dict[str, Any]]:
    """Each layer's kernels. Raises Refusal: what fails here is the environment, not the engine."""
    from sim.compare_software import ask, measure
    from sim.software.baseline import Baseline
    from sim.verilator import SimulationError

    try:
        baseline = Baseline(announce=lambda line: click.echo(line, err=True))
        asked = ask(subject)
        with progress_bar("software on the core", asked.planned_cycles(budget), "cycles") as move:
            return measure(asked, baseline, budget, move)
    except SimulationError as error:
        raise Refusal(str(error)) from None


def _host(subject: "Subject", repetitions: int) -> "list[HostCpu | None]":
    from sim.host_cpu import host_ratios

    jobs = [layer.job for layer in subject.layers["sparse"]]
    with progress_bar("this computer's CPU", len(jobs), "layers") as move:
        return host_ratios(jobs, repetitions=repetitions, progress=move)


def _preamble(subject: "Subject", config: "EngineConfig", seed: int, engine_clock: "Clock", core_clock: "Clock",
              software: bool, statistics: dict[str, Any] | None, host: bool) -> dict[str, Any]:
    """What the figures were measured with."""
    from importlib.metadata import PackageNotFoundError, version

    from sim.host_cpu import this_computer
    from sim.software.compiler import compiler
    from sim.software.core import CORE, LATENCY

    try:
        release = version("winnow-accelerator")
    except PackageNotFoundError:  # run from its folder, not installed
        release = None
    return {
        "winnow": release, "command": command_line(), "seed": seed, "network": subject.name,
        "weights_are_random": subject.weights_are_random,
        "engine": {"rows": config.rows, "cols": config.columns, "macs": config.rows * config.columns,
                   "axi_width": config.axi_data_bits, "act_buffer_bytes": config.act_buffer_bytes,
                   "weight_buffer_bytes": config.weight_buffer_bytes, "memory": "fast"} | engine_clock.fields(),
        "core": {"name": CORE, "compiler": compiler() if software else None,
                 "memory": f"first word of a burst after {LATENCY} cycles, then one a cycle; posted writes"}
                | core_clock.fields(),
        "winner_statistics": statistics, "host": this_computer() if host else None}


def _say(report: dict[str, Any], tables: str) -> None:
    from sim.page.summary import sentence

    engine = report["engine"]
    simulated = "in RTL" if report["bit_exact"] is not None else "by the analytical model"
    click.echo(f"{report['network']}; {engine['rows']}x{engine['cols']} array, {engine['axi_width']}-bit AXI, "
               f"{engine['memory']} memory, the engine's cycles {simulated}")
    if report["weights_are_random"]:
        click.echo(f"Random weights (seed {report['seed']}): cycles and bytes are real, classes are not")
    click.echo(f"\n{tables}\n\n{sentence(report)}")
    if report["bit_exact"] is not None:
        click.echo(f"Bit-exact, engine and software: {'yes' if report['bit_exact'] else 'NO'}")


def _write(report: dict[str, Any], json_path: Path | None, html: Path | None, trace: Path | None) -> None:
    from sim.compare_page import write_page
    from sim.report import write_json
    from sim.trace import write_trace

    if json_path:
        write_json(json_path, report)
    if html:
        write_page(html, report)
    if trace:
        write_trace(trace, report)
