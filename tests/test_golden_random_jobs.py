"""The random jobs are valid, bounded, repeatable, and reach every corner that they promise."""

import math

import numpy as np

from golden.job import LayerJob
from golden.random_jobs import random_job
from golden.reference import run


def macs(job: LayerJob) -> int:
    return math.prod(job.conv_shape) * job.input.shape[0] * math.prod(job.weight.shape[2:])


def test_same_seed_same_job():
    for seed in (0, 7, 123456):
        first, second = random_job(seed), random_job(seed)
        for name in LayerJob.__dataclass_fields__:
            assert np.array_equal(getattr(first, name), getattr(second, name)), name


def test_limits_hold():
    for seed in range(200):
        job = random_job(seed, max_macs=1000, max_channels=20)
        assert macs(job) <= 1000 and max(job.weight.shape[:2]) <= 20 and job.groups == 1


def test_every_corner_occurs():
    seen: dict[str, int] = {}

    def count(**cases: bool) -> None:
        for name, occurs in cases.items():
            seen[name] = seen.get(name, 0) + bool(occurs)

    for seed in range(400):
        job = random_job(seed)
        result, (outputs, rows, columns), mask = run(job), job.conv_shape, job.channel_mask
        channels, height, width = job.input.shape
        assert macs(job) <= 1_000_000
        count(one_pixel=rows * columns == 1, one_channel=channels == 1, one_output=outputs == 1, odd=height * width % 2,
              large_input=job.input.size > 16384, large_weights=job.weight.size > 65536,
              many_channels=channels > 1024, many_outputs=outputs > 128, uneven_outputs=outputs > 16 and outputs % 16,
              asymmetric=job.padding[0] != job.padding[1] and job.padding[2] != job.padding[3],
              no_mask=mask is None, empty_mask=mask is not None and channels > 8 and not mask.any(),
              full_mask=mask is not None and channels > 1 and mask.all(), pool=job.pool is not None,
              partial_mask=mask is not None and 1 < mask.sum() < channels,
              ties=outputs > 8 and len(set(result.scores.tolist())) < outputs // 2,
              distinct=outputs > 4 and len(set(result.scores.tolist())) == outputs,
              spread=20 < result.output.std() < 90, constant=outputs > 1 and result.output.std() == 0,
              saturated=np.mean(np.isin(result.output, (job.activation_min, job.activation_max))) > 0.8,
              no_winner=not result.winners.any(), no_ranking=job.ranking is None)
        count(**{f"stride {step}": step in job.stride for step in range(1, 5)})
        count(**{f"kernel {size}": size in job.weight.shape[2:] for size in range(1, 12)})
        if job.ranking:
            count(**{f"{job.ranking.score} {job.ranking.select}": True})
    missing = [name for name, times in seen.items() if times < 2]
    assert not missing
    assert sum(" " in name and name.split()[0] in ("max", "absmax", "mean") for name in seen) == 12
