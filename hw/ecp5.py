"""The multiplier of the Lattice ECP5: two of them in each of its sysDSP slices."""

from amaranth.hdl import ClockSignal, Instance, Module, Shape, Signal, signed

PORT_BITS = 18


def mult18x18d(m: Module, *, shapes: tuple[Shape, Shape], registers: tuple[bool, bool], enable, name: str):
    """A ``MULT18X18D`` in ``m`` as its operands of these shapes, at most 18 bits with a sign, and their product.

    The operands stand in the ports' high bits: so the rest are zeros, which take no wires, not copies of the signs. The
    product is registered: one cycle behind the operands, two behind one that is registered in the block as well.
    The registers are held without ``enable`` and never reset. The clock's dividers are of the block's high-speed mode,
    which is off; Lattice's generator leaves them enabled, as here. Source: FPGA-TN-02205, ECP5 and ECP5-5G sysDSP Usage
    Guide.
    """
    operands = [Signal(shape, name=f"{name}_{side}") for shape, side in zip(shapes, "ab", strict=True)]
    free = [PORT_BITS - len(operand) - (not operand.shape().signed) for operand in operands]
    whole = Signal(signed(2 * PORT_BITS), name=f"{name}_whole")
    product = Signal((operands[0] * operands[1]).shape(), name=f"{name}_product")
    m.d.comb += product.eq(whole >> sum(free))
    ports = {}
    for operand, low, side in zip(operands, free, "AB", strict=True):
        port = Signal(signed(PORT_BITS), name=f"{name}_port_{side.lower()}")
        m.d.comb += port.eq(operand << low)
        ports |= {f"i_{side}{n}": port[n] for n in range(PORT_BITS)}
    ports |= {f"o_P{n}": whole[n] for n in range(2 * PORT_BITS)}
    a_register, b_register = registers
    m.submodules[name] = Instance(
        "MULT18X18D",
        p_REG_INPUTA_CLK="CLK0" if a_register else "NONE", p_REG_INPUTB_CLK="CLK0" if b_register else "NONE",
        p_REG_INPUTC_CLK="NONE", p_REG_PIPELINE_CLK="NONE", p_REG_OUTPUT_CLK="CLK0",
        p_CLK0_DIV="ENABLED", p_CLK1_DIV="ENABLED", p_CLK2_DIV="ENABLED", p_CLK3_DIV="ENABLED",
        p_HIGHSPEED_CLK="NONE", p_SOURCEB_MODE="B_SHIFT", p_MULT_BYPASS="DISABLED", p_CAS_MATCH_REG="FALSE",
        p_RESETMODE="SYNC", p_GSR="DISABLED",
        i_CLK0=ClockSignal(), i_CE0=enable, i_RST0=0, i_SIGNEDA=1, i_SIGNEDB=1, i_SOURCEA=0, i_SOURCEB=0, **ports)
    return *operands, product
