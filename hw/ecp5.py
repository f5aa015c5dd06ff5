"""The multiplier of the Lattice ECP5: two of them in each of its sysDSP slices."""

from amaranth.hdl import ClockSignal, Instance, Module, Signal, signed


def mult18x18d(m: Module, *, a_register: bool, b_register: bool, enable, name: str):
    """A ``MULT18X18D`` in ``m`` as its operands (signed, 18 bits) and product (signed, 36 bits).

    The product is registered: one cycle behind the operands, two behind one that is registered in the block as well.
    The registers are held without ``enable`` and never reset. The clock's dividers are of the block's high-speed mode,
    which is off; Lattice's generator leaves them enabled, as here. Source: FPGA-TN-02205, ECP5 and ECP5-5G sysDSP Usage
    Guide.
    """
    a, b = (Signal(signed(18), name=f"{name}_{side}") for side in "ab")
    product = Signal(signed(36), name=f"{name}_product")
    ports = {f"i_{port}{n}": value[n] for port, value in (("A", a), ("B", b)) for n in range(18)}
    ports |= {f"o_P{n}": product[n] for n in range(36)}
    m.submodules[name] = Instance(
        "MULT18X18D",
        p_REG_INPUTA_CLK="CLK0" if a_register else "NONE", p_REG_INPUTB_CLK="CLK0" if b_register else "NONE",
        p_REG_INPUTC_CLK="NONE", p_REG_PIPELINE_CLK="NONE", p_REG_OUTPUT_CLK="CLK0",
        p_CLK0_DIV="ENABLED", p_CLK1_DIV="ENABLED", p_CLK2_DIV="ENABLED", p_CLK3_DIV="ENABLED",
        p_HIGHSPEED_CLK="NONE", p_SOURCEB_MODE="B_SHIFT", p_MULT_BYPASS="DISABLED", p_CAS_MATCH_REG="FALSE",
        p_RESETMODE="SYNC", p_GSR="DISABLED",
        i_CLK0=ClockSignal(), i_CE0=enable, i_RST0=0, i_SIGNEDA=1, i_SIGNEDB=1, i_SOURCEA=0, i_SOURCEB=0, **ports)
    return a, b, product
