"""On-chip memory read and written as runs of consecutive bytes at any byte address."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .config import ceil_power_of_two


def rotate_left_bytes(m: Module, name: str, value, amount, banks: int):
    """Combinational rotate of ``banks`` bytes: byte i of the result is byte ``(i - amount) mod banks`` of value."""
    for stage in range(exact_log2(banks)):
        rotated = Signal(8 * banks, name=f"{name}_{stage}")
        m.d.comb += rotated.eq(Mux(amount[stage], value.rotate_left(8 << stage), value))
        value = rotated
    return value


class BankedBuffer(wiring.Component):
    """Byte-wide banks behind one rotate on each side.

    Consecutive bytes lie in consecutive banks, so any ``banks`` consecutive bytes are one access, whatever their
    alignment. The memory is ``rings`` rings of ``ring_bytes`` bytes; an access that passes the end of its ring goes
    on at its beginning.

    Throughput: one write and one read a cycle. A byte written in cycle t is seen by reads issued in cycle
    ``t + WRITE_LATENCY`` or later; data of a read issued in cycle t stand at ``read_data`` in cycle
    ``t + READ_LATENCY``.

    Parameters: ``banks`` (power of two), ``ring_bytes`` (a multiple of banks), ``rings``, ``write_bytes`` and
    ``read_bytes`` (each <= banks).

    Members
    -------
    write_enable, write_ring, write_offset, write_data, write_first, write_count:
        Lanes ``write_first .. write_first + write_count - 1`` of ``write_data`` go to offsets ``write_offset ..``
        of the ring.
    read_enable, read_ring, read_offset:
        Start of the bytes to read.
    read_data:
        Out(8 * read_bytes), byte 0 in the low bits; holds its value while no read is issued.
    """

    WRITE_LATENCY = 1
    READ_LATENCY = 4

    def __init__(self, *, banks: int, ring_bytes: int, rings: int = 1, write_bytes: int, read_bytes: int):
        if banks != ceil_power_of_two(banks):
            raise ValueError(f"banks: expected a power of two, got {banks}")
        if ring_bytes % banks or ring_bytes < 2 * banks:
            raise ValueError(f"ring_bytes: expected a multiple of {banks}, two at least, got {ring_bytes}")
        if max(write_bytes, read_bytes) > banks:
            raise ValueError(f"banks: expected at least {max(write_bytes, read_bytes)}, got {banks}")
        self.banks, self.ring_rows, self.rings = banks, ring_bytes // banks, rings
        self.write_bytes, self.read_bytes = write_bytes, read_bytes
        super().__init__({
            "write_enable": In(1),
            "write_ring": In(range(rings)),
            "write_offset": In(range(ring_bytes)),
            "write_data": In(8 * write_bytes),
            "write_first": In(range(write_bytes)),
            "write_count": In(range(write_bytes + 1)),
            "read_enable": In(1),
            "read_ring": In(range(rings)),
            "read_offset": In(range(ring_bytes)),
            "read_data": Out(8 * read_bytes),
        })

    def elaborate(self, platform):
        m = Module()
        banks, bank_bits = self.banks, exact_log2(self.banks)
        depth = self.ring_rows * self.rings
        ports = []
        for bank in range(banks):
            memory = Memory(shape=8, depth=depth, init=[])
            m.submodules[f"bank{bank}"] = memory
            ports.append((memory.write_port(), memory.read_port(domain="sync")))

        def rows_of(ring, offset, name):
            """Stage 0: row of the first byte and the row behind it, both inside the ring, and the first bank."""
            row, next_row = (Signal(range(depth), name=f"{name}_{n}") for n in ("row", "next_row"))
            low = Signal(bank_bits, name=f"{name}_low")
            inside = offset[bank_bits:]
            following = Mux(inside == self.ring_rows - 1, 0, inside + 1)
            base = ring * self.ring_rows if self.rings > 1 else 0
            return (row, next_row, low), [
                row.eq(base + inside), next_row.eq(base + following), low.eq(offset[:bank_bits])]

        # Write, stage 0: rotate the bytes to their banks, each to as many as are a multiple of the beat apart. Stage 1:
        # the memories' own write edge.
        (row, next_row, low), rows = rows_of(self.write_ring, self.write_offset, "write")
        lane_count = ceil_power_of_two(self.write_bytes)
        lanes, data = Signal(8 * lane_count), Signal(8 * lane_count)
        shift = Signal(bank_bits)
        m.d.comb += [lanes.eq(self.write_data), shift.eq(self.write_offset[:bank_bits] - self.write_first)]
        count = Signal.like(self.write_count)
        enable = Signal()
        m.d.sync += enable.eq(self.write_enable)
        rotated = rotate_left_bytes(m, "write_rotate", lanes, shift, lane_count)
        with m.If(self.write_enable):
            m.d.sync += [*rows, data.eq(rotated), count.eq(self.write_count)]
        for bank, (port, _) in enumerate(ports):
            distance = Signal(bank_bits, name=f"write_distance{bank}")
            m.d.comb += [
                distance.eq(bank - low),
                port.addr.eq(Mux(bank < low, next_row, row)),
                port.data.eq(data.word_select(bank % lane_count, 8)),
                port.en.eq(enable & (distance < count)),
            ]

        # Read, stage 0: rows. Stage 1: the memories. Stage 2: registers, because memories are late in their cycle.
        # Stage 3: rotate.
        (row, next_row, low), rows = rows_of(self.read_ring, self.read_offset, "read")
        enables = Signal(3)
        m.d.sync += enables.eq(Cat(self.read_enable, enables))
        with m.If(self.read_enable):
            m.d.sync += rows
        word = Signal(8 * banks)
        low_of_memories, back = Signal(bank_bits), Signal(bank_bits)
        for bank, (_, port) in enumerate(ports):
            m.d.comb += [
                port.en.eq(enables[0]),
                port.addr.eq(Mux(bank < low, next_row, row)),
            ]
        with m.If(enables[0]):
            m.d.sync += low_of_memories.eq(low)
        with m.If(enables[1]):
            m.d.sync += [word.word_select(bank, 8).eq(port.data) for bank, (_, port) in enumerate(ports)]
            m.d.sync += back.eq(-low_of_memories)
        with m.If(enables[2]):
            m.d.sync += self.read_data.eq(rotate_left_bytes(m, "read_rotate", word, back, banks))
        return m
