"""What the timelines of array and vector unit share: a descriptor from its fetch to its handing over."""

from hw.band import Band
from hw.config import ceil_div
from hw.descriptor import DESCRIPTOR_BYTES, PARAMETER_BYTES, Select
from hw.reader import BURST_BEATS
from hw.winner_list import CHUNK

from .costs import (
    ACCEPTED_TO_FETCH,
    BOUND,
    CHECK,
    CONSTANTS,
    CONSTANTS_FREED,
    DRAIN_TO_DRAIN,
    EMPTY_LIST_TO_MARK,
    EMPTY_WALK,
    ISSUE_TO_BEAT,
    JUDGE,
    LIST,
    MARK_TO_BEAT,
    MEAN,
    NEXT_DESCRIPTOR,
    NEXT_JOB,
    ROWS_TO_TAP,
    RUN_TO_BURST,
    SCORE,
    SCORES,
    START_TO_TAP,
    STRIP_TO_TAKE,
    TAP_TO_ACCEPT,
    WAIT_TO_LIST,
    WALK,
    WRITE_BACK_START,
)
from .results import Judged
from .timeline import Timeline
from .workload import Workload


class Start:
    """When a descriptor's loading may begin: at ``gate``; behind the layer before if it is the ``first`` of its layer.

    A layer may read its first constants and weights before that. ``new_list``: its winners are listed anew.
    """

    def __init__(self, work: Workload, gate: float | None, *, new_list: bool, first: bool = True):
        self.gate, self.new_list = 0.0 if gate is None else gate, new_list
        self.may_read = first and gate is not None and work.reads_ahead
        self.resident = work.plan.shape.resident

    def ahead(self, time: Timeline) -> bool:
        """Constants and weights are read at once; else nothing is before ``gate``."""
        if self.may_read and time.issue < self.gate:
            time.issue += WAIT_TO_LIST + 1
            return True
        time.issue = max(time.issue, self.gate)
        return False

    def pass_barrier(self, time: Timeline, job_end: float) -> float:
        """The list of winners is offered, and activations are ordered, once those weights have been."""
        passed = max(self.gate, job_end) + 1
        if self.resident:
            time.issue = max(time.issue, passed + NEXT_JOB)
        return passed


def judge(work: Workload, first: int, columns: int) -> Judged | None:
    """How ``columns`` output channels from ``first`` are judged; None where all are written at once."""
    kept = work.judged(first, columns)
    if kept is None:
        return None
    # The threshold of top-k is looked for; for a channel alone the one before it will do.
    by_rank = work.ranking.select == Select.TOPK
    known = not by_rank or (work.plan.shape.vector and first > work.ranking.value)
    return Judged(kept, JUDGE + (0 if known else BOUND) + (MEAN if work.is_mean else 0))


def fetch(work: Workload, time: Timeline):
    """A descriptor: ordered once the one before has been taken, then checked; ``time.issue`` is then at WAIT."""
    time.load(max(time.issue + NEXT_DESCRIPTOR, time.accepted + ACCEPTED_TO_FETCH), 1,
              DESCRIPTOR_BYTES / work.plan.config.axi_bytes)
    time.issue = time.data + CHECK


def load_list(work: Workload, time: Timeline, first: int, count: int, operand: int = 0,
              listed=None) -> tuple[float, float]:
    """A mask, ordered at ``time.issue``; when the list of winners is complete, and how long it took."""
    axi = work.plan.config.axi_bytes
    size = ceil_div(count + first % CHUNK, 8)
    beats = ceil_div(size, axi)
    begin = time.load(0, 1, beats)
    scan = work.list_cycles(first, count, operand, listed)
    # The read channel is in order: what follows comes behind the mask's last beat, taken when the one before is used.
    time.data = max(time.data, begin + scan * (beats - 1) / beats)
    return begin + LIST + scan, scan


def load_listed(time: Timeline, cost: tuple[float, float], gate: float, listed: tuple[float, float], runs: float, *,
                rows: bool = False) -> float:
    """What is read of ``runs`` that are still being ``listed`` (when the list is complete, how long it took).

    Ordered at ``gate`` or later, activations if ``rows``; returns the first beat's arrival.
    """
    done, scan = listed
    # The first run is found early in the scan, the last one at its end.
    found = done - scan * (1 - 1 / max(1, runs))
    first = (time.load_rows if rows else time.load)(max(gate, found + RUN_TO_BURST), *cost)
    bursts, cycles = (part / max(1, runs) for part in cost)
    time.issue = max(time.issue, done + RUN_TO_BURST + bursts)
    time.data = max(time.data, done + RUN_TO_BURST + ISSUE_TO_BEAT + cycles)
    return first


def load_first_strip(time: Timeline, cost: tuple[float, float], listed: tuple[float, float], runs: float):
    """The first strip of winners whose mask has been ordered just before."""
    if runs:
        load_listed(time, cost, time.issue + WALK - 1, listed, runs, rows=True)
    else:
        load_mark(time, listed[0] + EMPTY_LIST_TO_MARK)


def load_strip(time: Timeline, cost: tuple[float, float], start: float, runs: float):
    """A strip of winners that are known, whose walk begins at ``start``."""
    if runs:
        time.load_rows(start + WALK, *cost)
    else:
        load_mark(time, start + EMPTY_WALK)


def load_mark(time: Timeline, start: float):
    """The mark of a strip without data."""
    time.issue = max(time.issue, start) + 1
    time.data = max(time.data + 1, time.issue - 1 + MARK_TO_BEAT)


def first_tap(work: Workload, band: Band, time: Timeline, marked: float) -> float:
    """The first tap that the scheduler may issue of the descriptor taken, whose first strip's mark came at ``marked``.

    A strip is taken when coordinates are there, for which those of the descriptor before count, too.
    """
    ready = time.accepted + START_TO_TAP + ceil_div(band.tile_positions, 2)
    early = work.plan.shape.resident or (time.started and marked + STRIP_TO_TAKE <= time.accepted)
    time.started = True
    return ready if early else max(ready + 1, marked + ROWS_TO_TAP)


def load_constants(work: Workload, time: Timeline, records: int, freed: float = CONSTANTS_FREED) -> float:
    """A group's constants, in the place of those of the group before the last; when they are ordered."""
    axi = work.plan.config.axi_bytes
    size = records * PARAMETER_BYTES
    bursts = ceil_div(size, BURST_BEATS * axi)
    time.load(time.older_end + freed, bursts, size / axi)
    time.constants = time.data + CONSTANTS
    return time.issue - bursts


def accept(time: Timeline, listed: float):
    """The scheduler takes the descriptor when it is free and the winners are ``listed``; then the drain does."""
    time.accepted = max(time.tap + TAP_TO_ACCEPT, time.drain_taken + 1, listed)
    time.drain_taken = max(time.accepted + 1, time.drain_free)


def take_results(time: Timeline):
    """The write-back takes the descriptor that the drain has taken."""
    taken = max(time.drain_taken + 1, time.writing_free)
    time.next_run = max(time.next_run, taken + WRITE_BACK_START)
    time.drain_free = taken
    time.owed = 0


def end_drain(time: Timeline, latency: float = 0):
    """The drain may take the next descriptor."""
    time.drain_free = max(time.drain_free, time.reading - 1 + DRAIN_TO_DRAIN + latency)


def end_group(work: Workload, time: Timeline, columns: int, *, score_final: bool, judged: bool):
    """The results of a group have been written; the scores of the group before follow.

    Its own are there already if it has been ``judged``.
    """
    time.written = 0.0 if judged else time.next_run
    if time.owed:
        time.next_run += SCORES + time.owed
    time.owed = ceil_div(columns, work.plan.config.axi_bytes) if score_final else 0


def end_results(work: Workload, time: Timeline):
    """The scores of a descriptor's last group."""
    if time.owed:
        due = time.written + SCORE + (MEAN if work.is_mean else 0)
        time.scored = max(time.next_run, due)
        time.next_run = time.scored + SCORES + time.owed
        time.owed = 0
    time.writing_free = time.next_run + 1
