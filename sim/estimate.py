"""Layers by the analytical model alone, beside what they must move at least and SCALE-Sim's counts for plain arrays."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hw.band import LayerShape
from hw.config import EngineConfig, ceil_div
from hw.descriptor import Select
from hw.lowering import Ranking
from hw.plan import Plan, PlanError, make_plan

from .analytical import (
    Prediction,
    ideal_cycles,
    output_stationary_cycles,
    predict_program,
    weight_stationary_cycles,
)
from .report import factor, percent, table
from .workload import Workload

if TYPE_CHECKING:
    import numpy as np

    from golden.job import Job

    from .topology import TopologyLayer

    Winners = int | np.ndarray | None

NO_RANKING = Ranking()
"""Maximum scores, and every channel wins."""


@dataclass(frozen=True, kw_only=True)
class LayerQuestion:
    """A layer to estimate.

    ``winners``: of each input, how many channels take part or their mask, either read from memory as a mask; None where
    all take part and there is none. ``scale_sim_shape``: what SCALE-Sim counts, where that differs from ``shape``.
    ``blocks`` and ``scores``: as of a :class:`sim.workload.Workload`.
    """

    name: str
    shape: LayerShape
    winners: "tuple[Winners, ...]"
    ranking: Ranking = NO_RANKING
    scale_sim_shape: LayerShape | None = None
    blocks: "np.ndarray | None" = None
    scores: "np.ndarray | int | None" = None

    @property
    def counts(self) -> tuple[int, ...]:
        """How many channels of each input take part."""
        return tuple(self.shape.channels if one is None else one if isinstance(one, int) else int(one.sum())
                     for one in self.winners)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A layer's predicted cost, ``winners`` of its first input's ``channels`` taking part.

    ``products``: multiplications by weights that the winners need. ``array``: it runs on the array, not on the vector
    unit. ``compulsory_bytes``: what it would move if nothing stayed on chip from layer to layer and nothing moved
    twice: the winners' input planes and weights, the output planes, and the masks. ``os_cycles`` and ``ws_cycles``:
    SCALE-Sim's, all channels taking part and the groups of a convolution one behind the other; None for operations
    without weights, whose ``ideal_cycles`` are 0.
    """

    name: str
    channels: int
    winners: int
    array: bool
    products: int
    predicted: Prediction
    ideal_cycles: float
    compulsory_bytes: int
    os_cycles: int | None
    ws_cycles: int | None

    def fields(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, "array": self.array, "channels": self.channels,
                "winners": self.winners} | _fields([self])


def estimate_layers(questions: Sequence[LayerQuestion], config: EngineConfig, plans: Sequence[Plan] | None = None,
                    on_chip: Collection[int] = ()) -> list[Estimate]:
    """Estimate layers that run one behind the other in a program.

    ``plans``: how they are cut for the engine, where they are parts of one program and not each on its own;
    ``on_chip``: the numbers of those whose output is not written to memory. Raises PlanError, naming the layer.
    """
    if plans is None:
        plans = [_plan(question, config) for question in questions]
    predictions = predict_program([_entry(question, plan, number not in on_chip) for number, (question, plan)
                                   in enumerate(zip(questions, plans, strict=True))])
    return [_estimate(question, prediction, config)
            for question, prediction in zip(questions, predictions, strict=True)]


def _plan(question: LayerQuestion, config: EngineConfig) -> Plan:
    try:
        return make_plan(question.shape, config)
    except PlanError as error:
        raise PlanError(f"layer {question.name}: {error}") from None


def _entry(question: LayerQuestion, plan: Plan, in_memory: bool) -> Workload:
    """A layer as :func:`sim.analytical.predict_program` takes it."""
    winners = [question.shape.channels if one is None else one for one in question.winners]
    return Workload(plan=plan, ranking=question.ranking, winners=winners, blocks=question.blocks,
                    masked=tuple(one is not None for one in question.winners), scores=question.scores,
                    in_memory=in_memory)


def _estimate(question: LayerQuestion, prediction: Prediction, config: EngineConfig) -> Estimate:
    shape, counts = question.shape, question.counts
    products = shape.products * counts[0] // shape.channels
    counted = question.scale_sim_shape or shape
    return Estimate(
        name=question.name, channels=shape.channels, winners=counts[0], array=not shape.vector, products=products,
        predicted=prediction, ideal_cycles=ideal_cycles(shape, counts[0], config),
        compulsory_bytes=compulsory_bytes(question),
        os_cycles=output_stationary_cycles(counted, config) if shape.weighted else None,
        ws_cycles=weight_stationary_cycles(counted, config) if shape.weighted else None)


def compulsory_bytes(question: LayerQuestion) -> int:
    """What a layer moves at least, as :class:`Estimate` says."""
    shape, counts = question.shape, question.counts
    rows, cols = shape.out_extent
    weights = 0
    if shape.weighted:
        weights = shape.taps * counts[0] * shape.out_channels // (shape.channels if shape.vector else shape.groups)
    masks = sum(ceil_div(shape.channels, 8) for one in question.winners if one is not None)
    if question.ranking.select != Select.ALL:
        masks += ceil_div(shape.out_channels, 8)
    return (sum(counts) * shape.height * shape.width + weights + shape.out_channels * rows * cols + masks)


def winner_count(rate: float, channels: int) -> int:
    """Winners among ``channels`` at a rate in 0..1: rounded, at least one."""
    return max(1, round(rate * channels))


def topology_questions(layers: Sequence["TopologyLayer"], rate: float | None) -> list[LayerQuestion]:
    """A topology file's layers. With a winner ``rate`` each ranks its outputs, and all but the first have a mask."""
    questions = []
    for index, layer in enumerate(layers):
        shape = layer.shape
        winners = winner_count(rate, shape.channels) if rate is not None and index > 0 else None
        ranking = NO_RANKING
        if rate is not None and index < len(layers) - 1:
            ranking = Ranking(select=Select.TOPK, value=winner_count(rate, shape.out_channels))
        questions.append(LayerQuestion(name=layer.name, shape=replace(shape, winners=winners), winners=(winners,),
                                       ranking=ranking, scale_sim_shape=layer.scale_sim_shape))
    return questions


def job_question(name: str, job: "Job", config: EngineConfig, rate: float | None = None, *,
                 dense: bool = False) -> LayerQuestion:
    """A layer job with the winners of its masks, or a winner ``rate`` of all its inputs in their place.

    ``dense``: it has no masks and ranks nothing.
    """
    from hw.jobs import job_shape, ranking_fields
    from hw.packing import used_blocks
    from hw.program import job_inputs

    maps, winners = zip(*job_inputs(job), strict=True)
    if dense or rate is not None:
        winners = (None if dense else winner_count(rate, len(maps[0])),) * len(maps)
    known = int(winners[0].sum()) if hasattr(winners[0], "sum") else winners[0]
    shape = job_shape(job, config, known)
    return LayerQuestion(
        name=name, shape=shape, winners=winners, ranking=NO_RANKING if dense else ranking_fields(job.ranking),
        blocks=used_blocks(job.weight, config.columns, job.groups) if shape.blocks else None)


def total_fields(estimates: Sequence[Estimate]) -> dict[str, Any]:
    """The sums over all layers, for JSON. ``array``: of the layers that run on the array alone."""
    array = [one for one in estimates if one.array]
    fields = _fields(estimates)
    return fields | {"array": {name: _fields(array)[name] for name in ("cycles", "ideal_cycles", "utilization")}
                     if array else None}


def _fields(estimates: Sequence[Estimate]) -> dict[str, Any]:
    def added(parts):
        return {key: sum(part[key] for part in parts) for key in parts[0]}

    def whole(counts):
        known = [count for count in counts if count is not None]
        return sum(known) if known else None

    cycles = sum(one.predicted.cycles for one in estimates)
    ideal = sum(one.ideal_cycles for one in estimates)
    read, written = (added([getattr(one.predicted, name) for one in estimates])
                     for name in ("bytes_read", "bytes_written"))
    moved, compulsory = sum(read.values()) + sum(written.values()), sum(one.compulsory_bytes for one in estimates)
    return {"products": sum(one.products for one in estimates), "cycles": cycles, "ideal_cycles": ideal,
            "utilization": ideal / cycles if ideal else None, "bytes_read": read, "bytes_written": written,
            "bytes": moved, "compulsory_bytes": compulsory, "compulsory_ratio": moved / compulsory,
            "scale_sim_os_cycles": whole([one.os_cycles for one in estimates]),
            "scale_sim_ws_cycles": whole([one.ws_cycles for one in estimates])}


def estimate_table(estimates: Sequence[Estimate]) -> str:
    """Cycles, bytes and SCALE-Sim's counts of each layer, and their sums."""
    lines = [one.fields() for one in estimates]
    if len(lines) > 1:
        lines.append({"name": "total", "channels": None} | total_fields(estimates))
    rows = []
    for line in lines:
        rows.append([
            line["name"], f"{line['winners']} of {line['channels']}" if line["channels"] else "",
            f"{line['products']:,}" if line["products"] else "-", f"{line['cycles']:,}", percent(line["utilization"]),
            *(f"{count:,}" for count in [*line["bytes_read"].values(), *line["bytes_written"].values(), line["bytes"]]),
            f"{factor(line['compulsory_ratio'])}x",
            *("-" if line[key] is None else f"{line[key]:,} ({factor(line[key] / line['cycles'])}x)"
              for key in ("scale_sim_os_cycles", "scale_sim_ws_cycles"))])
    return table(["layer", "winners", "products", "cycles", "utilization", "read activ.", "weights", "parameters",
                  "written activ.", "mask", "total bytes", "compulsory", "SCALE-Sim OS", "SCALE-Sim WS"], rows)
