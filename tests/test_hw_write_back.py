"""The write-back against loops in Python: every byte of results, scores and winners, every read, and the cycles."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from golden.job import Ranking
from hw.config import EngineConfig
from hw.descriptor import OP_VECTOR

from .hw_helpers import simulate
from .write_back_bench import Results, World
from .write_back_layers import Axis, Band, Layer, make_layer, random_layer

TINY = EngineConfig(rows=4, columns=4, axi_data_bits=64, output_ring_bytes=128, requantize_lanes=2, rank_lanes=8,
                    max_channels=128)
CONFIGS = {
    "tiny": TINY,
    "wide": replace(TINY, columns=19, axi_data_bits=128, rank_lanes=16, output_ring_bytes=256, max_channels=48),
    "one column": replace(TINY, columns=1),
}
TIMED = replace(TINY, rows=16, output_ring_bytes=1024)
FLAT, ONE = (Band(rows=axis, cols=axis, pitch=axis.results, flat=64, strip_rows=1, tile=64)
             for axis in (Axis(results=n, window=1, step=1, first=0, outs=n) for n in (7, 1)))
POOLED_AXIS = Axis(results=14, window=3, step=2, first=-1, outs=7)
POOLED = Band(rows=POOLED_AXIS, cols=POOLED_AXIS, pitch=14, flat=0, strip_rows=2, tile=56)
WHOLE = replace(POOLED, strip_rows=7)
RULES = {
    "topk": Ranking(score="max", select="topk", value=9),
    "threshold": Ranking(score="max", select="threshold", value=60),
    "mean topk": Ranking(score="mean", select="topk", value=9, score_multiplier=1 << 30, score_shift=-4),
}


def run(config: EngineConfig, layers: list[Layer], random: Random, **shares: float) -> list[tuple[int, str]]:
    """Layers one behind the other, each checked; what happened when."""
    component = Results(config=config)
    world = World(component, random, **shares)

    async def bench(ctx):
        await world.follow(ctx, layers)

    simulate(component, bench, cycles=400_000)
    return world.events


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("vector", [False, True])
def test_random_layers(name, vector, skip):
    """Tiles, runs and holds come whenever they please."""
    random, config = Random(f"{name} {vector} {skip}"), CONFIGS[name]
    layers = [random_layer(random, config, vector=vector, skip=skip) for _ in range(5 if name == "wide" else 10)]
    run(config, layers, random, arrival=0.5, taking=0.7, holding=0.3)


@pytest.mark.parametrize("shares", [
    {"arrival": 0.1}, {"taking": 0.1}, {"holding": 0.9}, {"arrival": 1, "taking": 1, "holding": 0}],
    ids=lambda shares: next(iter(shares)))
def test_random_paces(shares):
    """Convolutions, vector layers, with and without losers, at a slow drain, a slow writer, and at full speed."""
    random = Random(str(shares))
    layers = [random_layer(random, TINY, vector=vector, skip=skip)
              for _ in range(2) for vector in (False, True) for skip in (False, True)]
    # More words of winners than the writer takes while it holds.
    layers.append(make_layer(np.random.default_rng(0), TINY, vector=False, channels=TINY.max_channels, columns=4,
                             bands=[replace(ONE, flat=4, tile=4)], rule=RULES["topk"]))
    run(TINY, layers, random, **shares)


# Cycles, where positions are there and the writer is ready.

DESCRIPTOR_GAP = 4
SCORED, MEAN, WALK = 11, 8, 9
"""From the last read for scores alone to the strip being offered again; added for a mean, for the running threshold."""


def strips_of(layer: Layer, band: Band, channel: int) -> list[tuple[int, int]]:
    """(runs, reads) of a channel in each strip."""
    fields = layer.fields[0]
    chunks = -(-fields["out_cols"] // fields["chunk"])
    if band.flat:
        last = -(-fields["out_cols_last"] // fields["chunk"])
        return [(1, chunks)] * (fields["out_rows"] - 1) + [(1, last)]
    rows = [len(band.rows.taps(row)) * band.cols.window * chunks for row in range(band.rows.outs)]
    strips = [rows[at:at + band.strip_rows] for at in range(0, len(rows), band.strip_rows)]
    return [(1 if fields["out_contiguous"] else len(strip), sum(strip)) for strip in strips]


def cycles_of(layer: Layer, rule: Ranking) -> int:
    """From the first strip to the last read of results: the contracts of the write-back and of its walker."""
    (fields,), (band,) = layer.fields, layer.bands
    vector, columns = fields["op"] == OP_VECTOR, fields["group_columns"]
    channels = range((fields["out_groups"] - 1) * columns + fields["last_columns"])
    groups = [channels[start:start + columns] for start in range(0, len(channels), columns)]
    # ``free``: when the walker may take the next strip; ``offered``: when it is offered that, at the earliest.
    free, offered, known, scored = 0, 0, False, []
    mean = MEAN if rule.score == "mean" else 0
    for number, group in enumerate(groups):
        for one in [[channel] for channel in group] if vector else [group]:
            strips = strips_of(layer, band, one[0])
            if one[0] in layer.judged:
                # Once for the scores alone; then the threshold.
                last = max(free, offered) + len(one) * strips[0][1]
                offered = last + SCORED + mean
                offered += 0 if rule.select == "threshold" or (vector and known) else WALK
                free, known = last + 1, True
            for runs, reads in strips:
                start = max(free, offered)
                free = start + 1
                for channel in one:
                    free += runs + reads if channel in layer.kept else 1
                    last = free - 1 if channel in layer.kept else last
                offered = start + 2
            offered = start + 3
        scored.append(last)
        if number:
            written = max(free, scored[-2] + SCORED - 1 + mean)
            free, offered = written + 2 + -(-columns // TIMED.axi_bytes), written + 3
        else:
            offered = start + 4
    return last


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("vector", "band", "skip", "channels", "columns", "gaps"), [
    (False, FLAT, False, 12, 4, (0, 0)), (False, FLAT, True, 23, 4, (0, 0)), (False, POOLED, False, 11, 4, (0, 3)),
    (False, WHOLE, True, 22, 4, (3, 3)), (True, FLAT, False, 12, 4, (0, 0)), (True, FLAT, True, 20, 4, (0, 0)),
    (True, POOLED, False, 7, 3, (2, 0)), (True, WHOLE, True, 15, 4, (0, 0)), (True, ONE, False, 12, 4, (0, 0)),
], ids=lambda value: None if isinstance(value, (bool, int, tuple)) else f"{'flat' if value.flat else 'pooled'}")
def test_cycles(vector, band, skip, channels, columns, gaps, rule):
    rule = RULES[rule]
    layer = make_layer(np.random.default_rng(1), TIMED, vector=vector, channels=channels, columns=columns, bands=[band],
                       rule=rule, skip=skip, zero=-10, gaps=gaps)
    if skip:
        assert len(layer.judged) > len(layer.judged - layer.kept) > 0
    events = run(TIMED, [layer], Random(0))
    last = sum(layer.reads.values()) - 1
    reads = [now for now, event in events if event == "read"]
    assert reads[last] - events[0][0] + 1 == cycles_of(layer, rule)


@pytest.mark.parametrize("vector", [False, True])
def test_cycles_between_descriptors(vector):
    """From a descriptor's last read to the next one's first run, and of its last band's scores and winners."""
    layer = make_layer(np.random.default_rng(1), TIMED, vector=vector, channels=4, columns=4, bands=[FLAT, FLAT],
                       rule=RULES["topk"])
    events = run(TIMED, [layer], Random(0))
    reads = [now for now, event in events if event == "read"]
    runs = [now for now, event in events if event == "run"]
    half = len(reads) // 2
    assert min(now for now in runs if now > reads[half - 1]) - reads[half - 1] == DESCRIPTOR_GAP + 2
    assert [now - reads[-1] for now in runs if now > reads[-1]] == [SCORED, SCORED + 2]
