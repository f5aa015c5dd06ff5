"""``python -m scripts.bound_deviation``: how far the bounds of ``winnow explore`` lie below the analytical model."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from scripts.options import OutputPath, load_network, progress_bar, run, seed_option, with_winners

NETWORKS = ("lenet4", "resnet18", "mobilenet_v1_1.0_224")
BUFFERS = [(act << 10, weight << 10) for act in (32, 64, 128, 256) for weight in (32, 64, 128, 256)]
"""Those of ``winnow explore``."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--engines", "count", type=click.IntRange(min=1), default=300, show_default=True,
              help="Drawn for each network among those that winnow explore tries.")
@click.option("--macs", type=click.IntRange(1, 64 * 64), default=256, show_default=True, help="Of each at most.")
@seed_option
@click.option("--json", "json_path", type=OutputPath(), help="Write the report as JSON.")
def bound_deviation(count: int, macs: int, seed: int, json_path: Path | None) -> None:
    """How far the bounds of winnow explore lie below the analytical model, in the median and the 95 % quantile.

    \b
    Examples:
      python -m scripts.bound_deviation
      python -m scripts.bound_deviation --engines 50 --seed 1
    """
    import numpy as np

    from hw.config import EngineConfig
    from sim.engine_space import engine_space
    from sim.explore import bound_engines, measured
    from sim.network import estimate_network
    from sim.report import table, write_json

    rows, report = [], {}
    engines, _ = engine_space(EngineConfig(), macs, BUFFERS, [64, 128])
    for name in NETWORKS:
        network = with_winners(load_network(name), None, None)
        sample = engines.take(np.random.default_rng(seed).choice(len(engines), count, replace=False))
        bounds, short = bound_engines(network, sample), []
        with progress_bar(name, count, "engines") as move:
            for number in range(count):
                config = sample.config(number)
                point = measured(config, 0, estimate_network(network, config))
                short.append((1 - bounds.cycles[number] / point.cycles, 1 - bounds.bytes[number] / point.bytes))
                move(number + 1)
        middle, most, worst = (np.quantile(short, part, axis=0).tolist() for part in (0.5, 0.95, 1.0))
        report[name] = {"cycles": {"median": middle[0], "quantile_95": most[0], "largest": worst[0]},
                        "bytes": {"median": middle[1], "quantile_95": most[1], "largest": worst[1]}}
        rows.append([name, *(f"{100 * one[part]:.2f} %" for part in (0, 1) for one in (middle, most, worst))])
    click.echo(table(["name", "cycles: median", "95 %", "largest", "bytes: median", "95 %", "largest"], rows))
    if json_path:
        write_json(json_path, {"engines": count, "macs": macs, "seed": seed, "networks": report})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run(bound_deviation, sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
