"""The engines worth building for a network: the Pareto front of cycles, bytes and multipliers.

Every engine of a space gets lower bounds (:mod:`sim.network_bounds`), tens of thousands a second. The analytical model,
which takes some ten milliseconds a network, then follows those alone whose bounds no engine that it has followed
already undercuts. So the front is the one that it would find if it followed them all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hw.config import EngineConfig
from hw.plan import PlanError

from .engine_space import Engines
from .network import estimate_network
from .network_bounds import Bounds, NetworkBounds

if TYPE_CHECKING:
    from golden.network import QuantizedNetwork

    from .estimate import Estimate

AT_ONCE = 16_384
"""Engines that get their bounds together."""
LARGEST_BUFFER = 1 << 23
"""Bytes (:class:`hw.config.EngineConfig`)."""
CHOICES = ("cycles", "bytes", "multipliers", "knee")
"""What :func:`choose` may be asked for."""

Progress = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Point:
    """An engine and what a network costs on it, by the analytical model.

    ``utilization``: of the PEs, by all cycles. ``layer_cycles``: by the names of the layers.
    """

    config: EngineConfig
    cycles: int
    bytes: int
    multipliers: int
    utilization: float
    layer_cycles: dict[str, int]

    @property
    def figures(self) -> tuple[int, int, int]:
        """What the front is of."""
        return self.cycles, self.bytes, self.multipliers

    @property
    def sizes(self) -> dict[str, int]:
        """The engine by the options of the commands."""
        return {"rows": self.config.rows, "cols": self.config.columns, "act_buffer_bytes": self.config.act_buffer_bytes,
                "weight_buffer_bytes": self.config.weight_buffer_bytes, "axi_width": self.config.axi_data_bits}

    def fields(self) -> dict[str, Any]:
        """For JSON."""
        return self.sizes | {"cycles": self.cycles, "bytes": self.bytes, "multipliers": self.multipliers,
                             "utilization": self.utilization, "layer_cycles": self.layer_cycles}


@dataclass(frozen=True, kw_only=True)
class Front:
    """The front by rising cycles, of engines with equal figures that with the smallest buffers.

    ``refused``: engines that cannot run the network; ``followed``: by the analytical model.
    """

    points: list[Point]
    refused: int
    followed: int


def bound_engines(network: "QuantizedNetwork", engines: Engines, progress: Progress = lambda done: None) -> Bounds:
    """Bounds of ``engines``, one at least; ``progress`` gets how many have theirs.

    Raises PlanError, naming the layer, for a network that an engine with the largest buffers cannot run, and JobError
    where the number of winners is not known.
    """
    estimate_network(network, replace(engines.base, act_buffer_bytes=LARGEST_BUFFER,
                                      weight_buffer_bytes=LARGEST_BUFFER))
    bounds = NetworkBounds(network, engines.base)
    parts = []
    for start in range(0, len(engines), AT_ONCE):
        parts.append(bounds(engines.take(slice(start, start + AT_ONCE))))
        progress(min(start + AT_ONCE, len(engines)))
    return Bounds(**{field.name: np.concatenate([getattr(part, field.name) for part in parts])
                     for field in fields(Bounds)})


def find_front(network: "QuantizedNetwork", engines: Engines, bounds: Bounds,
               progress: Progress = lambda done: None) -> Front:
    """Find the front among ``engines``; ``progress`` gets of how many is known whether they are on it."""
    figures = np.stack([bounds.cycles, bounds.bytes, engines.multipliers], 1)
    # Of equal figures the smallest buffers go first.
    buffers = [engines.act_bytes + engines.weight_bytes, engines.act_bytes, engines.axi_bytes, engines.rows]
    place = np.empty(len(engines), np.int64)
    place[np.lexsort(buffers[::-1])] = np.arange(len(engines))
    waiting = ~bounds.refused & ~_oversized(engines, bounds)
    refused, found = int(bounds.refused.sum()), {}
    for number in np.lexsort((place, *figures.T[::-1])):
        if not waiting[number]:
            continue
        waiting[number] = False
        config = engines.config(number)
        try:
            found[number] = measured(config, int(engines.multipliers[number]), estimate_network(network, config))
        except PlanError:
            refused += 1
            continue
        waiting &= ~_worse(figures, found[number].figures)
        progress(len(engines) - int(waiting.sum()))
    exact = np.array([point.figures for point in found.values()]).reshape(-1, 3)
    beaten = np.zeros(len(exact), bool)
    for one in exact:
        beaten |= _worse(exact, one)
    best: dict[tuple[int, int, int], Point] = {}
    for number, lost in sorted(zip(found, beaten, strict=True), key=lambda one: place[one[0]]):
        if not lost:
            best.setdefault(found[number].figures, found[number])
    return Front(points=[best[figures] for figures in sorted(best)], refused=refused, followed=len(found))


def _oversized(engines: Engines, bounds: Bounds) -> np.ndarray:
    """Which engines do the same as another one that has a smaller weight buffer and differs in nothing else."""
    sizes = np.unique(engines.weight_bytes)
    # The smallest size that is enough.
    enough = sizes[np.minimum(np.searchsorted(sizes, bounds.weight_bytes), len(sizes) - 1)]
    candidates = np.flatnonzero(enough < engines.weight_bytes)
    if not len(candidates):
        return np.zeros(len(engines), bool)
    # Pairs of buffers may have been given, so that not every size stands beside every other.
    names = ("rows", "columns", "act_bytes", "axi_bytes")
    there = set(zip(*(getattr(engines, name).tolist() for name in (*names, "weight_bytes")), strict=True))
    wanted = zip(*(getattr(engines, name)[candidates].tolist() for name in names), enough[candidates].tolist(),
                 strict=True)
    found = np.zeros(len(engines), bool)
    found[candidates] = [one in there for one in wanted]
    return found


def _worse(figures: np.ndarray, than: Sequence[int]) -> np.ndarray:
    """Which of these figures [P, 3] are nowhere less than others, and somewhere more."""
    return (figures >= than).all(1) & (figures > than).any(1)


def measured(config: EngineConfig, multipliers: int, layers: "Sequence[Estimate]") -> Point:
    """An engine with a network's layers in sum."""
    cycles = sum(one.predicted.cycles for one in layers)
    moved = sum(sum(one.predicted.bytes_read.values()) + sum(one.predicted.bytes_written.values()) for one in layers)
    return Point(config=config, cycles=cycles, bytes=moved, multipliers=multipliers,
                 utilization=sum(one.ideal_cycles for one in layers) / cycles,
                 layer_cycles={one.name: one.predicted.cycles for one in layers})


def choose(front: Sequence[Point], by: str) -> Point:
    """The point of the front with the least ``by``, one of :data:`CHOICES`; of several that with the least cycles, then
    bytes, then multipliers. The knee has the least product of the three."""
    if by == "knee":
        return min(front, key=lambda point: (float(np.prod(point.figures, dtype=float)), point.figures))
    return min(front, key=lambda point: (getattr(point, by), point.figures))


def thinned(front: Sequence[Point], share: float, kept: Point) -> list[Point]:
    """So many of a front, by rising cycles, that every point has one beside it that is at most ``share`` worse in each
    figure; ``kept`` is among them."""
    shown = [kept]
    for point in front:
        if not any(all(own <= (1 + share) * other for own, other in zip(one.figures, point.figures, strict=True))
                   for one in shown):
            shown.append(point)
    return sorted(shown, key=lambda point: point.figures)
