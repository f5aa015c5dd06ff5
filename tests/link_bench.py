"""What the tests of the host link share: buses with random stalls, the link without its UART, and a host that asks."""

from collections import deque
from random import Random

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.axi import AxiLiteSignature, AxiSignature
from hw.link.frames import FrameReceiver, FrameTransmitter
from hw.link.protocol import REPLY_HEADER_BYTES, Command, Reply, decode_reply, encode_request, reply_bytes
from hw.link.server import Server
from hw.link.uart import ReceivedByte
from tests.hw_helpers import StallRule, simulate

IDENTITY = b'{"rows": 4, "columns": 4}'
STATUS_ADDRESS = 0x08
CYCLES_PER_MILLISECOND, QUIET_MILLISECONDS = 8, 3
QUIET = CYCLES_PER_MILLISECOND * QUIET_MILLISECONDS
MEMORY_SIZE = 1 << 14
BURST_LIMIT = 64
"""Bytes of memory that a burst may not leave."""


class Bus:
    """A slave of AXI4 or AXI4-Lite on plain bytes that checks what its master does.

    Ready and valid in a ``share`` of the cycles; while ``silent``, never. Addresses of ``errors`` and those behind the
    end answer SLVERR. Serves while it is ``running``. ``writes`` are the words written, in order: address, strobes and
    bytes.
    """

    def __init__(self, port, *, word_bytes: int, random: Random, share: float = 1):
        self.port, self.word_bytes, self.random, self.share = port, word_bytes, random, share
        self.lite = not hasattr(port, "w_strobe")
        self.memory = bytearray(random.randbytes(MEMORY_SIZE))
        self.running, self.silent, self.errors, self.bursts = True, False, set(), []
        self.writes: list[tuple[int, int, bytes]] = []
        self._addresses, self._words, self._reads, self._answers = deque(), deque(), deque(), deque()
        self._rules = {channel: StallRule(channel) for channel in ("aw", "w", "ar")}

    def response(self, address: int) -> int:
        """SLVERR or OKAY."""
        return 2 if address >= MEMORY_SIZE or address in self.errors else 0

    def check_burst(self, address: int, length: int):
        """The rules of :class:`hw.axi.AxiSignature`, and that no burst leaves its 64 bytes."""
        limit = self.word_bytes if self.lite else BURST_LIMIT
        assert address % self.word_bytes == 0 and address % limit + (length + 1) * self.word_bytes <= limit
        self.bursts.append((address, length + 1))

    async def serve(self, ctx):
        """Answer."""
        names = ["aw_valid", "aw_address", "w_valid", "w_data", "ar_valid", "ar_address", "b_ready", "r_ready"]
        names += [] if self.lite else ["aw_length", "w_strobe", "w_last", "ar_length"]
        seen = {"aw_length": 0, "w_strobe": 2**self.word_bytes - 1, "w_last": 1, "ar_length": 0}
        driven = dict.fromkeys(("aw_ready", "w_ready", "ar_ready", "b_valid", "r_valid"), 0)
        async for _, _, *values in ctx.tick().sample(*(getattr(self.port, name) for name in names)):
            if not self.running:
                return
            seen |= zip(names, values, strict=True)
            self._take(seen, driven)
            moves = {name: not self.silent and self.random.random() < self.share for name in driven}
            moves["b_valid"] = (driven["b_valid"] and not seen["b_ready"]) or bool(self._answers and moves["b_valid"])
            moves["r_valid"] = (driven["r_valid"] and not seen["r_ready"]) or bool(self._reads and moves["r_valid"])
            if moves["b_valid"]:
                ctx.set(self.port.b_response, self._answers[0])
            if moves["r_valid"]:
                address, is_last = self._reads[0]
                ctx.set(self.port.r_data, int.from_bytes(self.memory[address:address + self.word_bytes], "little"))
                ctx.set(self.port.r_response, self.response(address))
                if not self.lite:
                    ctx.set(self.port.r_last, is_last)
            for name in driven:
                if driven[name] != moves[name]:
                    ctx.set(getattr(self.port, name), moves[name])
            driven = moves

    def _take(self, seen: dict[str, int], driven: dict[str, int]):
        """What was transferred in a cycle."""
        if self._rules["aw"].check(seen["aw_valid"], driven["aw_ready"], seen["aw_address"], seen["aw_length"]):
            self.check_burst(seen["aw_address"], seen["aw_length"])
            self._addresses.append((seen["aw_address"], seen["aw_length"]))
        if self._rules["w"].check(
                seen["w_valid"], driven["w_ready"], seen["w_data"], seen["w_strobe"], seen["w_last"]):
            self._words.append((seen["w_data"], seen["w_strobe"], seen["w_last"]))
        if self._rules["ar"].check(seen["ar_valid"], driven["ar_ready"], seen["ar_address"], seen["ar_length"]):
            self.check_burst(seen["ar_address"], seen["ar_length"])
            first, last = seen["ar_address"], seen["ar_address"] + seen["ar_length"] * self.word_bytes
            self._reads += [(address, address == last) for address in range(first, last + 1, self.word_bytes)]
        if driven["b_valid"] and seen["b_ready"]:
            self._answers.popleft()
        if driven["r_valid"] and seen["r_ready"]:
            self._reads.popleft()
        self._write()

    def _write(self):
        """Do the first burst whose address and words have all come."""
        if not self._addresses or len(self._words) <= self._addresses[0][1]:
            return
        address, length = self._addresses.popleft()
        worst = 0
        for n in range(length + 1):
            word, strobe, last = self._words.popleft()
            assert last == (n == length), "last is not at the end of the burst"
            data, at = word.to_bytes(self.word_bytes, "little"), address + n * self.word_bytes
            worst = max(worst, self.response(at))
            if strobe:
                self.writes.append((at, strobe, data))
            if strobe and not self.response(at):
                assert strobe == 2**self.word_bytes - 1, "a word is written in part"
                self.memory[at:at + self.word_bytes] = data
        self._answers.append(worst)


def words(data: bytes, size: int, address: int) -> list[tuple[int, int, bytes]]:
    """The writes of consecutive words."""
    return [(address + n, 2**size - 1, data[n:n + size]) for n in range(0, len(data), size)]


class ByteLink(wiring.Component):
    """The host link without its UART: bytes in, bytes out."""

    def __init__(self, *, bus_milliseconds: int):
        self.bus_milliseconds = bus_milliseconds
        super().__init__({
            "i": In(stream.Signature(ReceivedByte, always_ready=True)), "o": Out(stream.Signature(8)),
            "axi": Out(AxiSignature(data_bits=32)), "registers": Out(AxiLiteSignature()), "irq": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = FrameReceiver(
            cycles_per_millisecond=CYCLES_PER_MILLISECOND, quiet_milliseconds=QUIET_MILLISECONDS)
        m.submodules.transmitter = transmitter = FrameTransmitter()
        m.submodules.server = server = Server(
            identity=IDENTITY, cycles_per_millisecond=CYCLES_PER_MILLISECOND, bus_milliseconds=self.bus_milliseconds,
            status_address=STATUS_ADDRESS)
        connect(m, flipped(self.i), receiver.i)
        connect(m, receiver.payload, server.i_payload)
        connect(m, receiver.o, server.i_request)
        connect(m, server.o_reply, transmitter.i)
        connect(m, server.o_payload, transmitter.payload)
        connect(m, transmitter.o, flipped(self.o))
        connect(m, server.axi, flipped(self.axi))
        connect(m, server.registers, flipped(self.registers))
        m.d.comb += [server.begin.eq(receiver.begin), server.irq.eq(self.irq)]
        return m


class Host:
    """One end of a :class:`ByteLink`: sends bytes, collects replies. ``memory`` and ``registers`` are behind it."""

    def __init__(self, *, seed: int = 0, share: float = 1, bus_milliseconds: int = 2000):
        self.random, self.share = Random(seed), share
        self.link = ByteLink(bus_milliseconds=bus_milliseconds)
        self.memory = Bus(self.link.axi, word_bytes=4, random=self.random, share=share)
        self.registers = Bus(self.link.registers, word_bytes=4, random=self.random, share=share)
        self.received, self.sequence = bytearray(), 0

    def run(self, bench, cycles: int = 100_000):
        """Run ``async def bench(ctx)`` beside the buses."""
        simulate(self.link, bench, background=[self.memory.serve, self.registers.serve, self._collect], cycles=cycles)

    @property
    def writes(self) -> list[tuple[int, int, bytes]]:
        """All that has been written anywhere."""
        return self.memory.writes + self.registers.writes

    async def _collect(self, ctx):
        rule, ready = StallRule("o"), False
        async for _, _, valid, byte in ctx.tick().sample(self.link.o.valid, self.link.o.payload):
            if rule.check(valid, ready, byte):
                self.received.append(byte)
            if ready != (ready := self.random.random() < self.share):
                ctx.set(self.link.o.ready, ready)

    async def send(self, ctx, data: bytes, framing_error: int = -1):
        """Bytes on the line, as close as they may come; that at an index with a framing error."""
        for n, byte in enumerate(data):
            ctx.set(self.link.i.payload, {"data": byte, "framing_error": n == framing_error})
            ctx.set(self.link.i.valid, 1)
            await ctx.tick()
            ctx.set(self.link.i.valid, 0)
            await ctx.tick().repeat(3)

    async def reply(self, ctx, cycles: int = 20_000) -> Reply | None:
        """The next reply, all of it, or None if none begins within these cycles."""
        for _ in range(cycles):
            if len(self.received) >= REPLY_HEADER_BYTES:
                size = reply_bytes(bytes(self.received[:REPLY_HEADER_BYTES]))
                if len(self.received) >= size:
                    frame, self.received = bytes(self.received[:size]), self.received[size:]
                    return decode_reply(frame)
            await ctx.tick()
        assert not self.received, "half a reply"
        return None

    async def ask(self, ctx, command: Command, *, sequence: int | None = None, **fields) -> Reply:
        """The reply to a request, with the next sequence number unless one is given."""
        self.sequence = (self.sequence + 1) % 256 if sequence is None else sequence
        await self.send(ctx, encode_request(sequence=self.sequence, command=command, **fields))
        reply = await self.reply(ctx)
        assert reply is not None and reply.sequence == self.sequence
        return reply
