"""The vector unit: results of one input channel each, neighbouring taps at once (depthwise, pooling, addition)."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .config import VECTOR_TAPS
from .delay import delay
from .multiplier import Multipliers


class VectorUnit(wiring.Component):
    """``lanes`` consecutive positions of one channel, each with ``VECTOR_TAPS`` multipliers and one int32 sum.

    Products are of multiplier blocks as long as there are ``blocks``, from the first lane on, then of logic.

    One read of the activation buffer serves all taps of a row that neighbour each other: ``lanes + VECTOR_TAPS - 1``
    bytes give ``lanes * VECTOR_TAPS`` products. For an addition a sum holds the first operand in its low half and the
    second in its high half.

    Latency: :attr:`LATENCY` cycles from a tile's last step to its sums at ``o_sums``. Throughput: one step a cycle.

    Members
    -------
    issue, first, last, operand, add:
        A step comes in this cycle; it starts, completes the sums of its tile; of an addition's second operand.
    acts, weights:
        As of :class:`hw.feed.Feed`.
    tile_issued, next_free:
        Strobe: a tile's last step is issued; another tile's may be in the next cycle, there will be room for its sums.
    o_sums:
        The sums of a tile, 32 bits a lane; kept until taken.
    """

    LATENCY = 5
    TILES = 8

    def __init__(self, *, lanes: int, blocks: int = 0, weight_bits: int = 8):
        self.lanes, self.blocks, self.weight_bits = lanes, blocks, weight_bits
        super().__init__({
            "issue": In(1), "first": In(1), "last": In(1), "operand": In(1), "add": In(1),
            "acts": In(9 * VECTOR_TAPS * lanes), "weights": In(weight_bits * VECTOR_TAPS),
            "tile_issued": In(1), "next_free": Out(1), "o_sums": Out(stream.Signature(32 * lanes)),
        })

    def elaborate(self, platform):
        m = Module()
        multipliers = Multipliers(m, platform, blocks=self.blocks)
        lanes = self.lanes

        # Stage 1: products, or what adds up to them. Stage 2: their sum over the taps. Stage 3: the sum of the tile.
        issue, first, last, operand = delay(
            m, Cat(self.issue, self.first & self.issue, self.last & self.issue, self.operand), 2, "control")
        sums = Signal(32 * lanes, reset_less=True)
        for lane in range(lanes):
            products = []
            for tap in range(VECTOR_TAPS):
                products.extend(multipliers.summands(
                    self.acts.word_select(tap * lanes + lane, 9).as_signed(),
                    self.weights.word_select(tap, self.weight_bits).as_signed(), name=f"product{lane}_{tap}"))
            taps = Signal(signed(11 + self.weight_bits), name=f"taps{lane}", reset_less=True)
            m.d.sync += taps.eq(sum(products))
            total = sums.word_select(lane, 32)
            with m.If(issue):
                with m.If(self.add):
                    with m.If(operand):
                        m.d.sync += total[16:].eq(taps)
                    with m.Else():
                        m.d.sync += total[:16].eq(taps)
                with m.Else():
                    m.d.sync += total.eq(Mux(first, 0, total.as_signed()) + taps)
        complete, arrived = Signal(), Signal()
        m.d.sync += [complete.eq(last), arrived.eq(complete)]

        # Complete sums, read where they lie: who takes them registers them. ``some``: there are sums to be taken.
        m.submodules.tiles = tiles = Memory(shape=32 * lanes, depth=self.TILES, init=[])
        write, read = tiles.write_port(), tiles.read_port(domain="comb")
        written, at, kept, some = (
            Signal(range(self.TILES)), Signal(range(self.TILES)), Signal(range(self.TILES + 1)), Signal())
        taken = self.o_sums.valid & self.o_sums.ready
        m.d.comb += [
            write.addr.eq(written), write.data.eq(sums), write.en.eq(complete), read.addr.eq(at),
            self.o_sums.valid.eq(some), self.o_sums.payload.eq(read.data),
        ]
        m.d.sync += [
            written.eq(written + complete), at.eq(at + taken), kept.eq(kept + arrived - taken),
            some.eq(arrived | (kept > 1) | ((kept == 1) & ~taken)),
        ]

        # Tiles whose last step has been issued and whose sums have not been taken.
        unread = Signal(range(self.TILES + 1))
        m.d.sync += unread.eq(unread + self.tile_issued - taken)
        m.d.comb += self.next_free.eq(
            taken | ~((unread == self.TILES) | ((unread == self.TILES - 1) & self.tile_issued)))
        return m
