"""How far each part of the engine has come: the state that the analytical model follows.

Nothing is simulated: tiles and strips are lines in time (start, rate), and what waits for what is a maximum of sums.
What repeats is followed until it settles into a period, which is then multiplied.
"""

from collections.abc import Callable
from operator import sub

from .costs import ISSUE_TO_BEAT

CLOSE = 1e-6
"""Cycles; times are sums of fractions."""
LONGEST_PERIOD = 8
"""Steps. Six have been seen: channels of three tiles each that are written more slowly than they are computed."""
CLAIMS = 12
"""Pieces of writing remembered for the loading that they hold up."""
TIMES = ("issue", "data", "tap", "reading", "next_run", "accepted", "drain_taken", "drain_free", "writing_free",
         "older_end", "group_end", "constants", "scored", "loaded", "positions", "tiles", "chunks")
AMOUNTS = 4
"""The last of these are amounts, not times."""


class Timeline:
    """When the parts of the engine have come how far, in cycles since the program's start.

    Loading: ``issue``, the next burst may be issued; ``data``, the last beat has arrived; ``loaded``, bytes of weights
    in all; ``on_chip``, weights of the last groups and passes (bytes loaded before, bytes, first and last cycle of
    their last use).
    Computing: ``accepted``, the scheduler has taken its last descriptor; ``tap``, the last step has been issued.
    Draining: ``drain_taken``, the drain has taken its last descriptor, and may take the next at ``drain_free``;
    ``reading``, behind the last sums read; ``older_end``, ``group_end``, the same of the last two groups, which frees
    their constants; ``constants``, sums of a group may be read; ``positions`` in all; ``tiles`` of the vector unit;
    ``read``, its last slices (tiles before, tiles, sums of the first and last tile read).
    Writing: ``next_run``, the walker is free; ``written``, the last strip has been written; ``owed``, pieces of scores
    of the last group, which are not; ``scored``, the walker has taken a descriptor's last scores; ``writing_free``, the
    write-back may take the next; ``freed``, strips that what is drained may have to wait for (positions freed before,
    when sums may be read into their place); ``chunks`` written in all. Results that stay on chip (``claiming``) hold
    up activations: ``claims`` (first, last cycle, chunks written).
    """

    __slots__ = (*TIMES, "claimed_chunks", "claims", "claiming", "freed", "gap", "last_read", "listed", "older_list",
                 "on_chip", "owed", "read", "ring", "started", "walked", "written")

    def __init__(self, start: float, ring: int):
        self.ring = ring
        for name in TIMES:
            setattr(self, name, start)
        self.loaded = self.positions = self.tiles = self.chunks = self.claimed_chunks = 0
        self.on_chip, self.freed, self.read, self.claims = [], [], [], []
        self.claiming = False
        self.started = False
        self.gap = self.owed = self.last_read = self.written = self.older_list = self.listed = self.walked = 0

    def load(self, gate: float, bursts: float, beats: float) -> float:
        """Order a job's bursts at ``gate`` or later and wait for its beats; the first beat's arrival."""
        start = self.issue if self.issue > gate else gate
        self.issue = start + bursts
        first = start + ISSUE_TO_BEAT
        if first <= self.data:
            first = self.data + 1
        self.data = first + beats - 1
        return first

    def load_rows(self, gate: float, bursts: float, beats: float) -> float:
        """Order activations, which wait while results are written on chip."""
        first = self.load(gate, bursts, beats)
        for _ in range(2 if self.claims else 0):
            self.data = first + beats - 1 + self.claimed(first, self.data)
        return first

    def claim(self, begin: float):
        """What a strip that began at ``begin`` wrote on chip; joined to what is written without a break."""
        chunks = self.chunks - self.claimed_chunks
        self.claimed_chunks = self.chunks
        if self.claims and begin < self.claims[-1][1] + 1:
            begin, _, before = self.claims.pop()
            chunks += before
        self.claims.append((begin, self.next_run, chunks))
        del self.claims[:-CLAIMS]

    def _claim_steps(self, period: float, chunks: float, times: int):
        """What ``times`` steps wrote on chip that were not followed, each ``chunks`` in ``period`` cycles.

        Evenly, but in the last of them in the pieces of the last one that was followed: what comes next loads beside
        those.
        """
        begin = self.next_run - period * times - period
        pieces = [(max(first, begin), last, count if first >= begin else count * (last - begin) / (last - first))
                  for first, last, count in self.claims if last > begin]
        if times > 1:
            self.claims.append((begin + period, self.next_run - period, chunks * (times - 1)))
        self.claims += [(first + period * times, last + period * times, count) for first, last, count in pieces]
        del self.claims[:-CLAIMS]
        self.claimed_chunks = self.chunks

    def claimed(self, begin: float, end: float) -> float:
        """Cycles in which results were written on chip."""
        return sum(chunks * max(0.0, min(end, last) - max(begin, first)) / (last - first)
                   for first, last, chunks in self.claims if last > first)

    def weights_freed(self, amount: float) -> float:
        """When ``amount`` bytes of all weights loaded have been used for the last time."""
        for before, size, begin, end in reversed(self.on_chip):
            if amount > before:
                return begin + min(1.0, (amount - before) / size) * (end - begin)
        return 0.0

    def moments(self) -> list[float]:
        """All that grows, for finding a period."""
        return [self.issue, self.data, self.tap, self.reading, self.next_run, self.accepted, self.drain_taken,
                self.drain_free, self.writing_free, self.older_end, self.group_end, self.constants, self.scored,
                self.loaded, self.positions, self.tiles, self.chunks]

    def shift(self, deltas: list[float], times: int):
        """Go on for ``times`` steps of ``deltas``."""
        for name, delta in zip(TIMES, deltas, strict=True):
            setattr(self, name, getattr(self, name) + delta * times)
        taps, reads, writes = deltas[2] * times, deltas[3] * times, deltas[4] * times
        loaded, positions, tiles, chunks = (delta * times for delta in deltas[-AMOUNTS:])
        if self.claiming and chunks:
            self._claim_steps(deltas[4], deltas[-1], times)
        self.on_chip = [(before + loaded, size, begin + taps, end + taps) for before, size, begin, end in self.on_chip]
        self.freed = [(before + positions, time + writes) for before, time in self.freed]
        self.read = [(before + tiles, count, first + reads, last + reads) for before, count, first, last in self.read]

    def lasting(self, deltas: list[float]) -> int:
        """Steps until what goes on faster has caught up with what it follows, or has used up the output ring."""
        data, tap, reading, writing = deltas[1:5]
        if reading > tap + CLOSE:
            # The tiles between steps and sums are few.
            return 0
        periods = float("inf")
        if tap > reading + CLOSE:
            periods = (self.reading - self.tap) / (tap - reading)
        if reading > writing + CLOSE:
            periods = min(periods, (self.next_run - self.reading) / (reading - writing))
        if data > tap + CLOSE:
            periods = min(periods, (self.tap - self.data) / (data - tap))
        if writing > reading + CLOSE:
            waiting = next((self.positions - before for before, time in self.freed if time > self.reading), 0)
            periods = min(periods, (self.ring - waiting) / (deltas[-3] * (1 - reading / writing)))
        return max(0, int(min(periods, 1e9)) - 2)


def _period(walked: list[list[float]]) -> int:
    """Steps of the period that the last one of ``walked`` has ended; 0 if it has ended none."""
    for period in range(1, min(LONGEST_PERIOD + 1, len(walked))):
        if max(map(abs, map(sub, walked[-1], walked[-1 - period]))) < CLOSE:
            return period
    return 0


def repeat(time: Timeline, count: int, step: Callable[[], None], *, even: float | None = None, least: int = 2):
    """Do ``step`` ``count`` times: the first and the last really, those between by the period they have settled into.

    A group waits for the constants of the group before the last, and what is slower may be anywhere within a tile when
    a step ends, so a period is one step or several. What settles into none is followed to its end: a mean of steps in
    which one part has just caught up with another is no period. ``even``: the period of computing that nothing holds
    up; how far loading, at least as fast, is ahead does not matter then. ``least``: steps after which nothing from
    before matters.
    """
    left, walked = count, []
    before = time.moments()
    while left:
        step()
        left -= 1
        if left <= 1:
            continue
        now = time.moments()
        gone = list(map(sub, now, before))
        walked.append(gone)
        before = now
        if len(walked) < least:
            continue
        data, tap, reading, writing = gone[1:5]
        jump = 0
        if even is not None and max(abs(tap - even), abs(reading - tap), abs(writing - tap), data - tap) < CLOSE:
            gone = [min(delta, tap) for delta in gone[:-AMOUNTS]] + gone[-AMOUNTS:]
            jump = left - 1
        elif period := _period(walked):
            gone = [sum(deltas) / period for deltas in zip(*walked[-period:], strict=True)]
            jump = min(left - 1, time.lasting(gone)) // period * period
        if jump > 0:
            time.shift(gone, jump)
            left, walked = left - jump, []
            before = time.moments()
