"""``python -m scripts.compare_tflite``: imported models beside TFLite's own kernels, byte for byte."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scripts.inputs import Inputs, data_set, of_data_set
from scripts.options import INPUT_FILE, Failure, OutputPath, Refusal, json_option, progress_bar, run, seed_option

if TYPE_CHECKING:
    from golden.network import QuantizedNetwork


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.argument("models", type=INPUT_FILE, nargs=-1, required=True, metavar="MODEL.tflite...")
@click.option("--inputs", "count", type=click.IntRange(min=1), default=200, show_default=True,
              help="Of each model, whose outputs are compared.")
@click.option("--tensors", type=click.IntRange(min=0), default=10, show_default=True,
              help="Inputs, of which every tensor that an operator computes is compared.")
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), envvar="WINNOW_DATA",
              show_envvar=True, help="Folder of data sets: test images where one is of a model's input and classes.  "
                                     "[default: random values]")
@click.option("--default-kernels", is_flag=True,
              help="Print the accuracy with the kernels that TFLite takes by itself, too, which round otherwise.")
@click.option("--save-inputs", type=OutputPath(".npy"), help="Of one model, for winnow run --input.")
@seed_option
@json_option
def compare_tflite(models: tuple[Path, ...], count: int, tensors: int, data: Path | None, default_kernels: bool,
                   save_inputs: Path | None, seed: int, json_path: Path | None) -> None:
    """Run .tflite models by Winnow's golden model and by TFLite's reference kernels, and compare every byte.

    Softmax is left to the host, so the output is the tensor before it. Exit code 1 when a byte differs.

    \b
    Examples:
      python -m scripts.compare_tflite resnet8.tflite --data DATA --inputs 10000
      python -m scripts.compare_tflite dscnn.tflite autoencoder.tflite
      python -m scripts.compare_tflite mnist.tflite --data DATA --inputs 10000 --default-kernels
    """
    if save_inputs and len(models) > 1:
        raise click.UsageError(f"--save-inputs: expected one model, got {len(models)}")
    import torch

    torch.set_num_threads(1)
    reports = []
    for path in models:
        report, inputs = _compared(path, count, tensors, data, default_kernels, seed)
        reports.append(report)
        click.echo(_text(report))
    if save_inputs:
        import numpy as np

        from scripts.tflite_kernels import model_values
        from sim.report import write_whole

        values = model_values(_imported(path), inputs.values)
        write_whole(save_inputs, lambda partial: np.save(partial, values))
    if json_path:
        from sim.report import write_json

        write_json(json_path, {"seed": seed, "models": reports})
    different = [one["model"] for one in reports if any(part["differing"] for part in (one["output"], one["tensors"]))]
    if different:
        raise Failure(f"bytes differ: {', '.join(different)}")


def _compared(path: Path, count: int, tensors: int, data: Path | None, default_kernels: bool, seed: int
              ) -> "tuple[dict[str, Any], Inputs]":
    from scripts.tflite_kernels import compare

    network = _imported(path)
    inputs, runner = _inputs(network, data, count, seed), _interpreter(path, keep_all=True)
    with progress_bar(path.stem, len(inputs.values), "inputs") as move:
        parts = []
        for start in range(0, len(inputs.values), 100):
            parts.append(compare(network, runner, inputs.values[start:start + 100]))
            move(start + parts[-1].inputs)
    whole = compare(_imported(path, fuse=False), runner, inputs.values[:tensors], every_tensor=True)
    report: dict[str, Any] = {
        "model": path.name, "type": "uint8" if network.metadata["input_type"] == "uint8" else "int8",
        "layers": len(network.layers), "macs": sum(node.macs for node in network.layers), "source": inputs.source,
        "output": {key: sum(getattr(part, key) for part in parts) for key in ("inputs", "bytes", "differing")},
        "tensors": {"inputs": whole.inputs, "count": len(whole.tensors), "bytes": whole.bytes,
                    "differing": whole.differing}}
    if inputs.labels is not None:
        import numpy as np

        report["accuracy"] = float((np.concatenate([part.largest for part in parts]) == inputs.labels).mean())
        if default_kernels:
            report["accuracy_default"] = _default_accuracy(path, network, inputs)
    return report, inputs


def _default_accuracy(path: Path, network: "QuantizedNetwork", inputs: Inputs) -> float:
    """Of the model's own outputs, behind its softmax, with the kernels that TFLite takes by itself."""
    from scripts.tflite_kernels import model_values

    runner, right = _interpreter(path, reference=False), 0
    source, output = (details[0]["index"] for details in (runner.get_input_details(), runner.get_output_details()))
    for one, label in zip(model_values(network, inputs.values), inputs.labels, strict=True):
        runner.set_tensor(source, one[None])
        runner.invoke()
        right += int(runner.get_tensor(output).argmax()) == label
    return right / len(inputs.labels)


def _interpreter(path: Path, **kernels: bool) -> Any:
    from scripts.tflite_kernels import interpreter

    try:
        return interpreter(path.read_bytes(), **kernels)
    except ImportError:
        raise Refusal("ai-edge-litert: expected TFLite's kernels, got none; pip install '.[dev]'") from None
    except (ValueError, RuntimeError) as error:
        raise Refusal(f"{path}: expected a model that TFLite takes, got: {error}") from None


def _imported(path: Path, *, fuse: bool = True) -> "QuantizedNetwork":
    from golden.import_tflite import import_tflite

    return import_tflite(path, fuse=fuse)


def _inputs(network: "QuantizedNetwork", data: Path | None, count: int, seed: int) -> Inputs:
    """Test images where the folder has any for this network, else random values."""
    name = None if data is None else data_set(network, data)
    if name is not None:
        return of_data_set(network, data, name, "test", count)
    import numpy as np

    values = np.random.default_rng(seed).integers(-128, 128, (count, *network.input.shape), np.int8)
    return Inputs(values, [], None, f"random, seed {seed}")


def _text(report: dict[str, Any]) -> str:
    output, tensors = report["output"], report["tensors"]
    lines = [f"{report['model']}: {report['type']}, {report['layers']} layers, {report['macs']:,} MACs; "
             f"{report['source']}",
             f"  output for {output['inputs']:,} inputs: {output['differing']:,} of {output['bytes']:,} bytes differ"]
    if tensors["inputs"]:
        lines.append(f"  {tensors['count']} tensors for {tensors['inputs']} inputs: {tensors['differing']:,} of "
                     f"{tensors['bytes']:,} bytes differ")
    if "accuracy" in report:
        lines.append(f"  accuracy: {report['accuracy']:.2%}")
    if "accuracy_default" in report:
        lines.append(f"  with TFLite's default kernels: {report['accuracy_default']:.2%}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default those of the process; returns the exit code."""
    return run(compare_tflite, sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
