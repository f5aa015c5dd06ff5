"""Cycles and bytes of a network's layers, predicted or measured, as a table and for JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from golden.network import QuantizedNetwork
    from hw.config import EngineConfig
    from sim.report import Measure


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """What a layer costs; ``winners`` of ``channels`` take part. ``predicted_cycles`` None where nothing was
    measured."""

    name: str
    channels: int
    winners: int
    cycles: int
    ideal_cycles: float
    bytes_read: int
    bytes_written: int
    predicted_cycles: int | None = None


def predicted_costs(network: "QuantizedNetwork", config: "EngineConfig", rates: Mapping[str, float], *,
                    dense: bool = False) -> list[LayerCost]:
    """The layers as the analytical model has them, with winners at the mean ``rates`` that were found."""
    from sim.network import estimate_network

    network = replace(network, metadata=network.metadata | {"winner_rates": dict(rates)})
    return [LayerCost(name=one.name, channels=one.channels, winners=one.winners, cycles=one.predicted.cycles,
                      ideal_cycles=one.ideal_cycles, bytes_read=sum(one.predicted.bytes_read.values()),
                      bytes_written=sum(one.predicted.bytes_written.values()))
            for one in estimate_network(network, config, dense=dense)]


def measured_costs(measures: "Sequence[Measure]") -> list[LayerCost]:
    """The layers as RTL's counters have them."""
    return [LayerCost(name=one.name, channels=one.channels, winners=one.winners, cycles=one.cycles,
                      ideal_cycles=one.ideal_cycles, bytes_read=sum(one.bytes_read.values()),
                      bytes_written=sum(one.bytes_written.values()), predicted_cycles=one.predicted.cycles)
            for one in measures]


def total_cost(costs: Sequence[LayerCost]) -> LayerCost:
    """All layers in sum."""
    def added(name: str) -> Any:
        return sum(getattr(one, name) for one in costs)

    measured = all(one.predicted_cycles is not None for one in costs)
    return LayerCost(name="total", channels=added("channels"), winners=added("winners"), cycles=added("cycles"),
                     ideal_cycles=added("ideal_cycles"), bytes_read=added("bytes_read"),
                     bytes_written=added("bytes_written"),
                     predicted_cycles=added("predicted_cycles") if measured else None)


def costs_fields(costs: Sequence[LayerCost]) -> dict[str, Any]:
    """For JSON: ``layers`` and ``total``, with ``utilization``, ideal cycles / cycles."""
    def fields(one: LayerCost) -> dict[str, Any]:
        return asdict(one) | {"utilization": one.ideal_cycles / one.cycles if one.ideal_cycles else None}

    return {"layers": [fields(one) for one in costs], "total": fields(total_cost(costs))}


def costs_table(costs: Sequence[LayerCost], *, measured: bool) -> str:
    """The layers as text."""
    from sim.report import deviation, percent, table

    def row(one: LayerCost) -> list[str]:
        used = percent(one.ideal_cycles / one.cycles) if one.ideal_cycles else "-"
        cells = [one.name, f"{one.winners} of {one.channels}", f"{one.cycles:,}", used, f"{one.bytes_read:,}",
                 f"{one.bytes_written:,}"]
        return [*cells, deviation(one.predicted_cycles, one.cycles)] if measured else cells

    header = ["layer", "winners", "cycles", "utilization", "bytes read", "bytes written"]
    title = "Cycles and bytes of one input, " + ("measured" if measured else "predicted")
    return f"{title}\n" + table([*header, "predicted"] if measured else header,
                                [row(one) for one in [*costs, total_cost(costs)]])
