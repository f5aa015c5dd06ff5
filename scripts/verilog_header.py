"""The comment at the head of winnow.sv: what somebody who has nothing but the file needs to know."""

from dataclasses import asdict
from textwrap import wrap

from hw.config import EngineConfig
from hw.registers import COUNTERS, IDENTITY_VALUE, PROFILE_WORDS, Error, Register
from scripts.make_docs import member_docs

WIDTH = 110

PORTS = (
    ("clk", "clock of everything, rising edge"),
    ("rst", "synchronous reset, high for one cycle at least before the first use"),
    ("irq", "interrupt: high from the end of a program, well or not, until CONTROL bit 1 is written"),
    ("s_axil_*", "AXI4-Lite slave, 32 bits of data, 16 of address: the registers. One access at a time. Registers are "
                 "written whole: wstrb and the protection bits are ignored. Responses are OKAY."),
    ("m_axi_*", "AXI4 master for descriptors, tensors and results, 32 bits of address. INCR bursts of full width, 16 "
                "beats at most, aligned to a beat, within multiples of 16 beats. One ID (0), so responses come in "
                "order; up to {outstanding} reads in flight. cache, prot, lock and qos are left to the integrator."),
)


def verilog_header(config: EngineConfig) -> str:
    """The comment for an engine of this configuration, its last line ended."""
    lines = ["Winnow: an int8 CNN engine that skips the channels that do not win. One module, winnow. Apache-2.0.",
             "See docs/architecture.md, docs/descriptor.md and docs/registers.md.", "",
             "Parameters that it was made with (hw/config.py); it has none of its own:", ""]
    lines += [f"    {name:20} {value}" for name, value in asdict(config).items()]
    lines += ["", "Ports, all synchronous to clk:", ""]
    for name, text in PORTS:
        lines += _entry(name, text.format(outstanding=config.outstanding_reads), 10)
    lines += ["", "Registers (offset, name):", ""]
    for register in Register:
        lines += _entry(f"0x{register.value:04X} {register.name}", member_docs(Register)[register.name], 24)
    lines += ["", f"IDENTITY reads 0x{IDENTITY_VALUE:08X}. COUNTERS, 32 bits each, in this order; a record of PROFILE "
              f"({PROFILE_WORDS} words)", "holds them in the same order:", ""]
    lines += [f"    {line}" for line in wrap(", ".join(COUNTERS), WIDTH - 4)]
    lines += ["", "Errors (STATUS, bits 15..8):", ""]
    meanings = {"NONE": "The program ended well."} | member_docs(Error)
    for error in Error:
        lines += _entry(f"{error.value} {error.name}", meanings[error.name], 14)
    lines += ["", "To run a program: write PROGRAM_ADDRESS, PROGRAM_LENGTH, WINDOW_BASE and WINDOW_LIMIT, then 1 to "
              "CONTROL; wait", "for irq, or for bit 1 of STATUS; read STATUS and the counters; write 2 to CONTROL."]
    return "".join(f"// {line}".rstrip() + "\n" for line in lines)


def _entry(name: str, text: str, width: int) -> list[str]:
    """A name with its text beside it."""
    text = text.replace("`", "")
    return wrap(text, WIDTH, initial_indent=f"    {name:{width}} ", subsequent_indent=" " * (width + 5))
