"""Runs and chunks of results, to memory, on chip or both, against a dictionary in Python."""

from collections import deque
from random import Random

import pytest

from hw.output_router import OutputRouter
from hw.writer import WriteKind

from .hw_helpers import SMALL, bytes_of, descriptor, simulate

LATENCY = 2
"""Cycles from a run that is taken to its first chunk, at least."""


@pytest.mark.parametrize("seed", range(4))
def test_runs(seed):
    """Chunks go where their run does; scores and winners always to memory; the writer may keep a run waiting."""
    router, random = OutputRouter(config=SMALL), Random(seed)
    axi_bytes = SMALL.axi_bytes
    chip: dict[int, int] = {}
    found, to_writer, wanted_runs, wanted_chunks = [], [], [], []

    async def bench(ctx):
        now, waiting = 0, deque()  # (first cycle of its chunks, chunks)
        pending = None
        for number in range(1000):
            # A run, unless one waits; the chunks of the runs before, in order.
            if pending is None and number < 350 and random.random() < 0.5 and len(waiting) < 12:
                kind = random.choice((WriteKind.ACTIVATIONS, WriteKind.ACTIVATIONS, WriteKind.MASK))
                pending = {"address": random.randrange(1 << 32), "bytes": random.randint(1, 40), "kind": kind}
                where = random.choice((1, 2, 3))
                fields = {"out_to_memory": where & 1, "out_to_chip": where >> 1,
                          "chip_offset": random.randrange(1 << 24)}
                ctx.set(router.descriptor, descriptor(**fields))
                ctx.set(router.i_run.payload, pending)
            ctx.set(router.i_run.valid, pending is not None)
            ctx.set(router.o_run.ready, random.random() < 0.6)
            chunk = None
            if waiting and waiting[0][0] <= now and random.random() < 0.7:
                chunk = waiting[0][1].popleft()
                if not waiting[0][1]:
                    waiting.popleft()
                ctx.set(router.i_chunk, chunk)
            ctx.set(router.i_chunk.valid, chunk is not None)
            if ctx.get(router.o_chunk.valid):
                to_writer.append((ctx.get(router.o_chunk.data), ctx.get(router.o_chunk.count),
                                  ctx.get(router.o_chunk.first), ctx.get(router.o_chunk.last)))
            claims = ctx.get(router.claims)
            taken = ctx.get(router.i_run.valid) and ctx.get(router.i_run.ready)
            if ctx.get(router.o_run.valid) and ctx.get(router.o_run.ready):
                run = router.o_run.p
                found.append((ctx.get(run.address), ctx.get(run.bytes), ctx.get(run.kind)))
                assert taken
            await ctx.tick()
            now += 1
            assert ctx.get(router.write_enable) == claims
            if claims:
                first, count = ctx.get(router.write_offset), ctx.get(router.write_count)
                for n, value in enumerate(bytes_of(ctx.get(router.write_data), count)):
                    assert chip.pop((first + n) % (1 << 24)) == value
            if taken:
                result = pending["kind"] == WriteKind.ACTIVATIONS
                memory, on_chip = not result or fields["out_to_memory"], result and fields["out_to_chip"]
                sizes, left = [], pending["bytes"]
                while left:
                    sizes.append(random.randint(1, min(left, axi_bytes)))
                    left -= sizes[-1]
                chunks, at = deque(), pending["address"] + fields["chip_offset"]
                for n, size in enumerate(sizes):
                    data = random.getrandbits(8 * axi_bytes)
                    chunks.append({"data": data, "count": size, "first": n == 0, "last": n == len(sizes) - 1})
                    if memory:
                        wanted_chunks.append((data, size, n == 0, n == len(sizes) - 1))
                    if on_chip:
                        values = enumerate(bytes_of(data, size)[:size])
                        chip.update({(at + k) % (1 << 24): value for k, value in values})
                    at += size
                if memory:
                    wanted_runs.append((pending["address"], pending["bytes"], pending["kind"]))
                waiting.append((now + LATENCY - 1, chunks))
                pending = None
            if number > 350 and not waiting and pending is None and not ctx.get(router.claims):
                return

    simulate(router, bench)
    assert found == wanted_runs and to_writer == wanted_chunks and not chip
    assert len(found) > 20
