"""cocotb tests of sim/fast_memory.sv alone, started by test_sim_memory.py; the expected bytes come from a bytearray."""

import mmap
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotb.utils import get_sim_time

from sim.bench import FastMemory

SIZE = 1 << 16
READ_LATENCY, WRITE_LATENCY, OUTSTANDING = 16, 8, 64


def cycle() -> int:
    """Number of the present cycle."""
    return int(get_sim_time("ns")) // 10


async def start(dut, *, fault=None) -> tuple[mmap.mmap, int]:
    """Clock, reset, and a memory of random bytes; the memory and the bytes of a beat."""
    for name in ("arvalid", "awvalid", "wvalid", "rready", "bready", "arid", "awid"):
        getattr(dut, name).value = 0
    dut.rst.value = 1
    Clock(dut.clk, 10, "ns", impl="gpi").start()
    image = mmap.mmap(-1, SIZE)
    image[:] = random.randbytes(SIZE)
    FastMemory().attach(image, (0, SIZE), fault)
    await ClockCycles(dut.clk, 3)
    dut.rst.value = 0
    await ClockCycles(dut.clk, 3)
    return image, len(dut.rdata) // 8


async def send(dut, prefix: str, items: list[dict], share: float = 1) -> list[int]:
    """Offer the items on a channel, valid in a ``share`` of the cycles; the cycles in which they were taken."""
    valid, ready = getattr(dut, prefix + "valid"), getattr(dut, prefix + "ready")
    taken = []
    for item in items:
        while random.random() >= share:
            valid.value = 0
            await RisingEdge(dut.clk)
        valid.value = 1
        for name, value in item.items():
            getattr(dut, prefix + name).value = value
        await RisingEdge(dut.clk)
        while not ready.value:
            await RisingEdge(dut.clk)
        taken.append(cycle())
    valid.value = 0
    return taken


async def take(dut, prefix: str, names: list[str], count: int, share: float = 1) -> list[tuple[int, ...]]:
    """Take ``count`` items from a channel, ready in a ``share`` of the cycles: cycle and named values of each."""
    valid, ready = getattr(dut, prefix + "valid"), getattr(dut, prefix + "ready")
    taken = []
    while len(taken) < count:
        is_ready = random.random() < share
        ready.value = is_ready
        await RisingEdge(dut.clk)
        if is_ready and valid.value:
            taken.append((cycle(), *(int(getattr(dut, prefix + name).value) for name in names)))
    ready.value = 0
    return taken


def random_bursts(count: int, base: int, limit: int, beat: int) -> list[dict]:
    """Bursts of 1..16 beats in a region, none across 4 KB."""
    bursts = []
    while len(bursts) < count:
        beats, address = random.randint(1, 16), random.randrange(base, limit, beat)
        if address % 4096 + beats * beat <= 4096:
            bursts.append({"id": random.getrandbits(1), "addr": address, "len": beats - 1})
    return bursts


def beats_of(bursts: list[dict], beat: int) -> list[tuple[int, int, int]]:
    """(address, id, last) of all beats of the bursts in order."""
    return [
        (burst["addr"] + beat * index, burst["id"], int(index == burst["len"]))
        for burst in bursts
        for index in range(burst["len"] + 1)
    ]


def random_writes(bursts: list[dict], beat: int) -> list[dict]:
    """Data, strobes and last of all beats of the bursts."""
    return [
        {"data": random.getrandbits(8 * beat), "strb": random.getrandbits(beat), "last": last}
        for _, _, last in beats_of(bursts, beat)
    ]


def apply_writes(model: bytearray, bursts: list[dict], writes: list[dict], beat: int) -> None:
    """Do the writes on the model."""
    for (address, _, _), write in zip(beats_of(bursts, beat), writes, strict=True):
        for lane, byte in enumerate(write["data"].to_bytes(beat, "little")):
            if write["strb"] >> lane & 1:
                model[address + lane] = byte


@cocotb.test()
async def latency(dut):
    """One burst alone: the first beat READ_LATENCY after its address, the response WRITE_LATENCY after the last."""
    await start(dut)
    for length in (0, 1, 15):
        beats = cocotb.start_soon(take(dut, "r", ["last"], length + 1))
        (address_cycle,) = await send(dut, "ar", [{"addr": 0x100, "len": length}])
        expected = [(address_cycle + READ_LATENCY + index, int(index == length)) for index in range(length + 1)]
        assert await beats == expected

        response = cocotb.start_soon(take(dut, "b", ["resp"], 1))
        await send(dut, "aw", [{"addr": 0x100, "len": length}])
        writes = [{"data": index, "strb": 1, "last": int(index == length)} for index in range(length + 1)]
        data_cycles = await send(dut, "w", writes)
        assert await response == [(data_cycles[-1] + WRITE_LATENCY, 0)]


@cocotb.test()
async def throughput(dut):
    """Reads and writes at the same time, both back to back: an address, a beat and a beat each cycle without a gap."""
    _, beat = await start(dut)
    bursts = random_bursts(OUTSTANDING, 0, SIZE, beat)
    writes = random_writes(bursts, beat)
    read_beats = cocotb.start_soon(take(dut, "r", [], len(writes)))
    responses = cocotb.start_soon(take(dut, "b", [], len(bursts)))
    write_addresses = cocotb.start_soon(send(dut, "aw", bursts))
    write_beats = cocotb.start_soon(send(dut, "w", writes))
    addresses = await send(dut, "ar", bursts)
    assert addresses == list(range(addresses[0], addresses[0] + len(bursts)))
    assert await write_addresses == addresses
    first = addresses[0] + READ_LATENCY
    assert [time for (time,) in await read_beats] == list(range(first, first + len(writes)))
    write_cycles = await write_beats
    assert write_cycles == list(range(addresses[0] + 1, addresses[0] + 1 + len(writes)))
    lasts = [time for time, write in zip(write_cycles, writes, strict=True) if write["last"]]
    assert [time for (time,) in await responses] == [time + WRITE_LATENCY for time in lasts]


@cocotb.test()
async def outstanding(dut):
    """OUTSTANDING read and write bursts are taken while no data moves, and not one more than fits."""
    await start(dut)
    for channel, spare in (("ar", 1), ("aw", 0)):  # the first read waits in the data register
        offered = cocotb.start_soon(send(dut, channel, [{"addr": 0, "len": 0}] * (OUTSTANDING + spare)))
        await ClockCycles(dut.clk, 3 * OUTSTANDING)
        assert offered.done()
        assert not getattr(dut, channel + "ready").value


@cocotb.test()
async def random_traffic(dut):
    """Stalls on all channels; reads of the lower half while the upper half is written, then reads of all of it."""
    image, beat = await start(dut)
    model = bytearray(image)

    async def check_reads(bursts, share):
        beats = beats_of(bursts, beat)
        answers = cocotb.start_soon(take(dut, "r", ["data", "id", "last", "resp"], len(beats), share))
        await send(dut, "ar", bursts, share)
        for (_, data, *flags), (address, id_, last) in zip(await answers, beats, strict=True):
            assert data.to_bytes(beat, "little") == model[address : address + beat]
            assert flags == [id_, last, 0]

    for share in (0.2, 0.7, 1):
        bursts = random_bursts(60, SIZE // 2, SIZE, beat)
        writes = random_writes(bursts, beat)
        reads = cocotb.start_soon(check_reads(random_bursts(60, 0, SIZE // 2, beat), share))
        addresses = cocotb.start_soon(send(dut, "aw", bursts, share))
        responses = cocotb.start_soon(take(dut, "b", ["id", "resp"], len(bursts), share))
        await send(dut, "w", writes, share)
        await addresses
        assert [answer[1:] for answer in await responses] == [(burst["id"], 0) for burst in bursts]
        await reads
        apply_writes(model, bursts, writes, beat)
        assert image[:] == model
        await check_reads(random_bursts(60, 0, SIZE, beat), share)


@cocotb.test()
async def errors(dut):
    """Beats behind the end answer SLVERR, beats in the fault region its response; they read zero and write nothing."""
    image, beat = await start(dut, fault=(0x1008, 0x1008 + 1, 3))
    before = image[:]
    cases = [  # address, beats, response of each beat
        (SIZE, 1, [2]),
        (SIZE - 2 * beat, 4, [0, 0, 2, 2]),
        (0xFFFF_F000, 2, [2, 2]),
        (0x1008 - 0x1008 % beat, 2, [3, 0]),
        (0x1008 - 0x1008 % beat + beat, 1, [0]),
    ]
    for address, beats, expected in cases:
        answers = cocotb.start_soon(take(dut, "r", ["resp", "data"], beats))
        await send(dut, "ar", [{"addr": address, "len": beats - 1}])
        for index, (_, response, data) in enumerate(await answers):
            at = address + index * beat
            assert response == expected[index]
            assert data.to_bytes(beat, "little") == (bytes(beat) if response else before[at : at + beat])

        ones = {"data": (1 << 8 * beat) - 1, "strb": (1 << beat) - 1}
        writes = [{**ones, "last": int(index == beats - 1)} for index in range(beats)]
        answer = cocotb.start_soon(take(dut, "b", ["resp"], 1))
        await send(dut, "aw", [{"addr": address, "len": beats - 1}])
        await send(dut, "w", writes)
        assert (await answer)[0][1] == max(expected)
        after = bytearray(before)
        for index, response in enumerate(expected):
            if response == 0:
                after[address + index * beat : address + (index + 1) * beat] = bytes([255] * beat)
        assert image[:] == after
        image[:] = before
