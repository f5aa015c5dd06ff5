"""``winnow estimate``: the analytical model alone."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scripts.options import Refusal, command_line, engine_config, engine_options, json_option

if TYPE_CHECKING:
    from sim.estimate import LayerQuestion


@click.command()
@click.argument("subject", metavar="JOB.npz|lenet4|TOPOLOGY.csv")
@engine_options
@click.option("--winner-rate", type=click.FloatRange(0, 1, min_open=True),
              help="Winners among a layer's input channels; the first of several layers takes all. "
                   "[default: a job's mask, a network's measured rates, all of a topology's]")
@json_option
def estimate(subject: str, winner_rate: float | None, json_path: Path | None, **sizes) -> None:
    """Predict cycles and bytes of a layer job, of LeNet-4, or of a topology file in SCALE-Sim's format.

    Nothing is simulated. Beside Winnow's cycles stand those that SCALE-Sim counts for a plain output-stationary (OS)
    and a plain weight-stationary (WS) array of the same size, which skip nothing and never wait for memory; in
    brackets, how many times Winnow's they are.

    \b
    Examples:
      winnow estimate lenet4
      winnow estimate resnet18.csv --rows 32 --cols 32 --winner-rate 0.5
      winnow estimate conv.npz --json estimate.json
    """
    config = engine_config(**sizes)
    questions = _questions(subject, winner_rate)

    from sim.estimate import estimate_layers, estimate_table, total_fields
    from sim.report import write_json

    estimates = estimate_layers(questions, config)
    if json_path:
        write_json(json_path, {
            "subject": subject, "rows": config.rows, "cols": config.columns,
            "layers": [one.fields() for one in estimates], "total": total_fields(estimates),
            "command": command_line()})
    click.echo(f"{config.rows}x{config.columns} array, predicted\n\n{estimate_table(estimates)}")


def _questions(subject: str, winner_rate: float | None) -> list["LayerQuestion"]:
    path = Path(subject)
    if subject != "lenet4" and not path.is_file():
        raise Refusal(f"{subject}: expected lenet4 or an existing file JOB.npz or TOPOLOGY.csv, got no such file")
    if path.suffix == ".csv":
        from sim.estimate import topology_questions
        from sim.topology import read_topology

        return topology_questions(read_topology(path), winner_rate)
    if subject == "lenet4":
        from golden.lenet import MODEL_PATH
        from golden.network import QuantizedNetwork
        from sim.estimate import network_questions

        return network_questions(QuantizedNetwork.load(MODEL_PATH), winner_rate)
    from golden.job import LayerJob
    from sim.estimate import job_question

    return [job_question(path.stem, LayerJob.load(path), winner_rate)]
