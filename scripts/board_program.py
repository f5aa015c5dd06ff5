"""A network as the program of a board's engine: what is written once, where inputs go, where results lie."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from golden.network import QuantizedNetwork
    from hw.config import EngineConfig
    from hw.program import MemoryProgram, PlacedLayer

TAG_ADDRESS, TAG_BYTES = 0, 32
"""Where the board's memory says which program it holds: below what an engine may touch."""

Range = tuple[int, int]
"""Addresses from the first to the one behind the last, multiples of 8."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkProgram:
    """A network laid out for an engine.

    ``program``: with an input of zeros. ``inputs``: the addresses at which the input lies, once for each layer that
    takes it. ``output``: address of the network's output.
    """

    network: "QuantizedNetwork"
    config: "EngineConfig"
    program: "MemoryProgram"
    inputs: tuple[int, ...]
    output: int

    @property
    def output_range(self) -> tuple[int, int]:
        """Where the network's output lies: (first address, the one behind the last)."""
        return self.output, self.output + prod(self.network.layers[-1].output_shape)

    @property
    def names(self) -> list[str]:
        """The layers that the engine runs: all but concatenations, which are only addresses."""
        return [node.name for node in self.network.layers if node.op != "concat"]

    @cached_property
    def tag(self) -> bytes:
        """Says which program this is: a hash of all that is loaded."""
        return hashlib.sha256(self.program.image).digest()

    @cached_property
    def loaded(self) -> list[Range]:
        """What is loaded: all but the tag, the input, and what the engine writes."""
        taken = [(address, address + prod(self.network.input.shape)) for address in self.inputs]
        taken += [part for placed in self.program.layers for part in (output_range(placed), *result_ranges(placed))]
        return between(taken, self.program.window[0], self.program.image.size)


def network_program(network: "QuantizedNetwork", config: "EngineConfig", *, dense: bool = False) -> NetworkProgram:
    """Lay a network out for an engine; ``dense``: nothing is ranked or skipped.

    Raises :class:`hw.plan.PlanError` for a network that the engine cannot run.
    """
    import numpy as np

    from hw.program import STORED, build_program
    from sim.network import layer_sources

    jobs = [None if node.op == "concat" else
            node.job(*(np.zeros(shape, np.int8) for shape in node.input_shapes), ranked=not dense)
            for node in network.layers]
    sources = layer_sources(network)
    program = build_program(jobs, config, dense=dense, sources=sources)
    run = [number for number, job in enumerate(jobs) if job is not None]
    placed = dict(zip(run, program.layers, strict=True))
    inputs = tuple(placed[number].addresses.inputs[place] for number in run
                   for place, source in enumerate(sources[number]) if source == STORED)
    last = len(jobs) - 1
    while jobs[last] is None:  # a concatenation begins where its first part does
        last = sources[last][0]
    return NetworkProgram(network=network, config=config, program=program, inputs=inputs,
                          output=placed[last].addresses.output)


def result_ranges(placed: "PlacedLayer") -> list[tuple[int, int]]:
    """The addresses of a layer's output, where it is in memory, scores and winners: (first, behind the last)."""
    from hw.descriptor import Select

    channels, addresses = placed.plan.layer.out_channels, placed.addresses
    found = [output_range(placed)] if placed.in_memory else []
    found.append((addresses.scores, addresses.scores + channels))
    if placed.ranking.select != Select.ALL:
        found.append((addresses.winners, addresses.winners + -(-channels // 8)))
    return found


def output_range(placed: "PlacedLayer") -> tuple[int, int]:
    """The addresses of a layer's output, or of the place that it would have: (first, behind the last)."""
    return placed.addresses.output, placed.addresses.output + placed.plan.layer.out_channels * prod(
        placed.plan.layer.out_extent)


def around(ranges: Iterable[tuple[int, int]]) -> list[Range]:
    """The ranges in order, widened to multiples of 8, those that meet as one."""
    found: list[Range] = []
    for begin, end in sorted((begin & ~7, (end + 7) & ~7) for begin, end in ranges):
        if found and begin <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((begin, end))
    return found


def between(ranges: Sequence[tuple[int, int]], begin: int, end: int) -> list[Range]:
    """What is left of ``begin`` .. ``end`` without the ranges, widened to multiples of 8."""
    found, cursor = [], begin
    for first, behind in sorted(ranges):
        if first > cursor:
            found.append((cursor, first))
        cursor = max(cursor, behind)
    if cursor < end:
        found.append((cursor, end))
    return around(found)
