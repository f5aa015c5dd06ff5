"""Where the cells of an ECP5 design are, and where else they may be."""

import json
import re
from collections.abc import Collection
from itertools import product
from pathlib import Path

import numpy as np

from .timing import CLOCK_PINS

SLOTS = 8
"""Of a tile of logic: four slices, each of two LUTs with a register behind each."""
RAM_WRITE_SLICE = 2
"""The slice whose LUTs are taken where the tile's LUT RAM is written."""
WEAK = 1
"""nextpnr's strength of cells that a placer put where they are; more where they were told to be."""

_BEL = re.compile(r"X(\d+)/Y(\d+)/(?:SLICE([A-D])\.(K|FF)([01])|(.+))")


def _around(values, radius: int):
    """[x, y]: the sum over a square around each."""
    for _ in range(2):
        before = np.pad(values, ((radius + 1, radius), (0, 0))).cumsum(0)
        values = (before[2 * radius + 1:] - before[:-2 * radius - 1]).T
    return values


class LogicTiles:
    """The cells of a design that nextpnr has packed and placed, in groups that move together.

    A group is a LUT with the register that only it can reach, a register alone, a carry chain with its registers, or a
    block RAM. LUT RAM, multipliers (while it places them nextpnr assigns their clocks and enables), clocks and pins
    stay where they are, and what nextpnr was told to place somewhere.

    What may be in a tile: registers with one clock and one reset, those of a slice with one enable; in a slice either
    carries or none. A chain begins with a tile and goes on in the tiles to its right (nextpnr,
    ``Arch::slices_compatible`` of its ECP5; FPGA-DS-02012, "PFU Blocks").

    Parameters
    ----------
    placed:
        As nextpnr writes it, ``--write`` behind ``--no-route``.

    Members
    -------
    names: of the cells, by number.
    x, y, slot: of the cells, arrays; ``slot`` -1 for what is not in a tile of logic.
    groups: cells of each group; the first is where the group is.
    group: of each cell, -1 for one that stays.
    offset: tiles between a cell and its group's first, to the right.
    logic: [x, y], whether a tile is known to be one of logic: between others of its row.
    kinds: of the groups, "logic", "chain" or "ram".
    rams: places of block RAMs, {(x, y): group or None}.
    """

    def __init__(self, placed: Path):
        self._document = json.loads(placed.read_text())
        self._cells = self._document["modules"]["top"]["cells"]
        self.names = list(self._cells)
        self._types = [cell["type"] for cell in self._cells.values()]
        count = len(self.names)
        self.x, self.y, self.slot = (np.full(count, -1) for _ in range(3))
        self._bels = []
        for number, cell in enumerate(self._cells.values()):
            found = _BEL.fullmatch(cell["attributes"]["NEXTPNR_BEL"])
            self.x[number], self.y[number] = int(found[1]), int(found[2])
            if found[3]:
                self.slot[number] = 2 * "ABCD".index(found[3]) + int(found[5])
            self._bels.append(found[6])
        self._is_register = np.array([kind == "TRELLIS_FF" for kind in self._types])
        modes = [cell["parameters"].get("MODE", "LOGIC") for cell in self._cells.values()]
        self._is_carry = np.array([mode == "CCU2" for mode in modes])
        self._controls = {number: self._controls_of(number) for number in np.flatnonzero(self._is_register)}
        width, height = self.x.max() + 1, self.y.max() + 1
        self.logic = np.zeros((width, height), bool)
        self._ram_write = np.zeros((width, height), bool)
        self._luts, self._registers = (np.full((width, height, SLOTS), -1) for _ in range(2))
        for number in range(count):
            place = self.x[number], self.y[number]
            if self.slot[number] >= 0:
                self._in_slots(number)[*place, self.slot[number]] = number
                self.logic[place] = True
            elif self._types[number] == "TRELLIS_RAMW":
                self._ram_write[place] = True
        for row in self.logic.T:
            if len(used := np.flatnonzero(row)):
                row[used[0]:used[-1] + 1] = True
        self._find_nets()
        self.groups, self.group, self.offset = [], np.full(count, -1), np.zeros(count, int)
        self.kinds = []
        self._make_groups([mode == "LOGIC" for mode in modes])

    def net(self, cell: int, pin: str) -> int | None:
        """What a pin is connected to."""
        bits = self._cells[self.names[cell]]["connections"].get(pin)
        return bits[0] if bits else None

    def where(self, group: int) -> tuple[int, int, int]:
        """Column, row and slot."""
        first = self.groups[group][0]
        return int(self.x[first]), int(self.y[first]), int(self.slot[first])

    def slots_for(self, group: int) -> range:
        """Those of a tile in which a group may begin."""
        return range(1) if self.kinds[group] == "chain" else range(SLOTS)

    def lift(self, group: int) -> None:
        """Take a group out of its slots."""
        for cell in self.groups[group]:
            self._in_slots(cell)[self.x[cell], self.y[cell], self.slot[cell]] = -1

    def put(self, group: int, x: int, y: int, slot: int) -> None:
        """Put a group that has been lifted where :meth:`legal` says that it may be."""
        for cell, at, number in self._footprint(group, x, slot):
            self._in_slots(cell)[at, y, number] = cell
            self.x[cell], self.y[cell], self.slot[cell] = at, y, number

    def exchange(self, group: int, x: int, y: int) -> None:
        """Put a block RAM at a place of :attr:`rams`; what is there comes to where it was."""
        here, there = self.where(group)[:2], (x, y)
        self.rams[here], self.rams[there] = self.rams[there], group
        for place in (here, there):
            if self.rams[place] is not None:
                cell = self.groups[self.rams[place]][0]
                self.x[cell], self.y[cell] = place

    def legal(self, group: int, x: int, y: int, slot: int, without: Collection[int] = ()) -> bool:
        """Whether a group that has been lifted may be there, cells ``without`` being somewhere else."""
        if not without and self._in_slots(self.groups[group][0])[x, y, slot] >= 0:
            return False
        for cell, at, number in self._footprint(group, x, slot):
            if at >= self.logic.shape[0] or not self.logic[at, y]:
                return False
            if (there := self._in_slots(cell)[at, y, number]) >= 0 and there not in without:
                return False
            if self._is_register[cell]:
                if not self._controls_agree(cell, at, y, number, without):
                    return False
            elif not self._slice_agrees(cell, at, y, number, without):
                return False
        return True

    def room(self, group: int, x, y):
        """Of each of several tiles whether a slot is empty for a group's first cell, and for its register."""
        cells = self.groups[group]
        empty = [self._in_slots(cell)[x, y] < 0 for cell in (cells if self.kinds[group] == "logic" else cells[:1])]
        return np.logical_and.reduce(empty).any(1)

    def density(self, radius: int):
        """[x, y]: the share of LUTs that are taken, of the tiles of logic in a square around each."""
        return (_around((self._luts >= 0).sum(2) / SLOTS, radius)
                / np.maximum(_around(self.logic.astype(float), radius), 1))

    def wires(self, radius: int):
        """[x, y]: the wires that a tile needs, in the mean over a square around each.

        Those of a net are spread over its bounding box: half its perimeter, times the square root of a third of its
        cells where it has many, over its area (Spindler and Johannes, "Fast and accurate routing demand estimation for
        efficient routability-driven placement", DATE 2007).
        """
        (left, right), (low, high) = (
            (np.minimum.reduceat(at[self._of_nets], self._first_of_net),
             np.maximum.reduceat(at[self._of_nets], self._first_of_net) + 1) for at in (self.x, self.y))
        wide, tall = right - left, high - low
        demand = self._branches * (wide + tall - 1) / (wide * tall)
        corners = np.zeros(np.add(self.logic.shape, 1))
        for x, y, sign in ((left, low, 1), (right, low, -1), (left, high, -1), (right, high, 1)):
            np.add.at(corners, (x, y), sign * demand)
        return _around(corners.cumsum(0).cumsum(1)[:-1, :-1], radius) / (2 * radius + 1) ** 2

    def in_the_way(self, group: int, x: int, y: int, slot: int) -> set[int] | None:
        """Groups in the slots that a group would take; None where one of them stays."""
        found = set()
        for cell, at, number in self._footprint(group, x, slot):
            if at >= self.logic.shape[0] or not self.logic[at, y]:
                return None
            if (there := self._in_slots(cell)[at, y, number]) >= 0:
                found.add(int(self.group[there]))
        return None if any(one < 0 or self.kinds[one] == "chain" for one in found) else found

    def slots_of(self, group: int, x: int, y: int, slot: int) -> set[tuple[int, int, int]]:
        """(column, row, slot) of all that a group takes that begins there."""
        return {(at, y, number) for _, at, number in self._footprint(group, x, slot)}

    def state(self) -> tuple:
        """Where everything is, for :meth:`restore`, once."""
        arrays = self.x, self.y, self.slot, self._luts, self._registers
        return *(one.copy() for one in arrays), dict(self.rams)

    def restore(self, state: tuple) -> None:
        """Put everything where it was."""
        self.x, self.y, self.slot, self._luts, self._registers, self.rams = state

    def save(self, path: Path) -> None:
        """Write the design as nextpnr reads it with ``--no-pack --no-place``."""
        for number in np.flatnonzero(self.group >= 0):
            if self.kinds[self.group[number]] == "ram":
                bel = self._ram_columns[int(self.x[number])]
            else:
                slice_, half = divmod(int(self.slot[number]), 2)
                bel = f"SLICE{'ABCD'[slice_]}.{'FF' if self._is_register[number] else 'K'}{half}"
            attributes = self._cells[self.names[number]]["attributes"]
            attributes["NEXTPNR_BEL"] = f"X{self.x[number]}/Y{self.y[number]}/{bel}"
        path.write_text(json.dumps(self._document))

    def _find_nets(self) -> None:
        """Cells of the nets that are routed one behind the other, where each begins, and what branches add."""
        nets = {}
        for number, cell in enumerate(self._cells.values()):
            for pin, bits in cell["connections"].items():
                if bits and pin not in CLOCK_PINS and pin not in ("FCI", "FCO"):
                    nets.setdefault(bits[0], []).append(number)
        nets = [cells for cells in nets.values() if len(cells) > 1]
        sizes = np.array([len(cells) for cells in nets], dtype=int)
        self._of_nets = np.array([cell for cells in nets for cell in cells], dtype=int)
        self._first_of_net = np.cumsum(sizes) - sizes
        self._branches = np.where(sizes < 4, 1, np.sqrt(sizes / 3))

    def _make_groups(self, is_lut: list[bool]) -> None:
        drivers = {net: cell for cell, kind in enumerate(self._types) if kind == "TRELLIS_COMB"
                   and (net := self.net(cell, "F")) is not None}
        # "DI" leads to the LUT of the same slot alone, "M" to a wire.
        behind = {drivers[net]: cell for cell in self._controls if (net := self.net(cell, "DI")) is not None}
        carries = np.flatnonzero(self._is_carry).tolist()
        after = {net: cell for cell in carries if (net := self.net(cell, "FCI")) is not None}
        before = {self.net(cell, "FCO") for cell in carries} - {None}
        for cell, kind in enumerate(self._types):
            if self._strength(cell) > WEAK:
                continue
            if kind == "DP16KD":
                self._add("ram", [cell])
            elif kind == "TRELLIS_FF" and self.net(cell, "DI") is None:
                self._add("logic", [cell])
            elif kind == "TRELLIS_COMB" and is_lut[cell]:
                self._add("logic", [cell, *([behind[cell]] if cell in behind else [])])
            elif self._is_carry[cell] and self.slot[cell] == 0 and self.net(cell, "FCI") not in before:
                chain = [cell]
                while (following := after.get(self.net(chain[-1], "FCO"))) is not None:
                    chain.append(following)
                self._add("chain", chain + [behind[one] for one in chain if one in behind])
        # Block RAMs are in rows of equal columns, of which not all places are taken.
        rams = {self.where(group)[:2]: group for group, kind in enumerate(self.kinds) if kind == "ram"}
        self._ram_columns = {x: self._bels[self.groups[group][0]] for (x, _), group in rams.items()}
        self.rams = {place: rams.get(place) for place in product(self._ram_columns, sorted({y for _, y in rams}))}

    def _add(self, kind: str, cells: list[int]) -> None:
        for cell in cells:
            self.group[cell] = len(self.groups)
            self.offset[cell] = self.x[cell] - self.x[cells[0]]
        self.groups.append(tuple(cells))
        self.kinds.append(kind)

    def _strength(self, cell: int) -> int:
        return int(self._cells[self.names[cell]]["attributes"]["BEL_STRENGTH"], 2)

    def _in_slots(self, cell: int):
        """The slots of its kind, [x, y, slot]: the cell in each, or -1."""
        return self._registers if self._is_register[cell] else self._luts

    def _footprint(self, group: int, x: int, slot: int) -> list[tuple[int, int, int]]:
        """(cell, column, slot) of each cell of a group that begins there."""
        cells = self.groups[group]
        if self.kinds[group] == "chain":
            return [(cell, x + self.offset[cell], self.slot[cell]) for cell in cells]
        return [(cell, x, slot) for cell in cells]

    def _controls_of(self, register: int) -> tuple[tuple, tuple]:
        """What a tile's registers share, and what those of a slice do."""
        settings = self._cells[self.names[register]]["parameters"]

        def setting(name: str, default: str) -> str:
            return settings.get(name, default).strip()

        shared = (self.net(register, "CLK"), self.net(register, "LSR"), setting("CLKMUX", "CLK"),
                  setting("LSRMUX", "LSR"), setting("SRMODE", "LSR_OVER_CE"))
        return shared, (self.net(register, "CE"), setting("CEMUX", "CE"), setting("GSR", "ENABLED"))

    def _controls_agree(self, register: int, x: int, y: int, slot: int, without: Collection[int]) -> bool:
        shared, enable = self._controls[register]
        for number, other in enumerate(self._registers[x, y].tolist()):
            if other < 0 or other == register or other in without:
                continue
            other_shared, other_enable = self._controls[other]
            if other_shared != shared or (number // 2 == slot // 2 and other_enable != enable):
                return False
        return True

    def _slice_agrees(self, lut: int, x: int, y: int, slot: int, without: Collection[int]) -> bool:
        if self._ram_write[x, y] and slot // 2 == RAM_WRITE_SLICE:
            return False
        other = self._luts[x, y, slot ^ 1]
        return other < 0 or other in without or self._is_carry[other] == self._is_carry[lut]
