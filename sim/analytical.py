"""The analytical model: bytes exactly, cycles in closed form, without simulating anything.

A descriptor's time is followed through the four things that can bound it: the read channel, the array, the drain and
the write-back. Each is a line in time (start, rate), so that what waits for what is a maximum of sums; loops over tiles
and strips are never walked. Bands of equal geometry settle into a period after a few of them, which is then multiplied.

Constants below are counts of pipeline stages of the files they name, with the memory of sim/fast_memory.sv.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import gcd

import numpy as np

from hw.config import EngineConfig, ceil_div
from hw.descriptor import DESCRIPTOR_BYTES, PARAMETER_BYTES, Score, Select
from hw.lowering import Ranking
from hw.plan import Band, LayerShape, Plan
from hw.reader import BURST_BEATS
from hw.winner_list import CHUNK

READ_LATENCY = 16
"""Cycles from an accepted read address to its first beat (sim/fast_memory.sv)."""
WRITE_LATENCY = 8
"""Cycles from a burst's last beat to its response."""


@dataclass(frozen=True)
class Prediction:
    """What a layer costs: cycles, and bytes by tensor.

    ``bytes_read``: activations, weights, parameters (constants, input mask, descriptors). ``bytes_written``:
    activations, mask (scores and winners).
    """

    cycles: int
    bytes_read: dict[str, int]
    bytes_written: dict[str, int]


def ideal_cycles(shape: LayerShape, winners: int, config: EngineConfig) -> float:
    """Products of the winners divided by the PEs: ``winners * KH * KW * OC * M / (R * C)``, M before pooling."""
    rows, cols = shape.conv_extent
    return winners * shape.taps * shape.out_channels * rows * cols / (config.rows * config.columns)


def output_stationary_cycles(shape: LayerShape, config: EngineConfig) -> int:
    """Cycles of a plain output-stationary array as SCALE-Sim counts them."""
    m, k, n = _matrix(shape)
    rows, columns = config.rows, config.columns
    return ceil_div(m, rows) * ceil_div(n, columns) * (k + rows + columns - 2) - 1


def weight_stationary_cycles(shape: LayerShape, config: EngineConfig) -> int:
    """Cycles of a plain weight-stationary array as SCALE-Sim counts them."""
    m, k, n = _matrix(shape)
    rows, columns = config.rows, config.columns
    return ceil_div(k, rows) * ceil_div(n, columns) * (m + 2 * rows + columns - 2) - 1


def _matrix(shape: LayerShape) -> tuple[int, int, int]:
    rows, cols = shape.conv_extent
    return rows * cols, shape.channels * shape.taps, shape.out_channels


# Pipeline stages, each counted in the file named.
ISSUE_TO_BEAT = READ_LATENCY + 2
"""hw/reader.py: from a burst's issue to its first beat behind the reader's register."""
PROGRAM_START = 3
"""hw/control.py, hw/loader.py: from the first counted cycle to the first descriptor's burst."""
CHECK = 5
"""hw/loader.py: from a descriptor's last beat to WAIT."""
LIST = 1
"""hw/loader.py: from WAIT to the mask's burst or the first job."""
RUN_TO_BURST = 4
"""hw/winner_list.py, hw/loader.py: from a run's end to its burst."""
WALK = 6
"""hw/loader.py: from a job's start to its first burst."""
ROWS_TO_TAP = 5
"""hw/unpacker.py, hw/scheduler.py: from a strip's mark to the first tap that may use it."""
WEIGHTS_TO_TAP = 2
"""hw/engine.py, hw/scheduler.py: from a beat of weights to the tap that uses it."""
START_TO_TAP = 4
"""hw/scheduler.py: from taking a descriptor to its first tap, ``rows`` cycles for the coordinates apart."""
RESULT = 9
"""hw/drain.py: from a tile's last column to its positions being seen by the write-back."""
STRIP_GAP = 8
"""hw/write_back.py: cycles between a strip's last read and the next strip's first run."""
GROUP_GAP = 12
"""hw/write_back.py: the same between groups, scores written."""
MEAN = 7
"""hw/score.py: the requantization of a mean."""
LAYER_END = 23 + WRITE_LATENCY
"""hw/write_back.py, hw/writer.py, hw/control.py: from the last read to the end of a program."""
RANKING = {Select.ALL: 0, Select.TOPK: 17, Select.ENERGY: 29, Select.THRESHOLD: 8}
"""hw/ranking.py: cycles added by the selection, the words of winners apart."""
NEXT_LAYER = 9
"""hw/control.py: from a layer's end to the start of the next."""
MAX_WALKED = 6
"""Descriptors or groups followed before the period that they have settled into is multiplied."""


@lru_cache(maxsize=8192)
def _mean_pieces(rows: int, cols: int, base: int, step: int, axi_bytes: int) -> tuple[float, float]:
    """Beats of ``rows * cols`` bytes, and the pieces that beats and row ends cut them into.

    The mean over the starts ``base + i * step`` modulo a beat; ``step`` divides ``axi_bytes``.
    """
    starts = range(base % step, axi_bytes, step)
    beats = sum(ceil_div(start + rows * cols, axi_bytes) for start in starts) / len(starts)
    # Row ends that fall on the end of a beat cut nothing more.
    aligned = sum((base + row * cols) % step == 0 for row in range(1, rows)) * step / axi_bytes
    return beats, beats + rows - 1 - aligned


class _Layer:
    """The sizes of a layer that its timeline needs, whatever the band."""

    def __init__(self, plan: Plan, ranking: Ranking, winners, masked: bool):
        self.plan, self.shape, self.config, self.ranking, self.masked = plan, plan.shape, plan.config, ranking, masked
        self.axi = plan.config.axi_bytes
        self.mask = np.asarray(winners, bool) if isinstance(winners, np.ndarray) else None
        self.winners = int(winners.sum()) if self.mask is not None else int(winners)
        self.columns = min(plan.config.columns, plan.shape.out_channels)
        self.mean = MEAN if ranking.score == Score.MEAN else 0

    def chosen(self, first: int, count: int) -> tuple[float, float]:
        """Winners among ``count`` channels from ``first``, and the runs that they form."""
        if self.mask is not None:
            part = self.mask[first:first + count]
            winners = int(part.sum())
            return winners, int(part[0]) + int((part[1:] & ~part[:-1]).sum()) if winners else 0
        rate = self.winners / self.shape.channels
        return count * rate, count * rate * (1 - rate) + rate


class _Timeline:
    """When the parts of the engine have come how far, in cycles since the program's start."""

    __slots__ = ("issue", "data", "tap", "reading", "read_cycles", "next_run", "accepted", "group_ends", "on_chip",
                 "loaded", "drained", "written")

    def __init__(self, start: float):
        self.issue = start
        """The next burst may be issued."""
        self.data = start
        """The last beat has arrived."""
        self.tap = start
        """The last tap has been issued."""
        self.reading, self.read_cycles = start, 0
        """The drain has begun its last tile, and how long that takes."""
        self.next_run = start
        """The write-back's next run may start."""
        self.accepted = start
        """The scheduler has taken its last descriptor."""
        self.group_ends = [start, start]
        """The last two groups have been drained, which frees their constants."""
        self.on_chip = []
        """Weights of the last groups: (bytes loaded before, bytes, first and last cycle of their last use)."""
        self.loaded = 0
        """Bytes of weights loaded in all."""
        self.drained = 0
        """Positions drained in all."""
        self.written = []
        """Groups written: (positions before, positions a strip, strips, last strip's end, cycles a strip)."""

    def load(self, gate: float, bursts: float, beats: float):
        """Order a job's bursts at ``gate`` or later and wait for its beats; the first beat's arrival."""
        start = max(self.issue, gate)
        first = max(self.data + 1, start + ISSUE_TO_BEAT)
        self.data = max(self.data + beats, start + ISSUE_TO_BEAT - 1 + beats)
        self.issue = start + bursts
        return first

    def weights_freed(self, amount: float) -> float:
        """When ``amount`` bytes of all weights loaded have been used for the last time."""
        for before, size, begin, end in reversed(self.on_chip):
            if amount > before:
                return begin + min(1.0, (amount - before) / size) * (end - begin)
        return 0.0

    def positions_freed(self, amount: float) -> float:
        """When ``amount`` of all positions drained have been written."""
        for before, step, strips, end, period in reversed(self.written):
            if amount > before:
                strip = min(strips, ceil_div(int(amount - before), step))
                return end - (strips - strip) * period + 2
        return 0.0

    def moments(self) -> list[float]:
        """All times, for finding a period."""
        return [self.issue, self.data, self.tap, self.reading, self.next_run, self.accepted, *self.group_ends]

    def shift(self, deltas: list[float], loaded: float, drained: float, times: int):
        """Go on for ``times`` periods."""
        (self.issue, self.data, self.tap, self.reading, self.next_run, self.accepted, *self.group_ends) = (
            moment + delta * times for moment, delta in zip(self.moments(), deltas, strict=True))
        taps, writes = deltas[2] * times, deltas[4] * times
        self.on_chip = [(before + loaded * times, size, begin + taps, end + taps)
                        for before, size, begin, end in self.on_chip]
        self.written = [(before + drained * times, step, strips, end + writes, period)
                        for before, step, strips, end, period in self.written]
        self.loaded += loaded * times
        self.drained += drained * times


def _repeat(time: _Timeline, count: int, step):
    """Do ``step`` ``count`` times: the first and the last really, those between by the period they have settled into.

    Groups wait for the constants of the group before the last, so a period is one step or two.
    """
    walked, history = 0, []
    while walked < count:
        before = time.moments(), time.loaded, time.drained
        step()
        walked += 1
        deltas = [after - moment for after, moment in zip(time.moments(), before[0], strict=True)]
        history.append((deltas, time.loaded - before[1], time.drained - before[2]))
        left = count - walked - 1
        if left > 0 and len(history) > 1 and history[-1] == history[-2]:
            time.shift(*history[-1], left)
            walked += left
        elif left > 1 and len(history) == MAX_WALKED:
            (last, loaded, drained), (other, loaded_before, drained_before) = history[-1], history[-2]
            pair = [a + b for a, b in zip(last, other, strict=True)]
            time.shift(pair, loaded + loaded_before, drained + drained_before, left // 2)
            walked += left // 2 * 2


def _fetch(layer: _Layer, time: _Timeline):
    """A descriptor: ordered once the one before has been taken, then checked."""
    time.load(max(time.issue + 2, time.accepted + 3), 1, DESCRIPTOR_BYTES / layer.axi)
    time.issue = time.data + CHECK


def _descriptor(layer: _Layer, time: _Timeline, band: Band, groups: tuple[tuple[int, int], ...], *, gate: float,
                new_list: bool, channels: tuple[int, int], load_weights: bool, sum_end: bool, score_final: bool):
    """One descriptor after its fetch. ``groups``: (columns, how many groups of so many) in order."""
    shape, config, axi = layer.shape, layer.config, layer.axi
    winners, runs = layer.chosen(*channels)
    time.issue = max(time.issue, gate)
    list_done = time.issue + 2
    time.issue += LIST
    if new_list and layer.masked:
        first = time.load(0, 1, ceil_div(ceil_div(channels[1], 8), axi))
        # 2 cycles a chunk of 16 channels and 2 a run; a beat is taken when the one before is used up.
        scan = 2 * ceil_div(channels[1], CHUNK) + 2 * runs + ceil_div(channels[1], 8 * axi)
        list_done = first + scan + 2
        # The read channel is in order: activations come behind the mask's last beat.
        last_beat = (channels[1] - 1) % (8 * axi) + 1
        time.data = max(time.data, list_done - 2 - scan * last_beat / channels[1])
    first_strip, *other_strips = _strip_costs(layer, band, winners, runs)
    time.load(time.issue + WALK - 1, *first_strip)
    if new_list and layer.masked:
        # The last run is found when the list is complete.
        bursts, beats = (cost / max(1, runs) for cost in first_strip)
        time.issue = max(time.issue, list_done + RUN_TO_BURST + bursts)
        time.data = max(time.data, list_done + RUN_TO_BURST + ISSUE_TO_BEAT + beats)
    rows_arrived = time.data

    # The scheduler takes the descriptor when it is free and the winners are known.
    time.accepted = max(time.accepted, time.tap + 2, list_done)
    ready = time.accepted + START_TO_TAP + config.rows
    state = {"first": True, "ready": max(ready, rows_arrived + ROWS_TO_TAP), "rows_arrived": rows_arrived}

    for columns, count in groups:
        _repeat(time, count, lambda columns=columns: _group(
            layer, time, band, columns, winners, runs, state, other_strips, load_weights, sum_end,
            score_final))


def _strip_costs(layer: _Layer, band: Band, winners: float, runs: float):
    """(bursts, cycles of the read channel) of the first strip, of an inner one and of the last."""
    shape, axi, plan = layer.shape, layer.axi, layer.plan
    width, cols = shape.width, band.cols.ins
    plane = shape.height * width
    # Where segments start within a beat: differs by channels, and by bands of the same geometry.
    base, step = band.rows.in0 * width + band.cols.in0, gcd(plane, axi)
    if plan.band_rows < shape.out_extent[0]:
        step = gcd(step, plan.band_rows * shape.pool[2] * shape.stride[0] * width)
    if plan.band_cols < shape.out_extent[1]:
        step = gcd(step, plan.band_cols * shape.pool[3] * shape.stride[1])

    def cost(rows: int, start: int, step: int):
        if band.merge:
            size = winners * plane
            return max(runs, size / (BURST_BEATS * axi)) + 1, (size + runs * (axi - gcd(plane, axi))) / axi + 1
        start += base
        if band.contiguous:
            size, segments = rows * cols, winners
            beats, pieces = _mean_pieces(rows, cols, start % axi, step, axi)
        else:
            size, segments = cols, winners * rows
            beats, pieces = _mean_pieces(1, cols, start % axi, gcd(step, width) if rows > 1 else step, axi)
        # Each piece of a beat that lies in one row takes a cycle for every phase.
        cycles = segments * (beats if band.copy else pieces * shape.stride[1])
        return segments * max(1, ceil_div(size, BURST_BEATS * axi)) + 1, cycles + 1

    strip, last = band.strip_rows, band.strips - 1
    return (cost(min(strip, band.rows.ins), 0, step), cost(strip, strip * width, gcd(step, strip * width)),
            cost(band.rows.ins - last * strip, last * strip * width, step))


def _group(layer, time, band, columns, winners, runs, state, other_strips, load_weights, sum_end, score_final):
    """One group of output channels: its loads, its tiles, its drain and its write-back."""
    shape, config, axi, plan = layer.shape, layer.config, layer.axi, layer.plan
    rows = config.rows
    if sum_end:
        time.load(max(time.issue, time.group_ends[0] + 2), ceil_div(columns, BURST_BEATS * axi // PARAMETER_BYTES),
                  columns * PARAMETER_BYTES / axi)
    constants = time.data + 2

    # Weights: as fast as the read channel brings them, and as the ring has room.
    block = shape.taps * columns
    size = winners * block
    taps = max(1.0, winners * shape.taps)
    first_weight = 0.0
    if load_weights and size:
        # A run starts and ends on a multiple of the block's divisor.
        beats = (size + runs * (axi - gcd(block, axi))) / axi
        bursts = max(runs, beats / BURST_BEATS)
        free = time.weights_freed(time.loaded + min(size, BURST_BEATS * axi) - config.weight_buffer_bytes)
        first_weight = time.load(max(time.issue + WALK, free), bursts, beats) + WEIGHTS_TO_TAP
        free = time.weights_freed(time.loaded + size - config.weight_buffer_bytes)
        time.data = max(time.data, free + ISSUE_TO_BEAT + min(beats, BURST_BEATS))
    else:
        beats = 0
        time.issue += WALK if load_weights else 0
    weights_arrived = time.data + WEIGHTS_TO_TAP if size and load_weights else 0.0

    # Tiles. What bounds one: its taps, its coordinates, the drain of the one before, or streamed weights.
    chunks = config.drain_chunks
    drain = columns * chunks
    last_drain = columns * ceil_div(band.last_rows, config.requantize_lanes)
    period = max(taps, rows + 2)
    if sum_end:
        period = max(period, rows + 6 + max(0, drain - columns - chunks - 5), drain + 1)
    streamed = not plan.weights_resident and band.tiles > 1
    if streamed:
        period = max(period, beats + max(0, WALK - beats + bursts) if size else 0)
    start = max(time.tap + 1, state["ready"], first_weight)
    first_tap = start
    tap = max(start + taps - 1, weights_arrived)
    if sum_end:
        tap = max(tap, time.reading + max(0, time.read_cycles - columns - chunks - 5))
    rest = band.tiles - 1
    last = tap + rest * period
    if state["first"] and band.strips > 1:
        # The other strips follow the first group's weights; the tile that first needs one waits for it.
        inner, final = other_strips
        loading = time.data
        total = band.strips - 1
        bursts_more, cycles_more = ((total - 1) * a + b for a, b in zip(inner, final, strict=True))
        time.load(time.issue + WALK, bursts_more + WALK * (total - 1), max(cycles_more, bursts_more + WALK * total))
        each = (time.data - loading) / cycles_more * inner[1] if cycles_more else 0.0
        loaded_all = time.data

        def arrival(strip: int) -> float:
            return loaded_all if strip == total else loading + each * strip

        state["arrival"] = arrival
        for strip in {1, max(1, total - 1), total}:
            y = (strip * band.strip_rows - (shape.kernel[0] - band.rows.pad)) // shape.stride[0] + 1
            tile = min(band.tiles - 1, max(1, max(0, y) * band.pitch // rows))
            last = max(last, arrival(strip) + ROWS_TO_TAP + taps - 1 + (rest - tile) * period)
    if streamed:
        time.load(time.issue + WALK, rest * bursts, rest * beats)
    if load_weights and (streamed or size > config.weight_buffer_bytes):
        # What the ring cannot hold is ordered only while the last of it is used.
        ahead = config.weight_buffer_bytes / columns
        time.issue = max(time.issue, last - ahead)
        time.data = max(time.data, last - ahead + ISSUE_TO_BEAT)
    state["first"] = False
    if load_weights and size:
        if not plan.weights_kept:
            time.on_chip = time.on_chip[-3:] + [(time.loaded, size, last - taps + 1, last)]
            time.loaded += size

    # Drain: the last tile's sums, once the ring has room for them.
    if not sum_end:
        time.tap = last
        return
    ring = config.output_ring_bytes
    span = band.tiles * rows
    reading = max(last + rows + 6, time.reading + time.read_cycles + 1, constants)
    room = time.positions_freed(time.drained + span - ring) if span + time.drained > ring else 0.0
    reading = max(reading, room + 1)
    first_reading = max(tap + rows + 6, time.reading + time.read_cycles + 1, constants)

    # Write-back: strip by strip, each when its last position has been drained.
    reads = ceil_div(band.out_cols, band.chunk) * shape.pool[0] * shape.pool[1]
    last_reads = ceil_div(band.out_cols_last, band.chunk) * shape.pool[0] * shape.pool[1]

    def strip_cycles(n: int, final: bool):
        runs_of_strip = 1 if band.out_contiguous else n
        return columns * (runs_of_strip + (n - 1) * reads + (last_reads if final else reads))

    strips = ceil_div(band.out_rows, band.out_strip_rows)
    final_rows = band.out_rows - (strips - 1) * band.out_strip_rows
    strip = strip_cycles(band.out_strip_rows, False) + STRIP_GAP
    slack = ring - band.out_strip_need - rows
    if slack < band.out_strip_step:
        # The ring cannot take a strip while another is written: all but the two tiles in the array follow afterwards.
        strip += max(0, (band.out_strip_step - slack) / rows - 2) * period + drain + RESULT + 2
    final_strip = strip_cycles(final_rows, True)
    need = band.out_strip_need
    arrival = state.pop("arrival", None)

    def drained(position: int) -> float:
        """When the write-back sees that ``position`` positions have been drained."""
        tile = min(band.tiles, ceil_div(position, rows)) - 1
        if tile == rest:
            return reading + last_drain + RESULT
        if arrival is None:
            return first_reading + tile * (reading - first_reading) / rest + drain + RESULT
        y = min(band.rows.convs - 1, ((tile + 1) * rows - 1) // band.pitch)
        rows_needed = y * shape.stride[0] + shape.kernel[0] - band.rows.pad
        index = min(band.strips, ceil_div(rows_needed, band.strip_rows)) - 1
        loaded = arrival(index) + ROWS_TO_TAP + taps + rows + 5 if index else 0.0
        return max(first_reading + tile * period, loaded) + drain + RESULT

    begin = max(time.next_run, drained(min(need, band.positions)) + 1)
    if span > ring:
        # The last tile waits until the strips before it have been written.
        reading = max(reading, begin + ceil_div(span - ring, band.out_strip_step) * strip - STRIP_GAP + 2)
    last = max(last, reading - rows - 6 - period)
    time.tap = last
    time.reading, time.read_cycles = reading, last_drain
    time.group_ends = [time.group_ends[1], reading + last_drain]

    end = begin + (strips - 1) * strip
    for index in {strips - 1, max(0, strips - 2)}:
        available = drained(min(need + index * band.out_strip_step, band.positions)) + 1
        end = max(end, available + (strips - 1 - index) * strip)
    end += final_strip
    average = (end - begin) / strips
    time.written = time.written[-3:] + [(time.drained, band.out_strip_step, strips, end, max(strip, average))]
    time.drained += span
    time.next_run = end + (GROUP_GAP + ceil_div(columns, axi) - 1 + layer.mean if score_final else STRIP_GAP)


def _layer_time(layer: _Layer, time: _Timeline):
    """All descriptors of a layer; ``time.next_run`` is then ``GROUP_GAP`` after its last read."""
    plan = layer.plan
    groups = ((layer.columns, plan.groups - 1), (plan.last_columns, 1)) if plan.groups > 1 else ((plan.last_columns, 1),)
    classes = plan.band_classes()
    whole = (0, plan.shape.channels)
    total = plan.descriptor_count
    done = [0]

    def one(band, groups, *, channels=whole, load_weights=True, sum_end=True, score_final=True, chunked=False):
        if done[0]:
            _fetch(layer, time)
        gate = 0.0 if plan.double or not done[0] else time.tap + 3
        if plan.double and done[0]:
            gate = time.accepted
        _descriptor(layer, time, band, groups, gate=gate, new_list=chunked or not done[0], channels=channels,
                    load_weights=load_weights, sum_end=sum_end, score_final=score_final)
        done[0] += 1

    if len(plan.chunks) > 1:
        for band, count in classes:
            for columns, group_count in groups:
                def unit(band=band, columns=columns):
                    for chunk in plan.chunks:
                        one(band, ((columns, 1),), channels=chunk, sum_end=chunk == plan.chunks[-1], chunked=True)
                _repeat(time, count * group_count, unit)
    elif plan.groups_outside:
        for columns, group_count in groups:
            def unit(columns=columns):
                for number, (band, count) in enumerate(classes):
                    def band_unit(band=band, first=[number == 0]):
                        one(band, ((columns, 1),), load_weights=first[0])
                        first[0] = False
                    _repeat(time, count, band_unit)
            _repeat(time, group_count, unit)
    else:
        for number, (band, count) in enumerate(classes):
            state = [number == 0]
            def unit(band=band, state=state, number=number):
                one(band, groups, load_weights=state[0] or not plan.weights_kept,
                    score_final=number == len(classes) - 1)
                state[0] = False
            _repeat(time, count, unit)
    return total


def _bytes(layer: _Layer) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes read and written by tensor, exactly."""
    plan, shape, config = layer.plan, layer.shape, layer.config
    winners = layer.winners
    chunks, groups = len(plan.chunks), plan.groups
    classes = plan.band_classes()
    input_pixels = sum(band.rows.ins * band.cols.ins * count for band, count in classes)
    bands, tiles = plan.band_count, sum(band.tiles * count for band, count in classes)
    repeats = groups if plan.groups_outside or chunks > 1 else 1
    weight_bytes = winners * shape.taps * shape.out_channels
    weight_times = 1 if plan.weights_kept else bands if plan.weights_resident else tiles
    list_bytes = sum(ceil_div(count, 8) for _, count in plan.chunks) if layer.masked else 0
    lists = bands * groups if chunks > 1 else 1
    ranked = layer.ranking.select != Select.ALL
    return (
        {"activations": winners * input_pixels * repeats, "weights": weight_bytes * weight_times,
         "parameters": PARAMETER_BYTES * shape.out_channels * bands + list_bytes * lists
         + DESCRIPTOR_BYTES * plan.descriptor_count},
        {"activations": shape.out_channels * shape.out_extent[0] * shape.out_extent[1],
         "mask": shape.out_channels + (ceil_div(shape.out_channels, 8) if ranked else 0)},
    )


def predict_program(layers: Sequence[tuple]) -> list[Prediction]:
    """Cost of each layer of a program: ``(plan, ranking, winners, masked)`` in order.

    ``winners``: number of input channels that win, or their mask (bool or uint8 [C]), which fixes how they lie;
    ``masked``: whether a mask is read at all. The cycles are the differences of the profile's records; the last layer's
    go on to the interrupt.
    """
    predictions = []
    end = 0.0
    for index, (plan, ranking, winners, masked) in enumerate(layers):
        layer = _Layer(plan, ranking, winners, masked)
        if index == 0:
            time = _Timeline(0.0)
            time.load(PROGRAM_START, 1, DESCRIPTOR_BYTES / layer.axi)
            time.issue = time.data + CHECK
        else:
            time = _Timeline(end + NEXT_LAYER)
        _layer_time(layer, time)
        words = ceil_div(plan.shape.out_channels, plan.config.rank_lanes) if ranking.select != Select.ALL else 0
        now = time.next_run - GROUP_GAP + LAYER_END + RANKING[ranking.select] + words
        if index < len(layers) - 1:
            now -= NEXT_LAYER
        read, written = _bytes(layer)
        predictions.append(Prediction(round(now) - round(end), read, written))
        end = now
    return predictions


def predict(plan: Plan, ranking: Ranking, *, winners, masked: bool) -> Prediction:
    """Cost of one layer run alone, from the start register to the interrupt."""
    return predict_program([(plan, ranking, winners, masked)])[0]
