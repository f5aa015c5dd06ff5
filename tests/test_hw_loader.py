"""The segment walker: winners' runs to segments, against loops in Python."""

from random import Random

import pytest

from hw.loader import SegmentWalker
from hw.reader import Kind

from .hw_helpers import descriptor, receive, runs_of, send, simulate


def expected_segments(job: dict[str, int], fields: dict[str, int], mask: list[int]) -> list[tuple]:
    """(kind, address, bytes, destination, start, strip_end) in order; weights' destinations do not matter."""
    runs, segments, destination = runs_of(mask), [], job["destination"]
    if job["weights"]:
        return [(Kind.WEIGHTS, job["base"] + start * job["stride"], length * job["stride"]) for start, length in runs]
    for start, length in runs:
        if fields["act_merge"]:
            size = length * job["stride"]
            segments.append((Kind.ACTIVATIONS, job["base"] + start * job["stride"], size, destination, 1, 0))
            destination += size
            continue
        for channel in range(start, start + length):
            address = job["base"] + channel * fields["in_plane"]
            if fields["act_contiguous"]:
                segments.append((Kind.ACTIVATIONS, address, job["strip_load"], destination, 1, 0))
            else:
                segments += [(Kind.ACTIVATIONS, address + row * fields["in_row_pitch"], fields["in_cols"], destination,
                              int(row == 0), 0) for row in range(job["strip_rows"])]
            destination += fields["slab_bytes"]
    return [*segments, (Kind.ACTIVATIONS, None, 0, None, None, 1)]


@pytest.mark.parametrize("mode", ["weights", "merge", "contiguous", "rows"])
@pytest.mark.parametrize("share", [1, 0.3])
def test_segments(mode, share):
    """Several walks over the same list, of any mask; every byte of the winners, and no other, in order."""
    walker, random = SegmentWalker(), Random(f"{mode} {share}")
    runs: list = []

    async def jobs(ctx):
        for _ in range(12):
            rate = random.choice((0, 0.2, 0.5, 0.9, 1))
            mask = [int(random.random() < rate) for _ in range(random.randint(1, 40))]
            plane = random.randint(20, 5000)
            fields = {"act_merge": mode == "merge", "act_contiguous": mode == "contiguous", "in_plane": plane,
                      "in_row_pitch": random.randint(1, 60), "in_cols": random.randint(1, 60),
                      "slab_bytes": random.randint(1, 3000)}
            job = {"weights": mode == "weights", "base": random.randrange(1 << 30),
                   "destination": random.randrange(1 << 16),
                       "stride": plane, "strip_load": random.randint(1, 2000), "strip_rows": random.randint(1, 5)}
            runs[:] = runs_of(mask)
            ctx.set(walker.descriptor, descriptor(**fields))
            wanted = expected_segments(job, fields, mask)
            found.clear()
            count[0] = len(wanted)
            await send(ctx, walker.i_job, [job])
            while count[0]:
                await ctx.tick()
            for segment, want in zip(found, wanted, strict=True):
                parts = (segment.kind, segment.address, segment.bytes, segment.destination, segment.start,
                         segment.strip_end)
                assert all(part == one for part, one in zip(parts, want, strict=False) if one is not None)
                assert not job["weights"] or not segment.strip_end
            await ctx.tick().repeat(3)
            assert not ctx.get(walker.o_segment.valid)

    async def taker(ctx):
        while True:
            if count[0]:
                found.extend(await receive(ctx, walker.o_segment, count[0], random, share))
                count[0] = 0
            await ctx.tick()

    async def winner_list(ctx):
        """A list's walk as the winner list does it: a rewind, then the runs, one of them waiting at a time."""
        at = 0
        while True:
            left = runs[at:]
            offered = bool(left) and random.random() < 0.8
            ctx.set(walker.i_run.valid, offered)
            ctx.set(walker.exhausted, not left)
            if offered:
                ctx.set(walker.i_run.payload, {"start": left[0][0], "length": left[0][1]})
            _, _, rewind, ready = await ctx.tick().sample(walker.rewind, walker.i_run.ready)
            at = 0 if rewind else at + (offered and ready)

    count, found = [0], []
    simulate(walker, jobs, background=[taker, winner_list])


def test_a_segment_a_cycle():
    walker = SegmentWalker()

    async def bench(ctx):
        ctx.set(walker.descriptor, descriptor(act_contiguous=1, in_plane=64, slab_bytes=64))
        ctx.set(walker.o_segment.ready, 1)
        ctx.set(walker.i_job.payload, {"weights": 0, "base": 0, "destination": 0, "stride": 64, "strip_load": 64,
                                       "strip_rows": 8})
        ctx.set(walker.i_job.valid, 1)
        ctx.set(walker.i_run.valid, 1)
        ctx.set(walker.i_run.payload, {"start": 0, "length": 1})
        times = []
        for now in range(60):
            _, _, valid = await ctx.tick().sample(walker.o_segment.valid)
            if valid:
                times.append(now)
        assert times == list(range(times[0], 60)) and times[0] <= 4

    simulate(walker, bench)
