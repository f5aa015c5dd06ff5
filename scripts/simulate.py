"""``winnow simulate``: one image through a whole network in RTL, dense and sparse, bit for bit."""

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
    memory_option,
    open_simulator,
    progress_bar,
    seed_option,
)

if TYPE_CHECKING:
    import numpy as np

    from golden.digits import Digits
    from golden.network import QuantizedNetwork
    from sim.execute import Chain, Outcome

IMAGES_AT_ONCE = 250


@click.command()
@click.argument("network", metavar="lenet4|NETWORK.npz")
@click.option("--image", "index", type=click.IntRange(min=0), help="Which of the digits.  [default: 0]")
@click.option("--dense", "dense_only", is_flag=True, help="The dense run alone: nothing is ranked or skipped.")
@click.option("--layer", "layer_name", metavar="NAME", help="This layer alone, on the golden model's input and mask.")
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
def simulate(network: str, index: int | None, dense_only: bool, layer_name: str | None, memory: str, seed: int,
             waves: Path | None, data: Path | None, with_accuracy: bool, json_path: Path | None, plot: Path | None,
             **sizes) -> None:
    """Run one image through a network in RTL, as one program, dense and with winners-take-all.

    Every layer's output, scores and winners are compared with the golden model; exit code 1 when a byte differs.
    NETWORK.npz is a quantized network (golden.network); one whose input is no digit gets random pixels of --seed.
    The engine is compiled at the first use of its sizes, which takes some 25 seconds or more, and then kept.

    \b
    Examples:
      winnow simulate lenet4
      winnow simulate lenet4 --image 1234 --accuracy --json lenet4.json --plot lenet4.png
      winnow simulate lenet4 --layer conv2 --rows 8 --waves waves
    """
    config = engine_config(**sizes)

    import sim.report as report

    model = _load(network)
    if plot and dense_only:
        raise click.UsageError("--plot: expected no --dense, the plot compares dense and sparse")
    digits, pixels, label = _image(model, index, data, seed, with_accuracy)
    chains = _chains(model, pixels, config, dense_only, layer_name)
    outcomes, seconds = _run(open_simulator(config, memory, waves), chains, seed)
    measures = {name: outcome.measures for name, outcome in outcomes.items()}

    what = model.name + (f", layer {layer_name} alone" if layer_name else "")
    click.echo(f"{what}; {config.rows}x{config.columns} array, {config.axi_data_bits}-bit AXI, {memory} memory\n")
    cycles = (report.cycles_table(measures["dense"]) if dense_only
              else report.comparison_table(measures["dense"], measures["sparse"]))
    click.echo(f"Cycles\n{cycles}\n\nBytes\n{report.bytes_table(measures)}\n")
    click.echo(f"Where the cycles went\n{report.stall_table(measures)}\n")

    summary: dict[str, Any] = {"network": model.name, "layer": layer_name, "image": index or 0, "label": label}
    if not layer_name:
        summary["predicted_class"] = {name: int(outcome.results[-1].output.argmax())
                                      for name, outcome in outcomes.items()}
        click.echo(_classes(summary["predicted_class"], label))
    summary["accuracy"] = _accuracy(model, digits if with_accuracy else None)
    simulated = sum(outcome.cycles_simulated for outcome in outcomes.values())
    click.echo(f"Simulated {simulated:,} cycles in {seconds:.1f} s ({simulated / seconds:,.0f} cycles a second)")
    differences = [f"{name}: {line}" for name, outcome in outcomes.items() for line in outcome.differences]
    click.echo("Bit-exact, every layer's output, scores and winners: " + ("NO" if differences else "yes"))

    if json_path:
        report.write_json(json_path, summary | _details(measures, dense_only) | {
            "rows": config.rows, "cols": config.columns, "axi_width": config.axi_data_bits,
            "act_buffer_bytes": config.act_buffer_bytes, "weight_buffer_bytes": config.weight_buffer_bytes,
            "memory": memory, "seed": seed, "command": command_line(), "cycles_simulated": simulated,
            "seconds": seconds, "bit_exact": not differences, "differences": differences})
    if plot:
        from sim.plots import plot_comparison

        plot_comparison(plot, title=f"{what} on a {config.rows}x{config.columns} array",
                        dense=measures["dense"], sparse=measures["sparse"])
    if differences:
        raise Failure(f"not bit-exact: {differences[0]}")


def _load(network: str) -> "QuantizedNetwork":
    from golden.lenet import MODEL_PATH
    from golden.network import QuantizedNetwork

    if network != "lenet4" and not Path(network).is_file():
        raise Refusal(f"{network}: expected lenet4 or an existing file NETWORK.npz, got no such file")
    return QuantizedNetwork.load(MODEL_PATH if network == "lenet4" else network)


def _image(model: "QuantizedNetwork", index: int | None, data: Path | None, seed: int,
           with_accuracy: bool) -> tuple["Digits | None", "np.ndarray", int | None]:
    """The digits, an image int8 [C,H,W], and its label; random pixels without digits or label for other inputs."""
    import numpy as np

    from golden import digits
    from golden.quantization import quantize_pixels

    if model.input.shape != (1, digits.SIZE, digits.SIZE):
        if index is not None or with_accuracy:
            raise Refusal(f"--image, --accuracy: expected a network whose input is a digit [1, 28, 28], "
                          f"got one of {list(model.input.shape)}")
        return None, np.random.default_rng(seed).integers(-128, 128, model.input.shape, np.int8), None
    found = digits.test_set(data) if data else digits.held_out()
    index = index or 0
    if index >= len(found.labels):
        raise Refusal(f"--image: expected 0..{len(found.labels) - 1}, got {index}")
    return found, quantize_pixels(found.images[index:index + 1])[0], int(found.labels[index])


def _chains(model: "QuantizedNetwork", pixels: "np.ndarray", config, dense_only: bool,
            layer_name: str | None) -> dict[str, "Chain"]:
    """The programs to run: dense, and sparse unless ``dense_only``; of one layer if it is named."""
    from sim.execute import Chain

    names = [layer.name for layer in model.layers]
    if layer_name is not None and layer_name not in names:
        raise Refusal(f"--layer: expected one of {', '.join(names)}, got {layer_name}")
    if layer_name is None and len(names) > config.profile_layers:
        raise Refusal(f"{model.name}: expected at most {config.profile_layers} layers, got {len(names)}")
    chosen = slice(None) if layer_name is None else slice(names.index(layer_name), names.index(layer_name) + 1)
    chains = {}
    for name in ("dense",) if dense_only else ("dense", "sparse"):
        jobs, expected = zip(*model.run(pixels, dense=name == "dense")[chosen], strict=True)
        chains[name] = Chain(names=names[chosen], jobs=jobs, expected=expected, config=config, dense=name == "dense")
    return chains


def _run(simulator, chains: dict[str, "Chain"], seed: int) -> tuple[dict[str, "Outcome"], float]:
    """The outcomes by name and the seconds that they took, with a progress bar of simulated cycles."""
    from sim.execute import execute

    expected = sum(chain.predicted_cycles for chain in chains.values())
    with progress_bar("simulating", expected, "cycles") as move:
        outcomes = execute(simulator, list(chains.values()), seed=seed, progress=lambda _, cycles: move(cycles))
    return dict(zip(chains, outcomes, strict=True)), sum(outcome.seconds for outcome in outcomes)


def _accuracy(model: "QuantizedNetwork", found: "Digits | None") -> dict[str, Any]:
    """The accuracies recorded with the network, and those measured on the digits ``found`` (None: not measured)."""
    from golden.quantization import accuracy

    result = {"recorded": model.metadata.get("accuracy")}
    for part, values in (result["recorded"] or {}).items():
        click.echo(f"Accuracy recorded on {part.replace('_', '-')} digits: {100 * values['int8_dense']:.2f} % dense, "
                   f"{100 * values['int8_winners']:.2f} % with winners-take-all")
    if found is None:
        return result
    right = {"dense": 0.0, "winners": 0.0}
    count = len(found.labels)
    with progress_bar("accuracy", 2 * count, "digits") as move:
        for step, name in enumerate(right):
            for start in range(0, count, IMAGES_AT_ONCE):
                images, labels = (part[start:start + IMAGES_AT_ONCE] for part in found)
                right[name] += len(labels) * accuracy(model, images, labels, dense=name == "dense")
                move(step * count + start + len(labels))
    result["measured"] = {"digits": count} | {f"int8_{name}": number / count for name, number in right.items()}
    click.echo(f"Accuracy measured now on {count:,} digits: {100 * right['dense'] / count:.2f} % dense, "
               f"{100 * right['winners'] / count:.2f} % with winners-take-all")
    return result


def _classes(classes: dict[str, int], label: int | None) -> str:
    found = ", ".join(f"{value} {name}" for name, value in classes.items())
    return f"Class: {found}" + ("" if label is None else f"; the label is {label}")


def _details(measures: dict[str, list], dense_only: bool) -> dict[str, Any]:
    """Every layer and the total for JSON."""
    import sim.report as report

    whole = {name: report.with_total(layers) for name, layers in measures.items()}
    lines = [{"name": one.name, "dense": one.fields()} for one in whole["dense"]]
    if not dense_only:
        compared = report.compare(measures["dense"], measures["sparse"])
        lines = [line.fields() | {"dense": one.fields(), "sparse": two.fields()}
                 for line, one, two in zip(compared, whole["dense"], whole["sparse"], strict=True)]
    count = len(measures["dense"])
    return {"layers": lines[:count], "total": lines[-1]}
