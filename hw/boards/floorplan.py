"""Where the processing elements' multipliers go: placers that see one cell at a time lose the order of the array."""

from dataclasses import dataclass

from ..config import EngineConfig


@dataclass(frozen=True, kw_only=True)
class BlockRows:
    """The rows of multiplier blocks that run across a device: ``y`` of each; ``x``, place and name of each block."""

    y: tuple[int, ...]
    blocks: tuple[tuple[int, str], ...]


def _tiles(*starts: int) -> tuple[tuple[int, str], ...]:
    """Four blocks in each group of nine tiles that starts at these."""
    return tuple((start + offset, f"MULT18_{offset}") for start in starts for offset in (0, 1, 4, 5))


BLOCK_ROWS = {
    # nextpnr's names: BELs of type MULT18X18D of the LFE5U-85F. The clock's spine is between its halves.
    "LFE5U-85F": BlockRows(y=(10, 34, 58), blocks=_tiles(*range(4, 67, 9), *range(69, 122, 9))),
}


def floorplan(device: str, config: EngineConfig, *, array: str) -> dict[str, str]:
    """The place of each processing element's multiplier, {cell: BEL}; {} for other devices and arrays too large.

    A column of the array is a strip across the rows of blocks, as many of its elements in each as there must be,
    columns from left to right: sums stand beside their column's choice (:mod:`hw.drain`), operands go to a neighbour.
    ``array`` is the path of the :class:`hw.array.SystolicArray`.
    """
    rows = BLOCK_ROWS.get(device)
    if rows is None:
        return {}
    beside = -(-config.rows // len(rows.y))
    if beside * config.columns > len(rows.blocks):
        return {}
    places = {}
    for column in range(config.columns):
        first = column * len(rows.blocks) // config.columns
        for row in range(config.rows):
            x, name = rows.blocks[first + row % beside]
            places[f"{array}.product_{row}_{column}_block"] = f"X{x}/Y{rows.y[row // beside]}/{name}"
    return places
