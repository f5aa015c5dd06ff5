"""The flags of winners against a dictionary in Python."""

from random import Random

import pytest

from hw.channel_flags import ChannelFlags
from hw.winner_list import CHUNK

from .hw_helpers import simulate


@pytest.mark.parametrize("max_channels", [1, 16, 40, 200])
def test_random_writes_and_questions(max_channels):
    """Written a chunk at a time, asked for a channel at a time, both in any cycle; answers wait for other questions."""
    component, random = ChannelFlags(max_channels=max_channels), Random(max_channels)
    chunks = -(-max_channels // CHUNK)
    every = dict.fromkeys([(slot, operand) for slot in range(2) for operand in range(2)], False)
    bits: dict[tuple[int, int, int], int] = {}

    def flag(slot: int, operand: int, channel: int) -> int | None:
        """1 or 0; None where nothing has been written."""
        if every[slot, operand]:
            return 1
        word = bits.get((slot, operand, channel // CHUNK))
        return None if word is None else word >> channel % CHUNK & 1

    async def bench(ctx):
        asked = [[None, None]] * 3
        for _ in range(1500):
            answer = ctx.get(component.flags)
            for operand, one in enumerate(asked[0]):
                assert one in (None, answer >> operand & 1)
            ask, slot, channel = random.random() < 0.7, random.randrange(2), random.randrange(max_channels)
            ctx.set(component.ask, ask)
            ctx.set(component.slot, slot)
            ctx.set(component.channel, channel)
            if ask:
                asked = [*asked[1:], [flag(slot, operand, channel) for operand in range(2)]]
            write = random.random() < 0.4
            ctx.set(component.write, write)
            if write:
                slot, operand, chunk = random.randrange(2), random.randrange(2), random.randrange(chunks)
                word, whole = random.randrange(1 << CHUNK), random.random() < 0.2
                for name, value in (("write_slot", slot), ("write_operand", operand), ("write_chunk", chunk),
                                    ("write_bits", word), ("write_all", whole)):
                    ctx.set(getattr(component, name), value)
                every[slot, operand] = whole
                if not whole:
                    bits[slot, operand, chunk] = word
            await ctx.tick()

    simulate(component, bench)


@pytest.mark.parametrize("max_channels", [1, 16, 40, 200])
def test_walks_over_chunks(max_channels):
    """Those of the first operand, as fast as one a cycle, from three cycles behind the start on."""
    component, random = ChannelFlags(max_channels=max_channels), Random(max_channels)
    chunks = -(-max_channels // CHUNK)

    async def bench(ctx):
        words = {}
        for slot in range(2):
            for operand in range(2):
                for chunk in range(chunks):
                    words[slot, operand, chunk] = random.randrange(1 << CHUNK)
                    ctx.set(component.write, 1)
                    for name, value in (("slot", slot), ("operand", operand), ("chunk", chunk),
                                        ("bits", words[slot, operand, chunk])):
                        ctx.set(getattr(component, f"write_{name}"), value)
                    await ctx.tick()
        whole = [False, False]
        for number in range(30):
            slot = random.randrange(2)
            whole[slot] = number > 20 and random.random() < 0.5
            ctx.set(component.write, whole[slot])
            ctx.set(component.write_all, 1)
            ctx.set(component.write_slot, slot)
            ctx.set(component.write_operand, 0)
            await ctx.tick()
            ctx.set(component.write, 0)
            ctx.set(component.chunk_slot, slot)
            ctx.set(component.chunk_start, 1)
            await ctx.tick()
            ctx.set(component.chunk_start, 0)
            await ctx.tick().repeat(random.choice((2, 2, 5)))
            # A walk may be given up at any chunk.
            for chunk in range(random.randint(1, chunks)):
                while random.random() < 0.3:
                    await ctx.tick()
                expected = 2**CHUNK - 1 if whole[slot] else words[slot, 0, chunk]
                assert ctx.get(component.chunk_flags) == expected
                ctx.set(component.chunk_next, 1)
                await ctx.tick()
                ctx.set(component.chunk_next, 0)
            if whole[slot]:
                # Back to single flags.
                ctx.set(component.write, 1)
                ctx.set(component.write_all, 0)
                ctx.set(component.write_chunk, 0)
                ctx.set(component.write_bits, words[slot, 0, 0])
                await ctx.tick()
                ctx.set(component.write, 0)
                whole[slot] = False

    simulate(component, bench)
