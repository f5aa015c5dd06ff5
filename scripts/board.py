"""A board behind a serial port: what a host does with its memory and its engine."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from hw.link.client import LONGEST_WAIT, Link, LinkError, LinkLost
from hw.registers import COUNTERS, IDENTITY_VALUE, PROFILE_WORDS, Error, Register
from scripts.board_program import TAG_ADDRESS, TAG_BYTES, Range

if TYPE_CHECKING:
    import numpy as np

    from hw.config import EngineConfig
    from hw.program import MemoryProgram

BUSY, ERROR = 1, 4
"""Bits of the status register."""
START, CLEAR = 1, 2
"""Of the control register."""
STEP_BYTES = 1 << 15
"""Moved at a time: as much is moved again at most where the connection is lost."""
BACK_SECONDS = 30
"""For a board to come back."""
LOSSES = 5
"""Of the connection, within one step, before it is given up."""
IDLE_SECONDS = 5
"""For an engine that is interrupted to come to its program's end."""

Progress = Callable[[int], Any]
"""Called with the bytes done, or the cycles."""
Result = TypeVar("Result")


class MemoryLost(LinkError):
    """The board was without power: its memory does not hold what it held."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a board says about itself: :func:`hw.boards.system.identity`."""

    board: str
    clock_hz: int
    memory_bytes: int
    engine: "EngineConfig"

    @classmethod
    def read(cls, data: bytes) -> "Identity":
        """From what came over the link. Raises LinkError."""
        from hw.config import ConfigError, EngineConfig

        try:
            fields = json.loads(data)
            return cls(**fields | {"engine": EngineConfig(**fields["engine"])})
        except (ValueError, TypeError, KeyError, ConfigError) as error:
            raise LinkError(f"the board says about itself what this version of Winnow does not understand: {error}; "
                            "make its bitstream anew") from None


class Board:
    """A board: memory, engine, and what happens when the connection is lost.

    ``announce`` is called with a line where it is lost and where it is back. Without ``reconnects`` that is not waited
    for.

    Everything raises LinkError where the board refuses or does not come back, and as :class:`hw.link.client.Link`.
    """

    def __init__(self, link: Link, *, announce: Callable[[str], None], reconnects: bool = True):
        self.link, self.announce, self.reconnects = link, announce, reconnects
        self.identity = Identity.read(link.identity)
        found, = self.persist(lambda: link.read_registers(Register.IDENTITY))
        if found != IDENTITY_VALUE:
            raise LinkError(f"{link.name}: no Winnow engine answers: register 0 is 0x{found:08x}")

    def persist(self, step: Callable[[], Result], *, tag: bytes | None = None) -> Result:
        """Do a step, and again where the connection is lost in it and comes back.

        Raises MemoryLost if the board does not hold this ``tag`` then.
        """
        for _ in range(LOSSES):
            try:
                return step()
            except LinkLost as error:
                if not self.reconnects:
                    raise
                self.announce(f"{error}; waiting {BACK_SECONDS} s at most for the board to come back ...")
                self.link.reconnect(BACK_SECONDS)
                self.announce(f"{self.link.name}: the board is back")
                self.settle()
                if tag is not None and self.read_tag() != tag:
                    raise MemoryLost(f"{self.link.name}: the board was without power and has lost its memory") from None
        return step()

    # Memory

    def read_tag(self) -> bytes:
        """What says which program memory holds."""
        return self.link.read_memory(TAG_ADDRESS, TAG_BYTES)

    def write_tag(self, tag: bytes) -> None:
        """Say which program memory holds."""
        self.link.write_memory(TAG_ADDRESS, tag)

    def write(self, image: "np.ndarray", ranges: Iterable[Range], *, tag: bytes | None = None,
              progress: Progress = lambda _: None) -> None:
        """Write parts of an image (uint8) to where they lie in it; ``tag`` as of :meth:`persist`."""
        done = 0
        for begin, end in _steps(ranges):
            self.persist(lambda begin=begin, end=end, done=done: self.link.write_memory(
                begin, image[begin:end].tobytes(), lambda count, _: progress(done + count)), tag=tag)
            done += end - begin

    def read(self, image: "np.ndarray", ranges: Iterable[Range], *, tag: bytes | None = None,
             progress: Progress = lambda _: None) -> None:
        """Read parts of memory into an image (uint8)."""
        done = 0
        for begin, end in _steps(ranges):
            data = self.persist(lambda begin=begin, end=end, done=done: self.link.read_memory(
                begin, end - begin, lambda count, _: progress(done + count)), tag=tag)
            image[begin:end] = memoryview(data)
            done += end - begin

    def load(self, image: "np.ndarray", ranges: Iterable[Range], tag: bytes, *, verify: bool,
             progress: Progress) -> None:
        """Write a program and then its tag; ``verify``: read it back before. Begun anew where memory was lost.

        Raises LinkError where what is read back is not what was written.
        """
        ranges, total = list(ranges), sum(end - begin for begin, end in ranges)
        loading = bytes(255 - byte for byte in tag)
        while True:
            self.persist(lambda: self.write_tag(loading))
            try:
                self.write(image, ranges, tag=loading, progress=progress)
                if verify:
                    found = image.copy()
                    self.read(found, ranges, tag=loading, progress=lambda done: progress(total + done))
                    wrong = (found != image).nonzero()[0]
                    if len(wrong):
                        at = int(wrong[0])
                        raise LinkError(f"{self.link.name}: {len(wrong)} bytes of memory are not as they were written, "
                                        f"the first at 0x{at:x}: 0x{found[at]:02x}, expected 0x{image[at]:02x}")
                break
            except MemoryLost as error:
                self.announce(f"{error}: from the beginning")
        self.persist(lambda: self.write_tag(tag), tag=loading)

    def test_memory(self, *, blocks: int, block_bytes: int, seed: int, progress: Progress) -> int:
        """Write random bytes all over memory and read them back: a word at each power of two, so that no address line
        goes untested, and blocks anywhere. Returns the bytes tested; raises LinkError."""
        random = Random(seed)
        size = self.identity.memory_bytes
        places = {0: 8} | {1 << line: 8 for line in range(3, size.bit_length() - 1)}
        for _ in range(blocks):
            places[random.randrange(1, size // block_bytes) * block_bytes] = block_bytes
        patterns = {at: random.randbytes(length) for at, length in places.items()}
        done = 0
        for move in (self._write_pattern, self._check_pattern):
            for at, pattern in patterns.items():
                self.persist(lambda move=move, at=at, pattern=pattern: move(at, pattern))
                done += len(pattern)
                progress(done)
        return sum(places.values())

    def _write_pattern(self, at: int, pattern: bytes) -> None:
        self.link.write_memory(at, pattern)

    def _check_pattern(self, at: int, pattern: bytes) -> None:
        found = self.link.read_memory(at, len(pattern))
        if found != pattern:
            byte = next(n for n in range(len(pattern)) if found[n] != pattern[n])
            raise LinkError(f"{self.link.name}: memory at 0x{at + byte:x} holds 0x{found[byte]:02x}, expected "
                            f"0x{pattern[byte]:02x}")

    # Engine

    def run(self, program: "MemoryProgram", *, most_cycles: int, progress: Progress = lambda _: None) -> None:
        """Run a program that is in memory, within so many cycles.

        Raises EngineError where it stops with an error, or does not stop. A lost connection is the caller's.
        """
        link = self.link
        link.write_registers(Register.PROGRAM_ADDRESS, [
            program.descriptors_address, program.descriptor_count, *program.window])
        link.write_register(Register.CONTROL, START)
        step, left = LONGEST_WAIT / link.slowdown, most_cycles / self.identity.clock_hz
        while (status := link.wait(max(0.001, min(step, left)))) is None:
            left -= step
            if left < 0:
                raise EngineError(f"{link.name}: no interrupt within {most_cycles:,} cycles")
            progress(link.read_registers(Register.COUNTERS)[0])
        link.write_register(Register.CONTROL, CLEAR)
        if status & ERROR:
            raise EngineError(f"{link.name}: the engine stopped with error {error_name(status)}")

    def counters(self) -> dict[str, int]:
        """The engine's counters, of the program that ran last."""
        return self._counters(Register.COUNTERS)

    def profile(self, layers: int) -> list[dict[str, int]] | None:
        """What the counters were at the end of each of its layers, None if the engine has no room for so many."""
        if layers > self.identity.engine.profile_layers:
            return None
        return [self._counters(Register.PROFILE + 4 * PROFILE_WORDS * layer) for layer in range(layers)]

    def _counters(self, address: int) -> dict[str, int]:
        return dict(zip(COUNTERS, self.link.read_registers(address, len(COUNTERS)), strict=True))

    def status(self) -> int:
        """The status register."""
        status, = self.link.read_registers(Register.STATUS)
        return status

    def settle(self) -> None:
        """Let the engine come to the end of what it does, and leave it idle. Raises LinkError if it does not."""
        if self.status() & BUSY and self.link.wait(IDLE_SECONDS) is None:
            raise LinkError(f"{self.link.name}: the engine is still busy after {IDLE_SECONDS} s; reset the board")
        self.link.write_register(Register.CONTROL, CLEAR)


class EngineError(RuntimeError):
    """The engine did not run a program to its end; the message is one line."""


def error_name(status: int) -> str:
    """The error of a status register."""
    code = status >> 8 & 0xFF
    return Error(code).name if code in list(Error) else str(code)


def _steps(ranges: Iterable[Range]) -> Iterable[Range]:
    """The ranges in pieces of :data:`STEP_BYTES` at most."""
    for begin, end in ranges:
        for start in range(begin, end, STEP_BYTES):
            yield start, min(start + STEP_BYTES, end)
