"""The winner list against runs found in Python."""

from random import Random

import pytest

from hw.winner_list import CHUNK, WinnerList

from .hw_helpers import receive, runs_of, send, simulate

WORD_BITS = 64


def random_mask(random: Random, channels: int) -> list[int]:
    """Noise, long runs, all, none, every other channel, or one channel."""
    kind = random.choice(("noise", "noise", "runs", "runs", "all", "none", "alternate", "one"))
    if kind == "noise":
        rate = random.random()
        return [int(random.random() < rate) for _ in range(channels)]
    if kind == "runs":
        mask, value = [], random.randrange(2)
        while len(mask) < channels:
            mask += [value] * random.randint(1, 60)
            value = 1 - value
        return mask[:channels]
    one = random.randrange(channels)
    return [{"all": 1, "none": 0, "alternate": 1 - n % 2, "one": int(n == one)}[kind] for n in range(channels)]


def mask_words(mask: list[int], random: Random, *, first_chunks: int) -> list[dict[str, int]]:
    """The mask as beats: the first of ``first_chunks`` chunks, the others full; junk behind the last channel."""
    junk = [random.randrange(2) for _ in range(WORD_BITS)]
    bits, words, at, chunks = mask + junk, [], 0, first_chunks
    while at < len(mask):
        word = sum(bit << n for n, bit in enumerate((bits[at:at + chunks * CHUNK] + junk)[:WORD_BITS]))
        words.append({"word": word, "chunks": chunks})
        at, chunks = at + chunks * CHUNK, WORD_BITS // CHUNK
    return words


async def start(ctx, component, channels: int, *, all_of_them: bool, skip: int = 0) -> None:
    ctx.set(component.channels, channels)
    ctx.set(component.skip, skip)
    ctx.set(component.build, 1)
    ctx.set(component.build_all, all_of_them)
    await ctx.tick()
    ctx.set(component.build, 0)


async def walk(ctx, component, random: Random, share: float) -> list[tuple[int, int]]:
    """Take runs until there are no more."""
    stream, taken, waiting = component.o_run, [], None
    while True:
        ready = random.random() < share
        ctx.set(stream.ready, ready)
        _, _, valid, payload, exhausted = await ctx.tick().sample(stream.valid, stream.payload, component.exhausted)
        run = (payload.start, payload.length)
        assert valid or waiting is None
        assert waiting in (None, run)
        waiting = run if valid and not ready else None
        if valid and ready:
            taken.append(run)
        if exhausted:
            assert not valid
            ctx.set(stream.ready, 0)
            return taken


async def rewind(ctx, component) -> None:
    ctx.set(component.rewind, 1)
    await ctx.tick()
    ctx.set(component.rewind, 0)


class Watch:
    """What a list says while it is built: its runs, the flags of its channels, and how often it was complete.

    ``limits``: the channels that may win, of each chunk.
    """

    def __init__(self, component: WinnerList):
        self.component = component
        self.limits: list[int] = []
        self.forget()

    def forget(self) -> None:
        self.runs, self.flags, self.completed = [], {}, 0

    async def limit(self, ctx) -> None:
        """In the same cycle as the chunk."""
        async for (base,) in ctx.changed(self.component.chunk_base):
            chunk = base // CHUNK
            ctx.set(self.component.limit, self.limits[chunk] if chunk < len(self.limits) else 2**CHUNK - 1)

    async def note(self, ctx) -> None:
        one = self.component
        while True:
            _, _, run, added, taken, base, bits, completed = await ctx.tick().sample(
                one.run_added, one.added, one.chunk_taken, one.chunk_base, one.chunk_bits, one.completed)
            if run:
                assert not self.completed
                self.runs.append((added.start, added.length))
            if taken:
                assert base not in self.flags
                self.flags[base] = bits
            self.completed += completed


@pytest.mark.parametrize("seed", range(4))
def test_random_masks(seed):
    """Each list is walked while it is built, and again after rewinds from the end and from the middle.

    Channels before ``skip`` are not in it, nor are those beyond the limit.
    """
    component, random = WinnerList(max_channels=300, word_bits=WORD_BITS), Random(seed)
    watch = Watch(component)

    async def bench(ctx):
        for number in range(16):
            channels = random.choice((1, 15, 16, 17, 64, 300, random.randint(1, 300)))
            skip = random.choice((0, random.randrange(min(16, channels))))
            mask = random_mask(random, channels)
            words = mask_words(mask, random, first_chunks=random.randint(1, WORD_BITS // CHUNK))
            watch.forget()
            watch.limits = [2**CHUNK - 1 if number % 2 else random.getrandbits(CHUNK) for _ in range(0, 300, CHUNK)]
            ctx.set(component.limit, watch.limits[0])
            mask = [bit & watch.limits[n // CHUNK] >> n % CHUNK & (n >= skip) for n, bit in enumerate(mask)]
            flags = {n: sum(bit << k for k, bit in enumerate(mask[n:n + CHUNK])) for n in range(0, channels, CHUNK)}
            mask = mask[skip:]
            await start(ctx, component, channels, all_of_them=False, skip=skip)
            queue[:] = [words]
            assert await walk(ctx, component, random, random.choice((0.3, 1))) == runs_of(mask)
            assert ctx.get(component.done) and ctx.get(component.winners) == sum(mask)
            assert (watch.runs, watch.flags, watch.completed) == (runs_of(mask), flags, 1)
            for _ in range(2):
                await rewind(ctx, component)
                if random.random() < 0.5 and len(runs_of(mask)) > 2:
                    await receive(ctx, component.o_run, random.randint(1, len(runs_of(mask)) - 1), random, 0.5)
                    await rewind(ctx, component)
                assert await walk(ctx, component, random, random.choice((0.3, 1))) == runs_of(mask)
        queue.append(None)

    async def feed(ctx):
        while True:
            if queue and queue[-1] is None:
                return
            if queue:
                await send(ctx, component.i_mask, queue.pop(), random, 0.7)
            else:
                await ctx.tick()

    queue: list = []
    simulate(component, bench, feed, background=[watch.limit, watch.note])


@pytest.mark.parametrize("channels", [1, 16, 1000])
def test_all_channels_are_one_run(channels):
    component = WinnerList(max_channels=1000, word_bits=WORD_BITS)

    watch = Watch(component)

    async def bench(ctx):
        for skip in (0, min(15, channels - 1)):
            watch.forget()
            assert ctx.get(component.done)
            await start(ctx, component, channels, all_of_them=True, skip=skip)
            assert not ctx.get(component.done)
            await ctx.tick()
            assert ctx.get(component.done)  # 2 cycles after build
            assert await walk(ctx, component, Random(0), 1) == [(0, channels - skip)]
            assert ctx.get(component.winners) == channels - skip
            assert (watch.runs, watch.flags, watch.completed) == ([(0, channels - skip)], {}, 1)

    simulate(component, bench, background=[watch.note])


@pytest.mark.parametrize("rate", [0, 0.1, 0.5, 0.9, 1])
def test_building_time(rate):
    """At most a cycle a run, one a chunk, two a word of the mask, and two to begin and end."""
    random = Random(str(rate))
    mask = [int(random.random() < rate) for _ in range(512)]
    component = WinnerList(max_channels=512, word_bits=WORD_BITS)

    async def bench(ctx):
        ctx.set(component.limit, 2**CHUNK - 1)
        await start(ctx, component, len(mask), all_of_them=False)
        words = iter(mask_words(mask, random, first_chunks=4))
        cycles = 1
        ctx.set(component.i_mask.valid, 1)
        ctx.set(component.i_mask.payload, next(words))
        while not ctx.get(component.done):
            _, _, ready = await ctx.tick().sample(component.i_mask.ready)
            if ready:
                ctx.set(component.i_mask.payload, next(words, {"word": 0, "chunks": 0}))
            cycles += 1
        assert cycles <= len(runs_of(mask)) + len(mask) // CHUNK + 2 * len(mask) // WORD_BITS + 4

    simulate(component, bench)


def test_a_walk_takes_a_cycle_a_run():
    mask = [n % 2 for n in range(200)]
    component = WinnerList(max_channels=200, word_bits=WORD_BITS)

    async def bench(ctx):
        ctx.set(component.limit, 2**CHUNK - 1)
        await start(ctx, component, len(mask), all_of_them=False)
        await send(ctx, component.i_mask, mask_words(mask, Random(0), first_chunks=4))
        while not ctx.get(component.done):
            await ctx.tick()
        await rewind(ctx, component)
        await ctx.tick().repeat(2)
        ctx.set(component.o_run.ready, 1)
        for run in runs_of(mask):
            assert ctx.get(component.o_run.valid)
            assert (ctx.get(component.o_run.p.start), ctx.get(component.o_run.p.length)) == run
            assert not ctx.get(component.exhausted)
            await ctx.tick()
        assert not ctx.get(component.o_run.valid)
        await ctx.tick()
        assert ctx.get(component.exhausted)

    simulate(component, bench)
