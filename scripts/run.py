"""``winnow run``: pictures, arrays or a data set through a network, by the golden model or in RTL."""

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scripts.classes import class_fields, class_lines
from scripts.inputs import Inputs, data_set_options, read_inputs
from scripts.layer_costs import costs_fields, costs_table, predicted_costs
from scripts.models import read_network
from scripts.options import (
    INPUT_FILE,
    Failure,
    OutputPath,
    Refusal,
    command_line,
    engine_config,
    engine_options,
    memory_option,
    progress_bar,
    seed_option,
)
from scripts.run_rtl import run_rtl
from scripts.wta import with_wta, wta_option

if TYPE_CHECKING:
    import numpy as np

    from golden.network import QuantizedNetwork

STANDARD_OUTPUT = "-"


@click.command("run", short_help="Pictures or a data set through a network: classes, accuracy, cycles and bytes.")
@click.argument("network", metavar="NET")
@click.option("--input", "files", type=INPUT_FILE, multiple=True, metavar="FILE",
              help="A picture (PNG, JPEG, ...) or an .npy array; may be given several times.")
@data_set_options
@click.option("--images", "count", type=click.IntRange(min=1), metavar="N",
              help="The first N inputs.  [default: all, with --engine rtl 1]")
@click.option("--engine", type=click.Choice(["golden", "rtl"]), default="golden", show_default=True,
              help="The golden model and predicted cycles, or RTL, compared with the golden model layer by layer.")
@click.option("--labels", "labels_path", type=INPUT_FILE, metavar="FILE",
              help="Names of the classes, a line each, with the class before it or not.")
@wta_option
@click.option("--dense", is_flag=True, help="Rank nothing and skip nothing.")
@click.option("--keep-outputs", is_flag=True,
              help="In RTL, write outputs that stay on chip for the next layer to memory, too, and compare them.")
@click.option("--output", type=OutputPath(".npy"), help="Write the last layer's outputs, as the model has them.")
@engine_options
@memory_option("fast")
@seed_option
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True,
              help="Of the golden model; more serve large images on a machine that is free.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, allow_dash=True), is_flag=False,
              flag_value=STANDARD_OUTPUT, metavar="[FILE]",
              help="Write the report as JSON, without a name in place of the text.")
def run_network(network: str, files: tuple[Path, ...], data: Path | None, dataset: str | None, part: str,
                count: int | None, engine: str, labels_path: Path | None, wta: str | None, dense: bool,
                keep_outputs: bool, output: Path | None, memory: str, seed: int, threads: int,
                json_path: str | None, **sizes) -> None:
    """Run inputs through a network: the five largest classes of each, accuracy, cycles and bytes of each layer.

    NET is NET.npz or NET.json (winnow import), a .tflite or .onnx model, or a network's name. Pictures are made grey or
    RGB, cropped in their middle, resized and quantized as the network's input says; a data set's images are taken as
    they are. The golden model's cycles and bytes are predicted for an engine of the sizes given, RTL's are measured,
    and every layer is compared with the golden model: exit code 1 when a byte differs.

    \b
    Examples:
      winnow run resnet8.npz --data DATA
      winnow run mobilenet.npz --input cat.jpg --labels imagenet_labels.txt
      winnow run resnet8.npz --data DATA --images 2 --engine rtl --rows 8
      winnow run resnet8.npz --data DATA --wta energy=0.95 --json resnet8.json
    """
    config = engine_config(**sizes)
    model = with_wta(read_network(network), wta)
    names = [] if labels_path is None else _class_names(labels_path)
    count = count or (1 if engine == "rtl" else None)
    inputs = read_inputs(model, files, data, dataset, part, count)

    import torch

    from golden.inference import infer

    torch.set_num_threads(threads)
    report: dict[str, Any] = {"network": model.name, "engine": engine, "source": inputs.source,
                              "images": len(inputs.values), "rows": config.rows, "cols": config.columns}
    differences: list[str] = []
    if engine == "golden":
        started = time.monotonic()
        with progress_bar("golden model", len(inputs.values), "images") as move:
            found = infer(model, inputs.values, dense=dense, progress=move)
        report["images_per_second"] = len(inputs.values) / (time.monotonic() - started)
        outputs, report["winner_rates"] = found.outputs, dict(found.rates)
        costs = predicted_costs(model, config, found.rates, dense=dense)
    else:
        outputs, costs, differences, details = run_rtl(model, inputs.values, config, memory=memory, seed=seed,
                                                       dense=dense, keep_outputs=keep_outputs)
        report |= details | {"bit_exact": not differences, "differences": differences, "memory": memory, "seed": seed}
    report |= class_fields(model, outputs, inputs.names, inputs.labels, names) | costs_fields(costs)
    if output:
        _write_outputs(model, outputs, output)
    if json_path == STANDARD_OUTPUT:
        click.echo(json.dumps(report | {"command": command_line()}, indent=2))
    else:
        click.echo(_text(report, inputs) + f"\n\n{costs_table(costs, measured=engine == 'rtl')}")
        if engine == "rtl":
            click.echo(f"\nBit-exact, every layer's output, scores and winners: {'NO' if differences else 'yes'}"
                       + _on_chip(report["outputs_on_chip"]))
        if json_path:
            from sim.report import write_json

            write_json(Path(json_path), report | {"command": command_line()})
    if differences:
        raise Failure(f"not bit-exact: {differences[0]}")


def _class_names(path: Path) -> list[str]:
    try:
        lines = path.read_text().splitlines()
    except UnicodeDecodeError:
        raise Refusal(f"{path}: expected a text, a line for each class, got something else") from None
    return [re.sub(rf"^\s*{number}\s+", "", line).strip() for number, line in enumerate(lines)]


def _text(report: dict[str, Any], inputs: Inputs) -> str:
    count = report["images"]
    lines = [f"{report['network']}, {count:,} input{'s' if count > 1 else ''} of {report['source']}"]
    if "images_per_second" in report:
        lines[0] += f", {report['images_per_second']:,.0f} a second"
    lines += class_lines(report) if inputs.labels is not None else class_lines(report, most=None)
    return "\n".join(lines)


def _on_chip(names: list[str]) -> str:
    return f" (outputs of {len(names)} layers stay on chip; --keep-outputs compares them, too)" if names else ""


def _write_outputs(model: "QuantizedNetwork", outputs: "np.ndarray", path: Path) -> None:
    """Outputs in the model's order and type: [N,H,W,C] or [N,C], uint8 for a uint8 model."""
    import numpy as np

    from sim.report import write_whole

    ordered = outputs.transpose(0, 2, 3, 1)
    if ordered.shape[1:3] == (1, 1):
        ordered = ordered[:, 0, 0]
    ordered = np.ascontiguousarray(ordered)
    if model.metadata.get("output_type") == "uint8":
        ordered = ordered.view(np.uint8) ^ 0x80
    write_whole(path, lambda partial: np.save(partial, ordered))
