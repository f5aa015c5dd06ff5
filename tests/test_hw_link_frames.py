"""The frame receiver and transmitter alone, against the client's encoders."""

from random import Random

from hw.link.frames import FrameReceiver, FrameTransmitter
from hw.link.protocol import MAX_PAYLOAD, Command, Reply, Status, encode_reply, encode_request
from hw.link.timer import Timer
from tests.hw_helpers import receive, refusal, send, simulate

QUIET = 24


class Line:
    """Bytes into a receiver, and what it makes of them."""

    def __init__(self):
        self.receiver = FrameReceiver(cycles_per_millisecond=QUIET // 2, quiet_milliseconds=2)
        self.payload, self.offered = bytearray(), 0

    def run(self, bench, cycles: int = 100_000):
        async def listen(ctx):
            port = self.receiver
            async for _, _, begin, valid, byte in ctx.tick().sample(
                    port.begin, port.payload.valid, port.payload.payload):
                if begin:
                    self.payload.clear()
                if valid:
                    self.payload.append(byte)

        simulate(self.receiver, bench, background=[listen], cycles=cycles)

    async def send(self, ctx, data: bytes):
        for byte in data:
            ctx.set(self.receiver.i.payload.data, byte)
            ctx.set(self.receiver.i.valid, 1)
            await ctx.tick()
            ctx.set(self.receiver.i.valid, 0)
            await ctx.tick().repeat(3)

    async def take(self, ctx, cycles: int = 2 * QUIET) -> dict | None:
        """The request that is offered within these cycles."""
        out = self.receiver.o
        for _ in range(cycles):
            if ctx.get(out.valid):
                header = ctx.get(out.p.header)
                names = ("sync", "sequence", "command", "length", "address")
                request = {name: header[name] for name in names} | {"status": ctx.get(out.p.status)}
                ctx.set(out.ready, 1)
                await ctx.tick()
                ctx.set(out.ready, 0)
                await ctx.tick()
                assert not ctx.get(out.valid)
                return request
            await ctx.tick()
        return None


def test_requests_come_out_as_they_went_in():
    line, random = Line(), Random(0)

    async def bench(ctx):
        for _ in range(30):
            command = random.choice([*Command, 0x55, 0xD5])
            sequence, address = random.randrange(256), random.getrandbits(32)
            payload = random.randbytes(random.choice([0, 1, 2, 40])) if command & 0x80 else b""
            length = len(payload) if command & 0x80 else random.randrange(MAX_PAYLOAD + 1)
            await line.send(ctx, encode_request(
                sequence=sequence, command=command, address=address, length=length, payload=payload))
            assert ctx.get(line.receiver.o.valid), "later than 3 cycles after the last byte"
            await ctx.tick().repeat(random.randrange(50))
            assert await line.take(ctx) == {
                "sync": 0xA5, "sequence": sequence, "command": command, "length": length, "address": address,
                "status": Status.OK}
            assert line.payload == payload

    line.run(bench)


def test_no_damaged_bit_passes():
    """Each bit flipped, and some bits anywhere: nothing that says ``OK``."""
    line, random = Line(), Random(4)
    frame = encode_request(sequence=7, command=Command.WRITE_MEMORY, address=0x40, payload=bytes(range(8)))
    bits = 8 * len(frame)

    async def bench(ctx):
        for error in [1 << n for n in range(bits)] + [random.getrandbits(bits) & ~0xFF for _ in range(40)]:
            await line.send(ctx, (int.from_bytes(frame, "little") ^ error).to_bytes(len(frame), "little"))
            request = await line.take(ctx)
            assert (request is None) == bool(error & 0xFF)
            assert request is None or request["status"] != Status.OK

    line.run(bench)


def test_replies_sent():
    transmitter, random = FrameTransmitter(), Random(1)
    replies = [Reply(sequence=random.randrange(256), status=random.choice(list(Status)),
                     payload=random.randbytes(length)) for length in (0, 1, 0, 4, 100, MAX_PAYLOAD, 2, 3)]
    expected = b"".join(encode_reply(reply) for reply in replies)

    async def headers(ctx):
        await send(ctx, transmitter.i, [
            {"sequence": reply.sequence, "status": reply.status, "length": len(reply.payload)} for reply in replies])

    async def payloads(ctx):
        await send(ctx, transmitter.payload, b"".join(reply.payload for reply in replies), random, 0.8)

    async def receiver(ctx):
        assert bytes(await receive(ctx, transmitter.o, len(expected), random, 0.8)) == expected

    simulate(transmitter, headers, payloads, receiver)


def test_timer():
    timer = Timer(cycles_per_millisecond=7)

    async def bench(ctx):
        assert ctx.get(timer.expired)
        for milliseconds in (0, 1, 2, 20):
            ctx.set(timer.milliseconds, milliseconds)
            ctx.set(timer.start, 1)
            await ctx.tick().repeat(3)
            ctx.set(timer.start, 0)
            for _ in range(7 * milliseconds + 1):
                assert not ctx.get(timer.expired)
                await ctx.tick()
            for _ in range(20):
                assert ctx.get(timer.expired)
                await ctx.tick()

    simulate(timer, bench)
    assert refusal(Timer, cycles_per_millisecond=0) == "cycles_per_millisecond: expected at least 1, got 0"
