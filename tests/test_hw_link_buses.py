"""Buses that stall, fail, or do not answer, behind the host link."""

import pytest

from hw.link.protocol import Command, Status, encode_request
from tests.link_bench import CYCLES_PER_MILLISECOND, MEMORY_SIZE, Host

BUS_MILLISECONDS = 20


def test_error_responses():
    host = Host()
    host.memory.errors, host.registers.errors = {0x188}, {0x20}

    async def bench(ctx):
        for command, fields in (
                (Command.READ_MEMORY, {"address": 0x100, "length": 512}),
                (Command.READ_MEMORY, {"address": MEMORY_SIZE, "length": 8}),
                (Command.READ_REGISTERS, {"address": 0x18, "length": 12}),
                (Command.WRITE_MEMORY, {"address": 0x100, "payload": bytes(512)}),
                (Command.WRITE_REGISTERS, {"address": 0x1C, "payload": bytes(12)})):
            host.memory.bursts.clear()
            host.registers.bursts.clear()
            for _ in range(2):  # the repeated write is answered as it was before
                reply = await host.ask(ctx, command, sequence=1, **fields)
                assert (reply.status, reply.payload) == (Status.BUS_ERROR, b"")
            if command == Command.WRITE_MEMORY:
                assert host.memory.bursts == [(0x100, 16), (0x140, 16), (0x180, 16)]
            if command == Command.WRITE_REGISTERS:
                assert host.registers.bursts == [(0x1C, 1), (0x20, 1)]
            assert (await host.ask(ctx, Command.READ_MEMORY, sequence=2, length=8)).status == Status.OK
            assert (await host.ask(ctx, Command.READ_REGISTERS, sequence=3, length=8)).status == Status.OK

    host.run(bench)


@pytest.mark.parametrize("seed", range(3))
def test_a_bus_that_does_not_answer(seed):
    """BUS_ERROR within the time; when the bus wakes up, nothing is written but what it had been offered by then."""
    host = Host(seed=seed, share=0.5, bus_milliseconds=BUS_MILLISECONDS)
    limit = BUS_MILLISECONDS * CYCLES_PER_MILLISECOND

    async def bench(ctx):
        for bus, command in ((host.memory, Command.WRITE_MEMORY), (host.registers, Command.WRITE_REGISTERS),
                             (host.memory, Command.READ_MEMORY), (host.registers, Command.READ_REGISTERS)):
            payload = host.random.randbytes(160) if command & 0x80 else b""
            host.sequence += 1
            await host.send(ctx, encode_request(sequence=host.sequence, command=command, address=0x40, payload=payload,
                                                length=160))
            await ctx.tick().repeat(host.random.randrange(8, limit // 2))
            bus.silent = True
            reply = await host.reply(ctx, 3 * limit)
            assert (reply.status, reply.payload) == (Status.BUS_ERROR, b"")
            # Other requests go on; those for this bus fail in time, and write nothing.
            written = len(bus.writes)
            assert (await host.ask(ctx, Command.IDENTIFY)).status == Status.OK
            host.sequence += 1
            await host.send(ctx, encode_request(sequence=host.sequence, command=command, payload=payload and bytes(64),
                                                length=64))
            assert (await host.reply(ctx, 3 * limit)).status == Status.BUS_ERROR
            bus.silent = False
            await ctx.tick().repeat(200)
            offered = bus.writes[written:]
            assert len(offered) <= 16
            for address, _, data in offered:
                assert data == payload[address - 0x40:address - 0x40 + len(data)]
            reply = await host.ask(ctx, Command.READ_MEMORY, address=0x100, length=16)
            assert (reply.status, reply.payload) == (Status.OK, bytes(host.memory.memory[0x100:0x110]))
            reply = await host.ask(ctx, Command.READ_REGISTERS, address=0x100, length=16)
            assert (reply.status, reply.payload) == (Status.OK, bytes(host.registers.memory[0x100:0x110]))

    host.run(bench)
