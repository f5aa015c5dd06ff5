"""``python -m scripts.reference_layers``: the layers that the README's figures are measured on, in RTL."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scripts.options import (
    Failure,
    engine_config,
    engine_options,
    json_option,
    memory_option,
    open_simulator,
    progress_bar,
    run,
    seed_option,
)

if TYPE_CHECKING:
    from golden.job import LayerJob, Ranking

# channels, map, output channels, kernel, padding
LAYERS = {
    "small": (16, 16, 32, 3, 1),
    "conv3": (128, 28, 128, 3, 1),
    "conv5": (32, 14, 64, 5, 2),
    "ranked": (16, 4, 2048, 1, 0),
}
WINNER_RATES = (0.5, 0.25)
"""Of the input channels; the output channels are then ranked, and as large a part of them wins."""
COMPARED = ("small", "conv3", "conv5")
RULES = {
    "none": None,
    "topk": {"score": "max", "select": "topk", "value": 0.25},
    "energy": {"score": "max", "select": "energy", "value": 0.8},
    "mean, topk": {"score": "mean", "select": "topk", "value": 0.25},
}
"""Rankings of the layer ``ranked``; of topk the part that wins."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@engine_options
@memory_option("fast")
@seed_option
@click.option("--layer", "names", type=click.Choice(list(LAYERS)), multiple=True,
              help="A layer to measure; may be given several times.  [default: all]")
@json_option
def reference_layers(memory: str, seed: int, names: tuple[str, ...], json_path: Path | None, **sizes) -> None:
    """Measure the reference layers in RTL: dense, at two winner rates, and with each kind of ranking.

    \b
    small   3x3  16 ->   32 channels on 16x16, padding 1
    conv3   3x3 128 ->  128 channels on 28x28, padding 1
    conv5   5x5  32 ->   64 channels on 14x14, padding 2
    ranked  1x1  16 -> 2048 channels on 4x4, each kind of ranking

    Weights, pixels and masks are random. A dense run ranks nothing; a sparse one has a mask of the input channels and
    selects the same part of its output channels, and its cycles include that. Every result is compared with the golden
    model; exit code 1 when a byte differs.
    """
    config = engine_config(**sizes)

    from golden.reference import run as reference
    from sim.execute import Chain, execute
    from sim.report import write_json

    jobs = reference_jobs(list(dict.fromkeys(names)) or list(LAYERS), seed)
    chains = [Chain(names=[f"{layer}, {what}"], jobs=[job], expected=[reference(job)], config=config)
              for (layer, what), job in jobs.items()]
    simulator = open_simulator(config, memory)
    with progress_bar("reference layers", sum(chain.predicted_cycles for chain in chains), "cycles") as move:
        outcomes = execute(simulator, chains, seed=seed, progress=lambda _, cycles: move(cycles))
    report = summarize([(*key, outcome.measures[0]) for key, outcome in zip(jobs, outcomes, strict=True)])
    cycles, seconds = (sum(getattr(one, name) for one in outcomes) for name in ("cycles_simulated", "seconds"))
    click.echo(f"{config.rows}x{config.columns} array, {config.axi_data_bits}-bit AXI, {memory} memory\n")
    click.echo(text(report))
    click.echo(f"\nSimulated {cycles:,} cycles in {seconds:.1f} s ({cycles / seconds:,.0f} cycles a second)")
    if json_path:
        write_json(json_path, {
            "rows": config.rows, "cols": config.columns, "axi_width": config.axi_data_bits,
            "act_buffer_bytes": config.act_buffer_bytes, "weight_buffer_bytes": config.weight_buffer_bytes,
            "memory": memory, "seed": seed} | report)
    differences = [line for outcome in outcomes for line in outcome.differences]
    if differences:
        raise Failure(f"not bit-exact: {differences[0]}")


def reference_jobs(names: Sequence[str], seed: int) -> "dict[tuple[str, str], LayerJob]":
    """The jobs of these layers by (layer, what is run: a winner rate or a kind of ranking)."""
    jobs = {}
    for name in names:
        if name in COMPARED:
            jobs[name, "dense"] = layer_job(name, seed)
            for rate in WINNER_RATES:
                rule = ranking(name, {"score": "max", "select": "topk", "value": rate})
                jobs[name, f"{rate:g}"] = layer_job(name, seed, rate=rate, rule=rule)
        else:
            for what, rule in RULES.items():
                jobs[name, what] = layer_job(name, seed, rule=ranking(name, rule))
    return jobs


def ranking(name: str, rule: dict[str, Any] | None) -> "Ranking | None":
    """A rule for this layer's outputs. A mean is one over the map."""
    from golden.job import Ranking
    from golden.numerics import quantize_multiplier

    if rule is None:
        return None
    _, side, outputs, _, _ = LAYERS[name]
    multiplier, shift = quantize_multiplier(4 / side**2)
    value = round(rule["value"] * outputs) if rule["select"] == "topk" else rule["value"]
    return Ranking(score=rule["score"], select=rule["select"], value=value, score_multiplier=multiplier,
                   score_shift=shift)


def layer_job(name: str, seed: int, *, rate: float | None = None, rule: "Ranking | None" = None) -> "LayerJob":
    """A layer with random pixels, weights and constants; ``rate``: the part of its input channels that wins."""
    import numpy as np

    from golden.job import LayerJob
    from golden.numerics import quantize_multiplier

    rng = np.random.default_rng(seed)
    channels, side, outputs, kernel, padding = LAYERS[name]
    deviation = 5000 * np.sqrt(channels) * kernel
    scales = [quantize_multiplier(factor / deviation) for factor in rng.uniform(20, 80, outputs)]
    multiplier, shift = np.array(scales, np.int32).T
    mask = None
    if rate is not None:
        mask = np.zeros(channels, np.uint8)
        mask[rng.permutation(channels)[:round(rate * channels)]] = 1
    return LayerJob(
        input=rng.integers(-128, 128, (channels, side, side), np.int8),
        weight=rng.integers(-127, 128, (outputs, channels, kernel, kernel), np.int8),
        bias=rng.normal(0, deviation, outputs).astype(np.int32), multiplier=multiplier, shift=shift,
        input_zero_point=-128, output_zero_point=-128, activation_min=-128, activation_max=127, stride=(1, 1),
        padding=(padding,) * 4, channel_mask=mask, ranking=rule)


def summarize(measured: Sequence[tuple]) -> dict[str, Any]:
    """(layer, what, Measure) of every run as the report: winner rates compared with dense, rankings with none."""
    from sim.report import compare

    found = {(layer, what): one for layer, what, one in measured}
    layers, rankings = [], []
    for (layer, what), one in found.items():
        fields = {"layer": layer, "run": what} | one.fields()
        if layer not in COMPARED:
            rankings.append(fields | {"added_cycles": one.cycles - found[layer, "none"].cycles})
        elif what == "dense":
            layers.append(fields)
        else:
            line, = compare([found[layer, "dense"]], [one])
            layers.append(fields | {"speedup": line.speedup, "ideal": line.ideal, "exploitation": line.exploitation})
    return {"layers": layers, "rankings": rankings}


def text(report: dict[str, Any]) -> str:
    """The report that people read."""
    from sim.report import deviation, factor, percent, table

    parts = []
    if report["layers"]:
        parts.append(table(
            ["layer", "run", "winners", "cycles", "utilization", "speed-up", "ideal", "exploitation", "predicted"],
            [[one["layer"], one["run"], f"{one['winners']} of {one['channels']}", f"{one['cycles']:,}",
              percent(one["utilization"]), factor(one.get("speedup")), factor(one.get("ideal")),
              percent(one.get("exploitation")), deviation(one["predicted_cycles"], one["cycles"])]
             for one in report["layers"]]))
    if report["rankings"]:
        parts.append(table(
            ["layer", "run", "cycles", "added by ranking", "predicted"],
            [[one["layer"], one["run"], f"{one['cycles']:,}", f"{one['added_cycles']:,}",
              deviation(one["predicted_cycles"], one["cycles"])] for one in report["rankings"]]))
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default those of the process; returns the exit code."""
    return run(reference_layers, sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
