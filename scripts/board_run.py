"""Images through the network that a board holds, compared with the golden model."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hw.program import UNTOUCHED
from scripts.board import Board, Identity, MemoryLost, Progress
from scripts.board_load import loaded_network
from scripts.board_program import NetworkProgram, around, output_range, result_ranges
from scripts.classes import class_fields, class_lines
from scripts.inputs import Inputs, read_inputs
from scripts.layer_costs import costs_fields, costs_table, measured_costs
from scripts.options import Refusal, progress_bar

if TYPE_CHECKING:
    from golden.result import LayerResult
    from hw.program import PlacedLayer
    from sim.network import GoldenLayer

SLACK = 20
"""An engine that takes so many times the predicted cycles has failed."""
SPARE_CYCLES = 1_000_000


def run_inputs(board: Board, *, files: Sequence[Path], data: Path | None, dataset: str | None, part: str,
               count: int | None, check: bool, every_layer: bool, simulated: bool) -> tuple[dict[str, Any], Inputs]:
    """Run inputs through the network that the board holds: the fields of the report, and the inputs.

    Raises Refusal where the board holds none, or loses it.
    """
    from sim.network import estimate_network, golden_layers

    one, dense = loaded_network(board)
    inputs = read_inputs(one.network, files, data, dataset, part, count)
    predicted = sum(layer.predicted.cycles for layer in estimate_network(one.network, one.config, dense=True))
    runs, differences, costs = [], [], None
    with progress_bar("on the board", len(inputs.values) * predicted, "cycles") as move:
        for number, values in enumerate(inputs.values):
            run = run_one(board, one, values, everything=every_layer, profile=costs is None,
                          most_cycles=SLACK * predicted + SPARE_CYCLES,
                          progress=lambda done, number=number: move(number * predicted + done))
            move((number + 1) * predicted)
            runs.append(run)
            layers = list(golden_layers(one.network, values, dense=dense)) if check else None
            if layers:
                differences += [f"{inputs.names[number]}: {line}"
                                for line in run_differences(one, run, layers, every_layer=every_layer)]
            costs = costs or layer_costs(one, run, layers, dense=dense)
    identity, cycles = board.identity, [run.counters["cycles"] for run in runs]
    report = {"network": one.network.name, "board": identity.board, "clock_hz": identity.clock_hz,
              "rows": identity.engine.rows, "cols": identity.engine.columns, "simulated": simulated,
              "source": inputs.source, "images": len(cycles), "cycles": cycles,
              "frames_per_second": identity.clock_hz * len(cycles) / sum(cycles)}
    if not simulated:
        report["frames_per_second_with_link"] = len(runs) / sum(run.seconds for run in runs)
    if check:
        report |= {"bit_exact": not differences, "differences": differences,
                   "compared": "every layer" if every_layer else "output"}
    outputs = np.stack([run.output for run in runs])
    return report | class_fields(one.network, outputs, inputs.names, inputs.labels) | costs, inputs


@dataclass(frozen=True, kw_only=True, eq=False)
class BoardRun:
    """An input's run: memory (uint8), as far as it was read; the output int8 [O,OH,OW]; counters; the profile, if it
    was asked for and recorded; seconds from the input's first byte to the output's last."""

    memory: np.ndarray
    output: np.ndarray
    counters: dict[str, int]
    profile: list[dict[str, int]] | None
    seconds: float


def run_one(board: Board, one: NetworkProgram, values: np.ndarray, *, everything: bool, profile: bool,
            most_cycles: int, progress: Progress) -> BoardRun:
    """Run an input; ``everything``: read all layers' results, not the output alone.

    Begun anew where the connection is lost. Raises Refusal where the board has lost its memory.
    """
    memory = np.full(one.program.image.size, UNTOUCHED, np.uint8)
    stored = values.tobytes()
    stored += bytes(-len(stored) % 8)
    wanted = [one.output_range]
    if everything:
        wanted += [part for placed in one.program.layers for part in result_ranges(placed)]
    begin, end = one.output_range
    output = memory[begin:end].view(np.int8).reshape(one.network.layers[-1].output_shape)

    def once() -> BoardRun:
        started = time.monotonic()
        for address in one.inputs:
            board.link.write_memory(address, stored)
        board.run(one.program, most_cycles=most_cycles, progress=progress)
        board.read(memory, around(wanted), tag=one.tag)
        seconds = time.monotonic() - started
        return BoardRun(memory=memory, output=output, counters=board.counters(), seconds=seconds,
                        profile=board.profile(len(one.names)) if profile else None)

    try:
        return board.persist(once, tag=one.tag)
    except MemoryLost as error:
        raise Refusal(f"{error}; load it first: winnow host load NET") from None


def run_differences(one: NetworkProgram, run: BoardRun, layers: "Sequence[GoldenLayer]", *, every_layer: bool
                    ) -> list[str]:
    """Lines for what is not as the golden model has it: layer by layer, or of the output alone."""
    if every_layer:
        results = [layer.result for layer in layers if layer.job is not None]
        forget_losers(one.program.layers, results, run.memory)
        return layer_differences(one.names, one.program.layers, results, run.memory)
    expected = layers[-1].result.output
    wrong = np.argwhere(run.output != expected)
    if not len(wrong):
        return []
    at = tuple(map(int, wrong[0]))
    return [f"{layers[-1].node.name}: output: {len(wrong)} of {expected.size} values differ, the first at {list(at)}: "
            f"{run.output[at]}, expected {expected[at]}"]


def layer_differences(names: Sequence[str], layers: "Sequence[PlacedLayer]", results: "Sequence[LayerResult]",
                      memory: np.ndarray) -> list[str]:
    """A line for every layer whose output, scores or winners in memory are not these."""
    from sim.execute import difference

    found = [difference(placed.result(memory), expected, written=_written(placed, expected),
                        in_memory=placed.in_memory) for placed, expected in zip(layers, results, strict=True)]
    return [f"{name}: {text}" for name, text in zip(names, found, strict=True) if text]


def forget_losers(layers: "Sequence[PlacedLayer]", results: "Sequence[LayerResult]", memory: np.ndarray) -> None:
    """Make untouched what the input before has left in planes that the engine leaves out."""
    for placed, expected in zip(layers, results, strict=True):
        written = _written(placed, expected)
        if written is not None and placed.in_memory:
            begin, end = output_range(placed)
            memory[begin:end].reshape(len(written), -1)[~written] = UNTOUCHED


def _written(placed: "PlacedLayer", expected: "LayerResult") -> np.ndarray | None:
    from sim.losers import written_planes

    return written_planes(placed.plan, placed.ranking, expected.scores) if placed.plan.skips_losers else None


def layer_costs(one: NetworkProgram, run: BoardRun, layers: "Sequence[GoldenLayer] | None", *, dense: bool
                ) -> dict[str, Any]:
    """Cycles and bytes of each layer: ``layers`` and more for JSON, ``table`` as text.

    With predictions where the golden model has run, in sum where the engine has not recorded all layers.
    """
    from sim.execute import layer_counters
    from sim.network import network_chain
    from sim.report import READ, WRITTEN, measure, table

    counters = [run.counters] if run.profile is None else layer_counters(run.profile, run.counters)
    if layers and run.profile:
        chain = network_chain(one.network, layers, one.config, dense=dense)
        costs = measured_costs([
            measure(name=name, workload=work, counters=own, prediction=prediction, bit_exact=True)
            for name, work, own, prediction in zip(chain.names, chain.workloads, counters, chain.predictions,
                                                   strict=True)])
        return costs_fields(costs) | {"table": costs_table(costs, measured=True)}
    rows = [{"name": name, "cycles": own["cycles"]} | {
        key: sum(own[counter] for parts in kinds.values() for counter in parts)
        for key, kinds in (("bytes_read", READ), ("bytes_written", WRITTEN))}
        for name, own in zip(one.names if run.profile else ["all layers"], counters, strict=True)]
    text = table(["layer", "cycles", "bytes read", "bytes written"],
                 [[row["name"], *(f"{row[key]:,}" for key in ("cycles", "bytes_read", "bytes_written"))]
                  for row in rows])
    return {"layers": rows, "table": f"Cycles and bytes of one input, measured\n{text}"}


def describe(identity: Identity) -> str:
    """A line about a board."""
    engine = identity.engine
    return (f"{identity.board}: {engine.rows}x{engine.columns} array at {identity.clock_hz / 1e6:g} MHz, "
            f"{identity.memory_bytes >> 20} MB of memory")


def text(report: dict[str, Any], inputs: Inputs) -> str:
    """The report that people read."""
    count = report["images"]
    speed = f"{report['frames_per_second']:,.1f} frames a second at {report['clock_hz'] / 1e6:g} MHz"
    if "frames_per_second_with_link" in report:
        speed += f", {report['frames_per_second_with_link']:,.1f} with the link"
    lines = [f"{report['network']} on {report['board']}, {report['rows']}x{report['cols']} array, {count:,} "
             f"input{'s' if count > 1 else ''} of {inputs.source}",
             f"Engine: {sum(report['cycles']) / count:,.0f} cycles an input, {speed}", *class_lines(report), "",
             report["table"]]
    if "bit_exact" in report:
        lines += ["", f"Bit-exact, {report['compared']}: {'yes' if report['bit_exact'] else 'NO'}"]
    return "\n".join(lines)
