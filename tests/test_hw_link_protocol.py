"""The bytes of frames against :mod:`struct` and zlib, and what is no reply."""

import struct
import zlib
from random import Random

import pytest

from hw.link.protocol import (
    CARRIES_PAYLOAD,
    MAX_PAYLOAD,
    Command,
    FrameError,
    Reply,
    Status,
    decode_reply,
    encode_reply,
    encode_request,
    reply_bytes,
)


def framed(body: bytes) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body))


def test_requests():
    random = Random(0)
    for command in Command:
        sequence, address, length = random.randrange(256), random.getrandbits(32), random.randrange(1, MAX_PAYLOAD + 1)
        if command & CARRIES_PAYLOAD:
            payload = random.randbytes(length)
            frame = encode_request(sequence=sequence, command=command, address=address, payload=payload)
        else:
            payload = b""
            frame = encode_request(sequence=sequence, command=command, address=address, length=length)
        assert frame == framed(struct.pack("<BBBHI", 0xA5, sequence, command, length, address) + payload)


def test_replies():
    random = Random(1)
    for status in Status:
        for length in (0, 1, 255, 256, MAX_PAYLOAD):
            sequence, payload = random.randrange(256), random.randbytes(length)
            frame = framed(struct.pack("<BBBH", 0x5A, sequence, status, length) + payload)
            assert reply_bytes(frame[:5]) == len(frame)
            reply = Reply(sequence=sequence, status=status, payload=payload)
            assert decode_reply(frame) == reply and encode_reply(reply) == frame


def test_commands_and_statuses_of_the_wire():
    """What is on the wire may not change without a new version."""
    assert {command.name: int(command) for command in Command} == {
        "IDENTIFY": 0, "READ_MEMORY": 1, "READ_REGISTERS": 2, "WAIT": 3, "WRITE_MEMORY": 0x81, "WRITE_REGISTERS": 0x82}
    assert [status.name for status in sorted(Status)] == [
        "OK", "DAMAGED", "TOO_LONG", "TRUNCATED", "UNKNOWN_COMMAND", "BAD_ARGUMENT", "BUS_ERROR", "NO_INTERRUPT"]


def test_what_is_no_reply():
    frame = framed(struct.pack("<BBBH", 0x5A, 3, 0, 4) + b"data")
    for bit in range(8 * len(frame)):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FrameError, match="CRC"):
            decode_reply(bytes(damaged))
    with pytest.raises(FrameError, match="status 8"):
        decode_reply(framed(struct.pack("<BBBH", 0x5A, 3, 8, 0)))
    with pytest.raises(FrameError, match="1025 bytes"):
        reply_bytes(struct.pack("<BBBH", 0x5A, 3, 0, MAX_PAYLOAD + 1))
