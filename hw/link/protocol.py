"""The frames of the host link: one definition for the hardware and for the client.

A *request* is a header of :data:`REQUEST_HEADER`, ``length`` bytes of payload if the command carries one, and a CRC. A
*reply* is a header of :data:`REPLY_HEADER`, ``length`` bytes of payload, and a CRC. Numbers are little-endian. The CRC
is CRC-32 (ISO-HDLC: Ethernet, zlib) of everything before it, the sync byte included. A host has one request on its way:
it sends the next one when the reply has come, or has not come in time.

A request that does not arrive whole changes nothing but the receiver's state, and is refused once the line is quiet.
Who gets no reply, or a refusal that says so, sends the request again with the same sequence number. A write whose
sequence number is that of the request answered last has been executed: it is only answered again, as before. So
consecutive requests differ in their numbers, and a host begins with ``IDENTIFY``, which forgets the last one.
"""

from dataclasses import dataclass
from enum import IntEnum
from zlib import crc32

from amaranth.lib import data
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC

VERSION = 2
"""Of this protocol: the first byte of the reply to ``IDENTIFY``."""

REQUEST_SYNC, REPLY_SYNC = 0xA5, 0x5A
"""First bytes: different, so that an echo of a request is no reply."""
MAX_PAYLOAD = 1024
"""Most bytes of payload, and most that a request may ask for."""
CRC_BYTES = 4
CRC = CRC32_ISO_HDLC
CARRIES_PAYLOAD = 0x80
"""The bit of a command that says that a payload of ``length`` bytes follows its header."""
WORD_BYTES = 4
"""What addresses and lengths of memory and of registers are multiples of."""
MAX_IDENTITY = MAX_PAYLOAD - 1
MAX_WAIT = 0xFFFF
"""Longest ``WAIT`` in milliseconds."""

REQUEST_HEADER = data.StructLayout({"sync": 8, "sequence": 8, "command": 8, "length": 16, "address": 32})
"""``length``: bytes that are written or asked for. ``address``: of the first; of ``WAIT`` the time in milliseconds."""
REPLY_HEADER = data.StructLayout({"sync": 8, "sequence": 8, "status": 8, "length": 16})
"""``sequence``: that of the request. ``status``: a :class:`Status`; only ``OK`` has a payload."""
REQUEST_HEADER_BYTES, REPLY_HEADER_BYTES = REQUEST_HEADER.size // 8, REPLY_HEADER.size // 8


class Command(IntEnum):
    """What a request asks for."""

    IDENTIFY = 0x00
    """Replies ``VERSION`` and what the board says about itself; forgets the last request."""
    READ_MEMORY = 0x01
    """Replies ``length`` bytes of memory."""
    READ_REGISTERS = 0x02
    """Replies ``length`` / 4 consecutive registers."""
    WAIT = 0x03
    """Waits for the interrupt, ``address`` milliseconds and ``MAX_WAIT`` at most; replies the status register."""
    WRITE_MEMORY = CARRIES_PAYLOAD | 0x01
    """Writes the payload to memory."""
    WRITE_REGISTERS = CARRIES_PAYLOAD | 0x02
    """Writes the payload to consecutive registers, in order."""


class Status(IntEnum):
    """The answer to a request. After ``DAMAGED``, ``TOO_LONG`` and ``TRUNCATED`` it is sent again: in these, which come
    of a request that was not found right, the sequence number may be wrong, too."""

    OK = 0
    """Executed, now or when it came the first time."""
    DAMAGED = 1
    """A wrong CRC or stop bit."""
    TOO_LONG = 2
    """``length`` is above ``MAX_PAYLOAD``."""
    TRUNCATED = 3
    """The line became quiet within the request."""
    UNKNOWN_COMMAND = 4
    """No :class:`Command`."""
    BAD_ARGUMENT = 5
    """An address or a length that is not a multiple of what the command says, too high, or 0."""
    BUS_ERROR = 6
    """An error response or none in time; a write may have been done in part."""
    NO_INTERRUPT = 7
    """It did not come within the time."""


RETRIABLE = frozenset({Status.DAMAGED, Status.TOO_LONG, Status.TRUNCATED})


class FrameError(ValueError):
    """Bytes that are no reply; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A reply that arrived whole."""

    sequence: int
    status: Status
    payload: bytes


def encode_request(*, sequence: int, command: int, address: int = 0, length: int = 0, payload: bytes = b"") -> bytes:
    """The bytes of a request; ``length`` is that of the payload if there is one."""
    return _frame(REQUEST_HEADER, payload, sync=REQUEST_SYNC, sequence=sequence, command=command,
                  length=len(payload) or length, address=address)


def encode_reply(reply: Reply) -> bytes:
    """The bytes of a reply."""
    return _frame(REPLY_HEADER, reply.payload, sync=REPLY_SYNC, sequence=reply.sequence, status=reply.status,
                  length=len(reply.payload))


def reply_bytes(header: bytes) -> int:
    """Length of the reply that begins with these ``REPLY_HEADER_BYTES``. Raises FrameError if none is so long."""
    length = REPLY_HEADER.from_bits(int.from_bytes(header, "little")).length
    if length > MAX_PAYLOAD:
        raise FrameError(f"a reply of {length} bytes")
    return REPLY_HEADER_BYTES + length + CRC_BYTES


def decode_reply(frame: bytes) -> Reply:
    """The reply of these bytes, ``reply_bytes`` of them. Raises FrameError."""
    if crc32(frame[:-CRC_BYTES]) != int.from_bytes(frame[-CRC_BYTES:], "little"):
        raise FrameError("a reply with a wrong CRC")
    header = REPLY_HEADER.from_bits(int.from_bytes(frame[:REPLY_HEADER_BYTES], "little"))
    try:
        status = Status(header.status)
    except ValueError:
        raise FrameError(f"a reply with the unknown status {header.status}") from None
    return Reply(sequence=header.sequence, status=status, payload=frame[REPLY_HEADER_BYTES:-CRC_BYTES])


def _frame(layout: data.StructLayout, payload: bytes, **fields: int) -> bytes:
    body = layout.const(fields).as_bits().to_bytes(layout.size // 8, "little") + payload
    return body + crc32(body).to_bytes(CRC_BYTES, "little")
