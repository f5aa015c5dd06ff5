"""Layers by the analytical model alone, beside SCALE-Sim's cycle counts for plain arrays of the same size."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hw.config import EngineConfig
from hw.descriptor import Select
from hw.lowering import Ranking
from hw.plan import LayerShape, Plan, PlanError, make_plan

from .analytical import (
    Prediction,
    ideal_cycles,
    output_stationary_cycles,
    predict_program,
    weight_stationary_cycles,
)
from .report import factor, percent, table

if TYPE_CHECKING:
    from golden.job import LayerJob
    from golden.network import QuantizedNetwork

    from .topology import TopologyLayer

NO_RANKING = Ranking()
"""Maximum scores, and every channel wins."""


@dataclass(frozen=True, kw_only=True)
class LayerQuestion:
    """A layer to estimate: ``winners`` input channels take part, named by a mask in memory if ``masked``.

    ``mask``: which ones, where that is known. ``scale_sim_shape``: what SCALE-Sim counts, where that differs from
    ``shape``.
    """

    name: str
    shape: LayerShape
    winners: int
    masked: bool = False
    mask: Any = None
    ranking: Ranking = NO_RANKING
    scale_sim_shape: LayerShape | None = None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A layer's predicted cost. ``os_cycles`` and ``ws_cycles``: SCALE-Sim's, all channels taking part."""

    name: str
    channels: int
    winners: int
    predicted: Prediction
    ideal_cycles: float
    os_cycles: int
    ws_cycles: int

    @property
    def utilization(self) -> float:
        """As in :mod:`sim.report`."""
        return self.ideal_cycles / self.predicted.cycles

    def fields(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, "channels": self.channels, "winners": self.winners, "cycles": self.predicted.cycles,
                "ideal_cycles": self.ideal_cycles, "utilization": self.utilization,
                "bytes_read": self.predicted.bytes_read, "bytes_written": self.predicted.bytes_written,
                "scale_sim_os_cycles": self.os_cycles, "scale_sim_ws_cycles": self.ws_cycles}


def estimate_layers(questions: Sequence[LayerQuestion], config: EngineConfig) -> list[Estimate]:
    """Estimate layers that run one behind the other in a program. Raises PlanError, naming the layer."""
    plans = [_plan(question, config) for question in questions]
    predictions = predict_program([(plan, one.ranking, one.winners if one.mask is None else one.mask, one.masked)
                                   for plan, one in zip(plans, questions, strict=True)])
    estimates = []
    for one, prediction in zip(questions, predictions, strict=True):
        counted = one.scale_sim_shape or one.shape
        estimates.append(Estimate(
            name=one.name, channels=one.shape.channels, winners=one.winners, predicted=prediction,
            ideal_cycles=ideal_cycles(one.shape, one.winners, config),
            os_cycles=output_stationary_cycles(counted, config), ws_cycles=weight_stationary_cycles(counted, config)))
    return estimates


def _plan(question: LayerQuestion, config: EngineConfig) -> Plan:
    try:
        return make_plan(question.shape, config)
    except PlanError as error:
        raise PlanError(f"layer {question.name}: {error}") from None


def winner_count(rate: float, channels: int) -> int:
    """Winners among ``channels`` at a rate in 0..1: rounded, at least one."""
    return max(1, round(rate * channels))


def topology_questions(layers: Sequence["TopologyLayer"], rate: float | None) -> list[LayerQuestion]:
    """A topology file's layers. With a winner ``rate`` each ranks its outputs, and all but the first have a mask."""
    questions = []
    for index, layer in enumerate(layers):
        shape, masked = layer.shape, rate is not None and index > 0
        winners = winner_count(rate, shape.channels) if masked else shape.channels
        ranking = NO_RANKING
        if rate is not None and index < len(layers) - 1:
            ranking = Ranking(select=Select.TOPK, value=winner_count(rate, shape.out_channels))
        questions.append(LayerQuestion(
            name=layer.name, shape=replace(shape, winners=winners if masked else None), winners=winners, masked=masked,
            ranking=ranking, scale_sim_shape=layer.scale_sim_shape))
    return questions


def job_question(name: str, job: "LayerJob", rate: float | None) -> LayerQuestion:
    """A layer job with the winners of its mask, or a winner ``rate`` in its place."""
    from hw.program import layer_shape, ranking_fields

    masked = rate is not None or job.channel_mask is not None
    winners = len(job.winner_indices) if rate is None else winner_count(rate, job.input.shape[0])
    return LayerQuestion(name=name, shape=layer_shape(job, winners if masked else None), winners=winners,
                         masked=masked, mask=job.channel_mask if rate is None else None,
                         ranking=ranking_fields(job.ranking))


def network_questions(network: "QuantizedNetwork", rate: float | None) -> list[LayerQuestion]:
    """A network's layers with the winner rates measured on it (its metadata), or ``rate`` after each ranked layer.

    Raises ValueError naming a layer of unknown rate.
    """
    import numpy as np

    from hw.program import layer_shape, ranking_fields

    measured = network.metadata.get("winner_rates", {})
    questions, shape, winners, known = [], network.input.shape, None, None
    for layer in network.layers:
        job = layer.job(np.zeros(shape, np.int8))
        ranking = ranking_fields(layer.ranking)
        questions.append(LayerQuestion(
            name=layer.name, shape=layer_shape(job, known), masked=winners is not None,
            winners=shape[0] if winners is None else winners, ranking=ranking))
        shape, winners, known = job.output_shape, None, None
        if ranking.select != Select.ALL:
            if rate is not None:
                known = winners = winner_count(rate, shape[0])
            elif ranking.select == Select.TOPK:
                known = winners = ranking.value
            elif layer.name in measured:
                winners = winner_count(measured[layer.name], shape[0])
            else:
                raise ValueError(f"layer {layer.name}: expected its winner rate in the network's metadata, got none")
    return questions


def total_fields(estimates: Sequence[Estimate]) -> dict[str, Any]:
    """The sums over all layers, for JSON."""
    def added(parts):
        return {key: sum(part[key] for part in parts) for key in parts[0]}

    cycles = sum(one.predicted.cycles for one in estimates)
    ideal = sum(one.ideal_cycles for one in estimates)
    return {"cycles": cycles, "ideal_cycles": ideal, "utilization": ideal / cycles,
            "bytes_read": added([one.predicted.bytes_read for one in estimates]),
            "bytes_written": added([one.predicted.bytes_written for one in estimates]),
            "scale_sim_os_cycles": sum(one.os_cycles for one in estimates),
            "scale_sim_ws_cycles": sum(one.ws_cycles for one in estimates)}


def estimate_table(estimates: Sequence[Estimate]) -> str:
    """Cycles, bytes and SCALE-Sim's counts of each layer, and their sums."""
    lines = [one.fields() for one in estimates]
    if len(lines) > 1:
        lines.append({"name": "total", "channels": None} | total_fields(estimates))
    rows = []
    for line in lines:
        traffic = [*line["bytes_read"].values(), *line["bytes_written"].values()]
        rows.append([
            line["name"], f"{line['winners']} of {line['channels']}" if line["channels"] else "",
            f"{line['cycles']:,}", percent(line["utilization"]), *(f"{count:,}" for count in [*traffic, sum(traffic)]),
            *(f"{line[key]:,} ({factor(line[key] / line['cycles'])}x)"
              for key in ("scale_sim_os_cycles", "scale_sim_ws_cycles"))])
    return table(["layer", "winners", "cycles", "utilization", "read activ.", "weights", "parameters", "written activ.",
                  "mask", "total bytes", "SCALE-Sim OS", "SCALE-Sim WS"], rows)
