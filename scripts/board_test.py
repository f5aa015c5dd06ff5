"""A board's self-test: its memory, and random layers on its engine, byte for byte."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scripts.board import Board
from scripts.board_program import TAG_BYTES, around, result_ranges
from scripts.board_run import SLACK, SPARE_CYCLES, layer_differences
from scripts.options import Failure, progress_bar

if TYPE_CHECKING:
    from sim.execute import Chain


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """``jobs`` unless told otherwise, each of at most ``macs`` products and ``image_bytes`` of memory; ``blocks`` of
    memory of ``block_bytes`` each that are tested."""

    jobs: int
    macs: int
    image_bytes: int
    blocks: int
    block_bytes: int


SIZES = {False: Sizes(jobs=20, macs=1_000_000, image_bytes=1 << 18, blocks=256, block_bytes=1024),
         True: Sizes(jobs=3, macs=20_000, image_bytes=1 << 13, blocks=4, block_bytes=256)}
"""Of a board, and of a simulated one."""


def test_board(board: Board, *, jobs: int, seed: int, sizes: Sizes) -> dict[str, Any]:
    """Test memory, then run ``jobs`` layers: what was tested. Raises LinkError or Failure at the first fault."""
    with progress_bar("memory", 2 * sizes.blocks * sizes.block_bytes, "bytes") as move:
        tested = board.test_memory(blocks=sizes.blocks, block_bytes=sizes.block_bytes, seed=seed, progress=move)
    board.persist(lambda: board.write_tag(bytes(TAG_BYTES)))
    cycles = 0
    with progress_bar("layers", jobs, "layers") as move:
        for number, (job_seed, chain) in zip(range(jobs), fitting_jobs(board, seed, sizes), strict=False):
            cycles += run_job(board, chain, job_seed)
            move(number + 1)
    return {"board": board.identity.board, "seed": seed, "jobs": jobs, "memory_bytes_tested": tested, "cycles": cycles}


def fitting_jobs(board: Board, seed: int, sizes: Sizes) -> "Iterator[tuple[int, Chain]]":
    """Random layers from ``seed`` on that the engine can run and that are small enough, each with its own seed."""
    from golden.reference import run as reference
    from hw.plan import PlanError
    from hw.program import build_program
    from sim.conformance import drawn_job
    from sim.execute import Chain

    config = board.identity.engine
    while True:
        job = drawn_job(seed, sizes.macs)
        try:
            if build_program([job], config).image.size <= sizes.image_bytes:
                yield seed, Chain(names=[f"layer {seed}"], jobs=[job], expected=[reference(job)], config=config)
        except PlanError:
            pass
        seed += 1


def run_job(board: Board, chain: "Chain", seed: int) -> int:
    """Run a layer; its cycles. Raises Failure where a byte differs, and as :class:`scripts.board.Board`."""
    program = chain.program
    memory = np.array(program.image)
    parts = around(part for placed in program.layers for part in result_ranges(placed))

    def once() -> int:
        board.write(program.image, [(program.window[0], program.window[1])])
        board.run(program, most_cycles=SLACK * int(chain.predicted_cycles) + SPARE_CYCLES)
        board.read(memory, parts)
        return board.counters()["cycles"]

    cycles = board.persist(once)
    wrong = layer_differences(chain.names, program.layers, chain.expected, memory)
    if wrong:
        raise Failure(f"{wrong[0]}; again: winnow host selftest --jobs 1 --seed {seed}")
    return cycles
