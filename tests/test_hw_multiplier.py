"""The multiplier blocks against the operator: behaviour, how many are used, how the technology is found."""

import re
import subprocess

import pytest
from amaranth.back import rtlil, verilog
from amaranth.hdl import Fragment, Module, Signal
from amaranth_boards.icebreaker import ICEBreakerPlatform
from amaranth_boards.ulx3s import ULX3S_12F_Platform, ULX3S_85F_Platform
from cocotb_tools.check_results import get_results

from hw.addition import Addition
from hw.array import SystolicArray
from hw.multiplier import Multipliers
from hw.requantize import Requantizer
from hw.technology import Technology, technology_of
from hw.vector_unit import VectorUnit
from sim import verilator
from sim.netlist import models
from tests import multiplier_bench


def test_technologies_agree(tmp_path):
    """Every form with its vendor's cells, random and extreme operands of all signs, products and whole components."""
    sources = {"compare.sv": multiplier_bench.top([technology.name.lower() for technology in Technology])}
    for technology in Technology:
        name, everything = technology.name.lower(), multiplier_bench.Everything()
        sources[f"{name}.v"] = verilog.convert(
            everything, name=name, platform=technology, ports=[everything.inputs, everything.outputs],
            strip_internal_attrs=True, emit_src=False)
        if technology is not Technology.GENERIC:
            sources[f"{name}_cells.sv"] = models(technology)
    sources["ports.vlt"] = '`verilator_config\npublic_flat_rw -module "compare" -var "*"\n'
    executable = verilator.build(top="compare", sources=sources, parameters={})
    results = tmp_path / "results.xml"
    environment = verilator.simulation_environment(
        top="compare", module="tests.multiplier_bench", seed=1, results=results)
    run = subprocess.run([executable], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0 and get_results(results) == (1, 0), run.stdout + run.stderr


def blocks(component, technology: Technology) -> int:
    """Multiplier blocks in a component."""
    text = rtlil.convert(component, platform=technology, emit_src=False)
    return len(re.findall(r"cell \\(MULT18X18D|SB_MAC16)\b", text))


@pytest.mark.parametrize("technology", [Technology.ECP5, Technology.ICE40UP])
def test_blocks_of_the_components(technology):
    """A block a PE, four a requantization lane; of the others as many as they are given, and use."""
    assert blocks(SystolicArray(rows=3, columns=2), technology) == 6
    assert blocks(Requantizer(lanes=2), technology) == 8
    assert [blocks(VectorUnit(lanes=2, blocks=n), technology) for n in (0, 5, 20)] == [0, 5, 6]
    assert [blocks(Addition(lanes=2, blocks=n), technology) for n in (0, 5, 20)] == [0, 5, 8]
    assert blocks(VectorUnit(lanes=2), technology) == blocks(Addition(lanes=2), technology) == 0


def test_no_blocks_without_a_technology():
    for component in (SystolicArray(rows=1, columns=1), Requantizer(lanes=1), VectorUnit(lanes=1, blocks=9)):
        assert blocks(component, Technology.GENERIC) == 0


def test_two_small_products_share_a_block_of_the_ice40():
    """Of those that are alike in signs and registers two and two."""
    cases = multiplier_bench.CASES
    small = [case for case in cases if max(case.a.width, case.b.width) <= 8 and not case.held]
    kinds = {(case.a.signed, case.b.signed, case.registers) for case in small}
    shared = sum(-(-sum((case.a.signed, case.b.signed, case.registers) == kind for case in small) // 2)
                 for kind in kinds)
    assert shared == len(small) - 2
    assert blocks(multiplier_bench.Products(), Technology.ICE40UP) == len(cases) - len(small) + shared
    assert blocks(multiplier_bench.Products(), Technology.ECP5) == len(cases)


def test_wide_factors_are_refused():
    m = Module()
    with pytest.raises(ValueError, match=r"^wide: expected factors of at most 16 bits, got 17$"):
        Multipliers(m, None).product(Signal(17), Signal(3), name="wide")
    Fragment.get(m, None)  # a module that is never elaborated draws a warning


def test_registered_factors_are_not_held():
    m = Module()
    multipliers = Multipliers(m, None)
    factor = multipliers.operand(Signal(8), name="factor")
    with pytest.raises(ValueError, match=r"^both: expected factors that are not registered, with enable$"):
        multipliers.product(factor, Signal(8), name="both", enable=Signal())
    Fragment.get(m, None)


@pytest.mark.parametrize(("platform", "technology"), [
    (None, Technology.GENERIC), (object(), Technology.GENERIC), *((member, member) for member in Technology),
    (ULX3S_12F_Platform(), Technology.ECP5), (ULX3S_85F_Platform(), Technology.ECP5),
    (ICEBreakerPlatform(), Technology.ICE40UP),
])
def test_technology_of_a_platform(platform, technology):
    assert technology_of(platform) is technology
