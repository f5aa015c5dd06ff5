"""``winnow evaluate`` and ``winnow winners``: what a trained network classifies rightly, and which channels win."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scripts.options import (
    INPUT_FILE,
    OutputPath,
    command_line,
    engine_config,
    engine_options,
    json_option,
    progress_of,
)
from scripts.train import data_option, measure, text_of, threads_option

if TYPE_CHECKING:
    from golden.network import QuantizedNetwork
    from hw.config import EngineConfig

QUANTILES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)


@click.command(short_help="Accuracy, MACs, bytes and predicted cycles of a trained network.")
@click.argument("file", type=INPUT_FILE)
@data_option
@engine_options
@threads_option
@json_option
def evaluate(file: Path, data: Path, threads: int | None, json_path: Path | None, **sizes: Any) -> None:
    """Accuracy on all test images, dense and with winners, and what the network costs on the engine.

    FILE is FILE.pt of winnow train, float and quantized anew, or its FILE.npz, int8 alone.

    \b
    Examples:
      winnow evaluate mlp3.pt --data DATA
      winnow evaluate lenet4.npz --data DATA --rows 8 --cols 16 --json lenet4.json
    """
    import torch

    from golden.dasnet.trained import Trained, recipe_of, run_int8
    from golden.datasets import load
    from golden.network import QuantizedNetwork
    from sim.report import write_json

    config = engine_config(**sizes)
    torch.set_num_threads(threads or torch.get_num_threads())
    if file.suffix == ".npz":
        network = QuantizedNetwork.load(file)
        dataset = load(recipe_of(network).dataset, data)
        ranked = any(node.ranking for node in network.layers)
        accuracies = {f"int8_{name}": run_int8(network, dataset.test, dense=dense, progress=progress_of).accuracy
                      for name, dense in (("dense", True), ("winners", False)) if dense or ranked}
        report = {"network": network.name, "source": dataset.source, "test_images": len(dataset.test.labels),
                  "accuracy": {"test": accuracies}}
        text = "\n".join([f"{network.name}, {dataset.source}, {len(dataset.test.labels):,} test images",
                          *(f"  {name.replace('_', ' '):14} {value:.2%}" for name, value in accuracies.items())])
    else:
        trained = Trained.load(file)
        dataset = load(trained.recipe.dataset, data)
        network = trained.quantize(dataset)
        report = measure(trained, network, dataset)
        text = text_of(report)
    engine = _on_engine(network, config)
    if json_path:
        write_json(json_path, report | {"engine": engine, "command": command_line()})
    click.echo(text)
    for name, one in engine["runs"].items():
        click.echo(f"  {name + ' engine':14} {one['cycles']:,.0f} cycles, {one['bytes']:,.0f} bytes, predicted for "
                   f"{config.rows}x{config.columns}")
    if engine["ranking"]:
        one = engine["ranking"]
        click.echo(f"  ranking        {one['ranking_cycles']:,.0f} cycles for {one['saved_cycles']:,.0f} saved; "
                   f"{one['comparisons']:,.0f} comparisons for {one['saved_products']:,.0f} multiplications (Eq. 6, 7)")


def _on_engine(network: "QuantizedNetwork", config: "EngineConfig") -> dict[str, Any]:
    """Predicted cycles and bytes, dense and with winners, and what ranking costs for what it saves."""
    from sim.network import estimate_network
    from sim.ranking_cost import ranking_cost, total

    runs = {}
    for name, dense in (("dense", True), ("winners", False)):
        if dense or any(node.ranking for node in network.layers):
            layers = estimate_network(network, config, dense=dense)
            runs[name] = {"cycles": sum(layer.predicted.cycles for layer in layers),
                          "bytes": sum(sum(layer.predicted.bytes_read.values())
                                       + sum(layer.predicted.bytes_written.values()) for layer in layers)}
    ranking = None
    if "winners" in runs:
        cost = total(ranking_cost(network, config))
        ranking = {name: getattr(cost, name)
                   for name in ("comparisons", "saved_products", "ranking_cycles", "saved_cycles")}
    return {"rows": config.rows, "cols": config.columns, "runs": runs, "ranking": ranking}


@click.command(short_help="How many channels win in each layer, and which, over a data set.")
@click.argument("file", type=INPUT_FILE)
@data_option
@click.option("--json", "json_path", type=OutputPath(), required=True,
              help="The statistics; winnow simulate and estimate take the file as --winner-rates.")
@click.option("--part", type=click.Choice(["train", "test"]), default="test", show_default=True,
              help="Of the data set.")
@threads_option
def winners(file: Path, data: Path, json_path: Path, part: str, threads: int | None) -> None:
    """Winner statistics of an int8 network, FILE.npz of winnow train, over a data set, as the engine chooses them.

    \b
    FILE.json:
      rates      {layer: mean winner rate}
      layers     {layer: {channels, mean, quantiles {q: winners}, frequency [channels]}}
                 frequency: the fraction of images in which each channel wins

    \b
    Examples:
      winnow winners lenet4.npz --data DATA --json winners.json
      winnow estimate lenet4.npz --winner-rates winners.json
    """
    import numpy as np
    import torch

    from golden.dasnet.trained import recipe_of, run_int8
    from golden.datasets import load
    from golden.network import QuantizedNetwork
    from sim.report import table, write_json

    torch.set_num_threads(threads or torch.get_num_threads())
    network = QuantizedNetwork.load(file)
    dataset = load(recipe_of(network).dataset, data)
    split = getattr(dataset, part)
    run = run_int8(network, split, progress=progress_of)
    layers = {}
    for name, counts in run.counts.items():
        frequency = run.frequency[name]
        layers[name] = {"channels": len(frequency), "mean": float(counts.mean()),
                        "quantiles": {str(q): float(np.quantile(counts, q)) for q in QUANTILES},
                        "frequency": [round(float(value), 6) for value in frequency]}
    rates = {name: one["mean"] / one["channels"] for name, one in layers.items()}
    write_json(json_path, {"network": network.name, "source": dataset.source, "part": part,
                           "images": len(split.labels), "accuracy": run.accuracy, "rates": rates, "layers": layers,
                           "command": command_line()})
    click.echo(f"{network.name}, {dataset.source}, {len(split.labels):,} {part} images, accuracy {run.accuracy:.2%}\n")
    click.echo(table(["layer", "channels", "winners", "rate", "5 %..95 %", "never win", "always win"], [
        [name, str(one["channels"]), f"{one['mean']:.1f}", f"{rates[name]:.1%}",
         f"{one['quantiles']['0.05']:.0f}..{one['quantiles']['0.95']:.0f}",
         str(sum(value == 0 for value in one["frequency"])), str(sum(value == 1 for value in one["frequency"]))]
        for name, one in layers.items()]))
