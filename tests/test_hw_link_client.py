"""The client against a board in Python behind a line that damages, loses and repeats; and the ports of the system."""

import os
from random import Random
from select import select
from threading import Thread
from zlib import crc32

import numpy as np
import pytest

from hw.link.client import ATTEMPTS, Link, LinkError, LinkLost, open_port
from hw.link.protocol import MAX_PAYLOAD, VERSION, Command, Reply, Status, encode_reply

IDENTITY = b"a board"
STATUS_ADDRESS = 8
TIMEOUT = 0.002


class Board:
    """What a board does with bytes, as hw/link/protocol.py has it, and a port before it.

    ``share`` of all writes to the port and of all replies are damaged: a bit flipped, cut short, lost, repeated, or
    with noise before them.
    """

    name = "board"

    def __init__(self, *, seed: int = 0, share: float = 0.0):
        self.random, self.share = Random(seed), share
        self.memory, self.registers, self.writes = bytearray(1 << 16), {}, []
        self.identity, self.version, self.waits, self.interrupt_after = IDENTITY, VERSION, 0, None
        self.last, self.reply_waiting, self.timeout, self.is_open = None, bytearray(), 0.0, True
        self.unplugged = self.missing = False

    def open(self):
        if self.missing:
            raise FileNotFoundError(2, "could not open port")
        self.is_open, self.unplugged, self.last = True, False, None

    def close(self):
        self.is_open = False

    @property
    def in_waiting(self) -> int:
        self.check()
        return len(self.reply_waiting)

    def check(self):
        if self.unplugged or not self.is_open:
            raise OSError(5, "Input/output error")

    def read(self, length: int) -> bytes:
        self.check()
        data, self.reply_waiting = bytes(self.reply_waiting[:length]), self.reply_waiting[length:]
        return data

    def write(self, frame: bytes):
        self.check()
        self.reply_waiting += self.line(self.answer(self.line(frame)))

    def line(self, data: bytes) -> bytes:
        """What arrives of these bytes."""
        if not data or self.random.random() >= self.share:
            return data
        bit = self.random.randrange(8 * len(data))
        flipped = (int.from_bytes(data, "little") ^ 1 << bit).to_bytes(len(data), "little")
        noise = bytes(self.random.choice([0, 1, 0x5A]) for _ in range(3))
        return self.random.choice([flipped, data[:bit // 8], b"", data + data, noise + data])

    def answer(self, frame: bytes) -> bytes:
        sequence, command, length = frame[1:2], frame[2:3], int.from_bytes(frame[3:5], "little")
        body, crc = frame[:-4], frame[-4:]
        if len(frame) < 13 or frame[:1] != b"\xA5":
            return b""
        if crc32(body) != int.from_bytes(crc, "little"):
            return encode_reply(Reply(sequence=self.random.randrange(256), status=Status.DAMAGED, payload=b""))
        address, payload = int.from_bytes(body[5:9], "little"), body[9:]
        if sequence == self.last and command[0] & 0x80:
            return encode_reply(Reply(sequence=sequence[0], status=Status.OK, payload=b""))
        self.last = None if command[0] == Command.IDENTIFY else sequence
        status, data = Status.OK, b""
        if command[0] == Command.IDENTIFY:
            data = bytes([self.version]) + self.identity
        elif command[0] == Command.READ_MEMORY:
            data = bytes(self.memory[address:address + length])
            status, data = (Status.OK, data) if len(data) == length else (Status.BUS_ERROR, b"")
        elif command[0] == Command.READ_REGISTERS:
            data = b"".join(self.registers.get(address + n, 0).to_bytes(4, "little") for n in range(0, length, 4))
        elif command[0] == Command.WRITE_MEMORY:
            self.memory[address:address + length] = payload
            self.writes.append((address, length))
        elif command[0] == Command.WRITE_REGISTERS:
            for n in range(0, length, 4):
                self.registers[address + n] = int.from_bytes(payload[n:n + 4], "little")
            self.writes.append((address, length))
        elif command[0] == Command.WAIT:
            self.waits += 1
            if self.interrupt_after is None or self.waits < self.interrupt_after:
                status = Status.NO_INTERRUPT
            else:
                data = self.registers[STATUS_ADDRESS].to_bytes(4, "little")
        return encode_reply(Reply(sequence=sequence[0], status=status, payload=data))


def test_memory_and_registers():
    board, random, done = Board(), Random(1), []
    link = Link(board, timeout=TIMEOUT)
    assert link.identity == IDENTITY
    data = random.randbytes(2 * MAX_PAYLOAD + 8)
    link.write_memory(0x100, data, progress=lambda *values: done.append(values))
    assert board.memory[0x100:0x100 + len(data)] == data
    assert board.writes == [(0x100, 1024), (0x500, 1024), (0x900, 8)]
    assert done == [(1024, 2056), (2048, 2056), (2056, 2056)]
    done.clear()
    assert link.read_memory(0x100, len(data), progress=lambda *values: done.append(values)) == data
    assert done == [(1024, 2056), (2048, 2056), (2056, 2056)]
    array = np.arange(-7, 7, dtype=np.int8).reshape(2, 7)
    with pytest.raises(ValueError, match=r"^address and length: expected multiples of 4, got 0x0 and 14$"):
        link.write_memory(0, array)
    with pytest.raises(ValueError, match=r"^address: expected 0 to 2\^32 - 16, got 0xfffffff8$"):
        link.read_memory(0xFFFFFFF8, 16)
    link.write_memory(0, np.arange(4, dtype=np.uint32))
    assert board.memory[:16] == bytes.fromhex("00000000 01000000 02000000 03000000")
    values = [random.getrandbits(32) for _ in range(300)]
    link.write_registers(0x1000, values)
    link.write_register(4, 1)
    assert board.registers[4] == 1 and link.read_registers(0x1000, 300) == values
    assert link.read_registers(4) == [1]


@pytest.mark.parametrize("seed", range(4))
def test_a_line_that_damages(seed):
    """Everything arrives, every write once, in order."""
    board = Board(seed=seed, share=0.3)
    link, data = Link(board, timeout=TIMEOUT), Random(seed).randbytes(8 * MAX_PAYLOAD)
    for n in range(30):
        board.writes.clear()
        for _ in range(20):  # a request that was given up is sent anew, as a host would
            try:
                link.write_register(4 * n, n)
                break
            except LinkLost:
                board.writes.clear()
        assert board.writes == [(4 * n, 4)]
    board.share = 0.15
    link.write_memory(0, data)
    assert board.memory[:len(data)] == data and link.read_memory(0, len(data)) == data
    assert link.read_registers(0, 30) == list(range(30))


def test_replies_that_are_too_late():
    """A reply to an earlier request is never taken for that to the present one."""
    board = Board()
    link = Link(board, timeout=TIMEOUT)
    board.memory[:16] = bytes(8) + bytes([1] * 8)
    late = bytearray()
    original = board.answer

    def answer_late(frame: bytes) -> bytes:
        reply, late[:] = bytes(late), original(frame)
        return reply

    board.answer = answer_late
    assert link.read_memory(0, 8) == bytes(8)
    assert link.read_memory(8, 8) == bytes([1] * 8)
    assert link.read_memory(0, 8) == bytes(8)


def test_the_rest_of_a_damaged_reply_is_skipped():
    """What still comes behind a damaged reply does not spoil the next one."""
    board, frames = Board(), []
    link = Link(board, timeout=TIMEOUT)
    answer, read = board.answer, board.read

    def answer_first_with_damage(frame: bytes) -> bytes:
        frames.append(frame)
        return answer(frame) if len(frames) > 1 else encode_reply(
            Reply(sequence=frame[1], status=Status.OK, payload=b"1234"))[:-1] + b"\0"

    def read_late(length: int) -> bytes:
        data = read(length)
        if data or len(frames) != 1:
            return data
        frames.append(b"late")
        return b"\x5A\0\0\0\0"

    board.answer, board.read = answer_first_with_damage, read_late
    assert link.read_registers(4) == [0]
    assert len(frames) == 3 and frames[1] == b"late"


def test_wait():
    board = Board()
    link = Link(board, timeout=TIMEOUT)
    board.registers[STATUS_ADDRESS] = 0x102
    assert link.wait(1.7) is None and board.waits == 4  # 0.5 + 0.5 + 0.5 + 0.2 seconds of the board
    board.waits, board.interrupt_after = 0, 3
    assert link.wait(10) == 0x102 and board.waits == 3


def test_refusals():
    board = Board()
    link = Link(board, timeout=TIMEOUT)
    with pytest.raises(LinkError, match=r"^board: the board refuses: bus error$") as caught:
        link.read_memory(0xFFF8, 16)
    assert not isinstance(caught.value, LinkLost)
    board.identity, board.version = b"", VERSION + 1
    with pytest.raises(LinkError, match=r"^board: expected version 2 of the link, the board has 03$"):
        Link(board, timeout=TIMEOUT)


def test_a_silent_board():
    board, tries = Board(), []
    link = Link(board, timeout=TIMEOUT)
    board.answer = lambda frame: tries.append(frame) or b""
    with pytest.raises(LinkLost, match=r"^board: no connection after 5 attempts: no reply$"):
        link.write_register(4, 1)
    assert len(tries) == ATTEMPTS and len(set(tries)) == 1
    with pytest.raises(LinkLost, match=r"no reply; is the bitstream loaded, and the baud rate right\?$"):
        Link(board, timeout=TIMEOUT)


def test_a_line_that_is_never_quiet():
    """Noise without end, even of sync bytes, ends in an error."""
    for noise in (b"\0", b"\x5A"):
        board = Board()
        link = Link(board, timeout=0.01)
        board.read = lambda length, noise=noise: noise * length
        with pytest.raises(LinkLost, match=r"^board: no connection after 5 attempts: (noise, and no|a) reply"):
            link.read_registers(0)


def test_reconnect():
    board = Board()
    link = Link(board, timeout=TIMEOUT)
    link.write_register(4, 1)
    board.unplugged = True
    with pytest.raises(LinkLost, match=r"^board: the port failed: \[Errno 5\] Input/output error$"):
        link.write_register(4, 2)
    board.missing = True
    with pytest.raises(LinkLost, match=r"^board: not back after 0 s: \[Errno 2\] could not open port$"):
        link.reconnect(0)
    board.missing = False
    link.reconnect(0)
    link.write_register(4, 2)
    assert board.registers[4] == 2
    board.unplugged, board.identity = True, b"another board"
    with pytest.raises(LinkError, match=r"^board: another board or bitstream answers than before"):
        link.reconnect(0)


def test_ports(tmp_path):
    """One line for a port that is missing, taken, no port at all, or not allowed; what there is, is named."""
    with pytest.raises(LinkError, match=r"^.*/ttyUSB7: there is no such port; there (are: .*|is none at all: .*)$"):
        open_port(str(tmp_path / "ttyUSB7"), 1_000_000)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LinkError, match=r"^.*/file: this is no serial port; there "):
        open_port(str(tmp_path / "file"), 1_000_000)
    with pytest.raises(LinkError, match=r"^nonsense://x: the port cannot be opened: invalid URL"):
        open_port("nonsense://x", 1_000_000)
    if os.getuid():
        os.chmod(tmp_path / "file", 0)
        with pytest.raises(LinkError, match=r"^.*/file: no permission; .* usermod -aG dialout"):
            open_port(str(tmp_path / "file"), 1_000_000)


def test_a_terminal_as_port():
    """pyserial's own port: opened once at a time, silent without a board, an identity from one that answers."""
    board_side, client_side = os.openpty()
    name = os.ttyname(client_side)
    port = open_port(name, 115_200)
    with pytest.raises(LinkError, match=f"^{name}: another program uses the port; end it first$"):
        open_port(name, 115_200)
    with pytest.raises(LinkLost, match=f"^{name}: no connection after 5 attempts: no reply; is the bitstream"):
        Link(port, timeout=0.01)
    board = Board()
    while select([board_side], [], [], 0)[0]:
        os.read(board_side, 4096)  # what nobody answered
    thread = Thread(target=lambda: os.write(board_side, board.answer(os.read(board_side, 4096))))
    thread.start()
    assert Link(port, timeout=1).identity == IDENTITY
    thread.join()
    os.close(board_side)
    os.close(client_side)
    with pytest.raises(LinkLost, match=f"^{name}: "):
        Link(port, timeout=0.01)
    port.close()
