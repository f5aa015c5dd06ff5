"""The last step before the array and the vector unit: zero point subtracted, lanes outside the image made zero."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .buffer import BankedBuffer
from .config import VECTOR_TAPS, EngineConfig
from .delay import delay


class Feed(wiring.Component):
    """Aligns a step's control with its operands and forms the inputs of the array and of the vector unit.

    Latency: :attr:`LATENCY` cycles from ``issue`` to the outputs, of which the buffers' reads take all but one. A cycle
    without a step for them gives zero activations.

    Members
    -------
    issue, vector, first, last, operand, zero_point, weight_zero_point, unit_weight, lane_step:
        Of the step issued in this cycle (see :class:`hw.scheduler.Scheduler`); ``unit_weight``: every weight, unless
        0; ``weight_zero_point``: subtracted from weights that are read, by an engine of 9-bit weights;
        ``lane_step``: bytes from the first tap of a lane of the vector unit to that of the next, 1..4.
    lane_inside:
        Of the step issued :attr:`LANES_BEHIND` cycles before.
    act_data, weight_data:
        The buffers' read data.
    acts, weights, array_first, array_last:
        The array's inputs: 9 bits a row, ``weight_bits`` a column.
    vector_acts, vector_weights, vector_issue, vector_first, vector_last, vector_operand:
        The vector unit's: 9 bits for each tap and lane, lanes of the first tap in the low bits; ``weight_bits`` a tap.
    """

    LATENCY = BankedBuffer.READ_LATENCY + 1
    LANES_BEHIND = 2

    def __init__(self, *, config: EngineConfig):
        self.config = config
        rows, columns, lanes = config.rows, config.columns, config.vector_lanes
        super().__init__({
            "issue": In(1), "vector": In(1), "first": In(1), "last": In(1), "operand": In(1),
            "lane_inside": In(VECTOR_TAPS * config.position_lanes), "zero_point": In(signed(8)),
            "weight_zero_point": In(signed(8)), "unit_weight": In(signed(8)), "lane_step": In(3),
            "act_data": In(8 * config.act_banks), "weight_data": In(8 * config.weight_read_bytes),
            "acts": Out(9 * rows), "weights": Out(config.weight_bits * columns), "array_first": Out(1),
            "array_last": Out(1),
            "vector_acts": Out(9 * VECTOR_TAPS * lanes), "vector_weights": Out(config.weight_bits * VECTOR_TAPS),
            "vector_issue": Out(1), "vector_first": Out(1), "vector_last": Out(1), "vector_operand": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        lanes = config.position_lanes
        control = Signal(data.StructLayout({
            "array": 1, "vector": 1, "first": 1, "last": 1, "operand": 1, "zero_point": signed(8),
            "weight_zero_point": signed(8), "unit_weight": signed(8), "lane_step": 3}))
        m.d.comb += [
            control.array.eq(self.issue & ~self.vector), control.vector.eq(self.issue & self.vector),
            control.first.eq(self.first), control.last.eq(self.last), control.operand.eq(self.operand),
            control.zero_point.eq(self.zero_point), control.unit_weight.eq(self.unit_weight),
            control.weight_zero_point.eq(self.weight_zero_point if config.weight_bits == 9 else 0),
            control.lane_step.eq(self.lane_step),
        ]

        control = delay(m, control, BankedBuffer.READ_LATENCY, "control")
        inside = delay(m, self.lane_inside, BankedBuffer.READ_LATENCY - self.LANES_BEHIND, "inside")
        above = []
        for byte in range(config.act_banks):
            value = Signal(signed(9), name=f"above{byte}")
            m.d.comb += value.eq(self.act_data.word_select(byte, 8).as_signed() - control.zero_point)
            above.append(value)
        weights = [self.weight_data.word_select(byte, 8).as_signed() - control.weight_zero_point
                   for byte in range(config.weight_read_bytes)]
        for row in range(config.rows):
            m.d.sync += self.acts.word_select(row, 9).eq(Mux(inside[row] & control.array, above[row], 0))
        for tap in range(VECTOR_TAPS):
            for lane in range(config.vector_lanes):
                value = self.vector_acts.word_select(tap * config.vector_lanes + lane, 9)
                m.d.sync += value.eq(0)
                with m.If(inside[tap * lanes + lane]):
                    with m.Switch(control.lane_step):
                        for step in (1, 2, 3, 4):
                            if lane < config.vector_positions(step):
                                with m.Case(step):
                                    m.d.sync += value.eq(above[lane * step + tap])
            m.d.sync += self.vector_weights.word_select(tap, config.weight_bits).eq(
                Mux(control.unit_weight != 0, control.unit_weight, weights[tap]))
        for column in range(config.columns):
            m.d.sync += self.weights.word_select(column, config.weight_bits).eq(weights[column])
        m.d.sync += [
            self.array_first.eq(control.first & control.array),
            self.array_last.eq(control.last & control.array), self.vector_issue.eq(control.vector),
            self.vector_first.eq(control.first), self.vector_last.eq(control.last),
            self.vector_operand.eq(control.operand),
        ]
        return m
