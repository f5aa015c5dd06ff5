"""The places of the array's multipliers: they exist, each is used once, and neighbours are beside each other."""

import itertools
import re
import subprocess

import pytest
from amaranth.back import rtlil

import hw.boards.flow as flow
from hw.boards.floorplan import BLOCK_ROWS, floorplan
from hw.boards.presets import BOARDS
from hw.config import EngineConfig
from hw.engine import Engine
from hw.technology import Technology

BOARD = BOARDS["ulx3s-85f"]


def coordinates(bel: str) -> tuple[int, int]:
    return tuple(int(one) for one in re.match(r"X(\d+)/Y(\d+)/MULT18_[0145]$", bel).groups())


@pytest.mark.parametrize("rows, columns", [(8, 16), (8, 8), (3, 52), (9, 17), (1, 1), (2, 26), (7, 13), (4, 26)])
def test_columns_are_strips_from_left_to_right(rows, columns):
    places = floorplan(BOARD.device, EngineConfig(rows=rows, columns=columns), core="c")
    elements = {f"c.array.product_{r}_{c}_block" for r in range(rows) for c in range(columns)}
    units = {name.split(".")[1] for name in set(places) - elements}
    assert elements <= set(places) and units <= {"drain", "ranking", "write_back", "scheduler", "walker"}
    assert len(set(places.values())) == len(places)
    at = {(r, c): coordinates(places[f"c.array.product_{r}_{c}_block"]) for r in range(rows) for c in range(columns)}
    for y in {y for _, y in at.values()}:
        strips = [[x for (_, c), (x, row) in at.items() if (c, row) == (column, y)] for column in range(columns)]
        assert all(max(left) < min(right) for left, right in itertools.pairwise(strips))
        assert all(max(strip) - min(strip) <= 4 * len(strip) for strip in strips)
    for c in range(columns):
        heights = [at[r, c][1] for r in range(rows)]
        assert heights == sorted(heights)


def test_the_rows_of_a_column_lie_near_each_other():
    """Of ULX3S-85F's engine, whose last row of blocks has fewer of each column: 16 tiles from side to side at most."""
    places = floorplan(BOARD.device, BOARD.config, core="c")
    for c in range(BOARD.config.columns):
        x = [coordinates(places[f"c.array.product_{r}_{c}_block"])[0] for r in range(BOARD.config.rows)]
        assert max(x) - min(x) <= 16


@pytest.mark.parametrize("device, rows, columns", [
    ("LFE5U-12F", 2, 2), ("LFE5U-85F", 12, 14), ("LFE5U-85F", 1, 53), ("LFE5U-85F", 4, 27)])
def test_other_devices_and_larger_arrays_are_left_to_the_placer(device, rows, columns):
    assert floorplan(device, EngineConfig(rows=rows, columns=columns), core="c") == {}


def test_the_places_are_the_device_s(tmp_path):
    """nextpnr takes all of them: as many as the device has, each on its own."""
    rows = BLOCK_ROWS[BOARD.device]
    bels = [f"X{x}/Y{y}/{name}" for y in rows.y for x, name in rows.blocks]
    assert len(bels) == BOARD.multipliers
    blocks = "\n".join(f"(* keep, BEL = \"{bel}\" *) MULT18X18D block{n} ();" for n, bel in enumerate(bels))
    (tmp_path / "top.v").write_text(f"module top;\n{blocks}\nendmodule\n")
    script = ("read_verilog top.v", "synth_ecp5 -run begin:flatten -top top", "write_json top.json", "")
    (tmp_path / "top.ys").write_text("\n".join(script))
    for tool, arguments in ((flow.YOSYS, ("-q", "top.ys")),
                            (flow.NEXTPNR, (*BOARD.nextpnr_options, "-q", "--json", "top.json", "--no-route",
                                            "--write", "placed.json"))):
        subprocess.run(tool.command(*arguments), cwd=tmp_path, check=True, capture_output=True)
    placed = (tmp_path / "placed.json").read_text()
    assert {bel for bel in bels if f'"NEXTPNR_BEL": "{bel}"' in placed} == set(bels)


@pytest.mark.parametrize("rows, columns, spare", [(2, 3, 0), (2, 3, 3), (2, 3, 40), (8, 16, 4)])
def test_the_cells_are_the_engine_s(rows, columns, spare):
    """All of the array, those of the drain in the middle between its columns, others beside it on both sides."""
    config = EngineConfig(rows=rows, columns=columns, act_buffer_bytes=2048, weight_buffer_bytes=4096,
                          output_ring_bytes=256, requantize_lanes=2, spare_multipliers=spare)
    text = rtlil.convert(Engine(config=config), name="engine", platform=Technology.ECP5, emit_src=False)
    modules = re.findall(r"^module \\(engine\.core\S*)\n(.*?)\nend\n", text, re.DOTALL | re.MULTILINE)
    instances = {f"{module}.{name}" for module, body in modules
                 for name in re.findall(r"cell \\MULT18X18D \\(\S+)", body)}
    places = floorplan(BOARD.device, config, core="engine.core")
    assert set(places) <= instances
    array, drain = ({name for name in instances if name.startswith(f"engine.core.{unit}.")}
                    for unit in ("array", "drain"))
    assert array | drain <= set(places) and len(drain) == 8 + min(spare, 8)
    if rows == 8:
        assert len(places) == len(instances) - 4, "all but the scores'"
    columns = [coordinates(place)[0] for name, place in places.items() if ".array." in name]
    middle = [coordinates(place)[0] for name, place in places.items() if ".drain." in name]
    assert min(columns) < min(middle) and max(middle) < max(columns)
    left, right = ([coordinates(place)[0] for name, place in places.items() if name.split(".")[2] in units]
                   for units in (("ranking", "write_back", "scheduler"), ("walker",)))
    assert max(left, default=0) < min(middle) and max(middle) < min(right, default=1000)
