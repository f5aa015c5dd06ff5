"""``python -m scripts.layer_table``: layers of ResNet-18 and MobileNet v1 in RTL, and whole networks."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scripts.options import (
    Failure,
    Refusal,
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
    from golden.job import LayerJob
    from golden.node import Node
    from hw.config import EngineConfig
    from sim.report import Measure

MAPS = (56, 28, 14, 7)
"""Sizes of the results of ResNet-18's layers that are measured, 3x3 and 1x1 ones."""
RATE = 0.5
"""Of the input channels that win, and of the output channels that are then selected."""
SIMULATED = ("resnet18", "mobilenet_v1_0.25_128")
"""Networks that run in RTL, as one program; the others are predicted."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120,
                                 "default_map": {"rows": 7, "cols": 32}})
@engine_options
@memory_option("fast")
@seed_option
@click.option("--layer", "names", multiple=True, metavar="NAME",
              help="A layer to measure, such as stage1_1_conv1 or block2_depthwise; may be given several times.  "
                   "[default: all, and the networks]")
@json_option
def layer_table(memory: str, seed: int, names: tuple[str, ...], json_path: Path | None, **sizes) -> None:
    """Measure the 3x3 and 1x1 layers of ResNet-18 and the depthwise layers of MobileNet v1 1.0-224 in RTL.

    Each layer of different sizes once, alone, with random pixels, weights and masks, dense and with half the channels:
    half of the inputs take part, half of the outputs are selected, and the cycles include that. Depthwise layers stand
    beside what the array would take at least that computes them in one of its columns. ResNet-18 and MobileNet v1
    0.25-128 run as one program each, too, and the analytical model predicts them and all networks known by name. Every
    result is compared with the golden model; exit code 1 when a byte differs.
    """
    config = engine_config(**sizes)

    from golden.reference import run as reference
    from sim.execute import Chain, execute
    from sim.report import write_json

    found = {name: (kind, node, count) for kind, name, node, count in _layers() if not names or name in names}
    missing = set(names).difference(found)
    if missing:
        raise Refusal(f"--layer: expected layers among {', '.join(name for _, name, _, _ in _layers())}, "
                      f"got {', '.join(sorted(missing))}")
    jobs = {(name, what): layer_job(node, seed, sparse=what == "winners")
            for name, (_, node, _) in found.items() for what in ("dense", "winners")}
    simulator = open_simulator(config, memory)
    with progress_bar("golden model", len(jobs), "layers") as move:
        chains = []
        for job_name, job in jobs.items():
            chains.append(Chain(names=[", ".join(job_name)], jobs=[job], expected=[reference(job)], config=config))
            move(len(chains))
    with progress_bar("layers", sum(chain.predicted_cycles for chain in chains), "cycles") as move:
        outcomes = execute(simulator, chains, seed=seed, progress=lambda _, cycles: move(cycles))
    measured = {key: outcome.measures[0] for key, outcome in zip(jobs, outcomes, strict=True)}
    differences = [line for outcome in outcomes for line in outcome.differences]
    report = {
        "rows": config.rows, "cols": config.columns, "axi_width": config.axi_data_bits,
        "act_buffer_bytes": config.act_buffer_bytes, "weight_buffer_bytes": config.weight_buffer_bytes,
        "memory": memory, "seed": seed, "winner_rate": RATE,
        "convolutions": [convolution_fields(node, count, measured[name, "dense"], measured[name, "winners"])
                         for name, (kind, node, count) in found.items() if kind == "convolution"],
        "depthwise": [depthwise_fields(node, count, measured[name, "dense"], measured[name, "winners"])
                      for name, (kind, node, count) in found.items() if kind == "depthwise"],
        "networks": []}
    report["mean"] = mean_fields(report["convolutions"])
    if not names:
        from golden.networks import names as known

        report["networks"] = [_network(name, config, simulator, seed, differences)
                              for name in dict.fromkeys((*known(), *SIMULATED))]
    click.echo(f"{config.rows}x{config.columns} array, {config.axi_data_bits}-bit AXI, {memory} memory\n")
    click.echo(text(report))
    if json_path:
        write_json(json_path, report)
    if differences:
        raise Failure(f"not bit-exact: {differences[0]}")


def _layers() -> "Iterator[tuple[str, str, Node, int]]":
    """(kind, name, layer, how many such layers) of every layer of different sizes, named by the first one."""
    from golden.networks import build

    for kind, network in (("convolution", "resnet18"), ("depthwise", "mobilenet_v1_1.0_224")):
        alike: dict[tuple, list] = {}
        for node in build(network).layers:
            if node.op != "conv":
                continue
            fits = (node.groups == 1 and node.kernel in ((1, 1), (3, 3)) and node.output_shape[1] in MAPS
                    if kind == "convolution" else node.groups > 1)
            if fits:
                alike.setdefault((node.input_shapes, node.output_shape, node.kernel, node.stride), []).append(node)
        for nodes in alike.values():
            yield kind, nodes[0].name, nodes[0], len(nodes)


def layer_job(node: "Node", seed: int, *, sparse: bool) -> "LayerJob":
    """The layer on random pixels; ``sparse``: with a random half of its inputs, selecting half of its outputs."""
    from dataclasses import replace

    import numpy as np

    from golden.job import Ranking

    rng = np.random.default_rng(seed)
    shape, outputs = node.input_shapes[0], node.output_shape[0]
    job = node.job(rng.integers(-128, 128, shape, np.int8))
    if not sparse:
        return job
    mask = np.zeros(shape[0], np.uint8)
    mask[rng.permutation(shape[0])[:round(RATE * shape[0])]] = 1
    return replace(job, channel_mask=mask, ranking=Ranking(score="max", select="topk", value=round(RATE * outputs)))


def _sizes(node: "Node", count: int) -> dict[str, Any]:
    channels, height, width = node.input_shapes[0]
    return {"layer": node.name, "count": count, "channels": channels, "height": height, "width": width,
            "out_channels": node.output_shape[0], "out_height": node.output_shape[1], "out_width": node.output_shape[2],
            "kernel": node.kernel[0], "stride": node.stride[0], "products": node.macs}


def convolution_fields(node: "Node", count: int, dense: "Measure", sparse: "Measure") -> dict[str, Any]:
    """A layer's sizes, its two runs, and how they compare."""
    from sim.report import compare

    line, = compare([dense], [sparse])
    return _sizes(node, count) | {"dense": dense.fields(), "winners": sparse.fields(), "speedup": line.speedup,
                                  "ideal": line.ideal, "exploitation": line.exploitation}


def depthwise_fields(node: "Node", count: int, dense: "Measure", sparse: "Measure") -> dict[str, Any]:
    """As :func:`convolution_fields`, with the cycles of the array where a channel takes one of its columns.

    ``one_column_cycles``: a product a row and cycle, nothing lost to partial tiles, filling or loading.
    """
    cycles = node.macs // dense.rows
    return convolution_fields(node, count, dense, sparse) | {
        "one_column_cycles": cycles, "gain": cycles / dense.cycles}


def mean_fields(layers: Sequence[dict[str, Any]]) -> dict[str, float] | None:
    """Utilization and exploitation weighted by ideal dense cycles, every layer as often as the network has it."""
    if not layers:
        return None
    weights = [one["count"] * one["dense"]["ideal_cycles"] for one in layers]

    def mean(values):
        return sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)

    return {"utilization": mean([one["dense"]["utilization"] for one in layers]),
            "winners_utilization": mean([one["winners"]["utilization"] for one in layers]),
            "exploitation": mean([one["exploitation"] for one in layers])}


def _network(name: str, config: "EngineConfig", simulator, seed: int, differences: list[str]) -> dict[str, Any]:
    """A network by the analytical model, and in RTL if it is one that is simulated."""
    import numpy as np

    from golden.networks import build
    from sim.estimate import total_fields
    from sim.execute import execute
    from sim.network import estimate_network, golden_layers, network_chain
    from sim.report import total

    network = build(name)
    if network.weights_are_random:
        network = network.with_winners(RATE)
    report: dict[str, Any] = {"network": name, "products": sum(node.macs for node in network.layers)}
    report |= {run: {"predicted": total_fields(estimate_network(network, config, dense=run == "dense"))}
               for run in ("dense", "winners")}
    if name not in SIMULATED:
        return report
    image = np.random.default_rng(seed).integers(-128, 128, network.input.shape, np.int8)
    chains = [network_chain(network, list(golden_layers(network, image, dense=dense)), config, dense=dense)
              for dense in (True, False)]
    with progress_bar(name, sum(chain.predicted_cycles for chain in chains), "cycles") as move:
        outcomes = execute(simulator, chains, seed=seed, progress=lambda _, cycles: move(cycles))
    for run_name, outcome in zip(("dense", "winners"), outcomes, strict=True):
        report[run_name]["measured"] = total(outcome.measures).fields()
        differences += outcome.differences
    return report


def text(report: dict[str, Any]) -> str:
    """The report that people read."""
    from sim.report import deviation, factor, percent, table

    def sizes(one):
        return [one["layer"], f"{one['kernel']}x{one['kernel']}/{one['stride']}",
                f"{one['channels']}x{one['height']}x{one['width']}", f"{one['out_channels']}", f"{one['count']}"]

    def cycles(one):
        return [f"{one['cycles']:,}", deviation(one["predicted_cycles"], one["cycles"])]

    head = ["layer", "kernel", "input", "outputs", "such layers", "dense", "predicted", "util.", "winners", "predicted",
            "util.", "speed-up", "exploitation"]
    parts = []
    for kind, more in (("convolutions", []), ("depthwise", ["one column", "times"])):
        rows = [[*sizes(one), *cycles(one["dense"]), percent(one["dense"]["utilization"]), *cycles(one["winners"]),
                 percent(one["winners"]["utilization"]), factor(one["speedup"]), percent(one["exploitation"]),
                 *([f"{one['one_column_cycles']:,}", factor(one["gain"])] if more else [])] for one in report[kind]]
        if rows:
            parts.append(table(head + more, rows))
    if report["mean"]:
        mean = {name: percent(value) for name, value in report["mean"].items()}
        parts.append(f"Convolutions, weighted by ideal cycles: utilization {mean['utilization']} dense, "
                     f"{mean['winners_utilization']} with winners; exploitation {mean['exploitation']}")
    rows = []
    for one in report["networks"]:
        for name in ("dense", "winners"):
            predicted, measured = one[name]["predicted"], one[name].get("measured")
            rows.append([one["network"], name, f"{predicted['cycles']:,}", percent(predicted["utilization"]),
                         percent(predicted["array"]["utilization"]), f"{predicted['bytes']:,}",
                         f"{measured['cycles']:,}" if measured else "-",
                         percent(measured["utilization"]) if measured else "-"])
    if rows:
        parts.append(table(["name", "run", "predicted cycles", "util.", "on the array", "predicted bytes", "in RTL",
                            "util."], rows))
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default those of the process; returns the exit code."""
    return run(layer_table, sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
