"""The AXI4-Lite register map: one definition for hardware, driver and documentation."""

from enum import IntEnum


class Register(IntEnum):
    """Byte offsets of the 32-bit registers."""

    IDENTITY = 0x00
    """Read only: ``IDENTITY_VALUE``."""
    CONTROL = 0x04
    """Write bit 0: start the program. Write bit 1: clear the interrupt."""
    STATUS = 0x08
    """Read only. Bit 0: busy. Bit 1: done. Bit 2: error. Bits 15..8: :class:`Error`."""
    PROGRAM_ADDRESS = 0x0C
    """Address of the first descriptor."""
    PROGRAM_LENGTH = 0x10
    """Number of descriptors."""
    WINDOW_BASE = 0x14
    """First address the engine may read or write."""
    WINDOW_LIMIT = 0x18
    """First address behind the window."""
    COUNTERS = 0x40
    """Read only: the counters of :data:`COUNTERS`, cleared at the start of a program."""
    PROFILE = 0x1000
    """Read only: for each finished layer (modulo the table's size) ``PROFILE_WORDS`` words, its counters so far."""


IDENTITY_VALUE = 0x574E4E57
PROFILE_WORDS = 32

COUNTERS = (
    "cycles",
    "read_activations",
    "read_weights",
    "read_parameters",
    "read_mask",
    "read_beats",
    "read_program",
    "write_activations",
    "write_mask",
    "write_beats",
    "array_active",
    "stall_program",
    "stall_activations",
    "stall_weights",
    "stall_drain",
    "stall_output",
    "rank_exposed",
)
"""Counters in order. ``cycles``: start to interrupt, the sum of ``array_active`` and all ``stall_*``. ``read_*`` and
``write_*``: bytes asked for by tensor kind; ``*_beats``: AXI beats that carried them. ``rank_exposed``: cycles from a
layer's last score to its first winner leaving."""


class Error(IntEnum):
    """Why a program stopped."""

    NONE = 0
    DESCRIPTOR = 1
    """Unknown op, a size of zero, or more channels than built for."""
    WINDOW = 2
    """An address outside the window."""
    READ = 3
    """An AXI read error response."""
    WRITE = 4
    """An AXI write error response."""
    TIMEOUT = 5
    """No progress with nothing outstanding: a descriptor whose sizes contradict each other."""
