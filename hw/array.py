"""The output-stationary systolic array: rows of output pixels by columns of output channels."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .delay import delay
from .multiplier import Multipliers


class SystolicArray(wiring.Component):
    """``rows`` x ``columns`` PEs, each with one int32 sum in work and one waiting to be drained.

    Activations move along the rows and weights down the columns, one PE a cycle; the operands of one tap enter
    together and are skewed inside. An idle cycle is a tap whose activations are zero.

    Latency: the sums that end with the ``last`` tap entered in cycle t stand in ``sums`` of PE (r, c) from cycle
    ``t + LATENCY + r + c`` until those of the next tile replace them. Throughput: one tap a cycle, tiles follow each
    other without a gap.

    Members
    -------
    acts:
        In(9 * rows): signed 9-bit activations, zero point subtracted, row 0 in the low bits.
    weights:
        In(weight_bits * columns): signed weights.
    first, last:
        The tap starts, ends its tile.
    sums:
        Out(32 * rows * columns): int32, PE (r, c) at word ``c * rows + r``.
    """

    LATENCY = 3

    def __init__(self, *, rows: int, columns: int, weight_bits: int = 8):
        self.rows, self.columns, self.weight_bits = rows, columns, weight_bits
        super().__init__({
            "acts": In(9 * rows), "weights": In(weight_bits * columns), "first": In(1), "last": In(1),
            "sums": Out(32 * rows * columns),
        })

    def elaborate(self, platform):
        m = Module()
        multipliers = Multipliers(m, platform)
        rows, columns = self.rows, self.columns

        acts = [delay(m, self.acts.word_select(r, 9).as_signed(), r, f"act_skew{r}") for r in range(rows)]
        weights = [delay(m, self.weights.word_select(c, self.weight_bits).as_signed(), c, f"weight_skew{c}")
                   for c in range(columns)]
        # Operand and product registers delay by two; PE (r, c) follows PE (0, 0) by r + c. A sum is cleared the cycle
        # before its first product: by the registers' own reset, not by a multiplexer before the adder.
        clears, lasts = [], []
        clear, last = delay(m, self.first, 1, "first"), delay(m, self.last, 2, "last")
        for distance in range(rows + columns - 1):
            clears.append(clear)
            lasts.append(last)
            clear, last = delay(m, clear, 1, f"clear{distance}"), delay(m, last, 1, f"last{distance}")

        down = weights
        for r in range(rows):
            along = acts[r]
            below = []
            for c in range(columns):
                act = multipliers.operand(along, name=f"act_{r}_{c}")
                weight = multipliers.operand(down[c], name=f"weight_{r}_{c}")
                product = multipliers.product(act, weight, name=f"product_{r}_{c}")
                total = Signal(signed(32), name=f"total_{r}_{c}")
                in_work, waiting = (
                    Signal(signed(32), name=f"{n}_{r}_{c}", reset_less=True) for n in ("sum", "drain"))
                m.d.comb += total.eq(in_work + product)
                m.d.sync += in_work.eq(Mux(clears[r + c], 0, total))
                with m.If(lasts[r + c]):
                    m.d.sync += waiting.eq(total)
                m.d.comb += self.sums.word_select(c * rows + r, 32).eq(waiting)
                along = act.register
                below.append(weight.register)
            down = below
        return m
