"""``winnow import``: a published quantized model as a network of the engine."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scripts.models import import_model
from scripts.options import INPUT_FILE, OutputPath
from scripts.wta import with_wta, wta_option

if TYPE_CHECKING:
    from golden.preprocess import Normalization


@click.command("import", short_help="A .tflite or .onnx model as a network of the engine.")
@click.argument("model", type=INPUT_FILE)
@click.option("--out", "path", type=OutputPath(), required=True, metavar="NET",
              help="The network: NET.json as a text with NET.npz beside it, any other name as one npz file.")
@click.option("--name", help="Of the network.  [default: the model's file name]")
@click.option("--fuse/--no-fuse", default=True, show_default=True,
              help="Make activations, max-pools and pads a part of the convolution that they belong to.")
@click.option("--mean", metavar="M,...", help="Of each channel of pixels 0..1, subtracted before the model.")
@click.option("--std", metavar="S,...", help="Of each channel, by which the difference is divided.")
@wta_option
def import_network(model: Path, path: Path, name: str | None, fuse: bool, mean: str | None, std: str | None,
                   wta: str | None) -> None:
    """Read a quantized model, int8 or uint8, and write it as a network of the engine.

    MODEL.tflite gives TFLite's own answer, bit for bit. MODEL.onnx is a QDQ model, whose operators stand between
    QuantizeLinear and DequantizeLinear. Whatever has no exact form on the engine is refused, by the operator's number
    and name, before anything is written. Pixels 0..255 are the 256 values of the input, unless --mean and --std state
    how the model's float form was trained.

    \b
    Examples:
      winnow import resnet8.tflite --out resnet8.npz
      winnow import mobilenet.tflite --out mobilenet.npz --wta all=0.5
      winnow import resnet18.onnx --out resnet18.npz --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
      winnow run resnet8.npz --data DATA --images 1000
    """
    normalization = _normalization(mean, std)
    network = with_wta(import_model(model, name=name, fuse=fuse), wta)
    if normalization is not None:
        channels = network.input.shape[0]
        if len(normalization.mean) != channels:
            raise click.UsageError(f"--mean, --std: expected {channels} numbers, got {len(normalization.mean)}")
        network.metadata["preprocess"] = normalization.text()
    network.save(path)
    macs, parameters = (sum(getattr(node, field) for node in network.layers) for field in ("macs", "parameters"))
    click.echo(f"{path}: {network.name}, {len(network.layers)} layers, {macs:,} multiplications, {parameters:,} "
               f"parameters; input {'x'.join(map(str, network.input.shape))}, output "
               f"{'x'.join(map(str, network.layers[-1].output_shape))}")
    if "host" in network.metadata:
        click.echo(f"Left to the host: {network.metadata['host']}")
    ranked = [node for node in network.layers if node.ranking is not None]
    if ranked:
        click.echo(f"Winners-take-all on {len(ranked)} layers: {', '.join(node.name for node in ranked)}")


def _normalization(mean: str | None, std: str | None) -> "Normalization | None":
    """What ``--mean`` and ``--std`` state, None for neither. Raises UsageError or JobError."""
    if mean is None and std is None:
        return None
    if mean is None or std is None:
        raise click.UsageError("--mean, --std: expected both or neither, got one of them")
    from golden.preprocess import Normalization

    try:
        return Normalization(**{name: tuple(float(part) for part in text.split(","))
                                for name, text in (("mean", mean), ("std", std))})
    except ValueError:
        raise click.UsageError(f"--mean, --std: expected a number for each channel, got {mean} and {std}") from None
