"""What ranking costs against what it saves (DASNet Eq. 6 and 7): in operations, and in the engine's cycles."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from golden.checks import check
from golden.network import QuantizedNetwork
from hw.config import EngineConfig
from hw.lowering import Ranking

from .estimate import Estimate, LayerQuestion
from .network import estimate_questions, network_questions


@dataclass(frozen=True, kw_only=True)
class RankingCost:
    """A ranked layer, ``winners`` of its ``channels`` winning, and the layers that read only these.

    ``comparisons``: of the ranking, the maximum of each channel's map and N log2 N of a sort: the numerator of Eq. 7,
    of Eq. 6 where a map is a single neuron. ``saved_products``: multiplications by losers in the layers that read it,
    the denominator. ``ranking_cycles``: by the analytical model, what the layer takes longer for ranking; less than 0
    where planes of losers that need not be written are worth more. ``saved_cycles``: what its readers take less, their
    reading of masks included; of a layer that reads several ranked tensors an equal part.
    """

    name: str
    channels: int
    winners: int
    comparisons: float
    saved_products: float
    ranking_cycles: int
    saved_cycles: float

    @property
    def operations_ratio(self) -> float:
        """Eq. 6 or 7: comparisons for each multiplication saved; infinite where none is."""
        return self.comparisons / self.saved_products if self.saved_products else math.inf

    @property
    def cycles_ratio(self) -> float:
        """The same in cycles: those of ranking for each that is saved; infinite where none is."""
        return self.ranking_cycles / self.saved_cycles if self.saved_cycles > 0 else math.inf


def ranking_cost(network: QuantizedNetwork, config: EngineConfig) -> list[RankingCost]:
    """The cost of each ranked layer of ``network``, run as one program on an engine of ``config``, in order.

    Three programs are predicted: dense; with winners; and with the same winners as if they were known, which no layer
    ranks. Their number is that of topk, or of ``metadata["winner_rates"]``. Raises JobError where it is not known, or
    no layer is ranked, and PlanError where the engine cannot run a layer.
    """
    ranked = [node.name for node in network.layers if node.ranking is not None and node.ranking.select != "all"]
    check(bool(ranked), "winners", "at least one layer that is ranked", "none")
    questions = network_questions(network, config)
    dense = predict(network, network_questions(network, config, dense=True), config)
    winners = predict(network, questions, config)
    known = predict(network, [question and unranked(question) for question in questions], config)
    readers = _readers(network)
    costs = []
    for name in ranked:
        node = network.layer(name)
        channels, rows, columns = node.output_shape
        pixels = rows * columns
        shares = {reader: len(sources) for reader, sources in readers.items() if name in sources}
        costs.append(RankingCost(
            name=name, channels=channels, winners=network.winner_count(name),
            comparisons=channels * ((pixels if pixels > 1 else 0) + math.log2(channels)),
            saved_products=sum((dense[reader].products - known[reader].products) / parts
                               for reader, parts in shares.items()),
            ranking_cycles=winners[name].predicted.cycles - known[name].predicted.cycles,
            saved_cycles=sum((dense[reader].predicted.cycles - known[reader].predicted.cycles) / parts
                             for reader, parts in shares.items())))
    return costs


def total(costs: Sequence[RankingCost]) -> RankingCost:
    """The sums over all ``costs``, named "total"."""
    names = ("channels", "winners", "comparisons", "saved_products", "ranking_cycles", "saved_cycles")
    return RankingCost(name="total", **{name: sum(getattr(cost, name) for cost in costs) for name in names})


def predict(network: QuantizedNetwork, questions: Sequence[LayerQuestion | None],
            config: EngineConfig) -> dict[str, Estimate]:
    """The layers of ``network`` but concats, as one program that answers these questions, by name."""
    return {estimate.name: estimate for estimate in estimate_questions(network, questions, config)}


def unranked(question: LayerQuestion) -> LayerQuestion:
    """The same layer, its inputs' masks included, without a selection among its outputs."""
    return replace(question, ranking=Ranking(), scores=None, shape=replace(question.shape, judged=False))


def _readers(network: QuantizedNetwork) -> dict[str, set[str]]:
    """For each layer but concats the ranked layers whose winners it reads, through concats too."""
    sources: dict[str, set[str]] = {"input": set()}
    readers = {}
    for node in network.layers:
        read = set().union(*(sources[name] for name in node.inputs))
        if node.op == "concat":
            sources[node.name] = read
            continue
        readers[node.name] = read
        sources[node.name] = {node.name} if node.ranking is not None and node.ranking.select != "all" else set()
    return readers
