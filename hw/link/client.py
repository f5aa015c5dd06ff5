"""The client: a board's memory and registers over a serial port."""

import errno
import time
from collections.abc import Callable, Sequence
from typing import Any

from ..axi import ADDRESS_BITS
from .protocol import (
    MAX_PAYLOAD,
    REPLY_HEADER_BYTES,
    REPLY_SYNC,
    RETRIABLE,
    VERSION,
    WORD_BYTES,
    Command,
    FrameError,
    Reply,
    Status,
    decode_reply,
    encode_request,
    reply_bytes,
)

ATTEMPTS = 5
"""Of a request, before it is given up."""
TIMEOUT = 0.5
"""Seconds within which a reply must begin, and then end: longer than the board waits for a request or for a bus."""
POLL = 0.05
"""Seconds of a single read; a line that is silent for so long is quiet."""
LONGEST_WAIT = 0.5
"""Seconds of a single ``WAIT``, so that a board that is gone is noticed."""

try:
    from termios import error as _terminal_error
except ImportError:
    _terminal_error = OSError
PORT_ERRORS = (OSError, ValueError, _terminal_error)
"""What pyserial raises when a port fails."""

Progress = Callable[[int, int], Any]
"""Called with the bytes done and the bytes in all."""


class LinkError(RuntimeError):
    """The board cannot be reached, or refuses; the message is one line."""


class LinkLost(LinkError):
    """The port is gone, or the board does not answer (any more): :meth:`Link.reconnect` may help."""


def open_port(url: str, baud: int) -> Any:
    """Open a serial port, by its name or a URL of pyserial, for this program alone. Raises LinkError."""
    try:
        import serial
    except ImportError:
        raise LinkError("a serial port needs pyserial: pip install pyserial") from None
    try:
        port = serial.serial_for_url(url, baudrate=baud, timeout=POLL, write_timeout=TIMEOUT, exclusive=True)
    except PORT_ERRORS as error:
        raise LinkError(_why_not_opened(url, error)) from None
    set_low_latency(port)
    return port


def set_low_latency(port: Any):
    """Have the adapter pass on what it received at once, not after 16 ms, where its driver can (Linux)."""
    try:
        port.set_low_latency_mode(True)
    except (AttributeError, NotImplementedError, *PORT_ERRORS):
        pass


def _why_not_opened(url: str, error: Exception) -> str:
    number, text = getattr(error, "errno", None), _line(error)
    if number in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
        return f"{url}: there is no such port; {_ports_there_are()}"
    if number in (errno.EACCES, errno.EPERM):
        return f"{url}: no permission; join the port's group: sudo usermod -aG dialout $USER, then log in again"
    if number in (errno.EBUSY, errno.EAGAIN):
        return f"{url}: another program uses the port; end it first"
    if "Inappropriate ioctl" in text or "configure port" in text:
        return f"{url}: this is no serial port; {_ports_there_are()}"
    return f"{url}: the port cannot be opened: {text}"


def _ports_there_are() -> str:
    from serial.tools.list_ports import comports

    ports = [f"{port.device} ({port.description})" for port in sorted(comports())]
    return f"there are: {', '.join(ports)}" if ports else "there is none at all: is the board plugged in?"


class Link:
    """A board behind a port.

    One request is on its way at a time. What a damaged line loses is asked for again, ``ATTEMPTS`` times in all, which
    executes nothing twice. So a transfer moves ``1024 / (10 * 1046 / baud + t)`` bytes a second, t being the time from
    the last byte of a request to the first of its reply: at 3 Mbaud with 1 ms of the USB 228 kB/s of the line's 294;
    with the 16 ms for which adapters wait by default 52 kB/s.

    Raises :class:`LinkLost` where the port fails or nothing comes back, when the last request may have been executed or
    not; LinkError where the board refuses; ValueError for an address or a length that cannot be.

    Parameters
    ----------
    port:
        An open port of pyserial, or what has its ``read``, ``write``, ``in_waiting``, ``open``, ``close``, ``timeout``
        and ``name``.
    timeout:
        Seconds within which a reply must begin, and then end.
    slowdown:
        How many times slower the board's clock runs than it should, at most: that of a simulated board. All time-outs
        are as many times as long, and a single ``WAIT`` is as many times as short.

    ``identity`` is what the board said about itself.
    """

    def __init__(self, port: Any, *, timeout: float = TIMEOUT, slowdown: float = 1):
        self.port, self.timeout, self.slowdown, self.sequence = port, timeout * slowdown, slowdown, 0
        self.name = str(getattr(port, "name", None) or "port")
        try:
            self.port.timeout = POLL
        except PORT_ERRORS as error:
            raise self._failure(error) from None
        self.identity = self.identify()

    def identify(self) -> bytes:
        """Begin a connection: what the board says about itself."""
        try:
            payload = self._request(Command.IDENTIFY)
        except LinkLost as error:
            raise LinkLost(f"{error}; is the bitstream loaded, and the baud rate right?") from None
        if payload[:1] != bytes([VERSION]):
            raise LinkError(f"{self.name}: expected version {VERSION} of the link, the board has {payload[:1].hex()}")
        return payload[1:]

    def write_memory(self, address: int, data: bytes, progress: Progress | None = None):
        """Write bytes, or an array's, to memory; address and length are multiples of 4."""
        data = memoryview(data).cast("B")
        _check(address, len(data), WORD_BYTES)
        for start in range(0, len(data), MAX_PAYLOAD):
            piece = bytes(data[start:start + MAX_PAYLOAD])
            self._request(Command.WRITE_MEMORY, address=address + start, payload=piece)
            if progress:
                progress(start + len(piece), len(data))

    def read_memory(self, address: int, length: int, progress: Progress | None = None) -> bytes:
        """Read bytes of memory; address and length are multiples of 4."""
        _check(address, length, WORD_BYTES)
        data = bytearray()
        while len(data) < length:
            piece = min(MAX_PAYLOAD, length - len(data))
            data += self._request(Command.READ_MEMORY, address=address + len(data), length=piece)
            if progress:
                progress(len(data), length)
        return bytes(data)

    def write_registers(self, address: int, values: Sequence[int]):
        """Write consecutive registers, in order; the address is a multiple of 4."""
        _check(address, WORD_BYTES * len(values), WORD_BYTES)
        for start in range(0, len(values), MAX_PAYLOAD // WORD_BYTES):
            piece = values[start:start + MAX_PAYLOAD // WORD_BYTES]
            self._request(Command.WRITE_REGISTERS, address=address + WORD_BYTES * start,
                          payload=b"".join(value.to_bytes(WORD_BYTES, "little") for value in piece))

    def write_register(self, address: int, value: int):
        """Write a register."""
        self.write_registers(address, [value])

    def read_registers(self, address: int, count: int = 1) -> list[int]:
        """The values of consecutive registers; the address is a multiple of 4."""
        _check(address, WORD_BYTES * count, WORD_BYTES)
        values: list[int] = []
        while len(values) < count:
            piece = min(MAX_PAYLOAD // WORD_BYTES, count - len(values))
            data = self._request(Command.READ_REGISTERS, address=address + WORD_BYTES * len(values),
                                 length=WORD_BYTES * piece)
            values += [int.from_bytes(data[n:n + WORD_BYTES], "little")
                       for n in range(0, len(data), WORD_BYTES)]
        return values

    def wait(self, timeout: float) -> int | None:
        """Wait for the interrupt: the status register then, or None if it has not come within these seconds, which are
        the board's own."""
        left, longest = max(0, round(1000 * timeout)), max(1, round(1000 * LONGEST_WAIT / self.slowdown))
        while True:
            piece = min(left, longest)
            reply = self._exchange(Command.WAIT, address=piece, seconds=piece / 1000 * self.slowdown)
            if reply.status is not Status.NO_INTERRUPT:
                return int.from_bytes(self._payload_of(reply, WORD_BYTES), "little")
            left -= piece
            if left == 0:
                return None

    def reconnect(self, deadline: float):
        """Open the port again and again, these seconds long, until the board answers. Raises LinkLost after them."""
        end = time.monotonic() + deadline
        while True:
            try:
                self.close()
                self.port.open()
                set_low_latency(self.port)
                identity = self.identify()
                break
            except (*PORT_ERRORS, LinkLost) as error:
                reason = _line(error)
            if time.monotonic() >= end:
                raise LinkLost(f"{self.name}: not back after {deadline:g} s: {reason}")
            time.sleep(POLL)
        if identity != self.identity:
            raise LinkError(f"{self.name}: another board or bitstream answers than before the connection was lost")

    def close(self):
        """Close the port."""
        self.port.close()

    def _request(self, command: Command, *, address: int = 0, length: int = 0, payload: bytes = b"") -> bytes:
        """The payload of the reply to a request that is executed."""
        reply = self._exchange(command, address=address, length=length, payload=payload)
        return self._payload_of(reply, None if command == Command.IDENTIFY else length)

    def _payload_of(self, reply: Reply, length: int | None) -> bytes:
        if reply.status is not Status.OK:
            raise LinkError(f"{self.name}: the board refuses: {_words(reply.status)}")
        if length is not None and len(reply.payload) != length:
            raise LinkError(f"{self.name}: the board sent {len(reply.payload)} bytes where {length} were asked for")
        return reply.payload

    def _exchange(self, command: Command, *, seconds: float = 0, **fields: Any) -> Reply:
        """Send a request until its reply comes, ``seconds`` later at most than that of others."""
        self.sequence = (self.sequence + 1) % 256
        frame = encode_request(sequence=self.sequence, command=command, **fields)
        reason = ""
        try:
            for attempt in range(ATTEMPTS):
                if attempt:
                    self._skip()
                elif self.port.in_waiting:
                    self.port.read(self.port.in_waiting)
                self.port.write(frame)
                try:
                    return self._reply(seconds)
                except FrameError as error:
                    reason = str(error)
        except PORT_ERRORS as error:
            raise self._failure(error) from None
        raise LinkLost(f"{self.name}: no connection after {ATTEMPTS} attempts: {reason}")

    def _failure(self, error: Exception) -> LinkLost:
        return LinkLost(f"{self.name}: the port failed: {_line(error)}")

    def _reply(self, seconds: float) -> Reply:
        """The reply to the request just sent; those to earlier ones are passed over. Raises FrameError."""
        end = time.monotonic() + seconds + self.timeout
        while True:
            header = self._read(1, end)
            if header == bytes([REPLY_SYNC]):
                header += self._read(REPLY_HEADER_BYTES - 1, end)
                reply = decode_reply(header + self._read(reply_bytes(header) - len(header), end + self.timeout))
                if reply.status in RETRIABLE:
                    raise FrameError(f"a request was {_words(reply.status)} when it came to the board")
                if reply.sequence == self.sequence:
                    return reply
            if time.monotonic() >= end:
                raise FrameError("noise, and no reply")

    def _read(self, length: int, end: float) -> bytes:
        """So many bytes. Raises FrameError if they have not come by the time ``end``."""
        data = self.port.read(length)
        while len(data) < length:
            if time.monotonic() >= end:
                raise FrameError("half a reply" if data else "no reply")
            data += self.port.read(length - len(data))
        return data

    def _skip(self):
        """Pass over what comes until the line is quiet, or for ``timeout``."""
        end = time.monotonic() + self.timeout
        while self.port.read(MAX_PAYLOAD) and time.monotonic() < end:
            pass


def _check(address: int, length: int, multiple: int):
    if not 0 <= address <= (1 << ADDRESS_BITS) - length:
        raise ValueError(f"address: expected 0 to 2^{ADDRESS_BITS} - {length}, got {address:#x}")
    if address % multiple or length % multiple:
        raise ValueError(f"address and length: expected multiples of {multiple}, got {address:#x} and {length}")


def _words(status: Status) -> str:
    return status.name.lower().replace("_", " ")


def _line(error: Exception) -> str:
    """The first line of an error's message."""
    return (str(error).splitlines() or [type(error).__name__])[0]
