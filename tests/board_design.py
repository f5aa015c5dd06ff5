"""A small design on the pins of a board: in the place of the system, a memory, a multiplier and registers."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.boards.pll import PllDividers
from hw.boards.presets import Board
from hw.boards.sdram import SdramSignature
from hw.boards.system import LEDS
from hw.boards.ulx3s import Ulx3s, translate
from hw.multiplier import Multipliers


class SmallSystem(wiring.Component):
    """The pins of :class:`hw.boards.system.System`, and little behind them."""

    def __init__(self, **_):
        super().__init__({
            "rx": In(1), "tx": Out(1), "sdram": Out(SdramSignature()), "leds": Out(LEDS),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=16, depth=1024, init=[])
        write, read = memory.write_port(), memory.read_port()
        count = Signal(16)
        word = Signal(16)
        m.d.sync += [count.eq(count + self.rx), word.eq(read.data)]
        product = Multipliers(m, platform).product(word.as_signed(), count.as_signed(), name="product")
        m.d.comb += [write.addr.eq(count), write.data.eq(self.sdram.dq_i), write.en.eq(1), read.addr.eq(count >> 3),
                     read.en.eq(1)]
        pins = Cat(getattr(self.sdram, name) for name in self.sdram.signature.members if name != "dq_i")
        m.d.sync += [pins.eq(Cat(product, product)), Cat(self.tx, self.leds).eq(product >> 20)]
        return m


def small_design(board: Board, dividers: PllDividers, monkeypatch) -> tuple[str, str]:
    """RTLIL and constraints of the board's top with a :class:`SmallSystem`."""
    monkeypatch.setattr("hw.boards.ulx3s.System", SmallSystem)
    return translate(Ulx3s(board=board, config=board.config, dividers=dividers), board)
