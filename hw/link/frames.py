"""Frames on their way: requests out of received bytes, replies into bytes."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .protocol import (
    CARRIES_PAYLOAD,
    CRC,
    CRC_BYTES,
    MAX_PAYLOAD,
    REPLY_HEADER,
    REPLY_HEADER_BYTES,
    REPLY_SYNC,
    REQUEST_HEADER,
    REQUEST_HEADER_BYTES,
    REQUEST_SYNC,
    Status,
)
from .timer import Timer
from .uart import ReceivedByte

NOISE_BYTES = REQUEST_HEADER_BYTES
"""From so many bytes of noise on, a request must have a quiet line before it."""


class Request(data.Struct):
    """A request's ``header``, and ``status``: ``OK`` if it arrived whole, else why it is refused."""

    header: REQUEST_HEADER
    status: Status


class FrameReceiver(wiring.Component):
    """Finds the requests among the bytes received, and checks them.

    A request whose CRC is right is offered 3 cycles after its last byte. After an error all that comes is passed over
    until the line has been quiet for ``quiet_milliseconds``, and only then the refusal is offered: as the host waits
    for it, the line becomes quiet, and no byte of a payload is ever taken for the begin of a request, which a search
    for the next sync byte could do.

    In front of a request noise is skipped, without a refusal. Behind ``NOISE_BYTES`` of it the line must become quiet:
    it may be a request whose sync byte was damaged, and what follows its payload.

    Parameters
    ----------
    cycles_per_millisecond, quiet_milliseconds:
        The silence that ends a request, at least 4 byte times.

    Members
    -------
    i:
        Bytes, 3 cycles between them at least.
    payload, begin:
        Bytes of the payload, as they come, and a strobe before the first. They count only when ``o`` says ``OK``.
    o:
        A request, until the reply to it is on its way. If bytes come meanwhile, what is behind is passed over until
        the line is quiet.
    """

    def __init__(self, *, cycles_per_millisecond: int, quiet_milliseconds: int):
        self.quiet, self.quiet_milliseconds = Timer(cycles_per_millisecond=cycles_per_millisecond), quiet_milliseconds
        super().__init__({
            "i": In(stream.Signature(ReceivedByte, always_ready=True)),
            "payload": Out(stream.Signature(8, always_ready=True)), "begin": Out(1),
            "o": Out(stream.Signature(Request)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = crc = CRC(8).create()
        m.submodules.quiet = quiet = self.quiet
        byte, out = self.i, self.o
        header = out.p.header
        shift_in = header.eq(Cat(header.as_value()[8:], byte.p.data))
        left = Signal(range(MAX_PAYLOAD), init=NOISE_BYTES - 1)
        """Bytes behind the next one: of this part of the frame, or of noise that may be skipped."""
        disturbed = Signal()
        m.d.comb += [
            crc.data.eq(byte.p.data), crc.valid.eq(byte.valid),
            quiet.start.eq(byte.valid), quiet.milliseconds.eq(self.quiet_milliseconds),
            self.payload.payload.eq(byte.p.data),
        ]

        def refuse(status: Status):
            m.d.sync += out.p.status.eq(status)
            m.next = "DRAIN"

        def collect(*, following: str, bytes_following: int = 0):
            """The bytes of a part of a frame."""
            with m.If(byte.valid):
                m.d.sync += left.eq(left - 1)
                with m.If(left == 0):
                    m.d.sync += left.eq(bytes_following - 1)
                    m.next = following
                with m.If(byte.p.framing_error):
                    refuse(Status.DAMAGED)
            with m.Elif(quiet.expired):
                refuse(Status.TRUNCATED)

        with m.FSM():
            with m.State("HUNT"):
                m.d.comb += crc.start.eq(1)
                m.d.sync += disturbed.eq(0)
                with m.If(byte.valid):
                    m.d.sync += [shift_in, left.eq(left - 1)]
                    with m.If((byte.p.data == REQUEST_SYNC) & ~byte.p.framing_error):
                        m.d.comb += self.begin.eq(1)
                        m.d.sync += left.eq(REQUEST_HEADER_BYTES - 2)
                        m.next = "HEADER"
                    with m.Elif(left == 0):
                        m.next = "DRAIN"
                with m.Elif(quiet.expired):
                    m.d.sync += left.eq(NOISE_BYTES - 1)
            with m.State("HEADER"):
                collect(following="LENGTH")
                with m.If(byte.valid):
                    m.d.sync += shift_in
            with m.State("LENGTH"):
                m.d.sync += left.eq(CRC_BYTES - 1)
                m.next = "CRC"
                with m.If((header.command & CARRIES_PAYLOAD).any() & (header.length != 0)):
                    m.d.sync += left.eq(header.length - 1)
                    m.next = "PAYLOAD"
                with m.If(header.length > MAX_PAYLOAD):
                    refuse(Status.TOO_LONG)
            with m.State("PAYLOAD"):
                collect(following="CRC", bytes_following=CRC_BYTES)
                m.d.comb += self.payload.valid.eq(byte.valid)
            with m.State("CRC"):
                collect(following="CHECK")
            with m.State("CHECK"):
                m.next = "OFFER"
                with m.If(~crc.match_detected):
                    refuse(Status.DAMAGED)
            with m.State("DRAIN"):
                m.d.sync += left.eq(NOISE_BYTES - 1)
                with m.If(quiet.expired & ~byte.valid):
                    m.next = "HUNT"
                    with m.If(out.p.status != Status.OK):
                        m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += out.valid.eq(1)
                m.d.sync += [left.eq(NOISE_BYTES - 1), disturbed.eq(disturbed | byte.valid)]
                with m.If(out.ready):
                    m.d.sync += out.p.status.eq(Status.OK)
                    m.next = "HUNT"
                    with m.If(disturbed | byte.valid):
                        m.next = "DRAIN"
        return m


class ReplyHeader(data.Struct):
    """What of a reply's header is not the same for all."""

    sequence: 8
    status: Status
    length: range(MAX_PAYLOAD + 1)


class FrameTransmitter(wiring.Component):
    """Sends replies: header, payload, CRC. A byte a cycle, and a cycle more before the CRC and behind it.

    Members
    -------
    i:
        A reply's header; taken behind the last byte of its CRC.
    payload:
        Bytes, ``length`` of which are taken.
    o:
        The frame's bytes, from a register.
    """

    def __init__(self):
        super().__init__({
            "i": In(stream.Signature(ReplyHeader)), "payload": In(stream.Signature(8)),
            "o": Out(stream.Signature(8)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = crc = CRC(8).create()
        reply, out = self.i.p, self.o
        header = Signal(REPLY_HEADER)
        count, last = Signal(range(MAX_PAYLOAD)), Signal(range(MAX_PAYLOAD))
        byte, has_byte, load, is_last, counts = Signal(8), Signal(), Signal(), Signal(), Signal()
        m.d.sync += [last.eq(reply.length - 1), counts.eq(0)]
        m.d.comb += [
            header.sync.eq(REPLY_SYNC), header.sequence.eq(reply.sequence), header.status.eq(reply.status),
            header.length.eq(reply.length), load.eq(has_byte & (~out.valid | out.ready)),
            crc.data.eq(out.payload), crc.valid.eq(counts),
        ]
        with m.If(load):
            m.d.sync += [out.valid.eq(1), out.payload.eq(byte), count.eq(Mux(is_last, 0, count + 1))]
        with m.Elif(out.ready):
            m.d.sync += out.valid.eq(0)
        with m.FSM():
            with m.State("HEADER"):
                m.d.comb += [
                    has_byte.eq(self.i.valid), byte.eq(header.as_value().word_select(count[:3], 8)),
                    is_last.eq(count == REPLY_HEADER_BYTES - 1), crc.start.eq(count == 0),
                ]
                m.d.sync += counts.eq(load)
                with m.If(load & is_last):
                    m.next = "PAYLOAD"
                    with m.If(reply.length == 0):
                        m.next = "SUM"
            with m.State("PAYLOAD"):
                m.d.comb += [
                    has_byte.eq(self.payload.valid), byte.eq(self.payload.payload), self.payload.ready.eq(load),
                    is_last.eq(count == last),
                ]
                m.d.sync += counts.eq(load)
                with m.If(load & is_last):
                    m.next = "SUM"
            with m.State("SUM"):
                m.next = "CRC"
            with m.State("CRC"):
                m.d.comb += [
                    has_byte.eq(1), byte.eq(crc.crc.word_select(count[:2], 8)), is_last.eq(count == CRC_BYTES - 1),
                ]
                with m.If(load & is_last):
                    m.next = "TAKE"
            with m.State("TAKE"):
                m.d.comb += self.i.ready.eq(1)
                m.next = "HEADER"
        return m
