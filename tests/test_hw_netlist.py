"""After synthesis: the netlist of a small engine, made of each technology's cells, computes what the reference does.

Synthesis and the compilation of the netlist take many minutes, so this is part of ``make test-fpga``.
"""

import re

import pytest

from golden.random_jobs import OPERATIONS, random_job, random_operation
from golden.reference import run as reference
from hw.boards.resources import count_resources
from hw.config import EngineConfig
from hw.engine import Engine
from hw.plan import PlanError
from hw.registers import Error
from hw.technology import Technology
from sim.netlist import models, netlist
from sim.simulator import Simulator

from .hw_helpers import assert_same, build

SMALLEST = EngineConfig(
    rows=2, columns=2, act_buffer_bytes=2048, weight_buffer_bytes=256, output_ring_bytes=64, axi_data_bits=32,
    requantize_lanes=1, vector_lanes=1, psum_tiles=1, max_channels=64, rank_lanes=8, outstanding_reads=2,
    profile_layers=1)


def random_jobs() -> list:
    """Convolutions that select channels, by a mask and by rank, and an operation of each other kind."""
    convolutions = (random_job(seed, max_macs=4000, max_channels=24) for seed in range(1000))
    jobs = [job for job in convolutions if job.ranking is not None and job.channel_mask is not None][:3]
    for kind in OPERATIONS:
        for seed in range(100):
            job = random_operation(seed, kind=kind, max_macs=1500, max_channels=24)
            try:
                build(job, SMALLEST)
            except PlanError:
                continue
            jobs.append(job)
            break
    return jobs


MULTIPLIERS = SMALLEST.rows * SMALLEST.columns + 4 * SMALLEST.requantize_lanes + 4
"""Of the array, of the requantizer and of the scores; those of addresses may be too small here for a block."""


@pytest.mark.fpga
@pytest.mark.parametrize(("technology", "multiplier", "ram"), [
    (Technology.ECP5, "MULT18X18D", "DP16KD"), (Technology.ICE40UP, "SB_MAC16", "SB_RAM40_4K"),
])
def test_netlist_computes_random_layers(technology, multiplier, ram):
    verilog = netlist(SMALLEST, technology)
    assert MULTIPLIERS <= len(re.findall(rf"^  {multiplier} ", verilog, re.M)) <= count_resources(
        Engine(config=SMALLEST), Technology.ECP5).multipliers
    assert re.search(rf"^  {ram} ", verilog, re.M)
    jobs = random_jobs()
    memories, programs = zip(*(build(job, SMALLEST) for job in jobs), strict=True)
    runs = Simulator(SMALLEST, source=verilog + models(technology)).run(programs, timeout_cycles=200_000)
    for index, (job, memory, run) in enumerate(zip(jobs, memories, runs, strict=True)):
        assert run.error == Error.NONE
        assert_same(memory.results(run.image)[0], reference(job), f"job {index}, {job.op}")
