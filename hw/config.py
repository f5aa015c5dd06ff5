"""The sizes of an engine: one frozen record shared by hardware, lowering, analytical model and simulator."""

from dataclasses import dataclass, fields

VECTOR_TAPS = 3
"""Neighbouring taps of a row that the vector unit takes at a time."""


class ConfigError(ValueError):
    """An engine that cannot be built; the message is one line naming the field and what was expected."""


def ceil_div(a: int, b: int) -> int:
    """Smallest integer >= a / b."""
    return -(-a // b)


def ceil_power_of_two(value: int) -> int:
    """Smallest power of two >= value."""
    return 1 << max(0, value - 1).bit_length()


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Sizes of one engine.

    Parameters
    ----------
    rows, columns:
        The PE array: ``rows`` output pixels by ``columns`` output channels, 1..64 each.
    act_buffer_bytes, weight_buffer_bytes:
        On-chip buffers; whole multiples of :attr:`act_banks` and :attr:`weight_banks`.
    output_ring_bytes:
        Output buffer per array column, a power of two: the results that wait for pooling and write-back.
    axi_data_bits:
        Width of the AXI4 master: 64 or 128, or 32 for a memory that gives no more than 4 bytes a cycle.
    requantize_lanes:
        Results requantized a cycle, 1..``rows``; a tile drains in ``columns * ceil(rows / lanes)`` cycles.
    vector_lanes:
        Results that the vector unit (depthwise, pooling, addition) computes at a time, each with three multipliers, at
        most 3 * ``requantize_lanes`` (more are cut to that): a 3x3 window takes three cycles, so that many are
        requantized meanwhile.
    psum_tiles:
        Tiles whose int32 sums are kept between passes over the input channels, where the weights or the activations
        of all of them do not fit; a power of two.
    max_channels:
        Most input or output channels of a layer.
    rank_lanes:
        Channels compared with the threshold a cycle when the winners are read out; a power of two, 8..64.
    outstanding_reads:
        AXI read bursts in flight.
    profile_layers:
        Layers whose counters are recorded on chip, a power of two.
    weight_bits:
        Of the multipliers' weights: 8, or 9 where a zero point is subtracted from them (uint8 models).
    spare_multipliers:
        Multiplier blocks of an FPGA for products that are made of LUTs otherwise: the rescaling of additions, four for
        each of ``requantize_lanes``, then the vector unit's.
    """

    rows: int = 16
    columns: int = 16
    act_buffer_bytes: int = 128 * 1024
    weight_buffer_bytes: int = 128 * 1024
    output_ring_bytes: int = 1024
    axi_data_bits: int = 128
    requantize_lanes: int = 8
    vector_lanes: int = 24
    psum_tiles: int = 32
    max_channels: int = 4096
    rank_lanes: int = 64
    outstanding_reads: int = 32
    profile_layers: int = 64
    weight_bits: int = 8
    spare_multipliers: int = 0

    address_bits = 32

    def __post_init__(self):
        for field in fields(self):
            if type(getattr(self, field.name)) is not int:
                raise ConfigError(f"{field.name}: expected an integer, got {getattr(self, field.name)!r}")
        if self.requantize_lanes > self.rows:
            object.__setattr__(self, "requantize_lanes", max(self.rows, 1))
        self._require("vector_lanes", 1 <= self.vector_lanes <= 62, "1..62")
        if self.vector_lanes > VECTOR_TAPS * self.requantize_lanes:
            object.__setattr__(self, "vector_lanes", VECTOR_TAPS * self.requantize_lanes)
        self._require("rows", 1 <= self.rows <= 64, "1..64")
        self._require("columns", 1 <= self.columns <= 64, "1..64")
        self._require("axi_data_bits", self.axi_data_bits in (32, 64, 128), "32, 64 or 128")
        self._require("requantize_lanes", self.requantize_lanes >= 1, "at least 1")
        psum_tiles = self.psum_tiles
        self._require("psum_tiles", 1 <= psum_tiles <= 1024 and psum_tiles == ceil_power_of_two(psum_tiles),
                      "a power of two, 1..1024")
        self._require("max_channels", 1 <= self.max_channels <= 65535, "1..65535")
        for name, banks in (("act_buffer_bytes", self.act_banks), ("weight_buffer_bytes", self.weight_banks)):
            size = getattr(self, name)
            self._require(name, 4 * banks <= size <= 1 << 23 and size % banks == 0,
                          f"a multiple of {banks} from {4 * banks} to {1 << 23}")
        ring = self.output_ring_bytes
        self._require("output_ring_bytes", ring == ceil_power_of_two(ring) and 4 * self.output_banks <= ring <= 1 << 16,
                      f"a power of two from {4 * self.output_banks} to 65536")
        self._require("rank_lanes", self.rank_lanes in (8, 16, 32, 64), "8, 16, 32 or 64")
        self._require("outstanding_reads", 2 <= self.outstanding_reads <= 256, "2..256")
        self._require("spare_multipliers", 0 <= self.spare_multipliers <= 65535, "0..65535")
        self._require("weight_bits", self.weight_bits in (8, 9), "8 or 9")
        self._require("profile_layers", self.profile_layers in [1 << n for n in range(9)], "a power of two, 1..256")

    def _require(self, name: str, holds: bool, expected: str):
        if not holds:
            raise ConfigError(f"{name}: expected {expected}, got {getattr(self, name)}")

    @property
    def axi_bytes(self) -> int:
        """Bytes of one beat."""
        return self.axi_data_bits // 8

    @property
    def act_banks(self) -> int:
        """Byte-wide banks of the activation buffer, as many bytes are read a cycle: a power of two that serves a row
        vector, the vector unit's lanes and a beat."""
        return ceil_power_of_two(max(self.rows, self.vector_lanes + VECTOR_TAPS - 1, self.axi_bytes))

    @property
    def weight_banks(self) -> int:
        """Byte-wide banks of the weight buffer: a power of two that serves a column vector and a beat."""
        return ceil_power_of_two(max(self.columns, self.axi_bytes))

    @property
    def output_banks(self) -> int:
        """Byte-wide banks of the output buffer, and pixels that pooling and write-back handle a cycle."""
        return ceil_power_of_two(max(self.requantize_lanes, self.axi_bytes))

    @property
    def weight_read_bytes(self) -> int:
        """Neighbouring bytes of the weight buffer read a cycle."""
        return max(self.columns, VECTOR_TAPS)

    def vector_positions(self, lane_step: int) -> int:
        """Results of a tile of the vector unit whose windows are ``lane_step`` bytes apart: one read serves all."""
        return min(self.vector_lanes, (self.act_banks - VECTOR_TAPS) // lane_step + 1)

    @property
    def vector_chunks(self) -> int:
        """Cycles to drain a tile of the vector unit."""
        return ceil_div(self.vector_lanes, self.requantize_lanes)

    @property
    def position_lanes(self) -> int:
        """Most positions of a tile."""
        return max(self.rows, self.vector_lanes)

    @property
    def drain_chunks(self) -> int:
        """Cycles to drain one column of a tile."""
        return ceil_div(self.rows, self.requantize_lanes)
