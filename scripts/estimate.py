"""``winnow estimate``: the analytical model alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scripts.options import (
    Refusal,
    command_line,
    engine_config,
    engine_options,
    json_option,
    load_network,
    winner_options,
    with_winners,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hw.config import EngineConfig
    from sim.estimate import Estimate


@click.command()
@click.argument("subject", metavar="NETWORK|JOB.npz|TOPOLOGY.csv")
@engine_options
@winner_options
@click.option("--dense", "dense_only", is_flag=True, help="Nothing is ranked or skipped.")
@json_option
def estimate(subject: str, winner_rate: float | None, rates_path: Path | None, dense_only: bool,
             json_path: Path | None, **sizes) -> None:
    """Predict cycles and bytes of a network, of a layer job, or of a topology file in SCALE-Sim's format.

    NETWORK is a name (lenet4, resnet18, mobilenet_v1_0.25_128, ...), NETWORK.json or NETWORK.npz (docs/network.md); its
    dense run is predicted too. A layer job has the winners of its masks, a topology all of its channels, unless
    --winner-rate says otherwise: those of every input, but of a topology's first layer.

    Nothing is simulated. "compulsory" is how many times the bytes are moved that a layer alone must move once: its
    winners' planes and weights, its results, its masks. It is below 1 where results stay on chip for the next layer.
    Beside Winnow's cycles stand those that SCALE-Sim counts for a plain output-stationary (OS) and a plain
    weight-stationary (WS) array of the same size, which skip nothing and never wait for memory; in brackets, how many
    times Winnow's they are.

    \b
    Examples:
      winnow estimate lenet4
      winnow estimate resnet50 --rows 7 --cols 32 --winner-rate 0.25
      winnow estimate resnet18.csv --rows 32 --cols 32 --winner-rate 0.5
      winnow estimate conv.npz --json estimate.json
    """
    config = engine_config(**sizes)
    if dense_only and (winner_rate is not None or rates_path is not None):
        raise click.UsageError("--dense: expected no winner rates")
    if Path(subject).suffix == ".csv" or _is_job(subject):
        if rates_path is not None:
            raise click.UsageError("--winner-rates: expected a network, whose layers it names")
        report, text = _layers(subject, config, winner_rate, dense_only)
    else:
        report, text = _network(subject, config, winner_rate, rates_path, dense_only)

    if json_path:
        from sim.report import write_json

        write_json(json_path, {"subject": subject, "rows": config.rows, "cols": config.columns} | report
                   | {"command": command_line()})
    click.echo(f"{config.rows}x{config.columns} array, predicted\n\n{text}")


def _is_job(subject: str) -> bool:
    """Whether a file is a layer job, not a network, which has names of layers."""
    if Path(subject).suffix != ".npz" or not Path(subject).is_file():
        return False
    from golden.npz import NpzReader

    with NpzReader(subject) as npz:
        return "layers" not in npz


def _layers(subject: str, config: "EngineConfig", rate: float | None, dense: bool) -> tuple[dict[str, Any], str]:
    """The report and the text of a topology or a layer job."""
    from sim.estimate import estimate_layers, estimate_table, job_question, topology_questions

    path = Path(subject)
    if not path.is_file():
        raise Refusal(f"{subject}: expected an existing file, got no such file")
    if path.suffix == ".csv":
        from sim.topology import read_topology

        questions = topology_questions(read_topology(path), rate)
    else:
        from golden.job import load_job

        questions = [job_question(path.stem, load_job(path), config, rate, dense=dense)]
    estimates = estimate_layers(questions, config)
    return _report(estimates), estimate_table(estimates)


def _network(subject: str, config: "EngineConfig", rate: float | None, rates_path: Path | None,
             dense_only: bool) -> tuple[dict[str, Any], str]:
    """The report and the text of a network."""
    from sim.estimate import estimate_table
    from sim.network import estimate_network

    network = load_network(subject)
    if not dense_only:
        network = with_winners(network, rate, rates_path)
    runs = {"dense": estimate_network(network, config, dense=True)}
    if not dense_only:
        runs["winners"] = estimate_network(network, config)
    last = list(runs)[-1]
    report = _report(runs[last])
    if not dense_only:
        report["dense"] = _report(runs["dense"])
    text = "\n".join([f"{estimate_table(runs[last])}\n", *_summary(runs)])
    return {"network": network.name, "weights_are_random": network.weights_are_random} | report, text


def _summary(runs: "dict[str, Sequence[Estimate]]") -> list[str]:
    """A line for each run, and what the second one saves."""
    from sim.estimate import total_fields
    from sim.report import percent

    totals = {name: total_fields(estimates) for name, estimates in runs.items()}
    lines = []
    for name, one in totals.items():
        array = f" ({percent(one['array']['utilization'])} of the layers on the array)" if one["array"] else ""
        lines.append(f"{name + ':':9}{one['cycles']:,} cycles, utilization {percent(one['utilization'])}{array}, "
                     f"{one['bytes']:,} bytes, {one['compulsory_ratio']:.2f} times the compulsory")
    if len(totals) > 1:
        dense, sparse = totals.values()
        lines.append(f"speed-up {dense['cycles'] / sparse['cycles']:.2f}, "
                     f"{percent(sparse['bytes'] / dense['bytes'])} of the bytes")
    return lines


def _report(estimates: "Sequence[Estimate]") -> dict[str, Any]:
    from sim.estimate import total_fields

    return {"layers": [one.fields() for one in estimates], "total": total_fields(estimates)}
