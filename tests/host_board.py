"""A board in Python behind a port: memory, registers, and the golden model in the place of the engine."""

import json

import numpy as np

from hw.boards.system import identity
from hw.config import EngineConfig
from hw.registers import COUNTERS, IDENTITY_VALUE, PROFILE_WORDS, Register

from .test_hw_link_client import STATUS_ADDRESS, Board

CONFIG = EngineConfig(rows=2, columns=2, axi_data_bits=32, requantize_lanes=1, vector_lanes=1, act_buffer_bytes=4096,
                      weight_buffer_bytes=4096, output_ring_bytes=256, psum_tiles=4, max_channels=256, rank_lanes=8,
                      outstanding_reads=4, profile_layers=4)
CLOCK_HZ = 50_000_000
MEMORY_BYTES = 1 << 18
DONE = 2


class HostBoard(Board):
    """``engine(memory)`` is called at a start, with memory as an array (uint8): it returns the counters of each layer.

    ``losses``: after so many more writes to the port, each time, it is unplugged; with ``forgets`` memory is lost then,
    with ``gone`` it does not come back.
    """

    name = "port"

    def __init__(self, **fields):
        super().__init__(**fields)
        self.identity = json.dumps(json.loads(identity(board="ulx3s-test", config=CONFIG, clock_hz=CLOCK_HZ))
                                   | {"memory_bytes": MEMORY_BYTES}).encode()
        self.memory = bytearray(MEMORY_BYTES)
        self.registers = {Register.IDENTITY: IDENTITY_VALUE}
        self.engine, self.status, self.losses, self.starts = None, DONE, [], 0
        self.forgets = self.gone = False
        self.interrupt_after = 1

    def write(self, frame: bytes):
        if self.losses:
            self.losses[0] -= 1
            if not self.losses[0]:
                self.losses.pop(0)
                self.unplugged, self.missing = True, self.gone
                if self.forgets:
                    self.memory[:] = bytes(len(self.memory))
        super().write(frame)

    def answer(self, frame: bytes) -> bytes:
        reply = super().answer(frame)
        if self.registers.get(Register.CONTROL) == 1:
            self.registers[Register.CONTROL] = 0
            self.start()
        return reply

    def start(self):
        """Run the program."""
        self.starts += 1
        totals = np.zeros(len(COUNTERS), int)
        for number, counters in enumerate(self.engine(np.frombuffer(self.memory, np.uint8))):
            totals += [counters.get(name, 0) for name in COUNTERS]
            for word, value in enumerate(totals):
                self.registers[Register.PROFILE + 4 * (PROFILE_WORDS * number + word)] = int(value)
        for word, value in enumerate(totals):
            self.registers[Register.COUNTERS + 4 * word] = int(value)
        self.registers[STATUS_ADDRESS] = self.status


def store(memory: np.ndarray, placed, result) -> None:
    """What the engine leaves in memory of a layer: output, scores, winners."""
    address = placed.addresses
    parts = [(address.scores, result.scores)]
    if placed.in_memory:
        parts.append((address.output, result.output.view(np.uint8).reshape(-1)))
    if address.winners:
        parts.append((address.winners, np.packbits(result.winners.astype(bool), bitorder="little")))
    for begin, values in parts:
        memory[begin:begin + values.size] = values
