"""``winnow simulate``: one image through a network in RTL, dense and sparse, bit for bit."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scripts.options import (
    Failure,
    OutputPath,
    Refusal,
    command_line,
    engine_config,
    engine_options,
    json_option,
    load_network,
    memory_option,
    open_simulator,
    progress_bar,
    progress_of,
    seed_option,
    winner_options,
    with_winners,
)

if TYPE_CHECKING:
    import numpy as np

    from golden.datasets import Split
    from golden.network import QuantizedNetwork
    from golden.result import LayerResult
    from hw.config import EngineConfig
    from sim.execute import Outcome
    from sim.network import GoldenLayer
    from sim.report import Measure


@click.command()
@click.argument("network", metavar="NETWORK")
@click.option("--image", "index", type=click.IntRange(min=0), help="Which of the digits.  [default: 0]")
@click.option("--dense", "dense_only", is_flag=True, help="The dense run alone: nothing is ranked or skipped.")
@click.option("--layer", "layer_names", metavar="NAME", multiple=True,
              help="This layer alone, on the golden model's inputs and masks; may be given several times.")
@click.option("--sample-layers", "samples", type=click.IntRange(min=1), metavar="N",
              help="Simulate N layers alone, drawn evenly over the predicted cycles; the model predicts the others.")
@click.option("--keep-outputs", is_flag=True,
              help="Write outputs that stay on chip for the next layer to memory, too, and compare them.")
@winner_options
@engine_options
@memory_option("fast")
@seed_option
@click.option("--waves", type=click.Path(file_okay=False, path_type=Path),
              help="Folder for the waveforms, winnow.fst (slower, and large).")
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), envvar="WINNOW_DATA",
              show_envvar=True, help="Folder of MNIST's idx files: its 10,000 test digits, not the 5,000 bundled.")
@click.option("--accuracy/--no-accuracy", "with_accuracy", default=False, show_default=True,
              help="Measure the int8 network's accuracy on all the digits (half a minute).")
@json_option
@click.option("--plot", type=OutputPath(".png"), help="Draw cycles and bytes of each layer.")
def simulate(network: str, index: int | None, dense_only: bool, layer_names: tuple[str, ...], samples: int | None,
             keep_outputs: bool, winner_rate: float | None, rates_path: Path | None, memory: str, seed: int,
             waves: Path | None, data: Path | None, with_accuracy: bool, json_path: Path | None, plot: Path | None,
             **sizes) -> None:
    """Run one image through a network in RTL, as one program, dense and with winners-take-all.

    NETWORK is a name (lenet4, resnet18, mobilenet_v1_0.25_128, ...), NETWORK.json or NETWORK.npz (docs/network.md).
    Every layer's output, scores and winners are compared with the golden model; exit code 1 when a byte differs. An
    output that stays on chip shows in its scores and in the next layer only, unless --keep-outputs. A network that
    takes no digit gets random pixels of --seed. Networks by name but lenet4 have random weights: cycles, bytes and
    bit-exactness are real, classes are not. The engine is compiled at the first use of its sizes, which takes some 25
    seconds or more, and then kept.

    \b
    Examples:
      winnow simulate lenet4
      winnow simulate lenet4 --image 1234 --accuracy --json lenet4.json --plot lenet4.png
      winnow simulate lenet4 --layer conv2 --rows 8 --waves waves
      winnow simulate mobilenet_v1_0.25_128 --rows 7 --cols 32 --winner-rate 0.5
      winnow simulate vgg16 --sample-layers 4
    """
    config = engine_config(**sizes)
    if layer_names and samples:
        raise click.UsageError("--layer, --sample-layers: expected one of them, got both")
    if plot and dense_only:
        raise click.UsageError("--plot: expected no --dense, the plot compares dense and sparse")
    model = with_winners(load_network(network), winner_rate, rates_path)

    import sim.report as report
    from sim.network import engine_for, recording, sample_layers

    config = engine_for(model, config)

    runs = ("dense",) if dense_only else ("dense", "sparse")
    layers = [node.name for node in model.layers if node.op != "concat"]
    for name in layer_names:
        if name not in layers:
            raise Refusal(f"--layer: expected one of {', '.join(layers)}, got {name}")
    whole = not layer_names and not samples
    if whole:
        config = recording(config, len(layers))
    alone = sample_layers(model, config, samples, seed) if samples else list(layer_names)
    digits, pixels, label = _image(model, index, data, seed, with_accuracy)
    golden, results = _golden(model, pixels, runs, alone, to_end=samples is not None)
    outcomes, unseen = _run(model, golden, config, memory, seed, waves, whole, keep_outputs)
    measures = {run: [measure for outcome in found for measure in outcome.measures] for run, found in outcomes.items()}
    if samples:
        measures = {run: _with_predictions(model, config, found, results[run], run == "dense")
                    for run, found in measures.items()}

    what = model.name + (f", alone: {', '.join(alone)}" if alone else "")
    click.echo(f"{what}; {config.rows}x{config.columns} array, {config.axi_data_bits}-bit AXI, {memory} memory")
    if model.weights_are_random:
        click.echo(f"Random weights (seed {model.seed}): cycles, bytes and bit-exactness are real, classes are not")
    if samples:
        click.echo(f"{len(alone)} of {len(layers)} layers simulated, the others by the analytical model (model)")
    cycles = (report.cycles_table(measures["dense"]) if dense_only
              else report.comparison_table(measures["dense"], measures["sparse"]))
    click.echo(f"\nCycles\n{cycles}\n\nBytes\n{report.bytes_table(measures)}\n")
    simulated = {run: [one for outcome in found for one in outcome.measures] for run, found in outcomes.items()}
    click.echo(f"Where the cycles went\n{report.stall_table(simulated)}\n")

    summary: dict[str, Any] = {
        "network": model.name, "weights_are_random": model.weights_are_random,
        "weights_seed": model.seed if model.weights_are_random else None, "layers_alone": alone or None,
        "image": index or 0, "label": label}
    if whole and not model.weights_are_random:
        summary["predicted_class"] = {run: int(found[0].results[-1].output.argmax()) for run, found in outcomes.items()}
        click.echo(_classes(summary["predicted_class"], label))
    summary["accuracy"] = _accuracy(model, digits if with_accuracy else None)
    every = [outcome for found in outcomes.values() for outcome in found]
    clock, seconds = (sum(getattr(outcome, name) for outcome in every) for name in ("cycles_simulated", "seconds"))
    click.echo(f"Simulated {clock:,} cycles in {seconds:.1f} s ({clock / seconds:,.0f} cycles a second)")
    differences = [f"{run}: {line}" for run, found in outcomes.items() for outcome in found
                   for line in outcome.differences]
    click.echo(f"Bit-exact, every {'' if whole else 'simulated '}layer's output, scores and winners: "
               + ("NO" if differences else "yes") + _unseen(unseen))

    if json_path:
        report.write_json(json_path, summary | _details(measures, dense_only, alone) | {
            "rows": config.rows, "cols": config.columns, "axi_width": config.axi_data_bits,
            "act_buffer_bytes": config.act_buffer_bytes, "weight_buffer_bytes": config.weight_buffer_bytes,
            "memory": memory, "seed": seed, "command": command_line(), "cycles_simulated": clock,
            "seconds": seconds, "bit_exact": not differences, "differences": differences,
            "outputs_on_chip": unseen})
    if plot:
        from sim.plots import plot_comparison

        plot_comparison(plot, title=f"{what} on a {config.rows}x{config.columns} array",
                        dense=measures["dense"], sparse=measures["sparse"])
    if differences:
        raise Failure(f"not bit-exact: {differences[0]}")


def _image(model: "QuantizedNetwork", index: int | None, data: Path | None, seed: int,
           with_accuracy: bool) -> tuple["Split | None", "np.ndarray", int | None]:
    """The digits, an image int8 [C,H,W], and its label; random pixels without digits or label for other inputs."""
    import numpy as np

    from golden import digits
    from golden.datasets import load
    from golden.preprocess import quantize_pixels

    if model.input.shape != (1, digits.SIZE, digits.SIZE):
        if index is not None or with_accuracy:
            raise Refusal(f"--image, --accuracy: expected a network whose input is a digit [1, 28, 28], "
                          f"got one of {list(model.input.shape)}")
        return None, np.random.default_rng(seed).integers(-128, 128, model.input.shape, np.int8), None
    found = load("mnist", data).test if data else digits.bundled()
    index = index or 0
    if index >= len(found.labels):
        raise Refusal(f"--image: expected 0..{len(found.labels) - 1}, got {index}")
    return found, quantize_pixels(model, found.images[index:index + 1])[0], int(found.labels[index])


def _golden(model: "QuantizedNetwork", pixels: "np.ndarray", runs: Sequence[str], alone: Sequence[str], *,
            to_end: bool) -> "tuple[dict[str, list[GoldenLayer]], dict[str, dict[str, LayerResult]]]":
    """Of each run the layers ``alone``, or all if there are none, and the results of every layer.

    It goes on to the network's end where all layers are wanted, or ``to_end``.
    """
    from sim.network import golden_layers

    kept, results = {}, {}
    wanted = set(alone) or {node.name for node in model.layers}
    products = sum(node.macs for node in model.layers)
    with progress_bar("golden model", products * len(runs), "products") as move:
        for number, run in enumerate(runs):
            kept[run], results[run], done = [], {}, number * products
            for layer in golden_layers(model, pixels, dense=run == "dense"):
                results[run][layer.node.name] = layer.result
                if layer.node.name in wanted:
                    kept[run].append(layer)
                done += layer.node.macs
                move(done)
                if len(kept[run]) == len(wanted) and not to_end:
                    break
    return kept, results


def _run(model: "QuantizedNetwork", golden: "Mapping[str, Sequence[GoldenLayer]]", config: "EngineConfig", memory: str,
         seed: int, waves: Path | None, whole: bool,
         keep_outputs: bool) -> "tuple[dict[str, list[Outcome]], dict[str, list[str]]]":
    """Each run's outcomes, of the whole network or of each layer alone, with a progress bar of simulated cycles.

    And of each run the layers whose output stays on chip, so that only its scores and winners are compared.
    """
    from sim.execute import execute
    from sim.network import layer_chain, network_chain

    chains = {}
    for run, layers in golden.items():
        dense = run == "dense"
        chains[run] = ([network_chain(model, layers, config, dense=dense, keep_outputs=keep_outputs)] if whole
                       else [layer_chain(layer, config, dense=dense) for layer in layers])
    every = [chain for found in chains.values() for chain in found]
    simulator = open_simulator(config, memory, waves)
    with progress_bar("simulating", sum(chain.predicted_cycles for chain in every), "cycles") as move:
        outcomes = iter(execute(simulator, every, seed=seed, progress=lambda _, cycles: move(cycles)))
    unseen = {run: [name for chain in found for name, work in zip(chain.names, chain.workloads, strict=True)
                    if not work.in_memory] for run, found in chains.items()}
    return {run: [next(outcomes) for _ in found] for run, found in chains.items()}, unseen


def _unseen(names: dict[str, list[str]]) -> str:
    """What is to be said about outputs that stay on chip."""
    count = max(map(len, names.values()))
    return f" (outputs of {count} layers stay on chip; --keep-outputs compares them, too)" if count else ""


def _with_predictions(model: "QuantizedNetwork", config: "EngineConfig", simulated: "Sequence[Measure]",
                      results: "Mapping[str, LayerResult]", dense: bool) -> "list[Measure]":
    """All layers in order: what was simulated, and the analytical model's figures of the others."""
    from sim.network import estimate_network, predicted_measure

    found = {one.name: one for one in simulated}
    return [found.get(one.name) or predicted_measure(one, config)
            for one in estimate_network(model, config, dense=dense, results=results)]


def _accuracy(model: "QuantizedNetwork", found: "Split | None") -> dict[str, Any]:
    """The accuracies recorded with the network, and those measured on the digits ``found`` (None: not measured)."""
    from golden.int8_images import run_images

    result = {"recorded": model.metadata.get("accuracy")}
    for part, values in (result["recorded"] or {}).items():
        click.echo(f"Accuracy recorded on {part.replace('_', '-')} digits: {_percentages(values)}")
    if found is None:
        return result
    right = {f"int8_{name}": run_images(model, found, dense=name == "dense", progress=progress_of).accuracy
             for name in ("dense", "winners")}
    result["measured"] = {"digits": len(found.labels)} | right
    click.echo(f"Accuracy measured now on {len(found.labels):,} digits: {_percentages(right)}")
    return result


def _percentages(accuracies: Mapping[str, float]) -> str:
    texts = {"int8_dense": "dense", "int8_winners": "with winners-take-all"}
    return ", ".join(f"{100 * accuracies[name]:.2f} % {text}" for name, text in texts.items() if name in accuracies)


def _classes(classes: dict[str, int], label: int | None) -> str:
    found = ", ".join(f"{value} {name}" for name, value in classes.items())
    return f"Class: {found}" + ("" if label is None else f"; the label is {label}")


def _details(measures: "Mapping[str, Sequence[Measure]]", dense_only: bool, alone: Sequence[str]) -> dict[str, Any]:
    """Every layer and the total for JSON; ``simulated`` says whether in RTL."""
    import sim.report as report

    whole = {name: report.with_total(layers) for name, layers in measures.items()}
    lines = [{"name": one.name, "dense": one.fields()} for one in whole["dense"]]
    if not dense_only:
        compared = report.compare(measures["dense"], measures["sparse"])
        lines = [line.fields() | {"dense": one.fields(), "sparse": two.fields()}
                 for line, one, two in zip(compared, whole["dense"], whole["sparse"], strict=True)]
    count = len(measures["dense"])
    return {"layers": [line | {"simulated": not alone or line["name"] in alone} for line in lines[:count]],
            "total": lines[-1]}
