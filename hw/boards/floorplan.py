"""Where the multipliers of array and drain go: placers that move one cell at a time lose the order of the array."""

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


def floorplan(device: str, config: EngineConfig, *, core: str) -> dict[str, str]:
    """Places of the array's multipliers and of the drain's, {cell: BEL}; {} for other devices and arrays too large.

    A column of the array is a strip across the rows of blocks, as many of its elements in each as there must be,
    columns from left to right: sums stand beside their column's choice (:mod:`hw.drain`), operands go to a neighbour.
    The blocks that are left in the middle, where all columns' sums go, are the drain's. ``core`` is the path of the
    :class:`hw.engine.Core`.
    """
    rows = BLOCK_ROWS.get(device)
    if rows is None:
        return {}
    beside = -(-config.rows // len(rows.y))
    spare = len(rows.blocks) - beside * config.columns
    if spare < 0:
        return {}
    places, left_columns = {}, config.columns // 2
    for column in range(config.columns):
        first = beside * column + (spare if column >= left_columns else 0)
        for row in range(config.rows):
            place = _bel(rows, first + row % beside, row // beside)
            places[f"{core}.array.product_{row}_{column}_block"] = place
    start = beside * left_columns
    middle = [_bel(rows, block, row) for row in range(len(rows.y)) for block in range(start, start + spare)]
    return places | dict(zip(_drain_blocks(config, core), middle, strict=False))


def _bel(rows: BlockRows, block: int, row: int) -> str:
    x, name = rows.blocks[block]
    return f"X{x}/Y{rows.y[row]}/{name}"


def _drain_blocks(config: EngineConfig, core: str) -> list[str]:
    """Of the addition, as many as there are, and of the requantizer, a lane's beside each other."""
    halves = [f"{a}_{b}" for a in ("low", "high") for b in ("low", "high")]
    added = [f"addition.lane{lane}_operand{operand}_{half}1_block" for lane in range(config.requantize_lanes)
             for operand in (1, 2) for half in ("low", "high")][:config.spare_multipliers]
    requantized = [f"requantizer.lane{lane}_{half}4_block" for lane in range(config.requantize_lanes)
                   for half in halves]
    return [f"{core}.drain.{name}" for name in (*added, *requantized)]
