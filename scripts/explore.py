"""``winnow explore``: which engine to build for a network."""

import shlex
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from scripts.options import (
    OutputPath,
    Refusal,
    command_line,
    json_option,
    load_network,
    progress_bar,
    winner_options,
    with_winners,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim.explore import Point

UNITS = {"k": 1 << 10, "m": 1 << 20}
TABLE_SHARE = 0.1
"""How much worse a point of the table is at most than one of the front that it stands for."""


class BufferSizes(click.ParamType):
    """Sizes for both buffers, or pairs of sizes: [(activations, weights)] in bytes."""

    name = "sizes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[tuple[int, int]]:
        parts = [part.split(":") for part in value.split(",")]
        sizes = [[self._bytes(size, param, ctx) for size in part] for part in parts]
        if all(len(one) == 1 for one in sizes):
            return list(dict.fromkeys((act[0], weight[0]) for act in sizes for weight in sizes))
        if all(len(one) == 2 for one in sizes):
            return list(dict.fromkeys((act, weight) for act, weight in sizes))
        self.fail(f"expected sizes such as 32k,64k or pairs such as 128k:64k,256k:64k, got {value}", param, ctx)

    def _bytes(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number, unit = (text[:-1], UNITS[text[-1].lower()]) if text[-1:].lower() in UNITS else (text, 1)
        if not (number.isascii() and number.isdigit()) or int(number) == 0:
            self.fail(f"expected a size such as 32768, 32k or 1m, got {text or 'nothing'}", param, ctx)
        return int(number) * unit


class BusWidths(click.ParamType):
    """Bus widths in bits."""

    name = "bits"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        widths = value.split(",")
        if not set(widths) <= {"64", "128"}:
            self.fail(f"expected 64, 128 or 64,128, got {value}", param, ctx)
        return sorted({int(width) for width in widths})


@click.command()
@click.argument("network", metavar="NETWORK")
@click.option("--macs", type=click.IntRange(1, 64 * 64), required=True, metavar="N",
              help="Multiplications a cycle: the PEs of the array, rows times columns, at most.")
@click.option("--buffers", type=BufferSizes(), default="32k,64k,128k,256k", show_default=True, metavar="SIZES",
              help="Of the buffers on chip: 32k,64k (each for activations, each for weights), or pairs of both, "
                   "128k:32k,256k:64k.")
@click.option("--bandwidth", type=BusWidths(), default="64,128", show_default=True, metavar="BITS",
              help="Data bits of the AXI4 master, as many as come from memory in a cycle.")
@click.option("--choose", "choice", type=click.Choice(["cycles", "bytes", "multipliers", "knee"]), default="cycles",
              show_default=True, help="The point to print options for: with the least of these, or of their product.")
@winner_options
@json_option
@click.option("--plot", type=OutputPath(".png"), help="Draw the front among the other engines.")
def explore(network: str, macs: int, buffers: list[tuple[int, int]], bandwidth: list[int], choice: str,
            winner_rate: float | None, rates_path: Path | None, json_path: Path | None, plot: Path | None) -> None:
    """Find the engines worth building for a network: the Pareto front of cycles, bytes and multipliers.

    NETWORK is a name (lenet4, resnet18, mobilenet_v1_0.25_128, ...), NETWORK.json or NETWORK.npz (docs/network.md).
    Every array of at most N PEs is tried, 1 to 64 rows by 1 to 64 columns, with every pair of buffers and every bus
    width; the other sizes are the usual ones. Nothing is simulated: all engines get lower bounds of cycles and bytes,
    and those that may be on the front are followed by the analytical model, whose figures are printed
    (docs/explore.md).

    The table leaves out points close to one that it shows; the JSON report has all. The point with the least cycles, or
    of --choose, is marked and printed as options of simulate and synth.

    \b
    Examples:
      winnow explore resnet18 --macs 256
      winnow explore resnet18 --macs 128 --winner-rate 0.25 --choose knee
      winnow explore mobilenet_v1_1.0_224 --macs 256 --buffers 128k:32k,256k:64k --bandwidth 64
      winnow explore lenet4 --macs 64 --buffers 32k,64k --json explore.json --plot explore.png
    """
    model = with_winners(load_network(network), winner_rate, rates_path)

    from hw.config import EngineConfig
    from sim.engine_space import engine_space
    from sim.explore import bound_engines, choose, find_front, thinned
    from sim.network import engine_for

    engines, refused = engine_space(engine_for(model, EngineConfig()), macs, buffers, bandwidth)
    if not len(engines):
        raise Refusal("--buffers: expected a size that an engine can have (a multiple of 64, from 256 to 8m), got none")
    count, begun = len(engines), perf_counter()
    with progress_bar("bounds", count, "engines") as move:
        bounds = bound_engines(model, engines, move)
    middle = perf_counter()
    with progress_bar("front", count, "engines") as move:
        front = find_front(model, engines, bounds, move)
    seconds = {"bounds": middle - begun, "front": perf_counter() - middle}
    refused += front.refused
    if not front.points:
        raise Refusal(f"--buffers: expected sizes with which an engine can run {model.name}, all {refused:,} are "
                      "refused; larger ones may do")
    chosen = choose(front.points, choice)
    shown = thinned(front.points, TABLE_SHARE, chosen)
    commands = _commands(network, chosen, winner_rate, rates_path)

    speed = count / seconds["bounds"]
    click.echo(f"{model.name}, at most {macs:,} PEs, predicted")
    click.echo(f"{count:,} engines bounded in {seconds['bounds']:.1f} s ({speed:,.0f} a second), of them "
               f"{front.followed:,} followed by the analytical model in {seconds['front']:.1f} s; "
               f"{refused:,} refused")
    click.echo(f"\nPareto front of cycles, bytes and multipliers: {len(front.points):,} engines, {len(shown):,} shown")
    click.echo(f"\n{_table(shown, chosen)}")
    click.echo(f"\nChosen, the least {'product of the three' if choice == 'knee' else choice} (*):")
    for line in commands.values():
        click.echo(f"  {line}")

    if json_path:
        from sim.report import write_json

        write_json(json_path, {
            "network": model.name, "macs": macs, "buffers": buffers, "bandwidth": bandwidth, "choose": choice,
            "engines": count, "engines_refused": refused, "engines_per_second": speed,
            "engines_followed": front.followed, "seconds": seconds, "chosen": chosen.fields() | {"commands": commands},
            "front": [point.fields() for point in front.points], "command": command_line()})
    if plot:
        from sim.explore_plot import plot_exploration

        plot_exploration(plot, title=f"{model.name}: engines of at most {macs:,} PEs", engines=engines,
                         bounds=bounds, front=front.points, chosen=chosen, named=shown)


def _table(points: "Sequence[Point]", chosen: "Point") -> str:
    from sim.report import percent, table

    rows = []
    for one in points:
        config = one.config
        rows.append([f"{'* ' if one is chosen else ''}{config.rows}x{config.columns}", _size(config.act_buffer_bytes),
                     _size(config.weight_buffer_bytes), str(config.axi_data_bits), f"{one.cycles:,}",
                     f"{one.bytes:,}", f"{one.multipliers:,}", percent(one.utilization)])
    return table(["array", "activ. buffer", "weight buffer", "AXI", "cycles", "bytes", "multipliers", "utilization"],
                 rows)


def _size(count: int) -> str:
    return f"{count // 1024}k" if count % 1024 == 0 else f"{count:,}"


def _commands(network: str, chosen: "Point", rate: float | None, rates_path: Path | None) -> dict[str, str]:
    """What simulates and what synthesizes the chosen engine, as they are typed."""
    sizes = [text for name, size in chosen.sizes.items() for text in (f"--{name.replace('_', '-')}", str(size))]
    winners = ["--winner-rate", f"{rate:g}"] if rate is not None else []
    winners += ["--winner-rates", str(rates_path)] if rates_path else []
    return {"simulate": shlex.join(["winnow", "simulate", network, *sizes, *winners]),
            "synth": shlex.join(["winnow", "synth", "--only-verilog", "rtl", *sizes])}
