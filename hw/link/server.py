"""The server: executes requests and answers them."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..axi import AxiLiteSignature, AxiSignature
from .bus_master import BusJob, BusMaster
from .frames import ReplyHeader, Request
from .payload_memory import PayloadMemory
from .protocol import (
    CARRIES_PAYLOAD,
    MAX_IDENTITY,
    MAX_WAIT,
    VERSION,
    WORD_BYTES,
    Command,
    Status,
)
from .timer import Timer

MEMORY_BURST_WORDS = 16


class Server(wiring.Component):
    """Keeps a request's payload until all of it has been checked, then executes the request and answers.

    Latency from a request to its reply: 2 cycles if there is nothing to do; 4 and that of the job of
    :class:`hw.link.bus_master.BusMaster`; or as long as ``WAIT`` waits. If a bus does not answer in time, the reply is
    ``BUS_ERROR``, and so are those to further requests for that bus until it has.

    Parameters
    ----------
    identity:
        At most ``MAX_IDENTITY`` bytes; else ValueError.
    cycles_per_millisecond, bus_milliseconds:
        Longest time for all accesses of a request.
    status_address:
        The register that ``WAIT`` replies.

    Members
    -------
    begin, i_payload, i_request:
        As of :class:`hw.link.frames.FrameReceiver`. A request is taken with the last byte of its reply.
    o_reply, o_payload:
        As of :class:`hw.link.frames.FrameTransmitter`.
    axi, registers:
        Memory and registers.
    irq:
        What ``WAIT`` waits for, level.
    """

    def __init__(self, *, identity: bytes, cycles_per_millisecond: int, bus_milliseconds: int, status_address: int):
        if len(identity) > MAX_IDENTITY:
            raise ValueError(f"identity: expected at most {MAX_IDENTITY} bytes, got {len(identity)}")
        self.identity = bytes([VERSION]) + identity
        self.timer, self.bus_milliseconds = Timer(cycles_per_millisecond=cycles_per_millisecond), bus_milliseconds
        self.status_address = status_address
        super().__init__({
            "begin": In(1), "i_payload": In(stream.Signature(8, always_ready=True)),
            "i_request": In(stream.Signature(Request)),
            "o_reply": Out(stream.Signature(ReplyHeader)), "o_payload": Out(stream.Signature(8)),
            "axi": Out(AxiSignature(data_bits=8 * WORD_BYTES)), "registers": Out(AxiLiteSignature()), "irq": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.timer = timer = self.timer
        m.submodules.payload = payload = PayloadMemory(constants=self.identity)
        m.submodules.memory_master = memory = BusMaster(burst_words=MEMORY_BURST_WORDS)
        m.submodules.register_master = registers = BusMaster(burst_words=1)
        connect(m, memory.axi, flipped(self.axi))
        for name, member in self.registers.signature.members.items():
            lite, full = getattr(self.registers, name), getattr(registers.axi, name)
            m.d.comb += lite.eq(full) if member.flow == Out else full.eq(lite)

        # The job in work, and its bytes between the payload memory and the bus.
        job, of_registers, moves = Signal(BusJob), Signal(), Signal()
        start, abort, busy, failed = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            busy.eq(Mux(of_registers, registers.busy, memory.busy)),
            failed.eq(Mux(of_registers, registers.failed, memory.failed)),
            payload.i.valid.eq(self.i_payload.valid), payload.i.payload.eq(self.i_payload.payload),
            payload.o.ready.eq(self.o_payload.ready), self.o_payload.valid.eq(payload.o.valid),
            self.o_payload.payload.eq(payload.o.payload), payload.rewind_i.eq(self.begin),
        ]
        for master, selected in ((memory, ~of_registers), (registers, of_registers)):
            m.d.comb += [
                master.job.eq(job), master.start.eq(start & selected), master.abort.eq(abort & selected),
                master.i.valid.eq(moves & payload.o.valid), master.i.payload.eq(payload.o.payload),
            ]
            with m.If(moves & selected):
                m.d.comb += [
                    payload.i.valid.eq(master.o.valid), payload.i.payload.eq(master.o.payload),
                    payload.o.ready.eq(master.i.ready),
                ]

        # A request: what the decision about it needs is found out while it waits for its turn.
        request, header, reply = self.i_request, self.i_request.p.header, self.o_reply.p
        for_memory, for_registers, for_wait, repeated = Signal(), Signal(), Signal(), Signal()
        remembered, last_sequence, last_status = Signal(), Signal(8), Signal(Status)
        carries_payload = (header.command & CARRIES_PAYLOAD).any()
        low_bits = header.address[:2] | header.length[:2]
        m.d.sync += [
            for_memory.eq((header.length != 0) & (low_bits == 0)),
            for_registers.eq((header.length != 0) & (low_bits == 0) & (header.address[16:] == 0)),
            for_wait.eq(header.address <= MAX_WAIT),
            repeated.eq(remembered & carries_payload & (header.sequence == last_sequence)),
        ]
        m.d.comb += [reply.sequence.eq(header.sequence), timer.milliseconds.eq(self.bus_milliseconds)]

        def answer(status, length=0):
            m.d.sync += [reply.status.eq(status), reply.length.eq(length)]
            m.next = "REPLY"

        def access(master: BusMaster, *, address, length, write=0):
            m.d.comb += timer.start.eq(1)
            m.d.sync += [
                of_registers.eq(master is registers), job.address.eq(address), job.words.eq(length // WORD_BYTES),
                job.write.eq(write), reply.length.eq(Mux(write, 0, length)),
            ]
            m.next = "START"

        with m.FSM():
            with m.State("IDLE"):
                with m.If(request.valid):
                    m.next = "DECIDE"
                    with m.If(request.p.status != Status.OK):
                        answer(request.p.status)
            with m.State("DECIDE"):
                m.d.comb += payload.rewind_o.eq(1)
                m.d.sync += [remembered.eq(1), last_sequence.eq(header.sequence)]
                with m.Switch(header.command):
                    with m.Case(Command.IDENTIFY):
                        m.d.comb += payload.of_constants.eq(1)
                        m.d.sync += remembered.eq(0)
                        answer(Status.OK, len(self.identity))
                    with m.Case(Command.READ_MEMORY, Command.WRITE_MEMORY):
                        access(memory, address=header.address, length=header.length, write=carries_payload)
                        with m.If(~for_memory):
                            answer(Status.BAD_ARGUMENT)
                    with m.Case(Command.READ_REGISTERS, Command.WRITE_REGISTERS):
                        access(registers, address=header.address, length=header.length, write=carries_payload)
                        with m.If(~for_registers):
                            answer(Status.BAD_ARGUMENT)
                    with m.Case(Command.WAIT):
                        m.d.comb += [timer.start.eq(1), timer.milliseconds.eq(header.address)]
                        m.next = "WAIT"
                        with m.If(~for_wait):
                            answer(Status.BAD_ARGUMENT)
                    with m.Default():
                        answer(Status.UNKNOWN_COMMAND)
                with m.If(repeated):
                    answer(last_status)
            with m.State("WAIT"):
                with m.If(self.irq):
                    access(registers, address=self.status_address, length=WORD_BYTES)
                with m.Elif(timer.expired):
                    answer(Status.NO_INTERRUPT)
            with m.State("START"):
                m.d.comb += payload.rewind_i.eq(~job.write)
                with m.If(~busy):
                    m.d.comb += start.eq(1)
                    m.next = "MOVE"
                with m.Elif(timer.expired):
                    answer(Status.BUS_ERROR)
            with m.State("MOVE"):
                m.d.comb += moves.eq(1)
                with m.If(~busy):
                    m.d.comb += payload.rewind_o.eq(1)
                    answer(Status.OK, reply.length)
                    with m.If(failed):
                        answer(Status.BUS_ERROR)
                with m.Elif(timer.expired):
                    m.d.comb += abort.eq(1)
                    answer(Status.BUS_ERROR)
            with m.State("REPLY"):
                m.d.comb += [self.o_reply.valid.eq(1), request.ready.eq(self.o_reply.ready)]
                with m.If(self.o_reply.ready):
                    m.next = "IDLE"
                    with m.If(request.p.status == Status.OK):
                        m.d.sync += last_status.eq(reply.status)
        return m
