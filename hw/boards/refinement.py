"""Shortens the slow paths of a design that nextpnr has placed, before it is routed.

nextpnr's placers look at the sum of wires first. What its refinement then moves is one cell, a few tiles, where that
helps at once: a path whose cells lie zigzag over the device, each held by others, stays. Here all cells of slow paths
move together (:meth:`Refinement.relax`), as springs whose strength grows with the delay of the paths through them, take
the places that are nearest (:meth:`Refinement.settle`), and are moved one by one where that makes slow paths faster
(:meth:`Refinement.improve`); and again, as long as the slowest path becomes faster.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from .logic_tiles import LogicTiles
from .timing import TimingGraph, wire_delay

ROUNDS = 20
PATIENCE = 3
"""Rounds without a faster slowest path after which it ends."""
SOFTNESS = 300
"""Picoseconds that make a connection e times as expensive."""
WIRE_COST = 2e-4
"""Of a picosecond of any wire: what is fast enough is not lengthened for nothing, as wires are scarce."""
WIRE_PULL = 4e-2
"""Of any wire, as a part of that of the slowest path, while cells move together: for the same reason."""
CROWD_RADIUS, CROWDING = 3, 3
"""Tiles to each side that count as around one; what a place costs where all there is taken."""
CROWDED = 0.75
"""Share of the LUTs around a tile that can be taken before it costs more."""
SCARCE, NONE_LEFT = 110, 135
"""Wires of a tile around one that can be needed before it costs more; and where all there are."""
MOST_CONNECTIONS = 60
"""Of a group, the slowest, that are looked at."""


def refine(*, placed: Path, delays: Path, refined: Path, target: float, seed: int, progress: Callable[[str], None]
           ) -> None:
    """Refine a design that nextpnr has placed.

    ``placed``, ``delays``: as nextpnr writes them with ``--write`` and ``--sdf`` behind ``--no-route``. ``refined``:
    what it routes with ``--no-pack --no-place``. ``target``: picoseconds below which a path is fast enough.
    """
    tiles = LogicTiles(placed)
    graph = TimingGraph(delays, {name: number for number, name in enumerate(tiles.names)})
    Refinement(tiles, graph, target=target, seed=seed).run(progress)
    tiles.save(refined)


class Refinement:
    """A placed design, the cells of whose slow paths are moved.

    Parameters
    ----------
    tiles, graph:
        The design, and its paths.
    target:
        Picoseconds below which a path is fast enough.
    seed:
        Of the order in which groups are moved whose paths are about as slow.
    """

    def __init__(self, tiles: LogicTiles, graph: TimingGraph, *, target: float, seed: int):
        self.tiles, self.graph, self.target = tiles, graph, target
        self._random = np.random.default_rng(seed)
        from_group, to_group = tiles.group[graph.source], tiles.group[graph.sink]
        self._from_group, self._to_group = from_group, to_group
        self._free = ~graph.own_wire & ~graph.clock & (from_group != to_group)
        connections = [[] for _ in tiles.groups]
        for connection in np.flatnonzero(self._free).tolist():
            source, sink = graph.source[connection], graph.sink[connection]
            for group, own, other in ((from_group[connection], source, sink), (to_group[connection], sink, source)):
                if group >= 0:
                    connections[group].append((connection, other, tiles.offset[own]))
        # Of each group: connections, the cells at their other ends, offsets of its own cells.
        self._connections = [np.array(one, dtype=int).reshape(-1, 3).T for one in connections]
        self._first = np.array([cells[0] for cells in tiles.groups])
        self._in_tiles = np.array([kind != "ram" for kind in tiles.kinds])
        self._ram_places = np.array(list(tiles.rams), dtype=int).reshape(-1, 2).T

    def run(self, progress: Callable[[str], None]) -> float:
        """Refine; returns the delay of the slowest path in picoseconds, by :func:`hw.boards.timing.wire_delay`."""
        best, state, patience = None, None, PATIENCE
        for number in range(ROUNDS):
            if number and not self.relax():
                break
            self.improve()
            found = self.analyse(), self._excess()
            progress(f"round {number}, slowest path {found[0] / 1000:.1f} ns")
            if best is None or found < best:
                best, state, patience = found, self.tiles.state(), PATIENCE
            else:
                patience -= 1
            if best[0] <= self.target or not patience:
                break
        self.tiles.restore(state)
        return self.analyse()

    def analyse(self) -> float:
        """Find the paths as cells lie now; the delay of the slowest."""
        tiles = self.tiles
        self._delays = self.graph.delays(tiles.x, tiles.y)
        self._before, self._behind = self.graph.paths(self._delays)
        self._through = self._before + self._delays + self._behind
        self._crowding = CROWDING * sum(np.maximum((taken - some) / (most - some), 0) ** 2 for taken, some, most in (
            (tiles.density(CROWD_RADIUS), CROWDED, 1), (tiles.wires(CROWD_RADIUS), SCARCE, NONE_LEFT)))
        return float(self._through.max())

    def improve(self) -> None:
        """Move groups of slow paths one by one, each to where its connections are cheapest.

        At first those of the slowest paths, in any order where these differ little; where they do not move, of others
        too. It ends where nothing moves, or nothing has become faster for a while.
        """
        best, stalled, reach = np.inf, 0, 1000.0
        while stalled < 10:
            slowest = self.analyse()
            found = slowest + self._excess() / 1e6
            stalled = 0 if found < best - 1 else stalled + 1
            best = min(best, found)
            limit = max(self.target, slowest - reach)
            slowness = self._slowness(self._free & (self._through > limit - 300))
            slow = np.flatnonzero(slowness > 0)
            order = np.argsort(self._random.normal(0, 200, len(slow)) - slowness[slow], kind="stable")[:300]
            moved = sum(self._move(group, limit) for group in slow[order].tolist())
            if moved <= 3:
                if limit <= self.target:
                    break
                reach *= 1.5

    def relax(self) -> bool:
        """Move all groups of slow paths together, as if they could lie over each other; then :meth:`settle` them.

        Each wire is a spring whose stiffness falls with its length, so that weighted lengths, not their squares, become
        small; it grows with the slowest path through the wire, and is found again as paths change. Returns whether
        there was room.
        """
        tiles, graph, count = self.tiles, self.graph, len(self.tiles.groups)
        x, y = tiles.x.astype(float), tiles.y.astype(float)
        floor = max(self.target - 300, self.analyse() - 2500)
        moving, weights = np.zeros(count, bool), 0
        for step in range(60):
            delays = graph.delays(x, y)
            before, behind = graph.paths(delays)
            through = before + delays + behind
            slowest = through.max()
            moving |= (self._slowness(self._free & (through > floor), through) > 0) & self._in_tiles
            pull = np.where(through > floor - 1500, np.exp(np.clip((through - slowest) / 600, -30, 0)), 0)
            weights = 0.8 * weights + 0.2 * pull if step else pull
            ends = [(groups >= 0) & moving[groups] for groups in (self._from_group, self._to_group)]
            used = np.flatnonzero(self._free & (ends[0] | ends[1]))
            source, sink = graph.source[used], graph.sink[used]
            from_moves, to_moves = ends[0][used], ends[1][used]
            from_group, to_group = self._from_group[used][from_moves], self._to_group[used][to_moves]
            weight = weights[used] + WIRE_PULL
            cells = np.flatnonzero((tiles.group >= 0) & moving[tiles.group])
            for _ in range(6):
                for at, offset in ((x, tiles.offset), (y, np.zeros_like(tiles.offset))):
                    stiffness = weight / (abs(at[source] - at[sink]) + 1.5)
                    sums = (np.bincount(from_group, (stiffness * (at[sink] - offset[source]))[from_moves], count)
                            + np.bincount(to_group, (stiffness * (at[source] - offset[sink]))[to_moves], count))
                    total = (np.bincount(from_group, stiffness[from_moves], count)
                             + np.bincount(to_group, stiffness[to_moves], count))
                    middle = np.divide(sums, total, out=at[self._first].copy(), where=total > 0)
                    new = 0.3 * at[self._first] + 0.7 * middle
                    at[cells] = new[tiles.group[cells]] + offset[cells]
        far = abs(x - tiles.x)[self._first] + abs(y - tiles.y)[self._first] > 1.5
        self._before, self._behind, self._through = before, behind, through
        columns, rows = (np.rint(at[self._first]).astype(int) for at in (x, y))
        return self.settle(np.flatnonzero(moving & far), columns, rows)

    def settle(self, groups, x, y) -> bool:
        """Put groups near ``x``, ``y`` (of every group), chains and those of the slowest paths first.

        Others make way. False, and nothing is moved, if there is no room for one.
        """
        tiles = self.tiles
        limit, slowness = self._through.max(), self._slowness(self._free)
        order = sorted(groups.tolist(), key=lambda group: (tiles.kinds[group] != "chain", -slowness[group]))
        before = tiles.state()
        for group in order:
            tiles.lift(group)
            cells = list(tiles.groups[group])
            tiles.x[cells], tiles.y[cells] = x[group] + tiles.offset[cells], y[group]
        for group in order:
            if not self._settle_one(group, int(x[group]), int(y[group]), limit):
                tiles.restore(before)
                return False
        return True

    def _settle_one(self, group: int, x: int, y: int, limit: float) -> bool:
        for radius, budget in ((4, 0.01), (8, 1), (16, 1), (32, 1), (128, 1)):
            columns, rows = self._window((x, y, radius))
            costs = self._costs(group, columns, rows, limit) + 1e-3 * (abs(columns - x) + abs(rows - y))
            for choice in np.argsort(costs, kind="stable"):
                if self._place(group, int(columns[choice]), int(rows[choice]), limit, budget):
                    return True
        return False

    def _move(self, group: int, limit: float) -> bool:
        """Move one group to where its connections are cheapest, if that is elsewhere."""
        tiles = self.tiles
        x, y, slot = tiles.where(group)
        connections, others, offsets = self._connections[group]
        columns, rows = tiles.x[others] - offsets, tiles.y[others]
        through = self._before[connections] + self._behind[connections] + wire_delay(columns - x, rows - y)
        slow = through > limit - 500
        if not slow.any():
            return False
        if tiles.kinds[group] == "ram":
            return self._move_ram(group, x, y, limit)
        weights = np.exp(np.minimum((through[slow] - limit) / 600, 20))
        columns, rows = columns[slow], rows[slow]
        middle = (int(np.rint((weights * at).sum() / weights.sum())) for at in (columns, rows))
        columns, rows = self._window((*middle, 6), (x, y, 3), (int(np.median(columns)), int(np.median(rows)), 3))
        costs, here = self._costs(group, columns, rows, limit), self._cost(group, x, y, limit)
        tiles.lift(group)
        for choice in np.argsort(costs, kind="stable")[:40 if tiles.kinds[group] == "chain" else 24]:
            if costs[choice] >= 0.999 * here:
                break
            if self._place(group, int(columns[choice]), int(rows[choice]), limit, here - costs[choice]):
                return True
        tiles.put(group, x, y, slot)
        return False

    def _move_ram(self, group: int, x: int, y: int, limit: float) -> bool:
        """The same for a block RAM, which changes places with what is there."""
        columns, rows = self._ram_places
        costs, here = self._costs(group, columns, rows, limit), self._cost(group, x, y, limit)
        for choice in np.argsort(costs, kind="stable")[:24]:
            gain = here - costs[choice]
            if gain <= 0.001 * here:
                break
            place = int(columns[choice]), int(rows[choice])
            other = self.tiles.rams[place]
            if other == group:
                continue
            if other is None or self._cost(other, x, y, limit) - self._cost(other, *place, limit) < 0.9 * gain:
                self.tiles.exchange(group, *place)
                return True
        return False

    def _place(self, group: int, x: int, y: int, limit: float, budget: float) -> bool:
        """Put a group that has been lifted into a tile; others may make way if that costs less than ``budget``."""
        tiles = self.tiles
        slots = tiles.slots_for(group)
        room = tiles.room(group, np.array([x]), np.array([y]))[0]
        for slot in slots if room else ():
            if tiles.legal(group, x, y, slot):
                tiles.put(group, x, y, slot)
                return True
        for slot in slots:
            others = tiles.in_the_way(group, x, y, slot)
            if not others or len(others) > 12:
                continue
            if not tiles.legal(group, x, y, slot, {cell for other in others for cell in tiles.groups[other]}):
                continue
            if self._make_way(sorted(others), group, (x, y, slot), limit, 0.95 * budget):
                tiles.put(group, x, y, slot)
                return True
        return False

    def _make_way(self, others: list[int], group: int, place: tuple[int, int, int], limit: float,
                  budget: float) -> bool:
        """Move others out of the way of a group, each to the cheapest place that is free and near."""
        tiles, old = self.tiles, []
        for other in others:
            x, y, slot = tiles.where(other)
            here = self._cost(other, x, y, limit)
            columns, rows = self._window((x, y, 3), (*tiles.where(group)[:2], 1))
            room = tiles.room(other, columns, rows)
            columns, rows = columns[room], rows[room]
            costs = self._costs(other, columns, rows, limit)
            order = np.argsort(costs, kind="stable")[:12]
            tiles.lift(other)
            places = [(int(columns[choice]), int(rows[choice])) for choice in order[costs[order] - here <= budget]]
            new = next((at for one in places if (at := self._free_place(other, *one, group, place))), None)
            tiles.put(other, *(new or (x, y, slot)))
            if new is None:
                break
            old.append((other, (x, y, slot)))
            budget -= max(0, self._cost(other, *new[:2], limit) - here)
        else:
            # What has made way may be in the same slice now, with another enable.
            if tiles.legal(group, *place):
                return True
        for other, _ in old:
            tiles.lift(other)
        for other, at in old:
            tiles.put(other, *at)
        return False

    def _free_place(self, group: int, x: int, y: int, above: int, place: tuple[int, int, int]):
        """Where in a tile a group fits beside another that will be at ``place``, or None."""
        taken = self.tiles.slots_of(above, *place)
        return next(((x, y, slot) for slot in self.tiles.slots_for(group)
                     if (x, y, slot) not in taken and self.tiles.legal(group, x, y, slot)), None)

    def _costs(self, group: int, x, y, limit: float):
        """What a group costs at each of several places: its connections, those of slow paths exponentially."""
        tiles = self.tiles
        connections, others, offsets = self._connections[group]
        if len(connections) > MOST_CONNECTIONS:
            column, row, _ = tiles.where(group)
            through = (self._before[connections] + self._behind[connections]
                       + wire_delay(tiles.x[others] - offsets - column, tiles.y[others] - row))
            slowest = np.argpartition(-through, MOST_CONNECTIONS)[:MOST_CONNECTIONS]
            connections, others, offsets = connections[slowest], others[slowest], offsets[slowest]
        wires = wire_delay((tiles.x[others] - offsets)[:, None] - x, tiles.y[others][:, None] - y)
        over = (self._before[connections] + self._behind[connections])[:, None] + wires - limit
        crowding = self._crowding[x, y] if self._in_tiles[group] else 0
        return (np.exp(np.minimum(over / SOFTNESS, 40)) + WIRE_COST * wires).sum(0) + crowding

    def _cost(self, group: int, x: int, y: int, limit: float) -> float:
        return float(self._costs(group, np.array([x]), np.array([y]), limit)[0])

    def _window(self, *squares: tuple[int, int, int]):
        """Columns and rows of the tiles of logic in several squares of (column, row, radius)."""
        inside = np.zeros_like(self.tiles.logic)
        for x, y, radius in squares:
            inside[max(x - radius, 0):max(x + radius + 1, 0), max(y - radius, 0):max(y + radius + 1, 0)] = True
        return np.nonzero(inside & self.tiles.logic)

    def _slowness(self, connections, through=None):
        """Of each group the slowest path through those of its connections; 0 where there is none."""
        through = np.where(connections, self._through if through is None else through, 0)
        found = np.zeros(len(self.tiles.groups))
        for groups in (self._from_group, self._to_group):
            np.maximum.at(found, groups[groups >= 0], through[groups >= 0])
        return found

    def _excess(self) -> float:
        """Picoseconds by which paths are too slow, over all their ends."""
        return float(np.maximum(self._through[self.graph.ends] - self.target, 0).sum())
