"""Static timing analysis of a placed design: the tools' delays of cells, wires by how far apart their ends are."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

CLOCK_PINS = frozenset({"CLK", "CLKA", "CLKB", "CLKI", "CLK0", "CLK1", "CLK2", "CLK3", "SCLK", "ECLK", "WCK"})
NEVER = -10**7
"""In picoseconds: of a pin that no register leads to, or that leads to none."""

_CONNECTION = re.compile(r"\(INTERCONNECT (\S+) (\S+) ")
_ARC = re.compile(r"\(IOPATH (?:\(\w+ (\S+)\)|(\S+)) (\S+) \(\d+:\d+:(\d+)\)")
_SETUP = re.compile(r"\(SETUPHOLD \(\w+ (\S+)\) \(\w+ \S+\) \(-?\d+:-?\d+:(-?\d+)\)")


def wire_delay(dx, dy):
    """Picoseconds between tiles that are ``dx``, ``dy`` apart: what nextpnr expects of an ECP5 of speed grade 6.

    Numbers or arrays of them.
    """
    dx, dy = abs(dx), abs(dy)
    return 80 * (6 + np.maximum(dx - 5, 0) + np.maximum(dy - 5, 0) + 2 * (np.minimum(dx, 5) + np.minimum(dy, 5)))


class TimingGraph:
    """The paths of a design, from register to register.

    Parameters
    ----------
    sdf:
        Delays as nextpnr writes them (``--sdf``, the slowest of three each). Only those of cells are read: a
        connection's is :func:`wire_delay`, whatever it was then; none where two cells share a wire of their own (a
        carry, a LUT's output into the register beside it), and in clocks.
    cells:
        {name: number} of every cell.

    Members
    -------
    source, sink:
        Cells of each connection, arrays of numbers.
    own_wire:
        Connections whose ends must stay where they are to each other.
    clock:
        Connections of clocks.
    ends:
        Connections into registers.
    """

    def __init__(self, sdf: Path, cells: Mapping[str, int]):
        self._numbers, self._cells, self._pins, self._cell_numbers = {}, [], [], cells
        connections, arcs, delays, launch, setup = [], [], [], {}, {}
        instance = kind = ""
        with sdf.open() as file:
            for line in map(str.strip, file):
                if line.startswith("(INTERCONNECT"):
                    found = _CONNECTION.match(line)
                    connections.append((self._pin(found[1]), self._pin(found[2])))
                elif line.startswith("(CELLTYPE"):
                    kind = line.split('"')[1]
                elif line.startswith("(INSTANCE"):
                    instance = line[len("(INSTANCE "):-1]
                elif line.startswith("(IOPATH"):
                    found = _ARC.match(line)
                    pin, delay = self._pin(f"{instance}/{found[3]}"), int(found[4])
                    source = found[1] or found[2]
                    if source in CLOCK_PINS and kind != "DCCA":  # a buffer passes its clock on
                        launch[pin] = max(launch.get(pin, 0), delay)
                    else:
                        arcs.append((self._pin(f"{instance}/{source}"), pin))
                        delays.append(delay)
                elif line.startswith("(SETUPHOLD"):
                    found = _SETUP.match(line)
                    pin = self._pin(f"{instance}/{found[1]}")
                    setup[pin] = max(setup.get(pin, 0), int(found[2]))
        pins = np.array(self._pins)
        self._from, self._to = np.array(connections).reshape(-1, 2).T
        self.source, self.sink = (np.array(self._cells)[ends] for ends in (self._from, self._to))
        outputs, inputs = pins[self._from], pins[self._to]
        self.own_wire = ((outputs == "FCO") & (inputs == "FCI")) | ((outputs == "F") & (inputs == "DI"))
        self.clock = np.isin(inputs, list(CLOCK_PINS))
        self.ends = np.isin(self._to, list(setup))
        self._unwired = self.own_wire | self.clock
        self._arc_delays = np.array(delays, dtype=int)
        arcs = np.array(arcs, dtype=int).reshape(-1, 2)
        self._edge_from = np.concatenate([self._from, arcs[:, 0]])
        self._edge_to = np.concatenate([self._to, arcs[:, 1]])
        self._launch, self._setup = (self._by_pin(times) for times in (launch, setup))
        levels = self._levels()
        self._forward = _grouped(levels[self._edge_to])
        self._backward = _grouped(levels[self._edge_from])[::-1]

    def delays(self, x, y):
        """Picoseconds of each connection with cells at ``x``, ``y``."""
        wires = wire_delay(x[self.source] - x[self.sink], y[self.source] - y[self.sink])
        wires[self._unwired] = 0
        return wires

    def paths(self, delays):
        """(before, behind) each connection, picoseconds: from the clock to its source, from its sink to the clock.

        With its own delay that is the slowest path through it; negative where there is none.
        """
        edges = np.concatenate([delays, self._arc_delays])
        arrival = self._launch.astype(edges.dtype)
        for level in self._forward:
            np.maximum.at(arrival, self._edge_to[level], arrival[self._edge_from[level]] + edges[level])
        left = self._setup.astype(edges.dtype)
        for level in self._backward:
            np.maximum.at(left, self._edge_from[level], left[self._edge_to[level]] + edges[level])
        # Nothing is asked of a clock's own connections.
        return np.where(self.clock, NEVER, arrival[self._from]), left[self._to]

    def _pin(self, path: str) -> int:
        number = self._numbers.get(path)
        if number is None:
            number = self._numbers[path] = len(self._pins)
            cell, _, pin = path.replace("\\", "").rpartition("/")
            self._cells.append(self._cell_numbers[cell])
            self._pins.append(pin)
        return number

    def _by_pin(self, times: Mapping[int, int]):
        values = np.full(len(self._pins), NEVER)
        values[list(times)] = list(times.values())
        return values

    def _levels(self):
        """Of each pin the number of pins before it, on the longest way. Raises ValueError if there is a loop."""
        count = len(self._pins)
        order = np.argsort(self._edge_from, kind="stable")
        first = np.searchsorted(self._edge_from[order], np.arange(count + 1)).tolist()
        followers = self._edge_to[order].tolist()
        missing = np.bincount(self._edge_to, minlength=count).tolist()
        levels = [0] * count
        ready = [pin for pin in range(count) if not missing[pin]]
        for pin in ready:  # grows
            for follower in followers[first[pin]:first[pin + 1]]:
                levels[follower] = max(levels[follower], levels[pin] + 1)
                missing[follower] -= 1
                if not missing[follower]:
                    ready.append(follower)
        if len(ready) < count:
            raise ValueError("expected a design without combinational loops")
        return np.array(levels)


def _grouped(levels):
    """Indices of each level, from the lowest."""
    order = np.argsort(levels, kind="stable")
    return np.split(order, np.nonzero(np.diff(levels[order]))[0] + 1)
