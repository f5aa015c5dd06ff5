"""``winnow evaluate`` and ``winnow winners``: what a trained network classifies rightly, and which channels win."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scripts import winner_curves
from scripts.cheapest_rates import cheapest_rates, cheapest_rates_text
from scripts.options import (
    INPUT_FILE,
    OutputPath,
    Refusal,
    command_line,
    engine_config,
    engine_options,
    json_option,
    progress_of,
    seed_option,
)
from scripts.train import data_option, threads_option
from scripts.training_report import engine_report, engine_text, macs_of, measure, text_of
from scripts.winner_curves import energies_option

if TYPE_CHECKING:
    from golden.dasnet.trained import Trained
    from golden.datasets import Dataset
    from golden.network import QuantizedNetwork

QUANTILES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)


@click.command(short_help="Accuracy, MACs, bytes and predicted cycles of a trained network.")
@click.argument("file", type=INPUT_FILE)
@data_option
@click.option("--compare-scores", is_flag=True,
              help="In place of all else: accuracy with winners among the feature maps by the scores max and mean, at "
                   "the same rates (Fig. 5).")
@energies_option
@click.option("--winner-rate", "rates", type=click.FloatRange(0, 1, min_open=True), multiple=True, metavar="R",
              help="Rates to compare the scores at, in place of those that --winner-energy selects.")
@click.option("--epochs", type=click.IntRange(0), default=0, show_default=True,
              help="Compare the scores after so many epochs of fine-tuning at each rate, too.")
@click.option("--plot", type=OutputPath(".png"), help="Draw the comparison of scores.")
@engine_options
@threads_option
@seed_option
@json_option
def evaluate(file: Path, data: Path, compare_scores: bool, energies: tuple[float, ...], rates: tuple[float, ...],
             epochs: int, plot: Path | None, threads: int | None, seed: int, json_path: Path | None,
             **sizes: Any) -> None:
    """Accuracy on all test images, dense and with winners, and what the network costs: MACs, and on an engine of the
    sizes given the bytes and cycles that the model predicts, dense, with winners and with zero blocks of weights left
    out, and ranking against what it saves.

    FILE is FILE.pt of winnow train, float and quantized anew, or its FILE.npz, int8 alone. With --compare-scores it is
    FILE.pt, a baseline; with --epochs the state is kept in the folder FILE.work after each epoch of fine-tuning.

    \b
    Examples:
      winnow evaluate mlp3.pt --data DATA
      winnow evaluate lenet4.npz --data DATA --rows 8 --cols 16 --json lenet4.json
      winnow evaluate lenet4.pt --data DATA --compare-scores --winner-rate 0.25 --winner-rate 0.5 --plot scores.png
    """
    import torch

    from sim.report import write_json

    config = engine_config(**sizes)
    if not compare_scores and (plot or energies or rates or epochs):
        raise click.UsageError("--plot, --winner-energy, --winner-rate, --epochs: expected --compare-scores, too")
    if energies and rates:
        raise click.UsageError("--winner-energy, --winner-rate: expected one of them, got both")
    torch.set_num_threads(threads or torch.get_num_threads())
    if compare_scores:
        trained, dataset = _load(file, data, "--compare-scores")
        report = winner_curves.compare_scores(
            trained, dataset, energies=sorted(energies) or winner_curves.ENERGIES, rates=sorted(rates), epochs=epochs,
            seed=seed, work=file.with_suffix(".work"))
        text = winner_curves.scores_text(report)
        if plot:
            winner_curves.plot_scores_of(report, plot)
    else:
        network, report = _evaluate_int8(file, data) if file.suffix == ".npz" else _evaluate(file, data)
        report["engine"] = engine_report(network, config)
        report.setdefault("macs", macs_of(report["engine"]))
        text = f"{text_of(report)}\n{engine_text(report['engine'])}"
    if json_path:
        write_json(json_path, report | {"command": command_line()})
    click.echo(text)


def _load(file: Path, data: Path, option: str) -> "tuple[Trained, Dataset]":
    """FILE.pt and what it is trained on. Raises Refusal."""
    from golden.dasnet.trained import Trained
    from golden.datasets import load

    if file.suffix == ".npz":
        raise Refusal(f"{option}: expected FILE.pt of winnow train, got {file}")
    trained = Trained.load(file)
    return trained, load(trained.recipe.dataset, data)


def _evaluate(file: Path, data: Path) -> "tuple[QuantizedNetwork, dict[str, Any]]":
    """The int8 form of FILE.pt, and its report."""
    from golden import digits

    trained, dataset = _load(file, data, "FILE")
    held = None
    if trained.metadata.get("hold_out"):
        held = digits.bundled()
        dataset = digits.hold_out(dataset, held)
    network = trained.quantize(dataset, seed=trained.metadata.get("seed", 0))
    return network, measure(trained, network, dataset, held)


def _evaluate_int8(file: Path, data: Path) -> "tuple[QuantizedNetwork, dict[str, Any]]":
    """FILE.npz, and its report, whose MACs are those of the engine's."""
    from golden.dasnet.trained import recipe_of, run_int8
    from golden.datasets import load
    from golden.network import QuantizedNetwork

    network = QuantizedNetwork.load(file)
    dataset = load(recipe_of(network).dataset, data)
    ranked = any(node.ranking for node in network.layers)
    accuracies = {f"int8_{name}": run_int8(network, dataset.test, dense=dense, progress=progress_of).accuracy
                  for name, dense in (("dense", True), ("winners", False)) if dense or ranked}
    return network, {"network": network.name, "source": dataset.source, "test_images": len(dataset.test.labels),
                     "accuracy": {"test": accuracies}}


@click.command(short_help="How many channels win in each layer, and which, over a data set.")
@click.argument("file", type=INPUT_FILE)
@data_option
@click.option("--json", "json_path", type=OutputPath(), required=True,
              help="The statistics; winnow simulate and estimate take those of FILE.npz as --winner-rates.")
@click.option("--part", type=click.Choice(["train", "test"]), default="test", show_default=True,
              help="Of the data set, for FILE.npz.")
@energies_option
@click.option("--save-macs", type=click.FloatRange(0, 1, min_open=True, max_open=True), metavar="FRACTION",
              help="Of FILE.pt, in place of thresholds: the rates and scores of its layers that save this fraction of "
                   "the MACs while its outputs change least. Each layer's own cost is measured on 1,000 training "
                   "images; winnow train takes FILE.json as --winner-rates.")
@click.option("--accuracy/--no-accuracy", "with_accuracy", default=True, show_default=True,
              help="Of FILE.pt, measure the accuracy at each threshold, or at these rates, without fine-tuning.")
@click.option("--plot", type=OutputPath(".png"),
              help="Of FILE.pt, draw winner rates and accuracy against the threshold (Fig. 3 and 6).")
@click.option("--plot-layers", type=OutputPath(".png"),
              help="Of FILE.pt, draw the winner rate of each layer at each threshold (Fig. 9).")
@threads_option
@seed_option
def winners(file: Path, data: Path, json_path: Path, part: str, energies: tuple[float, ...], save_macs: float | None,
            with_accuracy: bool, plot: Path | None, plot_layers: Path | None, threads: int | None, seed: int) -> None:
    """How many channels win: of an int8 network as the engine chooses them, of a float one by thresholds or cost.

    FILE.npz of winnow train: the winners of each layer over a data set. FILE.pt, a baseline: the winner rates that
    cumulative energy (neurons, Eq. 2) and singular values (feature maps, Eq. 5) of 1,000 training images select at each
    threshold, and the accuracy with winners at them; or, with --save-macs, the rates that cost least.

    \b
    FILE.json of FILE.npz:
      rates      {layer: mean winner rate}
      layers     {layer: {channels, mean, quantiles {q: winners}, frequency [channels]}}
                 frequency: the fraction of images in which each channel wins

    \b
    Examples:
      winnow winners lenet4.npz --data DATA --json winners.json
      winnow estimate lenet4.npz --winner-rates winners.json
      winnow winners base.pt --data DATA --json curves.json --plot curves.png --plot-layers layers.png
      winnow winners base.pt --data DATA --save-macs 0.3 --json rates.json
    """
    import torch

    from sim.report import write_json

    curves = energies or plot or plot_layers
    if file.suffix == ".npz" and (curves or save_macs):
        raise click.UsageError("--winner-energy, --save-macs, --plot, --plot-layers: expected FILE.pt of winnow train, "
                               f"got {file}")
    if save_macs and curves:
        raise click.UsageError("--save-macs: expected none of --winner-energy, --plot, --plot-layers")
    torch.set_num_threads(threads or torch.get_num_threads())
    if file.suffix == ".npz":
        report, text = _int8_winners(file, data, part)
    elif save_macs:
        trained, dataset = _load(file, data, "FILE")
        report = cheapest_rates(trained, dataset, saved=save_macs, with_accuracy=with_accuracy, seed=seed)
        text = cheapest_rates_text(report)
    else:
        trained, dataset = _load(file, data, "FILE")
        report = winner_curves.threshold_curves(trained, dataset, with_accuracy=with_accuracy, seed=seed,
                                                energies=sorted(energies) or winner_curves.ENERGIES)
        text = winner_curves.thresholds_text(report)
        winner_curves.plot_thresholds_of(report, plot, plot_layers)
    write_json(json_path, report | {"command": command_line()})
    click.echo(text)


def _int8_winners(file: Path, data: Path, part: str) -> tuple[dict[str, Any], str]:
    """The winners of FILE.npz, for JSON and as people read them."""
    import numpy as np

    from golden.dasnet.trained import recipe_of, run_int8
    from golden.datasets import load
    from golden.network import QuantizedNetwork
    from sim.report import table

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
    rows = [[name, str(one["channels"]), f"{one['mean']:.1f}", f"{run.rates[name]:.1%}",
             f"{one['quantiles']['0.05']:.0f}..{one['quantiles']['0.95']:.0f}",
             str(sum(value == 0 for value in one["frequency"])), str(sum(value == 1 for value in one["frequency"]))]
            for name, one in layers.items()]
    return ({"network": network.name, "source": dataset.source, "part": part, "images": len(split.labels),
             "accuracy": run.accuracy, "rates": run.rates, "layers": layers},
            f"{network.name}, {dataset.source}, {len(split.labels):,} {part} images, accuracy {run.accuracy:.2%}\n\n"
            + table(["layer", "channels", "winners", "rate", "5 %..95 %", "never win", "always win"], rows))
