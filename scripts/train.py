"""``winnow train``: a baseline, pruned weights, winners-take-all with fine-tuning, and the int8 network."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scripts.checkpoints import resumable
from scripts.layer_numbers import SCORES, read_numbers, read_rates_and_scores, read_rounds, read_words
from scripts.options import (
    INPUT_FILE,
    OutputPath,
    Refusal,
    command_line,
    engine_config,
    engine_options,
    progress_of,
    seed_option,
)
from scripts.training_report import engine_report, engine_text, measure, numbers_text, text_of

if TYPE_CHECKING:
    from torch import nn

    from golden.dasnet.finetune import Step
    from golden.dasnet.pruning import Layer, Pruning
    from golden.dasnet.recipes import Recipe
    from golden.dasnet.trained import Trained
    from golden.dasnet.training import Schedule
    from golden.datasets import Dataset, Split
    from hw.config import EngineConfig

data_option = click.option(
    "--data", type=click.Path(file_okay=False, exists=True, path_type=Path), envvar="WINNOW_DATA", show_envvar=True,
    help="Folder of the data set's files.", required=True)
threads_option = click.option("--threads", type=click.IntRange(1),
                              help="Cores of PyTorch; results repeat with the same number.  [default: all]")


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What is done to a baseline: {layer: number} of each option, ``rounds`` those of each; ``scores``: of each
    layer that may rank."""

    rounds: list[dict[str, float]]
    rates: dict[str, float]
    neurons: dict[str, float]
    magnitudes: dict[str, float]
    blocks: dict[str, float]
    scores: dict[str, str]

    @property
    def prunes(self) -> bool:
        """Whether weights are set to zero."""
        return bool(self.magnitudes or self.blocks)

    @property
    def ranks(self) -> bool:
        """Whether winners are taken."""
        return bool(self.rounds or self.rates or self.neurons)


@dataclass(frozen=True, kw_only=True)
class Trainings:
    """What all trainings of a command share: ``pretraining`` and ``tuning`` are schedules, ``work`` the folder of
    their checkpoints; ``teacher``: whose outputs fine-tuning matches, None for the baseline."""

    dataset: "Dataset"
    pretraining: "Schedule"
    tuning: "Schedule"
    teacher: "nn.Module | None"
    seed: int
    work: Path


@click.command(short_help="Train a network with winners-take-all and quantize it.")
@click.argument("network")
@data_option
@click.option("--winner-energy", "energies", multiple=True, metavar="[LAYER=]E",
              help="Winner rates by cumulative energy (neurons, Eq. 2) and by singular values (channels, Eq. 5) at "
                   "this threshold, for all ranked layers or for one. Several without LAYER are rounds, see "
                   "--max-drop.")
@click.option("--winner-rate", "rates", multiple=True, metavar="[LAYER=]R",
              help="Fixed winner rates, for all ranked layers or for one; layers not named rank nothing.")
@click.option("--winner-rates", "rates_path", type=INPUT_FILE, metavar="FILE.json",
              help="The same and the scores of each layer from a file of winnow winners --save-macs, or {\"LAYER\": "
                   "rate}.")
@click.option("--neuron-energy", "neurons", multiple=True, metavar="[LAYER=]E",
              help="Fully connected layers, all ranked ones or this one, choose for each input as many winners as "
                   "have this cumulative energy (Eq. 2), not a fixed number.")
@click.option("--max-drop", type=click.FloatRange(0, 1), default=0.01, show_default=True,
              help="Loss of accuracy that ends the rounds: the last one within it is kept.")
@click.option("--score", "scores", multiple=True, metavar="[LAYER=]S",
              help="What ranks channels, of all ranked layers or of one: max, their largest value (Eq. 4), or mean "
                   "(Eq. 3).  [default: max]")
@click.option("--prune", "magnitudes", multiple=True, metavar="[LAYER=]S",
              help="Leave out this fraction of the weights, the smallest, of all fully connected layers or of one "
                   "layer, before winners are taken.")
@click.option("--prune-blocks", "blocks", multiple=True, metavar="[LAYER=]S",
              help="Leave out this fraction of the blocks of weights, --cols output channels of an input channel, "
                   "which the engine then skips: of one layer, or of all but the first, the last and depthwise ones.")
@click.option("--baseline", type=INPUT_FILE,
              help="Start from this FILE.pt of winnow train, do not train a baseline; its zero weights stay zero. Of "
                   "one with winners, which it loses, the accuracy of its own baseline is reported.")
@click.option("--teacher", type=INPUT_FILE,
              help="The network of this FILE.pt, dense, whose outputs fine-tuning matches.  [default: the baseline]")
@click.option("--weights", type=INPUT_FILE,
              help="Train the baseline from published weights (akamaster's resnet20, resnet56).")
@click.option("--epochs", type=click.IntRange(0),
              help="Of each fine-tuning; where there is none, of the baseline.  [default: the recipe's]")
@click.option("--learning-rate", type=click.FloatRange(0, 1, min_open=True),
              help="The same of the learning rate at the start, which falls to zero.  [default: the recipe's]")
@click.option("--gradual", type=click.FloatRange(0, 1), metavar="FRACTION",
              help="Of each fine-tuning: in which fixed winner rates fall evenly from 1 to their own.  "
                   "[default: the recipe's]")
@click.option("--hold-out", is_flag=True,
              help="Do not train on the 5,000 MNIST digits that are bundled, and report the accuracy on them.")
@click.option("--download", is_flag=True, help="Fetch files of the data set that are absent, where it is public.")
@click.option("--out", type=OutputPath(".pt"), help="The trained network; NAME.npz and NAME.json stand beside it.  "
                                                   "[default: NETWORK.pt]")
@click.option("--plot", type=OutputPath(".png"), help="Draw accuracy against MACs of the rounds of --winner-energy.")
@engine_options
@threads_option
@seed_option
def train(network: str, data: Path, energies: tuple[str, ...], rates: tuple[str, ...], rates_path: Path | None,
          neurons: tuple[str, ...], max_drop: float, scores: tuple[str, ...], magnitudes: tuple[str, ...],
          blocks: tuple[str, ...], baseline: Path | None, teacher: Path | None, weights: Path | None,
          epochs: int | None, learning_rate: float | None, gradual: float | None, hold_out: bool, download: bool,
          out: Path | None, plot: Path | None, threads: int | None, seed: int, **sizes: Any) -> None:
    """Train NETWORK (mlp3, lenet4, convnet5, resnet20, resnet56, alexnet, mobilenet) and quantize it to int8.

    By itself the baseline alone, which ranks nothing and has all its weights. With --prune or --prune-blocks weights of
    the baseline are set to zero and it is fine-tuned, they staying zero. With --winner-energy, --winner-rate or
    --neuron-energy the network, pruned or not, is then fine-tuned with winners-take-all (DASNet, Fig. 8). Writes
    NAME.pt (float), NAME.npz (int8, for winnow simulate and estimate) and NAME.json (accuracies, rates, MACs, cycles
    and bytes that the model predicts for an engine of the sizes given). The state is kept in the folder NAME.work after
    each epoch: after Ctrl-C the same command goes on from there.

    \b
    Examples:
      winnow train mlp3 --data DATA --out mlp3.pt
      winnow train mlp3 --data DATA --baseline mlp3.pt --winner-rate relu1=0.06 --winner-rate relu2=0.08 --out das.pt
      winnow train lenet4 --data DATA --winner-energy 0.95 --winner-energy 0.9 --winner-energy 0.85 --max-drop 0.001
      winnow train lenet4 --data DATA --prune 0.8 --winner-rate 0.5
      winnow train alexnet --data DATA --prune-blocks 0.5 --rows 8 --cols 16
      winnow train resnet20 --data DATA --weights resnet20-12fca82f.th --winner-rate 0.5 --epochs 2
      winnow train resnet56 --data DATA --baseline base.pt --winner-rates rates.json
      winnow train resnet56 --data DATA --baseline resnet56.pt --teacher base.pt --winner-rates rates.json
    """
    import torch

    from golden.dasnet.recipes import recipe
    from golden.datasets import load

    config, plan = engine_config(**sizes), recipe(network)
    _refuse_contradictions(energies=energies, rates=rates, rates_path=rates_path, scores=scores, baseline=baseline,
                           weights=weights, plot=plot, gradual=gradual)
    changes = _read_changes(plan, energies=energies, rates=rates, rates_path=rates_path, neurons=neurons,
                            magnitudes=magnitudes, blocks=blocks, scores=scores)
    if teacher and not (changes.ranks or changes.prunes):
        raise click.UsageError("--teacher: expected winners or --prune to fine-tune for, got neither")
    if hold_out and plan.dataset != "mnist":
        raise click.UsageError(f"--hold-out: expected a network of mnist, got one of {plan.dataset}")
    out = out or Path(f"{network}.pt")
    torch.set_num_threads(threads or torch.get_num_threads())
    dataset, held = load(plan.dataset, data, download=download), None
    if hold_out:
        from golden import digits

        held = digits.bundled()
        dataset = digits.hold_out(dataset, held)
    click.echo(f"{command_line()}  (seed {seed})\n{dataset.source}: {len(dataset.train.labels):,} training images, "
               f"{len(dataset.test.labels):,} test images")

    trainings = _trainings(plan, changes, dataset, seed, out.with_suffix(".work"),
                           teacher and _dense("--teacher", teacher, network).network, epochs=epochs,
                           learning_rate=learning_rate, gradual=gradual)
    torch.manual_seed(seed)
    measured = {}
    with resumable(trainings.work, vars(changes) | {
            "network": network, "seed": seed, "baseline": str(baseline), "teacher": str(teacher),
            "weights": str(weights), "columns": config.columns, "hold_out": hold_out}):
        trained = _baseline(network, baseline, weights, trainings)
        measured |= _before(trained, dataset)
        pruning = _prune(trained, changes, config.columns, trainings)
        if changes.prunes:
            measured["pruned_accuracy"] = trained.accuracy(dataset.test, dense=True, progress=progress_of)
        steps = _take_winners(trained, changes, max_drop, trainings, pruning)
    measured |= {"training_images": len(dataset.train.labels), "hold_out": hold_out, "command": command_line(),
                 "seed": seed, "rounds": [step.fields() for step in steps]}
    text = _write(trained, measured, config, dataset, held, out, seed)
    if plot:
        from golden.dasnet.plots import plot_rounds

        plot_rounds(steps, max_drop=max_drop, title=f"{network}, {dataset.source}: rounds").savefig(plot)
    shutil.rmtree(trainings.work, ignore_errors=True)
    click.echo(f"{text}\n{', '.join(str(out.with_suffix(suffix)) for suffix in ('.pt', '.npz', '.json'))}: written")


# What is to be done


def _read_changes(plan: "Recipe", *, energies: tuple[str, ...], rates: tuple[str, ...], rates_path: Path | None,
                  neurons: tuple[str, ...], magnitudes: tuple[str, ...], blocks: tuple[str, ...],
                  scores: tuple[str, ...]) -> Changes:
    """The options that name layers. Raises Refusal or JobError."""
    from golden.dasnet.pruning import prunable

    ranked, layers = tuple(plan.ranked), prunable(plan.build())
    own = read_numbers("--neuron-energy", neurons, [name for name, kind in plan.ranked.items() if kind == "fc"])
    others = [name for name in ranked if name not in own]
    if rates_path:
        stated, score_of = read_rates_and_scores("--winner-rates", rates_path, ranked)
    else:
        stated = read_numbers("--winner-rate", rates, ranked)
        score_of = read_words("--score", scores, ranked, SCORES)
    weighted = {"layers": tuple(layers), "whole": False}
    return Changes(
        rounds=[{name: one[name] for name in others if name in one}
                for one in read_rounds("--winner-energy", energies, ranked)],
        rates={name: rate for name, rate in stated.items() if name in others},
        neurons=own,
        magnitudes=read_numbers("--prune", magnitudes, everyone=_fully_connected(layers), **weighted),
        blocks=read_numbers("--prune-blocks", blocks, everyone=_with_blocks(layers), **weighted),
        scores=score_of)


def _fully_connected(layers: "Mapping[str, Layer]") -> list[str]:
    """The layers that --prune is of where it names none."""
    from torch import nn

    return [path for path, layer in layers.items() if isinstance(layer, nn.Linear)]


def _with_blocks(layers: "Mapping[str, Layer]") -> list[str]:
    """The layers that --prune-blocks is of where it names none.

    Without the first and the last, whose few inputs or outputs the network needs, and those that run on the vector
    unit, which leaves no blocks out.
    """
    return [path for path, layer in list(layers.items())[1:-1] if getattr(layer, "groups", 1) == 1]


def _refuse_contradictions(*, energies: tuple[str, ...], rates: tuple[str, ...], rates_path: Path | None,
                           scores: tuple[str, ...], baseline: Path | None, weights: Path | None, plot: Path | None,
                           gradual: float | None) -> None:
    for names, stated in (("--winner-energy, --winner-rate", (energies, rates)),
                          ("--winner-energy, --winner-rates", (energies, rates_path)),
                          ("--winner-rate, --winner-rates", (rates, rates_path)),
                          ("--score, --winner-rates", (scores, rates_path)),
                          ("--baseline, --weights", (baseline, weights))):
        if all(stated):
            raise click.UsageError(f"{names}: expected one of them, got both")
    if gradual is not None and not rates and not rates_path and not energies:
        raise click.UsageError("--gradual: expected --winner-rate or --winner-energy, got none")
    if plot and not energies:
        raise click.UsageError("--plot: expected rounds of --winner-energy, got none")


def _trainings(plan: "Recipe", changes: Changes, dataset: "Dataset", seed: int, work: Path,
               teacher: "nn.Module | None", **fields: float | None) -> Trainings:
    """The recipe's schedules, with those ``fields`` that are not None: of the fine-tunings, if there are any, or else
    of the baseline."""
    from dataclasses import replace

    stated = {name: value for name, value in fields.items() if value is not None}
    pretraining, tuning = plan.pretraining, plan.fine_tuning
    if changes.ranks or changes.prunes:
        tuning = replace(tuning, **stated)
    else:
        pretraining = replace(pretraining, **stated)
    return Trainings(dataset=dataset, pretraining=pretraining, tuning=tuning, seed=seed, work=work,
                     teacher=teacher)


# What is done


def _baseline(name: str, baseline: Path | None, weights: Path | None, trainings: Trainings) -> "Trained":
    """The network before anything is left out: from a file, or trained here."""
    from golden.dasnet.recipes import recipe
    from golden.dasnet.trained import Trained, read_published
    from golden.dasnet.training import train as train_network

    if baseline:
        return _dense("--baseline", baseline, name)
    network = recipe(name).build()
    if weights:
        read_published(network, weights)
    train_network(network, trainings.dataset.train, recipe(name).view, trainings.pretraining, seed=trainings.seed,
                  checkpoint=trainings.work / "baseline.pt", progress=progress_of, label="baseline")
    return Trained(name=name, network=network)


def _dense(option: str, path: Path, name: str) -> "Trained":
    """The network of a file without its winners. Raises Refusal for another network than ``name``."""
    from golden.dasnet.trained import Trained
    from golden.dasnet.winners import detach

    trained = Trained.load(path)
    if trained.name != name:
        raise Refusal(f"{option}: expected a {name}, got a {trained.name}")
    detach(trained.network)
    return trained


def _before(trained: "Trained", dataset: "Dataset") -> dict[str, Any]:
    """The accuracy of the baseline. Where FILE.pt of --baseline has itself been fine-tuned with winners: that of the
    first baseline, and the commands since then. Takes the metadata of FILE.pt off ``trained``."""
    earlier, trained.metadata = trained.metadata, {}
    if earlier.get("rules") and earlier["source"] == dataset.source:
        return {"baseline_accuracy": earlier["baseline_accuracy"],
                "earlier_commands": [*earlier.get("earlier_commands", []), earlier["command"]]}
    return {"baseline_accuracy": trained.accuracy(dataset.test, dense=True, progress=progress_of)}


def _prune(trained: "Trained", changes: Changes, columns: int, trainings: Trainings) -> "Pruning | None":
    """Set weights to zero and fine-tune the others; what keeps zeros zero, None where there are none."""
    from copy import deepcopy

    import torch

    from golden.dasnet.pruning import Pruning, prune, zero_masks
    from golden.dasnet.training import take
    from golden.dasnet.training import train as train_network

    network, view = trained.network, trained.recipe.view
    if not changes.prunes:
        masks = zero_masks(network)
        return Pruning(network, masks) if masks else None
    teacher = trainings.teacher or deepcopy(network)
    pruning = prune(network, view.plain(take(trainings.dataset.test.images, torch.arange(1))),
                    magnitudes=changes.magnitudes, blocks=changes.blocks, columns=columns)
    train_network(network, trainings.dataset.train, view, trainings.tuning, seed=trainings.seed,
                  checkpoint=trainings.work / "pruned.pt", progress=progress_of, label="pruned", teacher=teacher,
                  after_step=pruning.apply)
    return pruning


def _take_winners(trained: "Trained", changes: Changes, max_drop: float, trainings: Trainings,
                  pruning: "Pruning | None") -> "list[Step]":
    """Fine-tune with winners, in rounds or at fixed rates."""
    from copy import deepcopy

    from golden.dasnet.finetune import fine_tune, flow, rules_of
    from golden.winner_rule import WinnerRule

    if not changes.ranks:
        return []
    dataset, view = trainings.dataset, trained.recipe.view
    rules = {name: WinnerRule(select="energy", eps=energy) for name, energy in changes.neurons.items()}
    shared = {"seed": trainings.seed, "progress": progress_of, "after_step": pruning and pruning.apply}
    if changes.rounds:
        return flow(trained.network, list(changes.rounds[0]), changes.rounds, dataset.train, dataset.test, view,
                    trainings.tuning, max_drop=max_drop, folder=trainings.work, score=changes.scores, rules=rules,
                    teacher=trainings.teacher,
                    report=lambda step: click.echo(f"energies {numbers_text(step.energies)}: "
                                                   f"rates {numbers_text(step.rates)}, "
                                                   f"accuracy {step.accuracy:.2%} ({-step.drop:+.2%}), "
                                                   f"{step.reduction:.1%} of the MACs saved"), **shared)
    fine_tune(trained.network, rules_of(changes.rates, changes.scores) | rules, dataset.train, view, trainings.tuning,
              checkpoint=trainings.work / "winners.pt", label="winners",
              teacher=trainings.teacher or deepcopy(trained.network), **shared)
    return []


def _write(trained: "Trained", measured: dict[str, Any], config: "EngineConfig", dataset: "Dataset",
           held: "Split | None", out: Path, seed: int) -> str:
    """Quantize, measure, and write the three files; returns the report as people read it."""
    from hw.plan import PlanError
    from sim.report import write_json

    quantized = trained.quantize(dataset, seed=seed)
    report = measure(trained, quantized, dataset, held) | measured
    trained.metadata.update(report)
    trained.save(out)
    quantized.metadata.update(report)
    quantized.save(out.with_suffix(".npz"))
    text = text_of(report)
    try:
        report["engine"] = engine_report(quantized, config)
        text += f"\n{engine_text(report['engine'])}"
    except PlanError as error:  # What has been trained is worth more than an engine that it does not fit.
        text += f"\n  no engine      {error}"
    write_json(out.with_suffix(".json"), report)
    return text
