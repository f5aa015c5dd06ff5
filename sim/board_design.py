"""What is simulated of a board: its system, the registers at its pins, and its memory chip."""

from collections.abc import Callable
from pathlib import Path

from amaranth.hdl import Cat, ClockSignal, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

import hw
from hw.boards.presets import Board
from hw.boards.sdram import SdramSignature
from hw.boards.system import System
from hw.verilog import VerilogError, system_verilog

from .verilator import SimulationError, cache_folder, digest, locked

IO_LATENCY = 2
"""Of the registers at the pins: one on the way out, one on the way in, as on the ULX3S."""


class BoardDesign(wiring.Component):
    """A board from its UART to its memory chip: :class:`hw.boards.system.System` with :file:`sim/sdram_model.sv` at its
    pins, which ends the simulation if a time of the chip is not kept.

    Parameters: the ``board``, at its own clock, and the ``cycles_per_bit`` of its UART, 4 or more: every byte takes ten
    times as many. Members: ``rx``, ``tx``, ``leds``, as of the system.
    """

    def __init__(self, *, board: Board, cycles_per_bit: int):
        clock_hz = round(board.frequency_mhz * 1e6)
        self.clock_ps = round(1e12 / clock_hz)
        self.system = System(board=board.name, config=board.config, clock_hz=clock_hz,
                             baud=clock_hz // cycles_per_bit, io_latency=IO_LATENCY)
        super().__init__({name: self.system.signature.members[name] for name in ("rx", "tx", "leds")})

    def elaborate(self, platform):
        m = Module()
        m.submodules.system = system = self.system
        names = [name for name, member in SdramSignature().members.items() if member.flow == Out]
        pins = {name: Signal.like(getattr(system.sdram, name), name=f"pin_{name}") for name in names}
        data = Signal(16)
        m.d.comb += [system.rx.eq(self.rx), self.tx.eq(system.tx), self.leds.eq(system.leds)]
        m.d.sync += [Cat(pins.values()).eq(Cat(getattr(system.sdram, name) for name in names)),
                     system.sdram.dq_i.eq(data)]
        m.submodules.chip = Instance(
            "sdram_model", p_CLOCK_PS=self.clock_ps, i_clk=ClockSignal(), i_cke=pins["clk_en"], i_cs_n=~pins["cs"],
            i_ras_n=~pins["ras"], i_cas_n=~pins["cas"], i_we_n=~pins["we"], i_ba=pins["ba"], i_a=pins["a"],
            i_dqm=pins["dqm"], i_dq_oe=pins["dq_oe"], i_dq_i=pins["dq_o"], o_dq_o=data)
        return m


def board_source(board: Board, cycles_per_bit: int, announce: Callable[[str], None]) -> str:
    """SystemVerilog of the module ``board``, kept in the cache under a hash of the board and of the package ``hw``.

    Raises :class:`sim.verilator.SimulationError`.
    """
    files = [*sorted(Path(hw.__file__).parent.rglob("*.py")), Path(__file__)]
    texts = [file.read_bytes() for file in files]
    path = cache_folder() / f"board-{digest(repr(board), str(cycles_per_bit), *texts)}.sv"
    with locked(path.with_suffix(".lock")):
        if not path.exists():
            announce(f"Generating the SystemVerilog of {board.name} ...")
            partial = path.with_suffix(".partial")
            design = BoardDesign(board=board, cycles_per_bit=cycles_per_bit)
            try:
                partial.write_text(system_verilog(design, name="board", contents=True, simulated=True))
            except VerilogError as error:
                raise SimulationError(str(error)) from None
            partial.rename(path)
    return path.read_text()
