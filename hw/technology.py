"""The family of devices that a design is built for, which decides the cells that it may instantiate."""

from enum import Enum

BLOCK_RAM = {"ram_style": "block"}
"""Attributes of a small memory that is to be made of block RAM, not of LUTs: LUTs are what FPGAs are short of."""


class Technology(Enum):
    """A family of devices; a member may be given as the platform where there is no board, as for a netlist alone."""

    GENERIC = "any device, simulation"
    ECP5 = "Lattice ECP5"
    ICE40UP = "Lattice iCE40 UltraPlus"


def technology_of(platform) -> Technology:
    """The technology of what ``elaborate`` is given: one itself, a platform with a ``device``, or None (generic)."""
    if isinstance(platform, Technology):
        return platform
    device = getattr(platform, "device", "")
    if device.startswith("LFE5U"):
        return Technology.ECP5
    if device.startswith("iCE40UP"):
        return Technology.ICE40UP
    return Technology.GENERIC
