"""The UART against bits drawn and sampled by time: other baud rates, glitches, breaks, framing errors."""

from random import Random

import pytest

from hw.link.uart import UartReceiver, UartTransmitter
from tests.hw_helpers import PERIOD, refusal, send, simulate


def frame_bits(byte: int, stop: int = 1) -> list[int]:
    """Start bit, eight bits, the lowest first, stop bit."""
    return [0, *(byte >> n & 1 for n in range(8)), stop]


def receive(segments: list[tuple[float, int]], cycles_per_bit: int, phase: float = 0) -> list[tuple[int, int]]:
    """(byte, framing error) of all that a receiver makes of a line with these (clock cycles, level)."""
    uart, heard = UartReceiver(cycles_per_bit=cycles_per_bit), []
    finished = False

    async def line(ctx):
        nonlocal finished
        await ctx.delay((8 + phase) * PERIOD)
        for cycles, level in segments:
            ctx.set(uart.rx, level)
            await ctx.delay(cycles * PERIOD)
        ctx.set(uart.rx, 1)
        await ctx.delay(12 * cycles_per_bit * PERIOD)
        finished = True

    async def listen(ctx):
        async for _, _, valid, data, error in ctx.tick().sample(
                uart.o.valid, uart.o.p.data, uart.o.p.framing_error):
            if valid:
                heard.append((data, error))
            if finished:
                return

    simulate(uart, line, listen)
    return heard


@pytest.mark.parametrize("error", [-0.02, 0, 0.02])
@pytest.mark.parametrize("cycles_per_bit", [8, 33])
def test_bytes_at_other_baud_rates(cycles_per_bit, error):
    random = Random(cycles_per_bit)
    for phase in (0.1, 0.45, 0.95):
        sent = [0x00, 0xFF, 0x55, 0xAA, 0x80, 0x01, *random.randbytes(6)]
        bit = cycles_per_bit * (1 + error)
        segments = [(bit, level) for byte in sent for level in frame_bits(byte)]  # without a pause
        assert receive(segments, cycles_per_bit, phase) == [(byte, 0) for byte in sent]


def test_a_glitch_is_no_start_bit():
    byte = [(8, level) for level in frame_bits(0x3C)]
    assert receive([(3, 0), (20, 1), (1, 0), (20, 1), *byte], 8) == [(0x3C, 0)]


def test_framing_errors_and_breaks():
    """A byte without its stop bit is one error, whatever the length of the break; then bytes are heard again."""
    good = [(8, level) for level in frame_bits(0xA5)]
    for low in (4, 8, 300):
        bad = [(8, level) for level in frame_bits(0x0F)[:9]] + [(8 + low, 0), (8, 1)]
        assert receive([*good, *bad, *good], 8) == [(0xA5, 0), (0x0F, 1), (0xA5, 0)]


@pytest.mark.parametrize("cycles_per_bit", [4, 9])
def test_bits_sent(cycles_per_bit):
    random = Random(0)
    sent = [0x00, 0xFF, *random.randbytes(6)]
    uart, levels = UartTransmitter(cycles_per_bit=cycles_per_bit), []

    async def sender(ctx):
        await send(ctx, uart.i, sent[:4])
        await ctx.tick().repeat(15 * cycles_per_bit)
        await send(ctx, uart.i, sent[4:])
        await ctx.tick().repeat(11 * cycles_per_bit)

    async def sample(ctx):
        async for _, _, level in ctx.tick().sample(uart.tx):
            levels.append(level)

    simulate(uart, sender, background=[sample])
    heard = []
    while 0 in levels:
        at = levels.index(0)
        frame, levels = levels[at:at + 10 * cycles_per_bit], levels[at + 10 * cycles_per_bit:]
        bits = frame[::cycles_per_bit]
        assert frame == [bit for bit in bits for _ in range(cycles_per_bit)], "a bit is longer or shorter"
        assert at >= 1 and (bits[0], bits[9]) == (0, 1)
        assert at == 1 or len(heard) in (0, 4), "a pause between bytes"
        heard.append(sum(bit << n for n, bit in enumerate(bits[1:9])))
    assert heard == sent


def test_sizes():
    for component in (UartReceiver, UartTransmitter):
        assert refusal(component, cycles_per_bit=3) == "cycles_per_bit: expected at least 4, got 3"
