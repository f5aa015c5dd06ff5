"""The bus master: words in consecutive places, their bytes as streams."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..axi import ADDRESS_BITS, AxiSignature
from .protocol import MAX_PAYLOAD, WORD_BYTES


class BusJob(data.Struct):
    """``words`` words, 1 at least, from ``address`` on, a multiple of a word; ``write``, or read."""

    address: ADDRESS_BITS
    words: range(MAX_PAYLOAD // WORD_BYTES + 1)
    write: 1


class BusMaster(wiring.Component):
    """Does one job at a time, in one burst at a time and one byte a cycle: little logic, and faster than any UART.

    Bursts are of ``burst_words`` at most and end at multiples of them, so none crosses 4 KiB. With bursts of one word
    the master is one of AXI4-Lite, which has fewer of the signals. A burst of n words takes
    ``n * (WORD_BYTES + 1) + 3`` cycles if the bus never waits, and what the bus takes from the last word or from the
    address to its response. A word is offered beside its burst's address, as AXI asks for, not behind it.

    Whatever the bus does, it sees legal bursts. A job that is aborted begins no more of them and completes the one it
    is in, with strobes that write nothing for words that had not been offered.

    Parameters
    ----------
    burst_words:
        A power of two; else ValueError.

    Members
    -------
    start, job:
        Strobe, only while not ``busy``.
    i, o:
        Bytes to write; bytes that were read.
    abort:
        Strobe: from the cycle after the next on no byte is taken or given.
    busy, failed:
        High from the cycle after ``start`` until the bus is done with the job; then, until the next: there was an error
        response, and no burst was begun after it.
    axi:
        The bus.
    """

    def __init__(self, *, burst_words: int):
        self.burst_bits = exact_log2(burst_words)
        super().__init__({
            "start": In(1), "job": In(BusJob), "i": In(stream.Signature(8)),
            "o": Out(stream.Signature(8, always_ready=True)), "abort": In(1), "busy": Out(1), "failed": Out(1),
            "axi": Out(AxiSignature(data_bits=8 * WORD_BYTES)),
        })

    def elaborate(self, platform):
        m = Module()
        axi, job, word = self.axi, Signal(BusJob), Signal(self.axi.w_data.shape())
        word_bits = exact_log2(WORD_BYTES)
        word_of_burst = job.address[word_bits:word_bits + self.burst_bits]
        burst = job.address[word_bits + self.burst_bits:]
        behind = Signal(self.burst_bits)
        """Words of the burst behind the present one."""
        byte, is_last_byte = Signal(word_bits), Signal()
        offered, enabled, aborted = Signal(), Signal(), Signal()
        m.d.comb += [
            axi.aw_address.eq(job.address), axi.ar_address.eq(job.address), axi.aw_length.eq(axi.ar_length),
            axi.w_data.eq(word), axi.w_strobe.eq(enabled.replicate(len(axi.w_strobe))), axi.w_last.eq(behind == 0),
            self.o.payload.eq(word[:8]), is_last_byte.eq(byte == WORD_BYTES - 1),
        ]
        for channel in ("ar", "aw", "w"):
            with m.If(getattr(axi, f"{channel}_ready")):
                m.d.sync += getattr(axi, f"{channel}_valid").eq(0)
        with m.If(self.abort):
            m.d.sync += aborted.eq(1)

        def end_burst():
            m.d.sync += [
                job.words.eq(job.words - axi.ar_length - 1), word_of_burst.eq(0), burst.eq(burst + 1),
            ]
            m.next = "BURST"

        with m.FSM() as states:
            m.d.comb += self.busy.eq(~states.ongoing("IDLE"))
            with m.State("IDLE"):
                with m.If(self.start):
                    m.d.sync += [job.eq(self.job), aborted.eq(0), self.failed.eq(0)]
                    m.next = "BURST"
            with m.State("BURST"):
                others, room = (job.words - 1)[:len(job.words)], ~word_of_burst
                length = Mux(others < room, others, room)
                m.d.sync += [axi.ar_length.eq(length), behind.eq(length), byte.eq(0), offered.eq(0), enabled.eq(1)]
                with m.If((job.words == 0) | self.failed | aborted):
                    m.next = "IDLE"
                with m.Elif(job.write):
                    m.next = "GATHER"
                with m.Else():
                    m.d.sync += axi.ar_valid.eq(1)
                    m.next = "TAKE"

            # A write: bytes into a word, the word to the bus, after the last one its response.
            with m.State("GATHER"):
                m.d.comb += self.i.ready.eq(~aborted)
                with m.If(self.i.valid & ~aborted):
                    m.d.sync += [word.eq(Cat(word[8:], self.i.payload)), byte.eq(byte + 1)]
                with m.If(aborted & ~offered):
                    m.next = "IDLE"
                with m.Elif(aborted | (self.i.valid & is_last_byte)):
                    m.d.sync += [axi.w_valid.eq(1), enabled.eq(~aborted), offered.eq(1)]
                    with m.If(~offered):
                        m.d.sync += axi.aw_valid.eq(1)
                    m.next = "OFFER"
            with m.State("OFFER"):
                with m.If(axi.w_ready):
                    m.d.sync += behind.eq(behind - 1)
                    m.next = "GATHER"
                    with m.If(behind == 0):
                        m.next = "RESPONSE"
            with m.State("RESPONSE"):
                m.d.comb += axi.b_ready.eq(1)
                with m.If(axi.b_valid):
                    m.d.sync += self.failed.eq(axi.b_response.any())
                    end_burst()

            # A read: a word from the bus, its bytes out.
            with m.State("TAKE"):
                m.d.comb += axi.r_ready.eq(1)
                with m.If(axi.r_valid):
                    m.d.sync += [word.eq(axi.r_data), self.failed.eq(self.failed | axi.r_response.any())]
                    m.next = "STORE"
            with m.State("STORE"):
                m.d.comb += self.o.valid.eq(~aborted)
                m.d.sync += [word.eq(word >> 8), byte.eq(byte + 1)]
                with m.If(is_last_byte):
                    m.d.sync += behind.eq(behind - 1)
                    m.next = "TAKE"
                    with m.If(behind == 0):
                        end_burst()
        return m
