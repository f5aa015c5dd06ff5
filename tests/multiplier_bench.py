"""What test_hw_multiplier.py compares, and its cocotb test: a component in every technology, on the same inputs."""

from dataclasses import dataclass
from random import Random

import cocotb
from amaranth.hdl import Cat, Elaboratable, Module, Shape, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from hw.addition import Addition
from hw.array import SystolicArray
from hw.multiplier import Multipliers
from hw.requantize import Requantizer
from hw.vector_unit import VectorUnit

CYCLES = 4000


@dataclass(frozen=True)
class Case:
    """One product: its factors' shapes, whether they are registered before, and whether it is held at times."""

    a: Shape
    b: Shape
    registers: tuple[bool, bool] = (True, True)
    held: bool = False


CASES = [
    Case(signed(9), signed(8)),
    *(Case(a, b) for a in (signed(16), unsigned(16)) for b in (signed(16), unsigned(16))),
    *(Case(signed(9), b, (False, False)) for b in (signed(8), signed(16), unsigned(16))),
    *(Case(signed(16), unsigned(9), registers) for registers in ((True, False), (False, True))),
    # Of the iCE40's halves: three alike, so that the second block keeps a free one, and one of every other kind.
    *[Case(signed(8), signed(8))] * 3,
    *(Case(a, b) for a, b in ((signed(7), unsigned(8)), (unsigned(8), signed(3)), (unsigned(8), unsigned(8)))),
    *(Case(signed(8), signed(8), registers) for registers in ((True, False), (False, True), (False, False))),
    *[Case(unsigned(8), signed(8), (False, False))] * 2,
    *(Case(a, signed(8), (False, False), held=True) for a in (signed(16), signed(8))),
]


class Products(wiring.Component):
    """Members ``a<n>``, ``b<n>`` and ``product<n>`` of each case; ``enable``."""

    def __init__(self):
        members = {"enable": In(1)}
        for n, case in enumerate(CASES):
            width = case.a.width + case.b.width
            members |= {f"a{n}": In(case.a), f"b{n}": In(case.b),
                        f"product{n}": Out(Shape(width, signed=case.a.signed or case.b.signed))}
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        multipliers = Multipliers(m, platform)
        for n, case in enumerate(CASES):
            factors = [
                multipliers.operand(getattr(self, name), name=f"{name}_register") if register else getattr(self, name)
                for name, register in zip((f"a{n}", f"b{n}"), case.registers, strict=True)]
            product = multipliers.product(*factors, name=f"case{n}", enable=self.enable if case.held else None)
            assert product.shape() == getattr(self, f"product{n}").shape()
            m.d.comb += getattr(self, f"product{n}").eq(product)
        return m


class Everything(Elaboratable):
    """The products and the components that multiply, their ports side by side in ``inputs`` and ``outputs``."""

    def __init__(self):
        self.components = {
            "products": Products(), "array": SystolicArray(rows=2, columns=3), "requantizer": Requantizer(lanes=2),
            "addition": Addition(lanes=1, blocks=3), "vector_unit": VectorUnit(lanes=2, blocks=5),
        }
        ports = [(flow, f"{name}.{'.'.join(map(str, path))}", Value.cast(value))
                 for name, component in self.components.items()
                 for path, flow, value in ((path, member.flow, value)
                                           for path, member, value in component.signature.flatten(component))]
        self.input_ports = {name: value for flow, name, value in ports if flow == In}
        self.output_ports = {name: value for flow, name, value in ports if flow == Out}
        self.inputs = Signal(sum(map(len, self.input_ports.values())))
        self.outputs = Signal(sum(map(len, self.output_ports.values())))

    def elaborate(self, platform):
        m = Module()
        for name, component in self.components.items():
            m.submodules[name] = component
        m.d.comb += [Cat(*self.input_ports.values()).eq(self.inputs),
                     self.outputs.eq(Cat(*self.output_ports.values()))]
        return m


def top(technologies: list[str]) -> str:
    """SystemVerilog of the module ``compare``: a module of each name on the same inputs."""
    everything = Everything()
    lines = ["module compare(input clk, input rst,", f"    input [{len(everything.inputs) - 1}:0] inputs"]
    for name in technologies:
        lines[-1] += ","
        lines.append(f"    output [{len(everything.outputs) - 1}:0] {name}_outputs")
    lines.append(");")
    lines += [f"    {name} {name}_(.clk, .rst, .inputs, .outputs({name}_outputs));" for name in technologies]
    return "\n".join([*lines, "endmodule", ""])


def draw(random: Random, width: int) -> int:
    """Random bits, as often those of an extreme number."""
    sign = 1 << width - 1
    return random.choice((0, 1, 2 * sign - 1, sign, sign - 1, *[random.getrandbits(width)] * 5))


def unpacked(word: int, ports: dict[str, Value]) -> dict[str, int]:
    """Values of the ports that lie side by side in a word, signed as their shapes are."""
    values = {}
    for name, port in ports.items():
        width = len(port)
        value = word & (1 << width) - 1
        values[name] = value - (1 << width) if port.shape().signed and value >> width - 1 else value
        word >>= width
    return values


@cocotb.test
async def technologies_agree(dut):
    """All outputs are the same in each cycle, and the products those of Python's integers."""
    everything, random = Everything(), Random(cocotb.RANDOM_SEED)
    dut.rst.value = 0
    Clock(dut.clk, 10, "ns", impl="gpi").start()
    history = [dict.fromkeys(everything.input_ports, 0)] * 2
    expected = [0] * len(CASES)
    for cycle in range(CYCLES):
        await FallingEdge(dut.clk)
        outputs = {name: int(getattr(dut, f"{name}_outputs").value) for name in ("generic", "ecp5", "ice40up")}
        values = {name: unpacked(word, everything.output_ports) for name, word in outputs.items()}
        for port in everything.output_ports:
            found = {name: value[port] for name, value in values.items()}
            assert len(set(found.values())) == 1, f"cycle {cycle}: {port} is {found}"
        for n, case in enumerate(CASES):
            a, b = (history[-2 if register else -1][f"products.{name}{n}"]
                    for name, register in zip("ab", case.registers, strict=True))
            if not case.held or history[-1]["products.enable"]:
                expected[n] = a * b
            found = values["ecp5"][f"products.product{n}"]
            assert cycle <= 2 or found == expected[n], f"cycle {cycle}: {case}, {a} * {b}"
        word = position = 0
        for port in everything.input_ports.values():
            word |= draw(random, len(port)) << position
            position += len(port)
        dut.inputs.value = word
        history = [history[-1], unpacked(word, everything.input_ports)]
