"""The host link: from two UART pins to memory, registers and the interrupt."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..axi import AxiLiteSignature, AxiSignature
from ..registers import Register
from .frames import FrameReceiver, FrameTransmitter
from .protocol import WORD_BYTES
from .server import Server
from .uart import UartReceiver, UartTransmitter

BYTE_BITS = 10
QUIET_BYTES = 4
"""A silence is longer than so many bytes."""


class HostLink(wiring.Component):
    """Answers the requests of :mod:`hw.link.protocol`, one after the other.

    Everything ends in bounded time: a request ``quiet_milliseconds`` after its last byte, accesses after
    ``bus_milliseconds``, a wait after its own time; a reply takes ``(9 + length) * (10 * cycles_per_bit + 1)`` cycles.

    Parameters
    ----------
    cycles_per_bit:
        Clock cycles of a bit at the UART, at least 4; else ValueError. Baud rates of host and board may differ by 2 %.
    cycles_per_millisecond:
        Clock cycles of what the link takes for a millisecond, at least 1; else ValueError. Fewer in simulation.
    identity:
        What ``IDENTIFY`` replies behind the version, at most 1023 bytes; else ValueError.
    quiet_milliseconds:
        The silence that ends a request, longer than the pauses of a USB host and than 4 bytes, 65535 at most; else
        ValueError.
    bus_milliseconds:
        The longest time for the accesses of a request, 1 to 65535; else ValueError.
    status_address:
        The register whose value ``WAIT`` replies.

    Members
    -------
    rx, tx:
        The pins, 8N1; ``rx`` of any clock, ``tx`` from a register.
    axi:
        Master for the memory: bursts of 16 beats at most that end at multiples of 64 bytes, one at a time.
    registers:
        Master for the registers, one access at a time.
    irq:
        The engine's interrupt.
    """

    def __init__(self, *, cycles_per_bit: int, cycles_per_millisecond: int, identity: bytes,
                 quiet_milliseconds: int = 20, bus_milliseconds: int = 10, status_address: int = Register.STATUS):
        for name, value in (("quiet_milliseconds", quiet_milliseconds), ("bus_milliseconds", bus_milliseconds)):
            if not 1 <= value <= 0xFFFF:
                raise ValueError(f"{name}: expected 1..65535, got {value}")
        self.receiver = UartReceiver(cycles_per_bit=cycles_per_bit)
        self.transmitter = UartTransmitter(cycles_per_bit=cycles_per_bit)
        self.frame_receiver = FrameReceiver(
            cycles_per_millisecond=cycles_per_millisecond, quiet_milliseconds=quiet_milliseconds)
        self.server = Server(
            identity=identity, cycles_per_millisecond=cycles_per_millisecond, bus_milliseconds=bus_milliseconds,
            status_address=status_address)
        least = -(-QUIET_BYTES * BYTE_BITS * cycles_per_bit // cycles_per_millisecond)
        if quiet_milliseconds < least:
            raise ValueError(f"quiet_milliseconds: expected at least {least}, the time of {QUIET_BYTES} bytes, "
                             f"got {quiet_milliseconds}")
        super().__init__({
            "rx": In(1, init=1), "tx": Out(1, init=1), "axi": Out(AxiSignature(data_bits=8 * WORD_BYTES)),
            "registers": Out(AxiLiteSignature()), "irq": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = self.receiver
        m.submodules.transmitter = transmitter = self.transmitter
        m.submodules.frame_receiver = frame_receiver = self.frame_receiver
        m.submodules.frame_transmitter = frame_transmitter = FrameTransmitter()
        m.submodules.server = server = self.server
        connect(m, receiver.o, frame_receiver.i)
        connect(m, frame_receiver.payload, server.i_payload)
        connect(m, frame_receiver.o, server.i_request)
        connect(m, server.o_reply, frame_transmitter.i)
        connect(m, server.o_payload, frame_transmitter.payload)
        connect(m, frame_transmitter.o, transmitter.i)
        connect(m, server.axi, flipped(self.axi))
        connect(m, server.registers, flipped(self.registers))
        m.d.comb += [
            receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx), server.begin.eq(frame_receiver.begin),
            server.irq.eq(self.irq),
        ]
        return m
