"""Slow paths are shortened, and what comes out is a placement that nextpnr takes."""

import json
import re
import subprocess
from collections import defaultdict
from itertools import product
from random import Random

import numpy as np
import pytest
from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.boards.flow import NEXTPNR, YOSYS, synthesis
from hw.boards.logic_tiles import LogicTiles
from hw.boards.presets import BOARDS
from hw.boards.refinement import Refinement, refine
from hw.boards.sdram import SdramSignature
from hw.boards.system import LEDS
from hw.boards.timing import CLOCK_PINS, TimingGraph, wire_delay
from hw.boards.ulx3s import Ulx3s, board_clock, translate

BOARD = BOARDS["ulx3s-12f"]
OPTIONS = (*BOARD.nextpnr_options, "--lpf", "top.lpf", "--freq", "100", "--timing-allow-fail", "--seed", "1")


class Stage(wiring.Component):
    """Sums, a memory and a word of LUT RAM, with a reset and enables of its own."""

    def __init__(self, number: int):
        self.number = number
        super().__init__({"i": In(16), "enable": In(2), "o": Out(16)})

    def elaborate(self, platform):
        m = Module()
        block, few = (Memory(shape=16, depth=depth, init=[]) for depth in (1024, 16))
        m.submodules.block, m.submodules.few = block, few
        total, product_ = Signal(16), Signal(16, reset_less=True)
        held, mixed = Signal(16), Signal(16)
        for memory in (block, few):
            write = memory.write_port()
            m.d.comb += [write.addr.eq(total), write.data.eq(self.i), write.en.eq(self.enable[0])]
        read = block.read_port()
        word = few.read_port(domain="comb")
        m.d.comb += [read.addr.eq(self.i), read.en.eq(1), word.addr.eq(self.i[3:])]
        with m.If(self.enable[1]):
            m.d.sync += total.eq(total + read.data)
        with m.If(self.enable[0]):
            m.d.sync += held.eq(self.i)
        with m.If(self.enable[1]):
            m.d.sync += mixed.eq(held ^ self.i)
        m.d.sync += product_.eq(Mux(self.i[0], word.data, self.i * (self.number + 3)))
        with m.If(self.enable[0] | product_[5]):
            m.d.sync += self.o.eq((total ^ product_) + (mixed >> 2))
        return m


class Stages(wiring.Component):
    """Stages behind each other, on the pins of :class:`hw.boards.system.System`."""

    def __init__(self, **_):
        super().__init__({"rx": In(1), "tx": Out(1), "sdram": Out(SdramSignature()), "leds": Out(LEDS)})

    def elaborate(self, platform):
        m = Module()
        value = Signal(16)
        m.d.sync += value.eq(Cat(self.rx, value))
        for number in range(7):
            reset = Signal(name=f"reset{number}")
            m.d.sync += reset.eq(value[number] & value[15])
            stage = Stage(number)
            m.submodules[f"stage{number}"] = ResetInserter(reset)(stage)
            m.d.comb += [stage.i.eq(value), stage.enable.eq(self.sdram.dq_i[number:])]
            value = stage.o
        pins = Cat(getattr(self.sdram, name) for name in self.sdram.signature.members if name != "dq_i")
        m.d.sync += [pins.eq(Cat(value, value)), Cat(self.tx, self.leds).eq(value)]
        return m


def run(tool, folder, *arguments: str) -> None:
    done = subprocess.run(tool.command(*arguments), cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]


def route(folder, name: str) -> None:
    """nextpnr takes the placement, and finds a way for every wire."""
    run(NEXTPNR, folder, *OPTIONS, "--json", name, "--no-pack", "--no-place", "--textcfg", "top.config")


@pytest.fixture(scope="module")
def placed(tmp_path_factory):
    """The folder with ``placed.json`` and ``placed.sdf`` of :class:`Stages`."""
    folder = tmp_path_factory.mktemp("placed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hw.boards.ulx3s.System", Stages)
        text, constraints = translate(
            Ulx3s(board=BOARD, config=BOARD.config, dividers=board_clock(BOARD, 100)), BOARD)
    (folder / "top.il").write_text(text)
    (folder / "top.lpf").write_text(constraints)
    (folder / "top.ys").write_text("\n".join(["read_rtlil top.il", *synthesis("top"), "write_json top.json", ""]))
    run(YOSYS, folder, "-q", "top.ys")
    run(NEXTPNR, folder, *OPTIONS, "--json", "top.json", "--no-route", "--write", "placed.json", "--sdf", "placed.sdf")
    return folder


@pytest.fixture
def tiles(placed):
    return LogicTiles(placed / "placed.json")


@pytest.fixture
def graph(placed, tiles):
    return TimingGraph(placed / "placed.sdf", {name: number for number, name in enumerate(tiles.names)})


def cells_of(path):
    return json.loads(path.read_text())["modules"]["top"]["cells"]


def check_placement(path) -> None:
    """The rules of the device, read from the file alone."""
    cells, places = cells_of(path), {}
    bels = [cell["attributes"]["NEXTPNR_BEL"] for cell in cells.values()]
    assert len(set(bels)) == len(bels)
    tiles, slices, outputs, carries = defaultdict(set), defaultdict(set), {}, {}
    for name, cell in cells.items():
        x, y, bel = re.fullmatch(r"X(\d+)/Y(\d+)/(.*)", cell["attributes"]["NEXTPNR_BEL"]).groups()
        places[name] = int(x), int(y), bel
        pins = {pin: tuple(bits) for pin, bits in cell["connections"].items() if bits}
        settings = {key: value.strip() for key, value in cell["parameters"].items()}
        if cell["type"] == "TRELLIS_FF":
            tiles[x, y].add((pins.get("CLK"), pins.get("LSR"), settings.get("LSRMUX"), settings.get("SRMODE")))
            slices[x, y, bel[5]].add((pins.get("CE"), settings.get("CEMUX")))
        elif cell["type"] == "TRELLIS_COMB":
            outputs[pins.get("F")] = name
            carries[pins.get("FCO")] = name
            kind = settings.get("MODE", "LOGIC")
            slices[x, y, bel[5], "carry"].add(kind == "CCU2")
            if kind == "DPRAM":
                assert bel[5] in "AB"
    assert all(len(found) == 1 for found in (*tiles.values(), *slices.values()))
    for name, cell in cells.items():
        if net := tuple(cell["connections"].get("DI", ())):
            x, y, bel = places[outputs[net]]
            assert places[name] == (x, y, bel.replace("K", "FF"))
        if cell["type"] == "TRELLIS_COMB" and (net := tuple(cell["connections"].get("FCI", ()))) in carries:
            (before_x, before_y, before), (x, y, bel) = places[carries[net]], places[name]
            assert y == before_y and number_of(x, bel) == number_of(before_x, before) + 1


def number_of(x: int, bel: str) -> int:
    """Of a LUT in its row."""
    return 8 * x + 2 * "ABCD".index(bel[5]) + int(bel[-1])


def scatter(tiles: LogicTiles, random: Random) -> None:
    """Put every group somewhere else, wherever it may be."""
    width, height = tiles.logic.shape
    for group, kind in enumerate(tiles.kinds):
        if kind == "ram":
            tiles.exchange(group, *random.choice(list(tiles.rams)))
            continue
        tiles.lift(group)
        while True:
            place = random.randrange(width), random.randrange(height), random.choice(tiles.slots_for(group))
            if tiles.legal(group, *place):
                break
        tiles.put(group, *place)


def test_every_kind_of_group_is_there(tiles):
    sizes = defaultdict(set)
    for kind, cells in zip(tiles.kinds, tiles.groups, strict=True):
        sizes[kind].add(len(cells))
    assert {1, 2} <= sizes["logic"] and max(sizes["chain"]) > 16 and sizes["ram"] == {1}
    assert len(tiles.rams) > tiles.kinds.count("ram")
    staying = {kind for kind, group in zip(tiles._types, tiles.group, strict=True) if group < 0}
    assert {"TRELLIS_RAMW", "TRELLIS_IO", "IOLOGIC", "EHXPLLL"} <= staying


def test_nextpnr_routes_any_placement_that_is_legal(placed, tiles, tmp_path):
    scatter(tiles, Random(0))
    tiles.save(placed / "scattered.json")
    check_placement(placed / "scattered.json")
    before, after = (cells_of(placed / f"{name}.json") for name in ("placed", "scattered"))
    moved = [name for name in before if before[name]["attributes"] != after[name]["attributes"]]
    groups = {int(tiles.group[tiles.names.index(name)]) for name in moved}
    assert min(groups) >= 0
    # Long chains find little room between what has not been scattered yet.
    for kind, share in (("logic", 0.95), ("chain", 0.5)):
        assert sum(tiles.kinds[group] == kind for group in groups) > share * tiles.kinds.count(kind)
    route(placed, "scattered.json")


def test_wires_are_as_long_as_nextpnr_expects(placed, tiles, graph):
    """But for those within a tile, which it takes for nothing where a router may find a direct one."""
    expected = [int(one) for one in re.findall(r"\(INTERCONNECT \S+ \S+ \(\d+:\d+:(\d+)\)",
                                               (placed / "placed.sdf").read_text())]
    delays = graph.delays(tiles.x, tiles.y)
    apart = (tiles.x[graph.source] != tiles.x[graph.sink]) | (tiles.y[graph.source] != tiles.y[graph.sink])
    known = ~graph.clock & (apart | graph.own_wire)
    assert known.sum() > 1000
    assert (delays == expected)[known].all()
    assert wire_delay(-3, 9) == 80 * (6 + 4 + 2 * (3 + 5))


SDF = """
  (CELL (CELLTYPE "TRELLIS_FF")
    (INSTANCE {name})
        (IOPATH CLK Q (400:450:500) (400:450:500))
      (SETUPHOLD (posedge DI) (posedge CLK) (100:150:200) (0:0:0))
  )"""


def test_paths_are_those_of_every_way_from_register_to_register(tmp_path):
    """A random acyclic graph of LUTs; its ways are enumerated."""
    random = Random(3)
    registers, luts = [f"r{n}" for n in range(4)], [f"l{n}" for n in range(8)]
    lines, connections, delays = [], [], {}
    for name in registers:
        lines += SDF.format(name=name).splitlines()
    for number, name in enumerate(luts):
        lines += ['  (CELLTYPE "TRELLIS_COMB")', f"  (INSTANCE {name})"]
        for pin in "AB":
            delays[name, pin] = random.randrange(100, 400)
            lines.append(f"  (IOPATH {pin} F (1:2:{delays[name, pin]}) (1:2:3))")
            connections.append((random.choice(registers + luts[:number]), name, pin))
    connections += [(random.choice(luts), name, "M") for name in registers]
    output = {name: "Q" if name in registers else "F" for name in registers + luts}
    for source, sink, pin in connections:
        lines.append(f"  (INTERCONNECT {source}/{output[source]} {sink}/{'DI' if pin == 'M' else pin} (0:0:0) (0:0:0))")
    (tmp_path / "it.sdf").write_text("\n".join(line.replace("DI) (posedge", "M) (posedge") if "SETUP" in line else
                                              line.replace("/DI ", "/M ") for line in lines))
    cells = {name: number for number, name in enumerate(registers + luts)}
    graph = TimingGraph(tmp_path / "it.sdf", cells)
    x, y = (np.array([random.randrange(40) for _ in cells]) for _ in range(2))
    found = np.add(*graph.paths(graph.delays(x, y))) + graph.delays(x, y)

    def wire(source, sink):
        return int(wire_delay(*(at[cells[source]] - at[cells[sink]] for at in (x, y))))

    def before(name):
        if name in registers:
            return 500
        return max(before(source) + wire(source, name) + delays[name, pin]
                   for source, sink, pin in connections if sink == name)

    def behind(name, pin):
        if name in registers:
            return 200
        ways = [wire(name, sink) + behind(sink, other) for source, sink, other in connections if source == name]
        return delays[name, pin] + max(ways) if ways else -10**7

    expected = [before(source) + wire(source, sink) + behind(sink, pin) for source, sink, pin in connections]
    real = np.array(expected) > 0
    assert real.sum() > 8 and (found[real] == np.array(expected)[real]).all() and (found[~real] < 0).all()
    assert graph.ends.sum() == 4


def test_a_loop_is_refused(tmp_path):
    (tmp_path / "it.sdf").write_text(
        '(CELLTYPE "TRELLIS_COMB")\n(INSTANCE a)\n(IOPATH A F (1:1:1) (1:1:1))\n(INTERCONNECT a/F a/A (0:0:0) (0:0:0))')
    with pytest.raises(ValueError, match="expected a design without combinational loops"):
        TimingGraph(tmp_path / "it.sdf", {"a": 0})


def test_a_scattered_design_becomes_fast(placed, tiles, graph):
    """As fast as nextpnr has placed it, and legal."""
    good = Refinement(tiles, graph, target=0, seed=0).analyse()
    scatter(tiles, Random(1))
    refinement, steps = Refinement(tiles, graph, target=0.8 * good, seed=5), []
    bad = refinement.analyse()
    found = refinement.run(steps.append)
    assert bad > 1.5 * good and found < 1.1 * good
    assert found == refinement.analyse() and f"{found / 1000:.1f} ns" in "".join(steps)
    tiles.save(placed / "refined.json")
    check_placement(placed / "refined.json")
    route(placed, "refined.json")


def test_what_is_fast_enough_stays(placed, tiles, tmp_path):
    refine(placed=placed / "placed.json", delays=placed / "placed.sdf", refined=tmp_path / "refined.json",
           target=10**6, seed=1, progress=lambda _: None)
    assert cells_of(tmp_path / "refined.json") == cells_of(placed / "placed.json")


def test_a_seed_gives_the_same_again(placed, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        refine(placed=placed / "placed.json", delays=placed / "placed.sdf", refined=tmp_path / name, target=5000,
               seed=seed, progress=lambda _: None)
    texts = [(tmp_path / name).read_bytes() for name in "abc"]
    assert texts[0] == texts[1] != texts[2]


def test_the_density_is_counted_around_each_tile(tiles):
    taken, logic = (tiles._luts >= 0).sum(2), tiles.logic
    width, height = logic.shape
    found = tiles.density(2)
    for x, y in product(range(0, width, 3), range(0, height, 3)):
        around = slice(max(x - 2, 0), x + 3), slice(max(y - 2, 0), y + 3)
        assert found[x, y] == pytest.approx(taken[around].sum() / 8 / max(1, logic[around].sum()))


def test_wires_are_spread_over_the_boxes_of_nets(placed, tiles):
    """The demand of each net by its cells' coordinates in the file, the mean over the square around a tile."""
    places, nets = {}, defaultdict(list)
    for name, cell in cells_of(placed / "placed.json").items():
        places[name] = tuple(map(int, re.match(r"X(\d+)/Y(\d+)", cell["attributes"]["NEXTPNR_BEL"]).groups()))
        for pin, bits in cell["connections"].items():
            if bits and pin not in CLOCK_PINS | {"FCI", "FCO"}:
                nets[bits[0]].append(name)
    demand = np.zeros(tiles.logic.shape)
    for names in nets.values():
        if len(names) > 1:
            columns, rows = zip(*(places[name] for name in names), strict=True)
            wide, tall = max(columns) - min(columns) + 1, max(rows) - min(rows) + 1
            branches = (len(names) / 3) ** 0.5 if len(names) > 3 else 1
            demand[min(columns):max(columns) + 1, min(rows):max(rows) + 1] += (
                branches * (wide + tall - 1) / (wide * tall))
    found, (width, height) = tiles.wires(2), tiles.logic.shape
    for x, y in ((0, 0), (5, 9), (20, 20), (width - 1, height - 1)):
        around = demand[max(x - 2, 0):x + 3, max(y - 2, 0):y + 3].sum() / 25
        assert found[x, y] == pytest.approx(around, abs=1e-9)
    assert demand.max() > 1
