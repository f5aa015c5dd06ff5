"""The vector unit: results of one input channel each, neighbouring taps at once (depthwise, pooling, addition)."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from .config import VECTOR_TAPS
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
    tile_issued, free:
        Strobe: a tile's last step is issued; another tile's may be, there will be room for its sums.
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
            "tile_issued": In(1), "free": Out(1), "o_sums": Out(stream.Signature(32 * lanes)),
        })

    def elaborate(self, platform):
        m = Module()
        multipliers = Multipliers(m, platform, blocks=self.blocks)
        lanes = self.lanes
        m.submodules.tiles = tiles = SyncFIFOBuffered(width=32 * lanes, depth=self.TILES)

        # Stage 1: products. Stage 2: their sum over the taps. Stage 3: the sum of the tile.
        control = Cat(self.issue, self.first & self.issue, self.last & self.issue, self.operand)
        for stage in (1, 2):
            delayed = Signal(4, name=f"control{stage}")
            m.d.sync += delayed.eq(control)
            control = delayed
        issue, first, last, operand = control
        sums = Signal(32 * lanes)
        for lane in range(lanes):
            products = []
            for tap in range(VECTOR_TAPS):
                products.append(multipliers.product(
                    self.acts.word_select(tap * lanes + lane, 9).as_signed(),
                    self.weights.word_select(tap, self.weight_bits).as_signed(), name=f"product{lane}_{tap}"))
            taps = Signal(signed(11 + self.weight_bits), name=f"taps{lane}")
            m.d.sync += taps.eq(sum(products[1:], products[0]))
            total = sums.word_select(lane, 32)
            with m.If(issue):
                with m.If(self.add):
                    with m.If(operand):
                        m.d.sync += total[16:].eq(taps)
                    with m.Else():
                        m.d.sync += total[:16].eq(taps)
                with m.Else():
                    m.d.sync += total.eq(Mux(first, 0, total.as_signed()) + taps)
        complete = Signal()
        m.d.sync += complete.eq(last)

        # Tiles whose last step has been issued and whose sums have not been taken.
        unread, full = Signal(range(self.TILES + 1)), Signal()
        taken = self.o_sums.valid & self.o_sums.ready
        m.d.sync += [
            unread.eq(unread + self.tile_issued - taken),
            full.eq(~taken & ((unread == self.TILES) | ((unread == self.TILES - 1) & self.tile_issued))),
        ]
        m.d.comb += [
            tiles.w_en.eq(complete), tiles.w_data.eq(sums), self.free.eq(~full),
            self.o_sums.valid.eq(tiles.r_rdy), self.o_sums.payload.eq(tiles.r_data), tiles.r_en.eq(self.o_sums.ready),
        ]
        return m
