"""Curves over winner rates and thresholds: what ``winnow evaluate --compare-scores`` and ``winnow winners FILE.pt``
measure."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scripts.checkpoints import resumable
from scripts.options import Refusal, progress_of

if TYPE_CHECKING:
    from golden.dasnet.trained import Trained
    from golden.datasets import Dataset

ENERGIES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99)
KINDS = {"fc": "neurons", "conv": "feature maps"}


def compare_scores(trained: "Trained", dataset: "Dataset", *, energies: Sequence[float], rates: Sequence[float],
                   epochs: int, seed: int, work: Path) -> dict[str, Any]:
    """Accuracy with winners among the feature maps by the scores max and mean, at the same winner rates (Fig. 5).

    At each of ``energies``, whose rates Eq. 5 selects for each layer, or else at each of ``rates``, the same for all
    layers. With ``epochs`` each is measured again after so many epochs of fine-tuning, whose state is kept in ``work``.
    Raises Refusal.
    """
    from dataclasses import replace

    from golden.dasnet.curves import accuracies_at, fine_tuned_accuracies_at, rates_of_energies

    network, view = trained.network, trained.recipe.view
    layers = [name for name, kind in trained.recipe.ranked.items() if kind == "conv"]
    if not layers:
        raise Refusal(f"--compare-scores: expected a network that ranks feature maps, got {trained.name}, which ranks "
                      "neurons alone: a neuron's largest value is its mean")
    if rates:
        points = [dict.fromkeys(layers, rate) for rate in rates]
    else:
        found = rates_of_energies(network, layers, energies, dataset.train, view, seed=seed)
        points = [{name: found[name][number] for name in layers} for number in range(len(energies))]
    accuracies = {}
    for score in ("max", "mean"):
        accuracies[score] = accuracies_at(network, points, dataset.test, view, score=score, progress=progress_of)
    if epochs:
        schedule = replace(trained.recipe.fine_tuning, epochs=epochs)
        with resumable(work, {"points": points, "seed": seed}):
            for score in ("max", "mean"):
                accuracies[f"{score}, fine-tuned"] = fine_tuned_accuracies_at(
                    network, points, dataset.train, dataset.test, view, schedule, seed=seed, folder=work,
                    progress=progress_of, score=score)
        shutil.rmtree(work)
    axis = [{"rate": rate} for rate in rates] or [{"energy": energy} for energy in energies]
    return {"network": trained.name, "source": dataset.source, "test_images": len(dataset.test.labels),
            "baseline_accuracy": trained.accuracy(dataset.test, dense=True, progress=progress_of),
            "epochs": epochs, "seed": seed,
            "points": [one | {"rates": point, "accuracy": {name: values[number]
                                                          for name, values in accuracies.items()}}
                       for number, (one, point) in enumerate(zip(axis, points, strict=True))]}


def scores_text(report: dict[str, Any]) -> str:
    """:func:`compare_scores` as people read it."""
    from sim.report import table

    first = report["points"][0]
    axis = "rate" if "rate" in first else "energy"
    rows = [[f"{point[axis]:.1%}", ", ".join(f"{name} {rate:.1%}" for name, rate in point["rates"].items()),
             *(f"{value:.2%}" for value in point["accuracy"].values())] for point in report["points"]]
    return (f"{report['network']}, {report['source']}, {report['test_images']:,} test images, "
            f"all channels: {report['baseline_accuracy']:.2%}\n\n"
            + table([axis, "winner rates", *first["accuracy"]], rows))


def plot_scores_of(report: dict[str, Any], path: Path) -> None:
    """Draw :func:`compare_scores`."""
    from golden.dasnet.plots import plot_scores

    first = report["points"][0]
    axis = "rate" if "rate" in first else "energy"
    curves = {}
    for name in first["accuracy"]:
        score, _, tuned = name.partition(", ")
        label = f"{score} score" + (f", {report['epochs']} epoch{'s' * (report['epochs'] > 1)} of fine-tuning"
                                    if tuned else ", without fine-tuning" if report["epochs"] else "")
        curves[label] = [(point[axis], point["accuracy"][name]) for point in report["points"]]
    across = {"rate": "winner rate of the feature maps", "energy": "energy threshold of the feature maps (Eq. 5)"}
    plot_scores(curves, report["baseline_accuracy"], across=across[axis],
                title=f"{report['network']}, {report['source']}: max against mean score").savefig(path, dpi=130)


def threshold_curves(trained: "Trained", dataset: "Dataset", *, energies: Sequence[float], with_accuracy: bool,
                     seed: int) -> dict[str, Any]:
    """The winner rates that Eq. 2 and 5 select at ``energies``, and the accuracy with winners at them (Fig. 3, 6, 9).

    Winners are taken among the neurons alone and among the feature maps alone, without fine-tuning.
    """
    from golden.dasnet.curves import accuracies_at, rates_of_energies

    network, view, ranked = trained.network, trained.recipe.view, trained.recipe.ranked
    rates = rates_of_energies(network, list(ranked), energies, dataset.train, view, seed=seed)
    report = {"network": trained.name, "source": dataset.source, "energies": list(energies), "seed": seed,
              "layers": list(ranked), "kinds": {}}
    for kind, name in KINDS.items():
        layers = [layer for layer, found in ranked.items() if found == kind]
        if not layers:
            continue
        points = [{layer: rates[layer][number] for layer in layers} for number in range(len(energies))]
        report["kinds"][name] = {"rates": {layer: rates[layer] for layer in layers}}
        if with_accuracy:
            report["kinds"][name]["accuracies"] = accuracies_at(network, points, dataset.test, view,
                                                                progress=progress_of)
    if with_accuracy:
        report["test_images"] = len(dataset.test.labels)
        report["baseline_accuracy"] = trained.accuracy(dataset.test, dense=True, progress=progress_of)
    return report


def thresholds_text(report: dict[str, Any]) -> str:
    """:func:`threshold_curves` as people read it."""
    from sim.report import table

    rows = []
    for name, kind in report["kinds"].items():
        rows += [[layer, *(f"{rate:.1%}" for rate in rates)] for layer, rates in kind["rates"].items()]
        if "accuracies" in kind:
            rows.append([f"accuracy, {name}", *(f"{value:.2%}" for value in kind["accuracies"])])
    dense = f", all channels: {report['baseline_accuracy']:.2%}" if "baseline_accuracy" in report else ""
    return (f"{report['network']}, {report['source']}{dense}\n\n"
            + table(["winner rate at energy", *(f"{energy:.4g}" for energy in report["energies"])], rows))


def plot_thresholds_of(report: dict[str, Any], path: Path | None, layers_path: Path | None) -> None:
    """Draw :func:`threshold_curves`: against the threshold, and layer by layer."""
    from golden.dasnet.plots import Curves, plot_layer_rates, plot_thresholds

    energies, title = report["energies"], f"{report['network']}, {report['source']}"
    kinds = {name: Curves(rates={layer: list(zip(energies, rates, strict=True))
                                 for layer, rates in kind["rates"].items()},
                          accuracies=list(zip(energies, kind.get("accuracies", ()), strict=False)))
             for name, kind in report["kinds"].items()}
    if path:
        plot_thresholds(kinds, report.get("baseline_accuracy", 0.0),
                        title=f"{title}: winner rates by energy, without fine-tuning").savefig(path, dpi=130)
    if layers_path:
        found = {layer: dict(points) for curves in kinds.values() for layer, points in curves.rates.items()}
        plot_layer_rates({layer: found[layer] for layer in report["layers"]},
                         title=f"{title}: winner rate of each layer").savefig(layers_path, dpi=130)


energies_option = click.option(
    "--winner-energy", "energies", type=click.FloatRange(0, 1, min_open=True), multiple=True, metavar="E",
    help=f"Thresholds, of FILE.pt.  [default: {', '.join(map(str, ENERGIES))}]")
