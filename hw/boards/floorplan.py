"""Where the multipliers go: placers spread what belongs together over all the blocks that are left."""

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

_ON_THE_LEFT = (
    *(f"ranking.half_product{half}_block" for half in range(2)),
    *(f"write_back.{name}_block" for name in ("first_reach", "row_bytes")),
    *(f"scheduler.runs.{half}_bytes_block" for half in ("low", "high")))
_ON_THE_RIGHT = tuple(f"walker.{name}1_{half}_block" for name in ("place", "offset", "size")
                      for half in ("low", "high"))
"""Multipliers beside the array's."""


def floorplan(device: str, config: EngineConfig, *, core: str) -> dict[str, str]:
    """Places of the engine's multipliers, {cell: BEL}; {} for other devices and arrays too large.

    A column of the array is a strip across the rows of blocks, as many of its elements in each as there must be,
    columns from left to right: sums stand beside their column's choice (:mod:`hw.drain`), operands go to a neighbour.
    The blocks left in the middle, where all columns' sums go, are the drain's. Where a row has fewer elements of each
    column, columns move together and leave a gap in each half, a quarter of its columns from the middle: there are the
    multipliers of ranking, write-back and scheduler, to the left, and of the segment walker, to the right. ``core`` is
    the path of the :class:`hw.engine.Core`.
    """
    rows = BLOCK_ROWS.get(device)
    if rows is None:
        return {}
    columns = config.columns
    beside = -(-config.rows // len(rows.y))
    spare = len(rows.blocks) - beside * columns
    if spare < 0:
        return {}
    middle = columns // 2
    breaks = (middle - middle // 4, middle, middle + (columns - middle) // 4)
    places, free = {}, ([], [], [])
    for row in range(len(rows.y)):
        elements = range(beside * row, min(beside * (row + 1), config.rows))
        fewer = beside - len(elements)
        gaps = (fewer * middle, spare, fewer * (columns - middle))
        for column in range(columns):
            first = len(elements) * column + sum(gap for at, gap in zip(breaks, gaps, strict=True) if column >= at)
            for block, element in enumerate(elements, start=first):
                places[f"{core}.array.product_{element}_{column}_block"] = _bel(rows, block, row)
        for number, (at, gap) in enumerate(zip(breaks, gaps, strict=True)):
            first = len(elements) * at + sum(gaps[:number])
            free[number].extend(_bel(rows, block, row) for block in range(first, first + gap))
    units = _ON_THE_LEFT, _drain_blocks(config), _ON_THE_RIGHT
    return places | {f"{core}.{name}": place for names, left in zip(units, free, strict=True)
                     for name, place in zip(names, left, strict=False)}


def _bel(rows: BlockRows, block: int, row: int) -> str:
    x, name = rows.blocks[block]
    return f"X{x}/Y{rows.y[row]}/{name}"


def _drain_blocks(config: EngineConfig) -> list[str]:
    """Of the addition, as many as there are, and of the requantizer, a lane's beside each other."""
    halves = [f"{a}_{b}" for a in ("low", "high") for b in ("low", "high")]
    added = [f"addition.lane{lane}_operand{operand}_{half}1_block" for lane in range(config.requantize_lanes)
             for operand in (1, 2) for half in ("low", "high")][:config.spare_multipliers]
    requantized = [f"requantizer.lane{lane}_{half}4_block" for lane in range(config.requantize_lanes)
                   for half in halves]
    return [f"drain.{name}" for name in (*added, *requantized)]
