"""The flags of winners against a dictionary in Python."""

from random import Random

import pytest

from hw.channel_flags import ChannelFlags
from hw.winner_list import CHUNK

from .hw_helpers import simulate


@pytest.mark.parametrize("max_channels", [1, 16, 40, 200])
def test_random_writes_and_questions(max_channels):
    """Written a chunk at a time, asked for a channel or a chunk at a time, both in any cycle."""
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
        asked = None
        for _ in range(1500):
            if asked:
                answer = ctx.get(component.flags)
                for operand, one in enumerate(asked):
                    assert one in (None, answer >> operand & 1)
            chunk_slot, chunk = random.randrange(2), random.randrange(chunks)
            ctx.set(component.chunk_slot, chunk_slot)
            ctx.set(component.chunk, chunk)
            word = [flag(chunk_slot, 0, chunk * CHUNK + n) for n in range(CHUNK)]
            if None not in word:
                assert ctx.get(component.chunk_flags) == sum(one << n for n, one in enumerate(word))
            slot, channel = random.randrange(2), random.randrange(max_channels)
            ctx.set(component.slot, slot)
            ctx.set(component.channel, channel)
            asked = [flag(slot, operand, channel) for operand in range(2)]
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
