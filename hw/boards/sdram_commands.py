"""Commands of an SDR SDRAM: which one in which cycle."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .sdram_timing import MINIMA, SdramTiming

BANKS = 4
ROW_BITS, BANK_BITS, COLUMN_BITS = 13, 2, 9
BEAT_WORDS = 2
"""Words of an AXI beat, and the burst length of the chip: a column command leaves a cycle for others."""
ROW_BEATS = (1 << COLUMN_BITS) // BEAT_WORDS
BURST_BEATS = 16
INITIAL_REFRESHES = 8


class Segment(data.Struct):
    """A burst, or one of its two parts: ``length + 1`` beats from beat ``column`` of a row.

    ``final``: the last part of its burst. ``error``: takes its time, but has no command.
    """

    write: 1
    error: 1
    final: 1
    row: ROW_BITS
    bank: BANK_BITS
    column: range(ROW_BEATS)
    length: range(BURST_BEATS)


def ones(cycles: int) -> int:
    """What to load into a timer, shifted down once a cycle, whose lowest bit shall be clear after ``cycles`` more."""
    return (1 << max(cycles, 0)) - 1


class CommandUnit(wiring.Component):
    """Issues the commands for segments in order: column commands of one, meanwhile the row of the next.

    Column commands come :data:`BEAT_WORDS` cycles apart and go before all others; those of consecutive segments follow
    each other without a gap where the next row is open by then. A write after a read waits CAS latency + 1 cycles more.
    Rows stay open until their bank needs another one. When a refresh falls due, the segment in work is ended and all
    rows are closed: it is late by less than 110 cycles, so that each is done before the next falls due.

    Members
    -------
    i_segment:
        What to do.
    command, ba, a:
        The command of stage 1: ``ras``, ``cas`` and ``we`` as one value (0: NOP), bank and address.
    moving, write, error, last:
        While ``moving`` is high, the words of a beat are to be moved, the first of them with the command of stage
        1. The beat is to be written; its burst answers an error; it is the last of its burst.
    initialized:
        The chip may be used.
    """

    RAS, CAS, WE = 1, 2, 4

    def __init__(self, *, timing: SdramTiming):
        self.timing = timing
        super().__init__({
            "i_segment": In(stream.Signature(Segment)), "command": Out(3), "ba": Out(BANK_BITS), "a": Out(ROW_BITS),
            "moving": Out(1), "write": Out(1), "error": Out(1), "last": Out(1), "initialized": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        timing = self.timing
        t_rcd, t_rp, t_ras, t_rc, t_rrd, t_wr, t_rfc, t_mrd = (timing.cycles(name) for name in MINIMA)
        t_ras = max(t_ras, t_rc - t_rp)  # rows of a bank follow each other through PRECHARGE

        # Stage 0: decide. Column commands of the segment in work.
        current, in_work, ends = Signal(Segment), Signal(), Signal()
        column, hand_over = Signal(), Signal()
        gap, turnaround = Signal(BEAT_WORDS - 1), Signal(timing.cas_latency + BEAT_WORDS)
        moving = Signal(BEAT_WORDS)
        m.d.comb += [column.eq(in_work & ~gap[0] & ~(current.write & turnaround[0])), self.moving.eq(moving[0])]
        m.d.sync += [gap.eq(gap >> 1), turnaround.eq(turnaround >> 1), moving.eq(moving >> 1)]
        with m.If(column):
            m.d.sync += [
                gap.eq(ones(BEAT_WORDS - 1)), moving.eq(ones(BEAT_WORDS)), self.write.eq(current.write),
                self.error.eq(current.error), self.last.eq(ends & current.final), in_work.eq(~ends),
                current.column.eq(current.column + 1), current.length.eq(current.length - 1),
                ends.eq(current.length == 1),
            ]
            # Its last word is read CAS latency + 1 cycles after READ; in one more the chip lets go of the bus.
            with m.If(~current.write):
                m.d.sync += turnaround.eq(ones(timing.cas_latency + BEAT_WORDS))

        # The segment that follows, the open row of each bank, and how long it must stay open.
        following, waiting = Signal(Segment), Signal()
        activate, close = Signal(), Signal()
        rows = Array(Signal(ROW_BITS, name=f"row{bank}") for bank in range(BANKS))
        is_open, held = Signal(BANKS), Signal(BANKS)
        after_read, after_write, after_activate = BEAT_WORDS - 1, BEAT_WORDS - 2 + t_wr, t_ras - 1
        for bank in range(BANKS):
            hold = Signal(max(after_read, after_write, after_activate), name=f"hold{bank}")
            moved, activated = column & (current.bank == bank), activate & (following.bank == bank)
            m.d.comb += held[bank].eq(hold[0])
            m.d.sync += hold.eq(
                (hold >> 1) | Mux(moved & ~current.write, ones(after_read), 0)
                | Mux(moved & current.write, ones(after_write), 0) | Mux(activated, ones(after_activate), 0))
            with m.If(activated):
                m.d.sync += [rows[bank].eq(following.row), is_open[bank].eq(1)]
        with m.If(close):
            m.d.sync += is_open.eq(0)

        # A refresh falls due once an interval; the first intervals are the pause after power-up.
        interval, tick, due = Signal(range(timing.refresh_interval)), Signal(), Signal()
        startup = Signal(range(timing.startup_intervals + 1), init=timing.startup_intervals)
        m.d.sync += [tick.eq(interval == timing.refresh_interval - 2), interval.eq(Mux(tick, 0, interval + 1))]
        with m.If(tick):
            m.d.sync += due.eq(1)

        # Row commands, where there is no column command, each after the pause that the one before asks for.
        command, bank, address = Signal(3), Signal(BANK_BITS), Signal(ROW_BITS)
        pause = Signal(max(t_rp, t_rfc, t_mrd, t_rcd, t_rrd))
        refreshes = Signal(range(INITIAL_REFRESHES), init=INITIAL_REFRESHES - 1)  # beside the next one
        row, row_open, shared, hit = Signal(ROW_BITS), Signal(), Signal(), Signal()
        free = ~column & ~pause[0]
        m.d.sync += pause.eq(pause >> 1)
        m.d.comb += [bank.eq(following.bank), address.eq(following.row)]
        with m.If(self.i_segment.valid & self.i_segment.ready):
            m.d.sync += following.eq(self.i_segment.payload)
        with m.FSM():
            with m.State("START"):
                with m.If(tick):
                    m.d.sync += startup.eq(startup - 1)
                with m.If(startup == 0):
                    m.next = "CLOSE"
            with m.State("CLOSE"):
                m.d.comb += [close.eq(free & ~in_work & ~held.any()), address.eq(1 << 10)]
                with m.If(close):
                    m.d.comb += command.eq(self.RAS | self.WE)
                    m.d.sync += pause.eq(ones(t_rp - 1))
                    m.next = "REFRESH"
            with m.State("REFRESH"):
                with m.If(free):
                    m.d.comb += command.eq(self.RAS | self.CAS)
                    m.d.sync += [pause.eq(ones(t_rfc - 1)), due.eq(0)]
                    with m.If(refreshes != 0):
                        m.d.sync += refreshes.eq(refreshes - 1)
                    with m.Elif(~self.initialized):
                        m.next = "MODE"
                    with m.Elif(waiting):
                        m.next = "LOOK"
                    with m.Else():
                        m.next = "IDLE"
            with m.State("MODE"):
                # Bursts of BEAT_WORDS, in sequence, of reads and writes alike.
                m.d.comb += [bank.eq(0), address.eq(timing.cas_latency << 4 | exact_log2(BEAT_WORDS))]
                with m.If(free):
                    m.d.comb += command.eq(self.RAS | self.CAS | self.WE)
                    m.d.sync += [pause.eq(ones(t_mrd - 1)), self.initialized.eq(1)]
                    m.next = "IDLE"
            with m.State("IDLE"):
                m.d.comb += self.i_segment.ready.eq(~due)
                with m.If(due):
                    m.next = "CLOSE"
                with m.Elif(self.i_segment.valid):
                    m.d.sync += waiting.eq(1)
                    m.next = "LOOK"
            with m.State("LOOK"):
                m.d.sync += [row.eq(rows[following.bank]), row_open.eq(is_open.bit_select(following.bank, 1)),
                             shared.eq(current.bank == following.bank)]
                m.next = "COMPARE"
            with m.State("COMPARE"):
                m.d.sync += hit.eq((row == following.row) & row_open | following.error)
                m.next = "CHOOSE"
            with m.State("CHOOSE"):
                with m.If(hit):
                    m.next = "READY"
                with m.Elif(row_open):
                    m.next = "PRECHARGE"
                with m.Else():
                    m.next = "ACTIVATE"
            with m.State("PRECHARGE"):
                m.d.comb += address.eq(0)
                with m.If(free & ~(in_work & shared) & ~held.bit_select(following.bank, 1)):
                    m.d.comb += command.eq(self.RAS | self.WE)
                    m.d.sync += pause.eq(ones(t_rp - 1))
                    m.next = "ACTIVATE"
            with m.State("ACTIVATE"):
                m.d.comb += activate.eq(free)
                with m.If(activate):
                    m.d.comb += command.eq(self.RAS)
                    # The first column command comes 2 cycles after the end of the pause, the next ACTIVE 5.
                    m.d.sync += pause.eq(ones(max(t_rcd - 2, t_rrd - 5)))
                    m.next = "READY"
            with m.State("READY"):
                m.d.comb += [hand_over.eq(~due & ~pause[0] & (~in_work | (column & ends))),
                             self.i_segment.ready.eq(hand_over)]
                with m.If(due):
                    m.next = "CLOSE"
                with m.Elif(hand_over):
                    m.d.sync += [current.eq(following), in_work.eq(1), ends.eq(following.length == 0),
                                 waiting.eq(self.i_segment.valid)]
                    m.next = "IDLE"
                    with m.If(self.i_segment.valid):
                        m.next = "LOOK"

        # Stage 1: the command.
        m.d.sync += [self.command.eq(command), self.ba.eq(bank), self.a.eq(address)]
        with m.If(column):
            m.d.sync += [
                self.command.eq(Mux(current.error, 0, Mux(current.write, self.CAS | self.WE, self.CAS))),
                self.ba.eq(current.bank), self.a.eq(current.column << exact_log2(BEAT_WORDS)),
            ]
        return m
