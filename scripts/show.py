"""``winnow show``: what a network consists of, and what its layers cost."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scripts.layer_costs import LayerCost, predicted_costs
from scripts.models import read_network
from scripts.options import OutputPath, command_line, engine_config, engine_options, json_option
from scripts.wta import with_wta, wta_option

if TYPE_CHECKING:
    from golden.node import Node


@click.command("show", short_help="A network's layers: shapes, quantization, MACs, bytes, predicted cycles; a picture.")
@click.argument("network", metavar="NET")
@wta_option
@click.option("--svg", type=OutputPath(".svg"), help="Draw the graph.")
@engine_options
@json_option
def show(network: str, wta: str | None, svg: Path | None, json_path: Path | None, **sizes: Any) -> None:
    """The layers of a network in order, and the cycles and bytes that the model predicts for an engine of these sizes.

    NET is as for winnow run. Where the number of winners depends on the image and no rates were measured, all channels
    take part.

    \b
    Examples:
      winnow show resnet8.npz --svg resnet8.svg
      winnow show mobilenet.tflite --rows 8 --cols 32 --wta all=0.5
    """
    config = engine_config(**sizes)
    model = with_wta(read_network(network), wta)

    from sim.report import table, write_json, write_whole

    rates = {node.name: 1.0 for node in model.layers} | model.metadata.get("winner_rates", {})
    costs = {one.name: one for one in predicted_costs(model, config, rates)}
    layers = [_fields(node, costs.get(node.name)) for node in model.layers]
    channels, rows, columns = model.input.shape
    click.echo(f"{model.name}: input {channels}x{rows}x{columns}, scale {model.input.scale:.6g}, zero point "
               f"{model.input.zero_point}; predicted for a {config.rows}x{config.columns} array\n")
    total = {field: sum(one[field] or 0 for one in layers) for field in _SUMS}
    click.echo(table(["layer", "operation", "inputs", "output", "window", "scale", "zero point", "winners", "MACs",
                      "parameters", "cycles", "bytes"],
                     [*(_row(one) for one in layers), ["total", *[""] * 7, *(f"{total[field]:,}" for field in _SUMS)]]))
    if "host" in model.metadata:
        click.echo(f"\nLeft to the host: {model.metadata['host']}")
    if json_path:
        write_json(json_path, {"network": model.name, "input": {
            "shape": list(model.input.shape), "scale": model.input.scale, "zero_point": model.input.zero_point},
            "rows": config.rows, "cols": config.columns, "layers": layers, "total": total,
            "metadata": model.metadata, "command": command_line()})
    if svg:
        from sim.network_picture import network_svg

        notes = {one["name"]: _notes(one) for one in layers}
        write_whole(svg, lambda partial: partial.write_text(network_svg(model, notes)))


_SUMS = ("macs", "parameters", "cycles", "bytes")


def _fields(node: "Node", cost: LayerCost | None) -> dict[str, Any]:
    """A layer for JSON; a concat costs nothing."""
    window = None if node.sizes is None else {"kernel": list(node.kernel), "stride": list(node.stride),
                                              "padding": list(node.padding)}
    return {
        "name": node.name, "op": node.op, "groups": node.groups, "inputs": list(node.inputs),
        "input_shapes": [list(shape) for shape in node.input_shapes], "output_shape": list(node.output_shape),
        "window": window, "pool": node.pool and list(node.pool), "scale": node.output_scale,
        "zero_point": node.output_zero_point, "activation": [node.activation_min, node.activation_max],
        "winners": _winners(node), "macs": node.macs, "parameters": node.parameters,
        "cycles": cost and cost.cycles, "bytes": cost and cost.bytes_read + cost.bytes_written,
        "bytes_read": cost and cost.bytes_read, "bytes_written": cost and cost.bytes_written}


def _winners(node: "Node") -> str | None:
    rule = node.ranking
    return rule and f"{rule.select} {rule.value:g}".strip()


def _row(one: dict[str, Any]) -> list[str]:
    window = ""
    if one["window"]:
        kernel, stride = one["window"]["kernel"], one["window"]["stride"]
        window = f"{kernel[0]}x{kernel[1]}" + (f"/{stride[0]}" if max(stride) > 1 else "")
        window += f" pool {one['pool'][0]}x{one['pool'][1]}/{one['pool'][2]}" if one["pool"] else ""
    op = "depthwise" if one["groups"] > 1 and one["groups"] == one["input_shapes"][0][0] else one["op"]
    numbers = ("" if one[field] is None else f"{one[field]:,}" for field in _SUMS)
    return [one["name"], op, ", ".join(one["inputs"]), "x".join(map(str, one["output_shape"])), window,
            f"{one['scale']:.6g}", str(one["zero_point"]), one["winners"] or "", *numbers]


def _notes(one: dict[str, Any]) -> list[str]:
    """The lines of a layer's box in the picture."""
    lines = []
    if one["cycles"] is not None:
        lines.append(f"{one['macs']:,} MACs, {one['cycles']:,} cycles")
    if one["winners"]:
        lines.append(f"winners: {one['winners']}")
    return lines
