"""The last step before the array: zero point subtracted, lanes outside the image made zero."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .buffer import BankedBuffer


class Feed(wiring.Component):
    """Aligns a tap's control with its operands and forms the array's inputs.

    Latency: :attr:`LATENCY` cycles from ``issue`` to the array's inputs, of which the buffers' reads take all but one.
    An idle cycle gives zero activations.

    Members: ``issue``, ``first``, ``last``, ``lane_inside``, ``zero_point`` (of the tap issued in this cycle);
    ``act_data``, ``weight_data`` (the buffers' read data); ``acts`` (9 bits a row), ``weights``, ``array_first``,
    ``array_last`` (the array's inputs).
    """

    LATENCY = BankedBuffer.READ_LATENCY + 1

    def __init__(self, *, rows: int, columns: int):
        self.rows, self.columns = rows, columns
        super().__init__({
            "issue": In(1), "first": In(1), "last": In(1), "lane_inside": In(rows), "zero_point": In(signed(8)),
            "act_data": In(8 * rows), "weight_data": In(8 * columns),
            "acts": Out(9 * rows), "weights": Out(8 * columns), "array_first": Out(1), "array_last": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        control = Signal(data.StructLayout(
            {"first": 1, "last": 1, "inside": self.rows, "zero_point": signed(8)}))
        m.d.comb += [
            control.first.eq(self.issue & self.first), control.last.eq(self.issue & self.last),
            control.inside.eq(Mux(self.issue, self.lane_inside, 0)), control.zero_point.eq(self.zero_point),
        ]
        for stage in range(BankedBuffer.READ_LATENCY):
            delayed = Signal(control.shape(), name=f"control{stage}")
            m.d.sync += delayed.eq(control)
            control = delayed
        for row in range(self.rows):
            act = self.act_data.word_select(row, 8).as_signed()
            m.d.sync += self.acts.word_select(row, 9).eq(Mux(control.inside[row], act - control.zero_point, 0))
        m.d.sync += [
            self.weights.eq(self.weight_data), self.array_first.eq(control.first), self.array_last.eq(control.last),
        ]
        return m
