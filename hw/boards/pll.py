"""Clock generation on an ECP5: the dividers of its PLL, computed and checked, and the PLL itself."""

from dataclasses import dataclass
from fractions import Fraction

from amaranth.hdl import Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

# FPGA-DS-02012 (ECP5 and ECP5-5G Family Data Sheet), sysCLOCK PLL timing.
INPUT_HZ = (8_000_000, 400_000_000)
OUTPUT_HZ = (3_125_000, 400_000_000)
DETECTOR_HZ = (10_000_000, 400_000_000)
OSCILLATOR_HZ = (400_000_000, 800_000_000)
# FPGA-TN-02200 (ECP5 and ECP5-5G sysCLOCK PLL/DLL Design and Usage Guide): dividers, and steps of the phase.
DIVIDERS = range(1, 129)
COARSE_STEPS = 128
FINE_STEPS = 8


class PllError(ValueError):
    """A clock that the PLL cannot make; the message is one line."""


@dataclass(frozen=True, kw_only=True)
class PllDividers:
    """Dividers for an output clock.

    The detector runs at ``input_hz / input_divider``, the oscillator at ``feedback_divider`` times that, the output at
    the oscillator's frequency over ``output_divider``. So the oscillator is not tied to multiples of the output.
    """

    input_hz: int
    input_divider: int
    feedback_divider: int
    output_divider: int

    @property
    def detector_hz(self) -> Fraction:
        """Frequency of the phase detector."""
        return Fraction(self.input_hz, self.input_divider)

    @property
    def oscillator_hz(self) -> Fraction:
        """Frequency of the oscillator."""
        return self.detector_hz * self.feedback_divider

    @property
    def output_hz(self) -> Fraction:
        """Frequency of the output."""
        return self.oscillator_hz / self.output_divider

    def phase(self, degrees: float) -> tuple[int, int]:
        """Delay of an output by ``degrees`` (0..360): whole periods of the oscillator, and eighths of one."""
        return divmod(round(degrees / 360 * self.output_divider * FINE_STEPS), FINE_STEPS)


def pll_dividers(*, input_hz: int, output_hz: float) -> PllDividers:
    """The dividers whose output is nearest to ``output_hz``.

    Among equals those with the fastest detector, which follows its input best, and then with an oscillator near the
    middle of its range. Raises PllError where no output is within 2 % of what is asked.
    """
    if not INPUT_HZ[0] <= input_hz <= INPUT_HZ[1]:
        raise PllError(f"input_hz: expected {INPUT_HZ[0]}..{INPUT_HZ[1]}, got {input_hz}")
    if not OUTPUT_HZ[0] <= output_hz <= OUTPUT_HZ[1]:
        raise PllError(f"output_hz: expected {OUTPUT_HZ[0]}..{OUTPUT_HZ[1]}, got {output_hz:g}")
    found = [
        PllDividers(input_hz=input_hz, input_divider=divider, feedback_divider=feedback, output_divider=output)
        for divider in DIVIDERS if DETECTOR_HZ[0] * divider <= input_hz <= DETECTOR_HZ[1] * divider
        for feedback in DIVIDERS
        if OSCILLATOR_HZ[0] * divider <= input_hz * feedback <= OSCILLATOR_HZ[1] * divider
        for output in _nearest_dividers(input_hz * feedback / divider / output_hz)
    ]
    middle = sum(OSCILLATOR_HZ) / 2
    found.sort(key=lambda one: (abs(one.output_hz - output_hz), one.input_divider, abs(one.oscillator_hz - middle)))
    if not found or abs(found[0].output_hz - output_hz) > output_hz / 50:
        raise PllError(f"output_hz: no dividers make {output_hz:g} of {input_hz} within 2 %")
    return found[0]


def _nearest_dividers(ratio: float) -> set[int]:
    """The dividers on either side of a ratio."""
    return {int(ratio), int(ratio) + 1} & set(DIVIDERS)


class Pll(wiring.Component):
    """``EHXPLLL`` with an output clock and the same clock at another phase.

    ``CLKOP`` is the feedback, at the detector's frequency; ``CLKOS`` the output; ``CLKOS2`` the shifted one.

    Parameters: ``dividers``; ``degrees``, by which ``shifted`` lags behind ``clock``, 0..360, in steps of an eighth of
    the oscillator's period.

    Members: ``reference`` (In, the input clock), ``clock``, ``shifted``, ``locked`` (not synchronous to anything).
    """

    def __init__(self, *, dividers: PllDividers, degrees: float):
        if not 0 <= degrees < 360:
            raise PllError(f"degrees: expected 0..360, got {degrees:g}")
        self.dividers, self.degrees = dividers, degrees
        if self.dividers.phase(degrees)[0] + dividers.output_divider > COARSE_STEPS:
            raise PllError(f"degrees: {degrees:g} of a clock divided by {dividers.output_divider} is too long a delay")
        super().__init__({"reference": In(1), "clock": Out(1), "shifted": Out(1), "locked": Out(1)})

    def elaborate(self, platform):
        m = Module()
        dividers, feedback = self.dividers, Signal()
        coarse, fine = dividers.phase(self.degrees)

        def output(name: str, divider: int, coarse: int = 0, fine: int = 0) -> dict:
            # A divider's output without delay is that of phase divider - 1.
            return {f"p_{name}_ENABLE": "ENABLED", f"p_{name}_DIV": divider, f"p_{name}_CPHASE": divider - 1 + coarse,
                    f"p_{name}_FPHASE": fine}

        m.submodules.pll = Instance(
            "EHXPLLL",
            # The charge pump and loop filter that Lattice's tools choose for these frequencies (Project Trellis).
            a_FREQUENCY_PIN_CLKI=str(dividers.input_hz / 1e6), a_ICP_CURRENT="12", a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1", a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED", p_INTFB_WAKE="DISABLED", p_STDBY_ENABLE="DISABLED", p_DPHASE_SOURCE="DISABLED",
            p_FEEDBK_PATH="CLKOP", p_CLKFB_DIV=1, p_CLKI_DIV=dividers.input_divider,
            **output("CLKOP", dividers.feedback_divider), **output("CLKOS", dividers.output_divider),
            **output("CLKOS2", dividers.output_divider, coarse, fine),
            i_CLKI=self.reference, i_CLKFB=feedback, i_RST=0, i_STDBY=0, i_PHASESEL0=0, i_PHASESEL1=0,
            i_PHASEDIR=0, i_PHASESTEP=0, i_PHASELOADREG=0, i_PLLWAKESYNC=0, i_ENCLKOP=0,
            o_CLKOP=feedback, o_CLKOS=self.clock, o_CLKOS2=self.shifted, o_LOCK=self.locked)
        return m
