"""``winnow train``: a baseline, winners-take-all with fine-tuning, and the int8 network."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scripts.options import INPUT_FILE, OutputPath, Refusal, command_line, progress_of, seed_option

if TYPE_CHECKING:
    from golden.dasnet.finetune import Step
    from golden.dasnet.recipes import Recipe
    from golden.dasnet.trained import Trained
    from golden.dasnet.winners import WinnerStatistics
    from golden.datasets import Dataset
    from golden.network import QuantizedNetwork

data_option = click.option(
    "--data", type=click.Path(file_okay=False, exists=True, path_type=Path), envvar="WINNOW_DATA", show_envvar=True,
    help="Folder of the data set's files.", required=True)
threads_option = click.option("--threads", type=click.IntRange(1),
                              help="Cores of PyTorch; results repeat with the same number.  [default: all]")


@click.command(short_help="Train a network with winners-take-all and quantize it.")
@click.argument("network")
@data_option
@click.option("--winner-energy", "energies", multiple=True, metavar="[LAYER=]E",
              help="Winner rates by cumulative energy (neurons, Eq. 2) and by singular values (channels, Eq. 5) at "
                   "this threshold, for all ranked layers or for one. Several without LAYER are rounds, see "
                   "--max-drop.")
@click.option("--winner-rate", "rates", multiple=True, metavar="[LAYER=]R",
              help="Fixed winner rates, for all ranked layers or for one; layers not named rank nothing.")
@click.option("--max-drop", type=click.FloatRange(0, 1), default=0.01, show_default=True,
              help="Loss of accuracy that ends the rounds: the last one within it is kept.")
@click.option("--score", type=click.Choice(["max", "mean"]), default="max", show_default=True,
              help="What ranks a channel: its largest value (Eq. 4) or its mean (Eq. 3).")
@click.option("--baseline", type=INPUT_FILE, help="Start from this FILE.pt of winnow train, do not train a baseline.")
@click.option("--weights", type=INPUT_FILE, help="Start from published weights (akamaster's resnet20, resnet56).")
@click.option("--epochs", type=click.IntRange(0),
              help="Of fine-tuning with winners; without, of the baseline.  [default: the recipe's]")
@click.option("--download", is_flag=True, help="Fetch files of the data set that are absent, where it is public.")
@click.option("--out", type=OutputPath(".pt"), help="The trained network; NAME.npz and NAME.json stand beside it.  "
                                                   "[default: NETWORK.pt]")
@threads_option
@seed_option
def train(network: str, data: Path, energies: tuple[str, ...], rates: tuple[str, ...], max_drop: float, score: str,
          baseline: Path | None, weights: Path | None, epochs: int | None, download: bool, out: Path | None,
          threads: int | None, seed: int) -> None:
    """Train NETWORK (mlp3, lenet4, convnet5, resnet20, resnet56, alexnet, mobilenet) and quantize it to int8.

    Without --winner-energy and --winner-rate the baseline alone, which ranks nothing. With them the baseline is
    fine-tuned with winners-take-all (DASNet, Fig. 8). Writes NAME.pt (float), NAME.npz (int8, for winnow simulate and
    estimate) and NAME.json (accuracies, rates, MACs). The state is kept in the folder NAME.work after each epoch: after
    Ctrl-C the same command goes on from there.

    \b
    Examples:
      winnow train mlp3 --data DATA --out mlp3.pt
      winnow train mlp3 --data DATA --baseline mlp3.pt --winner-rate relu1=0.06 --winner-rate relu2=0.08 --out das.pt
      winnow train lenet4 --data DATA --winner-energy 0.95 --winner-energy 0.9 --winner-energy 0.85 --max-drop 0.001
      winnow train resnet20 --data DATA --weights resnet20-12fca82f.th --winner-rate 0.5 --epochs 2
    """
    from dataclasses import replace

    import torch

    from golden.checks import JobError
    from golden.dasnet.recipes import recipe
    from golden.datasets import load
    from sim.report import write_json

    plan = recipe(network)
    ranked = tuple(plan.ranked)
    rounds, fixed = _read_rounds(energies, ranked), _read_numbers("--winner-rate", rates, ranked)
    if rounds and fixed:
        raise click.UsageError("--winner-energy, --winner-rate: expected one of them, got both")
    if baseline and weights:
        raise click.UsageError("--baseline, --weights: expected one of them, got both")
    out = out or Path(f"{network}.pt")
    torch.set_num_threads(threads or torch.get_num_threads())
    dataset = load(plan.dataset, data, download=download)
    work = out.with_suffix(".work")
    click.echo(f"{command_line()}  (seed {seed})\n{dataset.source}: {len(dataset.train.labels):,} training images, "
               f"{len(dataset.test.labels):,} test images")

    winners = bool(rounds or fixed)
    schedule = plan.pretraining if winners or epochs is None else replace(plan.pretraining, epochs=epochs)
    tuning = plan.fine_tuning if epochs is None else replace(plan.fine_tuning, epochs=epochs)
    torch.manual_seed(seed)
    try:
        trained = _baseline(network, baseline, weights, schedule, dataset, seed, work)
        before = trained.accuracy(dataset.test, dense=True, progress=progress_of)
        steps = _take_winners(trained, rounds, fixed, tuning, dataset, max_drop, score, seed, work) if winners else []
    except KeyboardInterrupt:
        raise Refusal("interrupted; the same command goes on behind the last whole epoch") from None
    except ValueError as error:
        if isinstance(error, JobError):
            raise
        raise Refusal(str(error)) from None
    quantized = trained.quantize(dataset, seed=seed)
    report = measure(trained, quantized, dataset)
    report |= {"baseline_accuracy": before, "command": command_line(), "seed": seed,
               "rounds": [step.fields() for step in steps]}
    trained.metadata.update(report)
    trained.save(out)
    quantized.metadata.update(report)
    quantized.save(out.with_suffix(".npz"))
    write_json(out.with_suffix(".json"), report)
    shutil.rmtree(work, ignore_errors=True)
    click.echo(f"{text_of(report)}\n{out}, {out.with_suffix('.npz')}, {out.with_suffix('.json')}: written")


def _read_numbers(option: str, stated: Sequence[str], ranked: tuple[str, ...]) -> dict[str, float]:
    """{layer: number} of ``[LAYER=]NUMBER`` options; one without a layer is of all."""
    found: dict[str, float] = {}
    for text in stated:
        layer, _, number = text.rpartition("=")
        if layer and layer not in ranked:
            raise Refusal(f"{option}: expected a layer among {', '.join(ranked)}, got {layer!r}")
        try:
            value = float(number)
        except ValueError:
            value = 0.0
        if not 0 < value <= 1:
            raise Refusal(f"{option}: expected a number above 0, at most 1, got {number!r}")
        found |= {layer: value} if layer else dict.fromkeys(ranked, value)
    return found


def _read_rounds(stated: Sequence[str], ranked: tuple[str, ...]) -> list[dict[str, float]]:
    """The thresholds of each round: of one without a layer, with those of single layers over it."""
    single = [text for text in stated if "=" in text]
    rounds = [_read_numbers("--winner-energy", [text, *single], ranked) for text in stated if "=" not in text]
    return rounds or ([_read_numbers("--winner-energy", single, ranked)] if single else [])


def _baseline(name: str, baseline: Path | None, weights: Path | None, schedule: Any, dataset: "Dataset", seed: int,
              work: Path) -> "Trained":
    """The network before winners are taken: from a file, or trained here."""
    from golden.dasnet.recipes import recipe
    from golden.dasnet.trained import Trained, read_published
    from golden.dasnet.training import train as train_network
    from golden.dasnet.winners import detach

    if baseline:
        trained = Trained.load(baseline)
        if trained.name != name:
            raise Refusal(f"--baseline: expected a {name}, got a {trained.name}")
        detach(trained.network)
        return Trained(name=name, network=trained.network)
    network = recipe(name).build()
    if weights:
        read_published(network, weights)
        return Trained(name=name, network=network)
    work.mkdir(exist_ok=True)
    train_network(network, dataset.train, recipe(name).view, schedule, seed=seed, checkpoint=work / "baseline.pt",
                  progress=progress_of, label="baseline")
    return Trained(name=name, network=network)


def _take_winners(trained: "Trained", rounds: list[dict[str, float]], fixed: dict[str, float], schedule: Any,
                  dataset: "Dataset", max_drop: float, score: str, seed: int, work: Path) -> "list[Step]":
    """Fine-tune with winners, in rounds or at fixed rates."""
    from copy import deepcopy

    from golden.dasnet.finetune import fine_tune, flow

    view = trained.recipe.view
    work.mkdir(exist_ok=True)
    if rounds:
        return flow(trained.network, list(rounds[0]), rounds, dataset.train, dataset.test, view, schedule,
                    max_drop=max_drop, seed=seed, folder=work, progress=progress_of, score=score,
                    report=lambda step: click.echo(f"energies {_numbers(step.energies)}: rates {_numbers(step.rates)}, "
                                                   f"accuracy {step.accuracy:.2%} (-{step.drop:.2%}), "
                                                   f"{step.reduction:.1%} of the MACs saved"))
    fine_tune(trained.network, fixed, dataset.train, view, schedule, seed=seed, checkpoint=work / "winners.pt",
              progress=progress_of, label="winners", score=score, teacher=deepcopy(trained.network))
    return []


def _numbers(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items())


def measure(trained: "Trained", quantized: "QuantizedNetwork", dataset: "Dataset") -> dict[str, Any]:
    """Accuracies on the test images, float and int8, dense and with winners; winner rates; MACs of an image."""
    import torch

    from golden.dasnet import macs
    from golden.dasnet.finetune import winner_statistics
    from golden.dasnet.trained import run_int8
    from golden.dasnet.training import take

    test, view = dataset.test, trained.recipe.view
    names = {"dense": True, "winners": False} if trained.rules else {"dense": True}
    accuracies: dict[str, float] = {}
    for name, dense in names.items():
        accuracies[f"float_{name}"] = trained.accuracy(test, dense=dense, progress=progress_of)
        accuracies[f"int8_{name}"] = run_int8(quantized, test, dense=dense, progress=progress_of).accuracy
    statistics = winner_statistics(trained.network, test, view) if trained.rules else {}
    rates = {name: one.rate for name, one in statistics.items()}
    counted = macs.count(trained.network, view.plain(take(test.images, torch.arange(1))), rates)
    dense, sparse = macs.total(counted)
    return {"network": trained.name, "source": dataset.source, "test_images": len(test.labels),
            "accuracy": {"test": accuracies}, "winner_rates_of_submodules": rates,
            "pruned": _pruned(trained.recipe, statistics),
            "macs": {"dense": dense, "winners": sparse, "reduction": macs.reduction(counted)}}


def _pruned(recipe: "Recipe", statistics: "dict[str, WinnerStatistics]") -> dict[str, float]:
    """The fraction of losers among all feature maps and among all neurons that rank, as DASNet counts them."""
    found = {}
    for kind, label in (("conv", "feature_maps"), ("fc", "neurons")):
        ones = [one for name, one in statistics.items() if recipe.ranked.get(name) == kind]
        if ones:
            found[label] = 1 - sum(one.rate * len(one.wins) for one in ones) / sum(len(one.wins) for one in ones)
    return found


def text_of(report: dict[str, Any]) -> str:
    """A report as people read it."""
    lines = [f"{report['network']}, {report['source']}, {report['test_images']:,} test images"]
    if "baseline_accuracy" in report:
        lines.append(f"  {'baseline':14} {report['baseline_accuracy']:.2%}")
    lines += [f"  {name.replace('_', ' '):14} {value:.2%}" for name, value in report["accuracy"]["test"].items()]
    if report["winner_rates_of_submodules"]:
        lines.append(f"  winner rates   {_numbers(report['winner_rates_of_submodules'])}")
        lines += [f"  {name.replace('_', ' '):14} {value:.1%} pruned" for name, value in report["pruned"].items()]
    found = report["macs"]
    lines.append(f"  MACs           {found['dense']:,} dense, {found['winners']:,.0f} of winners, "
                 f"{found['reduction']:.1%} saved")
    return "\n".join(lines)
