"""Lower bounds of a network's cycles and bytes, for tens of thousands of engines a second."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from hw.config import EngineConfig

from .array_bounds import ArrayBounds
from .bounds import Cost, Cut
from .engine_space import MAX_EXTENT, Engines
from .estimate import LayerQuestion
from .network import layer_sources, network_questions
from .vector_bounds import VectorBounds

if TYPE_CHECKING:
    from golden.network import QuantizedNetwork

LayerBounds = ArrayBounds | VectorBounds


@dataclass(frozen=True, kw_only=True, eq=False)
class Bounds:
    """Of a network on many engines, [P] each.

    ``cycles`` and ``bytes`` (int64): at least. ``refused``: an engine cannot run a layer. ``weight_bytes``: with this
    weight buffer instead of its own, if that is smaller, an engine takes the same cycles and moves the same bytes.
    """

    cycles: np.ndarray
    bytes: np.ndarray
    refused: np.ndarray
    weight_bytes: np.ndarray


class NetworkBounds:
    """A network with its winners as one program, as :func:`sim.network.estimate_network` has it; equal layers are one.

    Raises JobError where the number of winners is not known.
    """

    def __init__(self, network: "QuantizedNetwork", base: EngineConfig):
        questions = network_questions(network, base)
        sources = layer_sources(network)
        shares = _shares(network, base, questions)
        known: dict[tuple, LayerBounds] = {}
        self.layers: list[LayerBounds | None] = []
        for number, question in enumerate(questions):
            layer = None
            if question is not None:
                own = number if shares[number] is not None else None
                key = question.shape, question.winners, question.ranking, question.scores, own
                if key not in known:
                    known[key] = (VectorBounds(question) if question.shape.vector
                                  else ArrayBounds(question, shares[number]))
                layer = known[key]
            self.layers.append(layer)
        # Whether the next layer, and it alone, takes a layer's output, and nothing else.
        self.chained = [[reader for reader, parts in enumerate(sources) if number in parts] == [number + 1]
                        and len(sources[number + 1]) == 1 and self.layers[number + 1] is not None
                        for number in range(len(sources))]

    def __call__(self, engines: Engines) -> Bounds:
        """For these engines."""
        return _Sweep(self, engines).run()


class _Sweep:
    """A network's layers in order on some engines; what equal layers have in common is worked out once."""

    def __init__(self, network: NetworkBounds, engines: Engines):
        self.network, self.engines = network, engines
        self.no = np.zeros(len(engines), bool)
        self.cut = cache(lambda layer: layer.cut(engines, engines.act_bytes))
        self.resident = cache(lambda layer: layer.resident(engines))
        self.plain_cost = cache(lambda layer: layer.cost(engines, self.cut(layer), self.no, self.no))

    def run(self) -> Bounds:
        engines = self.engines
        cycles, traffic, needed = np.zeros((3, len(engines)))
        refused, resident = self.no, None
        for number, layer in enumerate(self.network.layers):
            on_chip = None
            if layer is not None:
                cut = self.cut(layer)
                if resident is not None:
                    cut = cut.where(resident, self.resident(layer)[1])
                refused = refused | cut.refused
                if self.network.chained[number]:
                    cut, on_chip = self._chain(number, cut, resident)
                cost = self._cost(layer, cut, resident, on_chip)
                cycles, traffic = cycles + cost.cycles, traffic + cost.bytes
                needed = np.maximum(needed, layer.weight_bytes(engines, cut))
            resident = on_chip
        # The analytical model rounds its cycles.
        return Bounds(cycles=np.ceil(cycles - 0.5).astype(np.int64), bytes=np.rint(traffic).astype(np.int64),
                      refused=refused, weight_bytes=needed.astype(np.int64))

    def _cost(self, layer: LayerBounds, cut: Cut, resident, on_chip) -> Cost:
        if resident is None and on_chip is None:
            return self.plain_cost(layer)
        return layer.cost(self.engines, cut, self.no if resident is None else resident,
                          self.no if on_chip is None else on_chip)

    def _chain(self, number: int, cut: Cut, resident: np.ndarray | None) -> tuple[Cut, np.ndarray | None]:
        """A layer before one that may find its input on chip, as :func:`hw.program.plan_program` decides.

        How it is cut then, and which engines keep its output on chip (None: none). ``resident``: so is its input.
        """
        layer, following = self.network.layers[number:number + 2]
        room, shape = self.engines.act_bytes, layer.question.shape
        size = shape.out_channels * shape.out_extent[0] * shape.out_extent[1]
        wanted, _ = self.resident(following)
        if not wanted.any():
            return cut, None
        # Where it is not followed how a layer is cut, its output stays on chip: that is the least.
        narrow = layer.cut(self.engines, np.maximum(1, room - size))
        unsure = narrow.loose | cut.loose
        on_chip = wanted & (size < room) & ~narrow.refused & (unsure | (narrow.descriptors <= cut.descriptors))
        narrowed = on_chip & ~unsure
        if resident is not None:
            # Input and output lie at the two ends of the buffer.
            on_chip = np.where(resident, wanted & (size <= room - shape.channels * shape.height * shape.width), on_chip)
            narrowed &= ~resident
        return (cut.where(narrowed, narrow), on_chip) if on_chip.any() else (cut, None)


def _shares(network: "QuantizedNetwork", base: EngineConfig,
            questions: Sequence[LayerQuestion | None]) -> list[np.ndarray | None]:
    """Of each layer the share of its weights in blocks that are not left out, by the columns of the array (float
    [MAX_EXTENT + 1]); None where that is all."""
    if all(node.op != "conv" or node.draw is not None for node in network.layers):
        return [None] * len(questions)
    found = np.ones((len(questions), MAX_EXTENT + 1))
    for columns in range(1, MAX_EXTENT + 1):
        for number, question in enumerate(network_questions(network, replace(base, columns=columns))):
            if question is not None and question.blocks is not None:
                outputs = question.shape.out_channels // question.shape.groups
                widths = np.diff([*range(0, outputs, columns), outputs])
                found[number, columns] = np.average(question.blocks.mean((0, 2)), weights=widths)
    return [one if (one < 1).any() else None for one in found]
