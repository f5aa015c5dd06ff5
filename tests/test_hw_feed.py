"""The feed against the same selection in Python."""

from random import Random

import pytest

from hw.config import VECTOR_TAPS, EngineConfig
from hw.feed import Feed

from .hw_helpers import simulate

CONFIGS = {
    "more rows": EngineConfig(rows=7, columns=2, vector_lanes=3, axi_data_bits=64),
    "more lanes": EngineConfig(rows=3, columns=5, vector_lanes=6, axi_data_bits=64),
    "one by one": EngineConfig(rows=1, columns=1, vector_lanes=1, axi_data_bits=64),
    "wide": EngineConfig(rows=4, columns=2, vector_lanes=12, axi_data_bits=128),
}

LANES_READ = {"more rows": (3, 3, 2, 2), "more lanes": (6, 3, 2, 2), "one by one": (1, 1, 1, 1), "wide": (12, 7, 5, 4)}
"""Lanes of the vector unit that a read serves, three bytes each, from every first to every fourth byte on."""


def packed(values, bits: int) -> int:
    """Signed values side by side, the first in the low bits."""
    return sum((int(value) & (1 << bits) - 1) << bits * n for n, value in enumerate(values))


@pytest.mark.parametrize("name", CONFIGS)
def test_feed(name):
    """Control issued now meets the read data of four cycles later; what is outside, or of no step, is zero.

    Which lanes are inside is told two cycles behind the rest.

    Lane n of the vector unit's tap k gets byte n * lane_step + k. Lanes whose taps are not all read are of no tile.
    """
    config, random = CONFIGS[name], Random(name)
    component, lanes = Feed(config=config), config.position_lanes
    issues, data = [], []
    seen = set()

    async def bench(ctx):
        for now in range(600):
            issues.append({
                **{signal: random.randrange(2) for signal in ("issue", "vector", "first", "last", "operand")},
                "lane_inside": random.getrandbits(VECTOR_TAPS * lanes), "zero_point": random.choice((-128, 127, 0, 5)),
                "unit_weight": random.choice((0, 0, 1, 64, -128)), "lane_step": random.randint(1, 4)})
            data.append(([random.randint(-128, 127) for _ in range(config.act_banks)],
                         [random.randint(-128, 127) for _ in range(config.weight_read_bytes)]))
            for signal, value in issues[-1].items():
                ctx.set(getattr(component, signal), value)
            ctx.set(component.lane_inside, issues[max(0, now - Feed.LANES_BEHIND)]["lane_inside"])
            ctx.set(component.act_data, packed(data[-1][0], 8))
            ctx.set(component.weight_data, packed(data[-1][1], 8))
            if now >= Feed.LATENCY:
                check(ctx, issues[now - Feed.LATENCY], *data[now - 1])
            await ctx.tick()

    def check(ctx, step, acts, weights):
        array, vector = step["issue"] and not step["vector"], step["issue"] and step["vector"]
        above = [act - step["zero_point"] for act in acts]
        assert ctx.get(component.acts) == packed(
            [above[n] if array and step["lane_inside"] >> n & 1 else 0 for n in range(config.rows)], 9)
        assert ctx.get(component.weights) == packed(weights[:config.columns], 8)
        assert ctx.get(component.array_first) == (array & step["first"])
        assert ctx.get(component.array_last) == (array & step["last"])
        assert ctx.get(component.vector_issue) == vector
        if vector:
            first = [lane * step["lane_step"] for lane in range(config.vector_lanes)]
            read = [start + VECTOR_TAPS <= len(above) for start in first]
            seen.update((step["lane_step"], lane) for lane in range(config.vector_lanes) if read[lane])
            assert ctx.get(component.vector_acts) == packed(
                [above[first[lane] + tap] if read[lane] and step["lane_inside"] >> tap * lanes + lane & 1 else 0
                 for tap in range(VECTOR_TAPS) for lane in range(config.vector_lanes)], 9)
            unit = step["unit_weight"]
            assert ctx.get(component.vector_weights) == packed([unit] * 3 if unit else weights[:VECTOR_TAPS], 8)
            for signal in ("first", "last", "operand"):
                assert ctx.get(getattr(component, f"vector_{signal}")) == step[signal]

    assert (Feed.LATENCY, Feed.LANES_BEHIND) == (5, 2)
    simulate(component, bench)
    assert {size: sum(step == size for step, _ in seen) for size in (1, 2, 3, 4)} == dict(
        zip((1, 2, 3, 4), LANES_READ[name], strict=True))
