"""How many multipliers and block RAMs of an ECP5 a design needs, counted before it is synthesized."""

from dataclasses import dataclass

from amaranth.hdl import Elaboratable, Fragment, Instance, Shape
from amaranth.hdl._mem import MemoryInstance

from ..config import EngineConfig
from ..technology import BLOCK_RAM
from .presets import Board

MULTIPLIER = "MULT18X18D"
WORDS = {1: 16384, 2: 8192, 4: 4096, 9: 2048, 18: 1024, 36: 512}
"""Words of a block RAM by their width."""
# What Yosys' memory_libmap weighs (techlibs/lattice: brams_16kd.txt, lutrams_trellis.txt). The cost of selecting among
# the rows of LUT RAM was found from its choices: it predicts those for 400 sizes of 16 to 20,000 words.
BLOCK_COST = 128
LUT_WORDS, LUT_BITS, LUT_COST, SELECT_COST = 16, 4, 4, 3 / 8


class FitError(ValueError):
    """A design that is too large for its device; the message is one line."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Blocks of a device, needed or available."""

    multipliers: int
    block_rams: int


def memory_block_rams(*, width: int, depth: int, forced: bool = False) -> int:
    """Block RAMs of a memory of ``depth`` words with one clocked read port; 0 where Yosys makes it of LUTs.

    ``forced``: it has the attributes of :data:`hw.technology.BLOCK_RAM`.
    At most one too many for every 2048 words where ``depth`` is above 1024 and no power of two.
    """
    blocks = min(-(-depth // words) * -(-width // bits) for bits, words in WORDS.items())
    rows = -(-depth // LUT_WORDS)
    cost = LUT_COST * rows * -(-width // LUT_BITS) + SELECT_COST * (rows - 1) * width
    return 0 if cost <= BLOCK_COST * blocks and not forced else blocks


def count_resources(design: Elaboratable, platform=None) -> Resources:
    """What a design needs: multipliers are those that it instantiates, memories all that have clocked read ports.

    It is elaborated but not translated, which takes about a second.
    """
    # Memories are found by what Amaranth elaborates them to, for which 0.5.10 has no public name.
    multipliers = block_rams = 0
    waiting = [Fragment.get(design, platform)]
    while waiting:
        fragment = waiting.pop()
        waiting += [inner for inner, *_ in fragment.subfragments]
        if isinstance(fragment, Instance):
            multipliers += fragment.type == MULTIPLIER
        elif isinstance(fragment, MemoryInstance):
            ports = fragment._read_ports
            if ports and all(port._domain != "comb" for port in ports):
                memory = fragment._data
                block_rams += len(ports) * memory_block_rams(
                    width=Shape.cast(memory.shape).width, depth=memory.depth,
                    forced=fragment._attrs.items() >= BLOCK_RAM.items())
    return Resources(multipliers=multipliers, block_rams=block_rams)


def least_resources(config: EngineConfig) -> Resources:
    """What an engine needs at least: a multiplier for each PE, and its buffers."""
    buffers = ((config.act_buffer_bytes, config.act_banks), (config.weight_buffer_bytes, config.weight_banks),
               (config.output_ring_bytes * config.columns, config.output_banks))
    return Resources(multipliers=config.rows * config.columns, block_rams=sum(
        banks * memory_block_rams(width=8, depth=size // banks) for size, banks in buffers))


def require_fit(board: Board, config: EngineConfig, needed: Resources, *, at_least: bool = False) -> None:
    """Raise FitError if there are not as many multipliers and block RAMs as are ``needed``, or needed ``at_least``."""
    if needed.multipliers > board.multipliers or needed.block_rams > board.block_rams:
        raise FitError(
            f"{config.rows}x{config.columns} array with {config.act_buffer_bytes:,} + {config.weight_buffer_bytes:,} "
            f"bytes of buffers: needs {'at least ' if at_least else ''}{needed.multipliers:,} multipliers and "
            f"{needed.block_rams:,} block RAMs, the {board.device} of {board.name} has {board.multipliers} and "
            f"{board.block_rams}")
