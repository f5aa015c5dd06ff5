"""Small networks of every kind of layer, drawn at random with the reference's results, and how results are compared."""

from random import Random

import numpy as np

from golden.job import AddJob, Job, LayerJob, PoolJob, Ranking
from golden.reference import LayerResult
from golden.reference import run as reference
from hw.program import STORED, UNTOUCHED, MemoryProgram


def assert_results(program: MemoryProgram, results: list[LayerResult], expected: list[LayerResult], *,
                   all_outputs: bool = True) -> None:
    """Bit for bit; planes of losers, and outputs that stay on chip, may be left out, and are then not touched."""
    for placed, result, want in zip(program.layers, results, expected, strict=True):
        assert np.array_equal(result.scores, want.scores)
        assert np.array_equal(result.winners, want.winners)
        kept = all_outputs or placed.addresses.chip_output is None
        for plane, right, winner in zip(result.output, want.output, want.winners, strict=True):
            if winner and kept:
                assert np.array_equal(plane, right)
            else:
                assert np.array_equal(plane, right) or (plane.view(np.uint8) == UNTOUCHED).all()


def zero_points(random: Random) -> int:
    return random.choice((-128, 127, random.randint(-128, 127)))


def convolution(random: Random, before: tuple[np.ndarray, np.ndarray | None, int], *, depthwise: bool) -> LayerJob:
    """A "same" convolution with winners, often with weights of zero in blocks."""
    input, mask, zero_point = before
    channels, rng = len(input), np.random.default_rng(random.getrandbits(32))
    outputs = channels if depthwise else random.randint(1, 40)
    kernel = random.choice((1, 3))
    weight = rng.integers(-128, 128, (outputs, 1 if depthwise else channels, kernel, kernel), np.int8)
    if random.random() < 0.4:
        weight[rng.random((outputs, weight.shape[1])) < 0.9] = 0
    rule = random.choice((None, Ranking(score="max", select="topk", value=max(1, outputs // 2)),
                          Ranking(score="absmax", select="threshold", value=150),
                          Ranking(score="max", select="energy", value=0.6)))
    return LayerJob(
        input=input, weight=weight, bias=rng.integers(-2000, 2000, outputs).astype(np.int32),
        multiplier=rng.integers(2**30, 2**31, outputs).astype(np.int32), shift=np.full(outputs, -9, np.int32),
        input_zero_point=zero_point, output_zero_point=zero_points(random), activation_min=-128, activation_max=127,
        groups=channels if depthwise else 1, stride=(1, 1), padding=(kernel // 2,) * 4, channel_mask=mask, ranking=rule)


def pool(random: Random, before: tuple[np.ndarray, np.ndarray | None, int]) -> PoolJob:
    input, mask, zero_point = before
    return PoolJob(kind=random.choice(("max", "average")), input=input, kernel=(3, 3), stride=(1, 1),
                   padding=(1, 1, 1, 1), input_zero_point=zero_point, output_zero_point=zero_point, channel_mask=mask)


def addition(random: Random, *operands: tuple[np.ndarray, np.ndarray | None, int]) -> AddJob:
    fields = {}
    for number, (input, mask, zero_point) in enumerate(operands, 1):
        fields |= {f"input_{number}": input, f"channel_mask_{number}": mask, f"input_{number}_zero_point": zero_point,
                   f"input_{number}_multiplier": random.randint(2**30, 2**31 - 1), f"input_{number}_shift": -1}
    return AddJob(**fields, output_zero_point=zero_points(random), output_multiplier=2**30, output_shift=-18)


def random_network(random: Random) -> tuple[list[Job | None], list[tuple[int, ...]], list[LayerResult]]:
    """Layers that read any layer before them, and the reference's result of each that is one."""
    side = random.randint(1, 7)
    jobs, sources, results = [], [], []
    maps: list[tuple[np.ndarray, np.ndarray | None, int]] = []
    stored = (np.random.default_rng(random.getrandbits(32)).integers(-128, 128, (5, side, side), np.int8), None, -3)
    joined: set[int] = set()
    for index in range(random.randint(2, 7)):
        origin = index - 1 if index and random.random() < 0.7 else random.randint(STORED, index - 1)
        before = stored if origin == STORED else maps[origin]
        pairs = [(a, b) for a in range(index) for b in range(a) if maps[a][0].shape == maps[b][0].shape]
        parts = [n for n in range(index) if n not in joined and jobs[n] is not None and len(maps[n][0]) % 16 == 0]
        draw = random.random()
        if draw < 0.15 and pairs:
            sources.append(random.choice(pairs))
            jobs.append(addition(random, *(maps[n] for n in sources[-1])))
        elif draw < 0.3 and len(parts) >= 2:
            sources.append(tuple(parts[:2]))
            joined |= {*parts[:2]}
            jobs.append(None)
        else:
            sources.append((origin,))
            jobs.append(pool(random, before) if draw < 0.5 else convolution(random, before, depthwise=draw < 0.65))
        if jobs[-1] is None:
            masks = [maps[n][1] for n in parts[:2]]
            whole = [np.ones(len(maps[n][0]), np.uint8) if mask is None else mask
                     for n, mask in zip(parts, masks, strict=False)]
            mask = None if masks == [None, None] else np.concatenate(whole)
            maps.append((np.concatenate([maps[n][0] for n in parts[:2]]), mask, maps[parts[0]][2]))
            continue
        result = reference(jobs[-1])
        results.append(result)
        ranked = jobs[-1].ranking is not None
        maps.append((result.output, result.winners if ranked else None, jobs[-1].output_zero_point))
    return jobs, sources, results
