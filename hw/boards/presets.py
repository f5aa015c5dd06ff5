"""The boards that bitstreams are made for, and the engine that each of them gets unless told otherwise."""

from dataclasses import dataclass

from ..config import EngineConfig


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board and its device.

    ``lut4s``, ``multipliers``, ``block_rams``: what nextpnr has of 4-input LUTs, MULT18X18D and DP16KD for the device;
    of the 12F those of the 25F, which it is made as. ``nextpnr_options``: device, package and speed grade.
    ``placer``: of nextpnr, the one that has served this device's engine best. ``frequency_mhz``: what is asked for
    unless told otherwise; docs/fpga.md says where place and route has reached it.
    """

    name: str
    device: str
    nextpnr_options: tuple[str, ...]
    placer: str = "static"
    lut4s: int
    multipliers: int
    block_rams: int
    frequency_mhz: float
    baud: int
    config: EngineConfig


def _ulx3s(size: int, **fields) -> Board:
    # The FT231X of the ULX3S divides 3 MHz: 3 Mbaud is its fastest and exact.
    return Board(name=f"ulx3s-{size}f", device=f"LFE5U-{size}F", baud=3_000_000,
                 nextpnr_options=(f"--{size}k", "--package", "CABGA381", "--speed", "6"), **fields)


BOARDS = {board.name: board for board in (
    _ulx3s(85, lut4s=83_640, multipliers=156, block_rams=208, frequency_mhz=100, config=EngineConfig(
        rows=8, columns=16, axi_data_bits=32, requantize_lanes=2, vector_lanes=4, act_buffer_bytes=65_536,
        weight_buffer_bytes=65_536, max_channels=1024, rank_lanes=8, profile_layers=32)),
    _ulx3s(45, lut4s=43_848, multipliers=72, block_rams=108, frequency_mhz=80, placer="heap", config=EngineConfig(
        rows=4, columns=8, axi_data_bits=32, requantize_lanes=1, vector_lanes=3, act_buffer_bytes=65_536,
        weight_buffer_bytes=32_768, output_ring_bytes=1024, psum_tiles=16, max_channels=1024, rank_lanes=16,
        outstanding_reads=8, profile_layers=32)),
    _ulx3s(12, lut4s=24_288, multipliers=28, block_rams=56, frequency_mhz=75, config=EngineConfig(
        rows=2, columns=2, axi_data_bits=32, requantize_lanes=1, vector_lanes=1, act_buffer_bytes=32_768,
        weight_buffer_bytes=16_384, output_ring_bytes=1024, psum_tiles=8, max_channels=256, rank_lanes=8,
        outstanding_reads=4, profile_layers=16)),
)}
REFUSED = {
    "icebreaker": "the smallest engine needs 18,788 LUT4s and 64 block RAMs, the iCE40UP5K has 5,280 and 30; "
                  "the small board is ulx3s-12f",
}
"""Boards that no engine fits, and why (docs/fpga.md)."""
