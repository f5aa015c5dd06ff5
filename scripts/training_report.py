"""What ``winnow train`` and ``winnow evaluate`` report of a trained network."""

from typing import TYPE_CHECKING, Any

from scripts.options import progress_of

if TYPE_CHECKING:
    from golden.dasnet.recipes import Recipe
    from golden.dasnet.trained import Trained
    from golden.dasnet.winners import WinnerStatistics
    from golden.datasets import Dataset, Split
    from golden.network import QuantizedNetwork
    from hw.config import EngineConfig


def measure(trained: "Trained", quantized: "QuantizedNetwork", dataset: "Dataset",
            held: "Split | None" = None) -> dict[str, Any]:
    """Accuracies on the test images, float and int8, dense and with winners; winner rates; MACs of an image.

    ``held``: images whose accuracies are reported too, as "held_out". Where weights are zero: how many, and the MACs
    of the others.
    """
    import torch

    from golden.dasnet import macs
    from golden.dasnet.finetune import winner_statistics
    from golden.dasnet.pruning import sparsity
    from golden.dasnet.trained import run_int8
    from golden.dasnet.training import take

    test, view = dataset.test, trained.recipe.view
    accuracies: dict[str, dict[str, float]] = {}
    for part, split in (("held_out", held), ("test", test)):
        if split is None:
            continue
        accuracies[part] = found = {}
        for name, dense in {"dense": True, "winners": False}.items():
            if dense or trained.rules:
                found[f"float_{name}"] = trained.accuracy(split, dense=dense, progress=progress_of)
                run = run_int8(quantized, split, dense=dense, progress=progress_of)
                found[f"int8_{name}"] = run.accuracy
    statistics = winner_statistics(trained.network, test, view) if trained.rules else {}
    example = view.plain(take(test.images, torch.arange(1)))
    counted = macs.count(trained.network, example, {name: one.frequency for name, one in statistics.items()})
    dense, sparse = macs.total(counted)
    report = {"network": trained.name, "source": dataset.source, "test_images": len(test.labels),
              "accuracy": accuracies,
              "winner_rates_of_submodules": {name: one.rate for name, one in statistics.items()},
              "rules": {name: rule.text() for name, rule in trained.rules.items()},
              "pruned": _pruned(trained.recipe, statistics),
              "macs": {"dense": dense, "winners": sparse, "reduction": macs.reduction(counted)}}
    if trained.rules:
        report["winner_rates"] = run.rates
    weights = {name: one for name, one in sparsity(trained.network).items() if one.zeros}
    if weights:
        static, both = macs.without_zeros(counted)
        report["macs"] |= {"static": static, "static_reduction": 1 - static / dense, "both": both,
                           "both_reduction": 1 - both / dense,
                           "layers": {layer.path: {"dense": layer.dense, "winners": layer.winners,
                                                   "both": layer.winners - layer.winner_zeros} for layer in counted}}
        report["weights"] = {name: {"weights": one.weights, "zeros": one.zeros} for name, one in weights.items()}
    return report


def _pruned(recipe: "Recipe", statistics: "dict[str, WinnerStatistics]") -> dict[str, float]:
    """The fraction of losers among all feature maps and among all neurons that rank, as DASNet counts them."""
    found = {}
    for kind, label in (("conv", "feature_maps"), ("fc", "neurons")):
        ones = [one for name, one in statistics.items() if recipe.ranked.get(name) == kind]
        if ones:
            found[label] = 1 - sum(one.rate * len(one.wins) for one in ones) / sum(len(one.wins) for one in ones)
    return found


def numbers_text(values: dict[str, float]) -> str:
    """Numbers of layers on a line."""
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items())


def text_of(report: dict[str, Any]) -> str:
    """A report as people read it."""
    lines = [f"{report['network']}, {report['source']}, {report['test_images']:,} test images"]
    lines += [f"  {label:14} {report[key]:.2%}" for key, label in
              (("baseline_accuracy", "baseline"), ("pruned_accuracy", "pruned weights")) if key in report]
    for part, found in report["accuracy"].items():
        lines += [f"  {name.replace('_', ' '):14} {value:.2%}{'' if part == 'test' else ', held out'}"
                  for name, value in found.items()]
    if report.get("winner_rates_of_submodules"):
        lines.append(f"  winner rates   {numbers_text(report['winner_rates_of_submodules'])}")
        lines += [f"  {name.replace('_', ' '):14} {value:.1%} pruned" for name, value in report["pruned"].items()]
    found = report["macs"]
    lines.append(f"  MACs           {found['dense']:,} dense, {found['winners']:,.0f} of winners, "
                 f"{found['reduction']:.1%} saved")
    if "weights" in report:
        lines += [f"  MACs, no zeros {found['static']:,} dense, {found['both']:,.0f} of winners, "
                  f"{found['both_reduction']:.1%} saved",
                  "  zero weights   " + ", ".join(f"{name} {one['zeros'] / one['weights']:.1%}"
                                                  for name, one in report["weights"].items())]
    return "\n".join(lines)


def engine_report(network: "QuantizedNetwork", config: "EngineConfig") -> dict[str, Any]:
    """What ``network`` costs on an engine of ``config``, for JSON: the predicted runs, ranking against what it saves,
    and the blocks of weights that are zero. Raises as :func:`sim.predicted_runs.predicted_runs` does."""
    from sim.predicted_runs import predicted_runs
    from sim.ranking_cost import ranking_cost, total

    runs = {}
    for name, layers in predicted_runs(network, config).items():
        read, written = (sum(sum(getattr(layer.predicted, kind).values()) for layer in layers)
                         for kind in ("bytes_read", "bytes_written"))
        runs[name] = {"cycles": sum(layer.predicted.cycles for layer in layers), "bytes": read + written}
        if name in ("dense", "winners"):
            runs[name]["macs"] = sum(layer.products for layer in layers)
    ranking = None
    if "winners" in runs:
        cost = total(ranking_cost(network, config))
        ranking = {name: getattr(cost, name)
                   for name in ("comparisons", "saved_products", "ranking_cycles", "saved_cycles")}
    blocks = {name: {"blocks": found.size, "zero": int(found.sum())}
              for name, found in network.zero_blocks(config.columns).items() if found.any()}
    return {"rows": config.rows, "cols": config.columns, "axi_width": config.axi_data_bits,
            "act_buffer_bytes": config.act_buffer_bytes, "weight_buffer_bytes": config.weight_buffer_bytes,
            "runs": runs, "ranking": ranking, "zero_blocks": blocks}


def engine_text(report: dict[str, Any]) -> str:
    """:func:`engine_report` as people read it."""
    lines = [f"  {name + ' engine':14} {run['cycles']:,.0f} cycles, {run['bytes']:,.0f} bytes, predicted for "
             f"{report['rows']}x{report['cols']}" for name, run in report["runs"].items()]
    if report["zero_blocks"]:
        found = [f"{name} {one['zero'] / one['blocks']:.1%}" for name, one in report["zero_blocks"].items()]
        lines.append(f"  zero blocks    {', '.join(found)}")
    one = report["ranking"]
    if one:
        lines.append(f"  ranking        {one['ranking_cycles']:,.0f} cycles for {one['saved_cycles']:,.0f} saved; "
                     f"{one['comparisons']:,.0f} comparisons for {one['saved_products']:,.0f} multiplications saved "
                     "(Eq. 6, 7)")
    return "\n".join(lines)


def macs_of(engine: dict[str, Any]) -> dict[str, Any]:
    """The MACs of an image as :func:`engine_report` has them."""
    dense = engine["runs"]["dense"]["macs"]
    sparse = engine["runs"].get("winners", engine["runs"]["dense"])["macs"]
    return {"dense": dense, "winners": sparse, "reduction": 1 - sparse / dense}
