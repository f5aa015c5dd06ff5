"""The multiplier of the Lattice iCE40 UltraPlus: a product of 16 x 16 bits in each block, or two of 8 x 8."""

from amaranth.hdl import ClockSignal, Instance, Module, Signal

PRODUCTS_8X8, PRODUCT_16X16 = 2, 3
"""What the halves of the output show."""


def mac16(m: Module, *, pair: bool, a_signed: bool, b_signed: bool, a_register: bool, b_register: bool, enable,
          name: str):
    """An ``SB_MAC16`` in ``m`` as its operands (16 bits) and product (32 bits); of a ``pair`` each half its own.

    The product is registered: one cycle behind the operands, two behind one that is registered in the block as well.
    The registers are held without ``enable`` and never reset. Source: FPGA-TN-02007, DSP Function Usage Guide for iCE40
    Devices.
    """
    a, b = (Signal(16, name=f"{name}_{side}") for side in "ab")
    product = Signal(32, name=f"{name}_product")
    select = PRODUCTS_8X8 if pair else PRODUCT_16X16
    m.submodules[name] = Instance(
        "SB_MAC16",
        p_A_REG=int(a_register), p_B_REG=int(b_register), p_A_SIGNED=int(a_signed), p_B_SIGNED=int(b_signed),
        p_MODE_8x8=int(pair), p_TOP_8x8_MULT_REG=int(pair), p_BOT_8x8_MULT_REG=int(pair),
        p_PIPELINE_16x16_MULT_REG2=int(not pair), p_TOPOUTPUT_SELECT=select, p_BOTOUTPUT_SELECT=select,
        i_CLK=ClockSignal(), i_CE=enable, i_A=a, i_B=b, i_AHOLD=0, i_BHOLD=0, i_IRSTTOP=0, i_IRSTBOT=0, o_O=product)
    return a, b, product
