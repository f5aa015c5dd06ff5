"""Every command of the host link, without its UART: what is written, what is replied, what is refused."""

import pytest

from hw.link.protocol import MAX_PAYLOAD, VERSION, Command, Status, encode_request
from tests.link_bench import CYCLES_PER_MILLISECOND, IDENTITY, MEMORY_SIZE, STATUS_ADDRESS, Host, words

WORD = bytes.fromhex("0123456789abcdef")


@pytest.mark.parametrize("share", [1, 0.3])
def test_every_command(share):
    host, longest = Host(seed=1, share=share), MAX_PAYLOAD if share == 1 else 136

    async def bench(ctx):
        reply = await host.ask(ctx, Command.IDENTIFY)
        assert (reply.status, reply.payload) == (Status.OK, bytes([VERSION]) + IDENTITY)
        for address, length in ((0, 4), (0x3C, 8), (0x3F8, 76), (MEMORY_SIZE - longest, longest)):
            data = host.random.randbytes(length)
            before = bytes(host.memory.memory)
            host.memory.writes.clear()
            reply = await host.ask(ctx, Command.WRITE_MEMORY, address=address, payload=data)
            assert (reply.status, reply.payload) == (Status.OK, b"")
            assert host.memory.writes == words(data, 4, address)
            assert host.memory.memory == before[:address] + data + before[address + length:]
            around = max(0, address - 4)
            reply = await host.ask(ctx, Command.READ_MEMORY, address=around, length=length)
            assert (reply.status, reply.payload) == (Status.OK, bytes(host.memory.memory[around:around + length]))
        for address, length in ((4, 4), (0x1000, 28)):
            data = host.random.randbytes(length)
            host.registers.writes.clear()
            assert (await host.ask(ctx, Command.WRITE_REGISTERS, address=address, payload=data)).status == Status.OK
            assert host.registers.writes == words(data, 4, address)
            reply = await host.ask(ctx, Command.READ_REGISTERS, address=address, length=length)
            assert (reply.status, reply.payload) == (Status.OK, data)
        reply = await host.ask(ctx, Command.READ_REGISTERS, address=MEMORY_SIZE - longest, length=longest)
        assert (reply.status, reply.payload) == (Status.OK, bytes(host.registers.memory[-longest:]))
        # Bursts are as long as 64 bytes allow: those of the first three writes and of the reads around them.
        assert host.memory.bursts[:10] == [
            (0, 1), (0, 1), (0x3C, 1), (0x40, 1), (0x38, 2), (0x3F8, 2), (0x400, 16), (0x440, 1),
            (0x3F4, 3), (0x400, 16)]

    host.run(bench)


def test_wait():
    host = Host()
    host.registers.memory[STATUS_ADDRESS:STATUS_ADDRESS + 4] = (0x12345602).to_bytes(4, "little")

    async def ticks_of(ctx, milliseconds: int, irq_after: int | None) -> tuple[int, object]:
        host.sequence += 1
        await host.send(ctx, encode_request(sequence=host.sequence, command=Command.WAIT, address=milliseconds))
        for cycle in range(10_000):
            if cycle == irq_after:
                ctx.set(host.link.irq, 1)
            if ctx.get(host.link.o.valid):
                reply = await host.reply(ctx)
                ctx.set(host.link.irq, 0)
                return cycle, reply
            await ctx.tick()
        raise AssertionError("no reply")

    async def bench(ctx):
        for milliseconds in (0, 1, 100):
            cycles, reply = await ticks_of(ctx, milliseconds, None)
            assert (reply.status, reply.payload) == (Status.NO_INTERRUPT, b"")
            assert 0 <= cycles - milliseconds * CYCLES_PER_MILLISECOND < 12
        for irq_after in (0, 77):
            cycles, reply = await ticks_of(ctx, 65535, irq_after)
            assert (reply.status, reply.payload) == (Status.OK, bytes([0x02, 0x56, 0x34, 0x12]))
            assert 0 < cycles - irq_after < 25
        for milliseconds in (1 << 16, 1 << 31):
            assert (await ticks_of(ctx, milliseconds, None))[1].status == Status.BAD_ARGUMENT
        assert not host.writes

    host.run(bench)


@pytest.mark.parametrize(("command", "fields"), [
    (Command.READ_MEMORY, {"address": 6, "length": 8}), (Command.READ_MEMORY, {"address": 8, "length": 10}),
    (Command.READ_MEMORY, {"address": 8}), (Command.WRITE_MEMORY, {"address": 1, "payload": WORD}),
    (Command.WRITE_MEMORY, {"address": 8, "payload": WORD[:3]}), (Command.WRITE_MEMORY, {"address": 8}),
    (Command.READ_REGISTERS, {"address": 2, "length": 4}), (Command.READ_REGISTERS, {"address": 4, "length": 6}),
    (Command.READ_REGISTERS, {"address": 0x10000, "length": 4}), (Command.READ_REGISTERS, {}),
    (Command.WRITE_REGISTERS, {"address": 3, "payload": WORD}),
    (Command.WRITE_REGISTERS, {"address": 0x80000000, "payload": WORD}),
    (Command.WRITE_REGISTERS, {"address": 4, "payload": WORD[:5]})])
def test_arguments_that_are_refused(command, fields):
    host = Host()

    async def bench(ctx):
        reply = await host.ask(ctx, command, **fields)
        assert (reply.status, reply.payload) == (Status.BAD_ARGUMENT, b"")
        assert (await host.ask(ctx, Command.WRITE_MEMORY, payload=WORD)).status == Status.OK
        assert host.writes == words(WORD, 4, 0)

    host.run(bench)


def test_unknown_commands():
    host = Host()

    async def bench(ctx):
        for command in (0x04, 0x08, 0x43, 0x7F, 0x80, 0x83, 0x84, 0xC1, 0xFF):
            reply = await host.ask(ctx, command, **({"payload": WORD} if command & 0x80 else {"length": 8}))
            assert (reply.status, reply.payload) == (Status.UNKNOWN_COMMAND, b"")
        assert not host.writes and not host.memory.bursts and not host.registers.bursts

    host.run(bench)


def test_a_repeated_write_is_executed_once():
    host = Host()

    async def bench(ctx):
        for command in (Command.WRITE_MEMORY, Command.WRITE_REGISTERS):
            await host.ask(ctx, Command.IDENTIFY)
            for _ in range(3):
                assert (await host.ask(ctx, command, sequence=5, address=16, payload=WORD)).status == Status.OK
            # A damaged request in between does not make it forget.
            damaged = bytearray(encode_request(sequence=6, command=command, payload=WORD))
            damaged[-1] ^= 1
            await host.send(ctx, damaged)
            assert (await host.reply(ctx)).status == Status.DAMAGED
            assert (await host.ask(ctx, command, sequence=5, address=16, payload=WORD)).status == Status.OK
            # Another number, and then the first one again, are new requests.
            for sequence in (4, 5):
                assert (await host.ask(ctx, command, sequence=sequence, address=16, payload=WORD)).status == Status.OK
            # After the connection has begun anew, or after a read, all numbers are new.
            assert (await host.ask(ctx, Command.IDENTIFY, sequence=5)).status == Status.OK
            assert (await host.ask(ctx, command, sequence=5, address=16, payload=WORD)).status == Status.OK
            assert (await host.ask(ctx, Command.READ_MEMORY, sequence=6, length=8)).status == Status.OK
            assert (await host.ask(ctx, command, sequence=5, address=16, payload=WORD)).status == Status.OK
        assert host.memory.writes == words(WORD, 4, 16) * 5
        assert host.registers.writes == words(WORD, 4, 16) * 5
        # A read is executed again, and shows what is new.
        for data in (WORD, WORD[::-1]):
            host.memory.memory[:8] = data
            assert (await host.ask(ctx, Command.READ_MEMORY, sequence=9, length=8)).payload == data

    host.run(bench)
