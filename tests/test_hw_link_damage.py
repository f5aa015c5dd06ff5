"""Requests that come damaged, cut short, too long or amid noise: refused, nothing written, the next one executed."""

import struct
from zlib import crc32

import pytest

from hw.link.protocol import MAX_PAYLOAD, Command, Status, encode_request
from tests.link_bench import QUIET, Host, words

WORD = bytes.fromhex("0123456789abcdef")
FRAME = encode_request(sequence=7, command=Command.WRITE_MEMORY, address=0x40, payload=WORD)
WRITES = words(WORD, 4, 0x40)
SHORT_FRAME = encode_request(sequence=7, command=Command.WRITE_REGISTERS, address=4, payload=WORD[:4])


def test_no_damaged_bit_writes():
    """Each bit of a request flipped: a refusal or silence, nothing written, and the next request is executed."""
    host = Host()

    async def bench(ctx):
        for bit in range(8 * len(SHORT_FRAME)):
            damaged = bytearray(SHORT_FRAME)
            damaged[bit // 8] ^= 1 << bit % 8
            await host.send(ctx, damaged)
            reply = await host.reply(ctx, 2 * QUIET)
            if bit < 8:
                assert reply is None
            else:
                assert reply.status in (Status.DAMAGED, Status.TOO_LONG, Status.TRUNCATED) and not reply.payload
            assert not host.writes, f"bit {bit}"
            await host.send(ctx, SHORT_FRAME[:1] + bytes([bit]) + SHORT_FRAME[2:-4])
            await host.send(ctx, crc32(SHORT_FRAME[:1] + bytes([bit]) + SHORT_FRAME[2:-4]).to_bytes(4, "little"))
            assert (await host.reply(ctx)).status == Status.OK
            assert host.writes == words(WORD[:4], 4, 4)
            host.registers.writes.clear()

    host.run(bench)


def test_every_truncation_is_refused():
    host = Host()

    async def bench(ctx):
        for length in range(1, len(FRAME)):
            await host.send(ctx, FRAME[:length])
            assert (await host.reply(ctx)).status == Status.TRUNCATED
            assert not host.writes
        # A pause shorter than the silence is none.
        await host.send(ctx, FRAME[:10])
        await ctx.tick().repeat(QUIET - 6)
        await host.send(ctx, FRAME[10:])
        assert (await host.reply(ctx)).status == Status.OK
        assert host.writes == WRITES

    host.run(bench)


def test_framing_errors_are_damage():
    host = Host()

    async def bench(ctx):
        for at in range(len(FRAME)):
            await host.send(ctx, FRAME, framing_error=at)
            reply = await host.reply(ctx, 2 * QUIET)
            assert reply is None if at == 0 else reply.status == Status.DAMAGED
            assert not host.writes

    host.run(bench)


@pytest.mark.parametrize(("command", "length", "bytes_sent"), [
    (Command.WRITE_MEMORY, MAX_PAYLOAD + 1, MAX_PAYLOAD + 1), (Command.WRITE_MEMORY, MAX_PAYLOAD + 8, 24),
    (Command.WRITE_REGISTERS, 0x8000, 24), (Command.READ_MEMORY, 0xFFFF, 0), (Command.READ_REGISTERS, 0x404, 0)])
def test_too_long(command, length, bytes_sent):
    host = Host()
    body = struct.pack("<BBBHI", 0xA5, 1, command, length, 0) + bytes(bytes_sent)

    async def bench(ctx):
        await host.send(ctx, body + crc32(body).to_bytes(4, "little"))
        assert not host.received, "a refusal before the line is quiet"
        assert (await host.reply(ctx)).status == Status.TOO_LONG
        assert (await host.ask(ctx, Command.WRITE_MEMORY, sequence=1, payload=WORD)).status == Status.OK
        assert host.writes == words(WORD, 4, 0)

    host.run(bench)


def test_a_little_noise_before_a_request_is_skipped():
    host = Host(seed=3)

    async def bench(ctx):
        for length in range(1, 9):
            noise = bytes(host.random.choice([0, 1, 0x5A, 0xFF]) for _ in range(length))
            await host.send(ctx, noise + FRAME)
            assert (await host.reply(ctx)).status == Status.OK
            assert (await host.ask(ctx, Command.IDENTIFY)).status == Status.OK
        assert host.writes == 8 * WRITES
        # With pauses in it, it never adds up.
        for _ in range(8):
            await host.send(ctx, b"\0")
            await ctx.tick().repeat(QUIET + 4)
        await host.send(ctx, b"\0" + FRAME)
        assert (await host.reply(ctx)).status == Status.OK and host.writes == 9 * WRITES

    host.run(bench)


def test_a_payload_is_never_a_request():
    """Behind a damaged sync byte, or any long noise, nothing is executed before the line has been quiet."""
    host = Host()
    around = encode_request(sequence=9, command=Command.WRITE_MEMORY, address=0x80, payload=FRAME + bytes(3))

    async def bench(ctx):
        for data in (b"\0" + around[1:], bytes(9) + FRAME, bytes(30) + FRAME, around[:-1] + b"\0", around[:-1]):
            await host.send(ctx, data)
            await host.reply(ctx, 2 * QUIET)
            assert not host.writes
        await host.send(ctx, FRAME)
        assert (await host.reply(ctx)).status == Status.OK and host.writes == WRITES

    host.run(bench)


def test_bytes_behind_a_request_are_passed_over():
    """What comes while a request is answered, and all behind it until the line is quiet."""
    host = Host()

    async def bench(ctx):
        for noise in range(0, 18, 3):
            await host.send(ctx, FRAME + bytes(noise) + SHORT_FRAME)
            assert (await host.reply(ctx)).status == Status.OK
            assert await host.reply(ctx, 2 * QUIET) is None
            assert not host.registers.writes
            assert (await host.ask(ctx, Command.READ_MEMORY, address=0x40, length=8)).payload == WORD

    host.run(bench)


def test_the_line_is_quiet_before_a_refusal():
    """A refusal waits for the end of whatever comes, so that what is sent then is heard from its begin on."""
    host = Host()

    async def bench(ctx):
        damaged = bytearray(FRAME)
        damaged[3] -= 1  # the length: the CRC is found wrong a byte before the end
        await host.send(ctx, bytes(damaged) + bytes(40))
        for _ in range(5):
            await ctx.tick().repeat(QUIET - 6)
            assert not host.received
            await host.send(ctx, FRAME)
        assert (await host.reply(ctx)).status == Status.DAMAGED
        assert await host.reply(ctx, 2 * QUIET) is None and not host.writes

    host.run(bench)
