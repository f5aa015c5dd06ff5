"""cocotb tests of the SDRAM controller on the chip's model, and of the model alone; see test_hw_boards_sdram.py.

The model ends the simulation at a violated time or rule; the expected bytes come from a bytearray.
"""

import json
import mmap
import os
import random
from statistics import median

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge

from sim.bench import FastMemory
from tests.memory_bench import apply_writes, beats_of, cycle, random_bursts, random_writes, send, take

SIZE = 1 << 25
BEAT = 4
SETTINGS = json.loads(os.environ.get("SDRAM_BENCH", "{}"))
"""Which controller is under test, and its times in cycles; or what to tell the chip."""


async def start(dut) -> mmap.mmap:
    """Clock and reset; the memory, of random bytes."""
    for name in ("arvalid", "awvalid", "wvalid", "rready", "bready"):
        getattr(dut, name).value = 0
    dut.rst.value = 1
    dut.chosen.value = SETTINGS["chosen"]
    Clock(dut.clk, 10, "ns", impl="gpi").start()
    image = mmap.mmap(-1, SIZE)
    image[:] = random.randbytes(SIZE)
    FastMemory().attach(image, (0, SIZE), None)
    await ClockCycles(dut.clk, 3)
    dut.rst.value = 0
    return image


async def keeps_rules(dut, prefix: str, names: tuple[str, ...]) -> None:
    """Once valid, a channel and its payload stay until it is taken."""
    valid, ready = getattr(dut, prefix + "valid"), getattr(dut, prefix + "ready")
    payload = [getattr(dut, prefix + name) for name in names]
    waiting = None
    while True:
        await RisingEdge(dut.clk)
        now = [int(signal.value) for signal in payload] if valid.value else None
        assert waiting is None or now == waiting, f"{prefix} changed before it was taken"
        waiting = None if ready.value else now


async def read(dut, bursts: list[dict], share: float = 1) -> list[tuple[int, ...]]:
    """Read the bursts: cycle, data, response and last of each beat."""
    answers = cocotb.start_soon(take(dut, "r", ["data", "resp", "last"], len(beats_of(bursts, BEAT)), share))
    await send(dut, "ar", bursts, share)
    return await answers


async def check(dut, model: bytes | bytearray, bursts: list[dict], share: float = 1) -> None:
    """Read the bursts and compare."""
    beats = await read(dut, bursts, share)
    for (_, data, *flags), (address, _, last) in zip(beats, beats_of(bursts, BEAT), strict=True):
        assert data.to_bytes(BEAT, "little") == model[address:address + BEAT], f"at 0x{address:x}"
        assert flags == [0, last]


async def write(dut, bursts: list[dict], writes: list[dict], share: float = 1) -> list[tuple[int, ...]]:
    """Write the bursts: cycle and response of each."""
    addresses = cocotb.start_soon(send(dut, "aw", bursts, share))
    answers = cocotb.start_soon(take(dut, "b", ["resp"], len(bursts), share))
    await send(dut, "w", writes, share)
    await addresses
    return await answers


def bursts_of(*places: tuple[int, int]) -> list[dict]:
    """Bursts at (address, beats)."""
    return [{"id": 0, "addr": address, "len": beats - 1} for address, beats in places]


def stream_of(base: int, size: int) -> list[dict]:
    """Bursts of 16 beats, one behind the other."""
    return bursts_of(*((address, 16) for address in range(base, base + size, 16 * BEAT)))


def any_bursts(count: int, base: int, limit: int) -> list[dict]:
    """Bursts of 1..16 beats, some of them over a small range, so that they meet in banks and rows."""
    bursts = random_bursts(count, base, limit, BEAT) + random_bursts(count, base, base + 8192, BEAT)
    random.shuffle(bursts)
    return bursts


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def random_traffic(dut):
    """Stalls on all channels; reads of the lower half while the upper one is written, then reads of all of it."""
    image = await start(dut)
    cocotb.start_soon(keeps_rules(dut, "r", ("data", "resp", "last")))
    cocotb.start_soon(keeps_rules(dut, "b", ("resp",)))
    model = bytearray(image)
    for share in (0.2, 0.6, 1):
        bursts = any_bursts(30, SIZE // 2, SIZE)
        writes = random_writes(bursts, BEAT)
        reads = cocotb.start_soon(check(dut, model, any_bursts(30, 0, SIZE // 2), share))
        answers = await write(dut, bursts, writes, share)
        assert [response for _, response in answers] == [0] * len(bursts)
        await reads
        apply_writes(model, bursts, writes, BEAT)
        random.shuffle(bursts)
        await check(dut, model, bursts, share)
        assert image[:] == model


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def throughput(dut):
    """Bytes a cycle of 32 KiB in bursts of 64, refreshes included: what the chip could do is 2."""
    image = await start(dut)
    await ClockCycles(dut.clk, SETTINGS["startup"])
    size = 1 << 15
    rates = {}

    async def measure(name, bytes_moved, *transfers):
        begin = cycle()
        for task in [cocotb.start_soon(transfer) for transfer in transfers]:
            await task
        rates[name] = round(bytes_moved / (cycle() - begin), 3)

    bursts = stream_of(0x1000, size)
    writes = random_writes(bursts, BEAT)
    apart = [stream_of(base, size // 2) for base in (0x400000, 0x800400)]
    same_bank = [stream_of(base, size // 2) for base in (0x400000, 0x800000)]
    await measure("read", size, check(dut, image[:], bursts))
    await measure("write", size, write(dut, bursts, writes))
    await measure("read and write", 2 * size, read(dut, stream_of(0x10000, size)), write(dut, bursts, writes))
    for name, streams in (("two reads", apart), ("two reads in one bank", same_bank)):
        bursts = [burst for pair in zip(*streams, strict=True) for burst in pair]
        await measure(name, size, check(dut, image[:], bursts))
    await measure("single beats", 2048, read(dut, bursts_of(*((address, 1) for address in range(0, 2048, BEAT)))))
    await measure("single beats anywhere", 256 * BEAT, read(dut, bursts_of(*(
        (random.randrange(0, SIZE, BEAT), 1) for _ in range(256)))))
    cocotb.log.info(f"RATES {rates}")
    least = {"read": 1.95, "write": 1.95, "read and write": 1.87, "two reads": 1.94, "two reads in one bank": 1.65,
             "single beats": 0.96, "single beats anywhere": 0.43}
    assert all(rates[name] >= rate for name, rate in least.items()), rates


async def latency_of(dut, address: int) -> int:
    """Cycles from a read's address to its first beat."""
    answer = cocotb.start_soon(take(dut, "r", [], 1))
    (begin,) = await send(dut, "ar", bursts_of((address, 1)))
    return (await answer)[0][0] - begin


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def latency(dut):
    """A read alone: its bank closed, its row open, another row open (most of the time: refreshes come between)."""
    await start(dut)
    await ClockCycles(dut.clk, SETTINGS["startup"])
    measured = [[await latency_of(dut, row + bank), await latency_of(dut, row + bank + 8)]
                for row in range(0, 1 << 17, 1 << 12) for bank in (0, 1024)]
    open_row = 13 + SETTINGS["latency"]
    closed = open_row + max(SETTINGS["t_rcd"] - 1, 1)
    assert measured[0][0] == closed
    assert median(hit for _, hit in measured) == open_row
    assert median(miss for miss, _ in measured[2:]) == closed + SETTINGS["t_rp"]


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def order(dut):
    """A read that is asked for in the cycle of a write's response sees what was written."""
    image = await start(dut)
    model = bytearray(image)
    for _ in range(30):
        bursts = any_bursts(1, 0, SIZE)[:1]
        writes = random_writes(bursts, BEAT)
        apply_writes(model, bursts, writes, BEAT)
        written = cocotb.start_soon(write(dut, bursts, writes))
        await RisingEdge(dut.bvalid)
        await check(dut, model, bursts)
        await written


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def waits(dut):
    """Writes without data keep no read waiting, read data that nobody takes no write; refreshes go on."""
    image = await start(dut)
    model = bytearray(image)
    bursts = stream_of(1 << 20, 4096)
    writes = random_writes(bursts, BEAT)
    addresses = cocotb.start_soon(send(dut, "aw", bursts))
    first = cocotb.start_soon(send(dut, "w", writes[:15]))
    await check(dut, model, stream_of(0, 8192))
    await first
    answers = cocotb.start_soon(take(dut, "b", ["resp"], len(bursts)))
    await send(dut, "w", writes[15:])
    await addresses
    await answers
    apply_writes(model, bursts, writes, BEAT)

    reads = cocotb.start_soon(send(dut, "ar", stream_of(0, 512)))
    await ClockCycles(dut.clk, 3000)
    assert not reads.done()  # two bursts of data, and one more address, are all that is taken
    await write(dut, bursts_of((0, 16)), random_writes(bursts_of((0, 16)), BEAT))
    await ClockCycles(dut.clk, 3000)
    beats = await take(dut, "r", ["data"], 512 // BEAT)
    for (_, data), (address, _, _) in zip(beats, beats_of(stream_of(0, 512), BEAT), strict=True):
        if address < 128:  # what was written came behind these two in the order
            assert data.to_bytes(BEAT, "little") == model[address:address + BEAT]


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def errors(dut):
    """A burst beyond the memory answers SLVERR, in the order of all others, and changes nothing."""
    image = await start(dut)
    before = image[:]
    for address in (SIZE, 0xFFFF_F000, 1 << 31, SIZE + 8 * 128):
        bursts = bursts_of((address % SIZE, 3), (address, 5), (address % SIZE, 2))
        beats = await read(dut, bursts)
        assert [flags for _, _, *flags in beats] == [[0, 0], [0, 0], [0, 1], *[[2, 0]] * 4, [2, 1], [0, 0], [0, 1]]
        answers = await write(dut, bursts_of((address, 5)), random_writes(bursts_of((address, 5)), BEAT))
        assert [response for _, response in answers] == [2]
        await check(dut, before, bursts_of((address % SIZE, 16)))
        assert image[:] == before


COMMANDS = {"NOP": 0, "ACTIVE": 1, "READ": 2, "REFRESH": 3, "TERMINATE": 4, "PRECHARGE": 5, "WRITE": 6, "MODE": 7}
"""ras, cas and we, high when asserted."""


async def tell(dut, *steps: list) -> None:
    """Tell the chip one thing a cycle: [name, cycles for which it stays so, fields of its pins]."""
    for name, cycles, fields in steps:
        pins = {"clk_en": 1, "bank": 0, "address": 0, "dqm": 0, "dq_oe": 0, "dq": 0} | fields
        command = COMMANDS[name]
        for _ in range(cycles):
            dut.raw.value = (pins["clk_en"] | 2 | command << 2 | pins["bank"] << 5 | pins["address"] << 7
                             | pins["dqm"] << 20 | pins["dq_oe"] << 22 | pins["dq"] << 23)
            await RisingEdge(dut.clk)


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def chip(dut):
    """Tell the chip the steps that the request has; the words it must give, by cycle from the first step."""
    image = await start(dut)
    image[:16] = bytes(range(16))
    begin = cycle()
    words = {}

    async def listen():
        while True:
            await RisingEdge(dut.clk)
            words[cycle() - begin] = int(dut.dq.value)

    cocotb.start_soon(listen())
    await tell(dut, *SETTINGS["steps"], ["NOP", 8, {}])
    assert {int(at): words[int(at)] for at in SETTINGS["words"]} == {
        int(at): word for at, word in SETTINGS["words"].items()}
    if SETTINGS["image"]:
        assert image[:16].hex() == SETTINGS["image"]
