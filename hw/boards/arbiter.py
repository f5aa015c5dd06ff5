"""Several AXI4 masters on one slave, burst by burst."""

from amaranth.hdl import Array, Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from ..axi import AxiSignature

OUTSTANDING = 16
"""Bursts of one direction that may wait for their answers."""
PAYLOADS = {
    "ar": ("address", "length"), "r": ("data", "response", "last"),
    "aw": ("address", "length"), "w": ("data", "strobe", "last"), "b": ("response",),
}


def payload(axi, channel: str) -> Cat:
    """What a channel of an AXI4 interface transfers, as one value."""
    return Cat(getattr(axi, f"{channel}_{name}") for name in PAYLOADS[channel])


class AxiArbiter(wiring.Component):
    """Gives the slave to its masters in turn: one that asks waits for one burst of each other master at most.

    Reads and writes are arbitrated separately and never wait for each other. Answers come in the order of the
    addresses; a queue of who asked leads them back.

    A write is granted until its last beat, and not before its first is offered: a master that asks without data is
    passed over. One that stops within a burst keeps the others' writes waiting until it goes on, but not their reads,
    so it may wait for data that it reads itself. One that does not take its answers keeps the others' waiting.

    Every channel passes a register. Throughput: a beat every second cycle in each direction. Latency: 2 cycles for an
    address, 1 for data and answers.

    Parameters: ``masters``, how many, 1 to 8; ``data_bits``. Members: ``masters`` (an array), ``slave``: AXI4.
    Raises ``ValueError`` for another number of masters.
    """

    def __init__(self, *, masters: int, data_bits: int):
        if not 1 <= masters <= 8:
            raise ValueError(f"masters: expected 1..8, got {masters}")
        self.count = masters
        axi = AxiSignature(data_bits=data_bits)
        super().__init__({"masters": In(axi).array(masters), "slave": Out(axi)})

    def elaborate(self, platform):
        m = Module()
        slave, masters = self.slave, self.masters
        self._build_direction(m, "ar", "r", may_ask=[1] * self.count, free=1)

        writing, writer = Signal(), Signal(range(self.count))
        granted, chosen = self._build_direction(
            m, "aw", "b", may_ask=[master.w_valid for master in masters], free=~writing)
        with m.If(granted):
            m.d.sync += [writing.eq(1), writer.eq(chosen)]
        with m.If(slave.w_ready):
            m.d.sync += slave.w_valid.eq(0)
        for index, master in enumerate(masters):
            m.d.comb += master.w_ready.eq(writing & (writer == index) & ~slave.w_valid)
            with m.If(master.w_valid & master.w_ready):
                m.d.sync += [
                    slave.w_valid.eq(1), payload(slave, "w").eq(payload(master, "w")), writing.eq(~master.w_last)]
        return m

    def _build_direction(self, m: Module, ask: str, answer: str, *, may_ask: list, free) -> tuple[Signal, Signal]:
        """The channels of addresses and of answers of one direction; whether a burst is granted now, and whose."""
        count, slave = self.count, self.slave
        m.submodules[f"{ask}_order"] = order = SyncFIFOBuffered(width=max(1, (count - 1).bit_length()),
                                                                depth=OUTSTANDING)

        # An address of each master waits to be granted, of which the first behind the master granted before is.
        waiting, asks = Signal(count, name=f"{ask}_waiting"), Signal(count, name=f"{ask}_asks")
        addresses = Array(Signal(len(payload(slave, ask)), name=f"{ask}_{index}") for index in range(count))
        chosen, before = Signal(range(count), name=f"{ask}_chosen"), Signal(range(count), name=f"{ask}_before")
        granted = Signal(name=f"{ask}_granted")
        asked, taken = getattr(slave, f"{ask}_valid"), getattr(slave, f"{ask}_ready")
        m.d.comb += [
            asks.eq(waiting & Cat(may_ask)), granted.eq(asks.any() & free & ~asked & order.w_rdy),
            order.w_data.eq(chosen), order.w_en.eq(granted),
        ]
        with m.Switch(before):
            for index in range(count):
                with m.Case(index):
                    for distance in range(count, 0, -1):
                        with m.If(asks[(index + distance) % count]):
                            m.d.comb += chosen.eq((index + distance) % count)
        with m.If(taken):
            m.d.sync += asked.eq(0)
        with m.If(granted):
            m.d.sync += [asked.eq(1), payload(slave, ask).eq(addresses[chosen]), before.eq(chosen),
                         waiting.bit_select(chosen, 1).eq(0)]
        for index, master in enumerate(self.masters):
            m.d.comb += getattr(master, f"{ask}_ready").eq(~waiting[index])
            with m.If(getattr(master, f"{ask}_valid") & ~waiting[index]):
                m.d.sync += [waiting[index].eq(1), addresses[index].eq(payload(master, ask))]

        # An answer waits for the master that has asked for it.
        held, full = Signal(len(payload(slave, answer)), name=f"{answer}_held"), Signal(name=f"{answer}_full")
        arrived, ready = getattr(slave, f"{answer}_valid"), getattr(slave, f"{answer}_ready")
        accepted = Signal(name=f"{answer}_accepted")
        m.d.comb += ready.eq(~full)
        with m.If(accepted):
            m.d.sync += full.eq(0)
        with m.If(arrived & ~full):
            m.d.sync += [full.eq(1), held.eq(payload(slave, answer))]
        for index, master in enumerate(self.masters):
            m.d.comb += [payload(master, answer).eq(held),
                         getattr(master, f"{answer}_valid").eq(full & order.r_rdy & (order.r_data == index))]
            with m.If(getattr(master, f"{answer}_valid") & getattr(master, f"{answer}_ready")):
                m.d.comb += accepted.eq(1)
        is_last = held[-1] if answer == "r" else 1
        m.d.comb += order.r_en.eq(accepted & is_last)
        return granted, chosen
