"""The simulator's harness, on an engine that copies memory (copy_engine.sv): results, failures, progress, cache."""

import re
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hw.config import EngineConfig
from hw.registers import COUNTERS
from sim import verilator
from sim.simulator import Program, Simulator
from sim.verilator import SimulationError

SOURCE = (Path(__file__).parent / "copy_engine.sv").read_text()
BURST = 16 * 16  # bytes
WAIT_FOREVER, BREAK_RULE = 1 << 31, 1 << 30


def copy_program(*, bursts: int, seed: int = 0) -> Program:
    """Copy the lower half of the memory to the upper half."""
    image = np.random.default_rng(seed).integers(0, 256, 2 * bursts * BURST, dtype=np.uint8)
    return Program(
        image=image,
        descriptors_address=bursts * BURST,
        descriptor_count=bursts,
        window=(0, image.size),
        layers=1,
    )


@pytest.fixture(autouse=True)
def logs_stay_with_the_test(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture(scope="module")
def fast():
    return Simulator(EngineConfig(), "fast", source=SOURCE)


@pytest.fixture(scope="module")
def stall():
    return Simulator(EngineConfig(), "stall", source=SOURCE)


@pytest.mark.parametrize("memory", ["fast", "stall"])
def test_runs_several_programs_each_on_its_own_memory(memory, request):
    programs = [copy_program(bursts=bursts, seed=bursts) for bursts in (1, 30, 7)]
    runs = request.getfixturevalue(memory).run(programs, seed=1)
    assert len(runs) == len(programs)
    for program, run in zip(programs, runs, strict=True):
        half = program.size // 2
        assert np.array_equal(run.image, np.tile(program.image[:half], 2))
        assert (run.status, run.error) == (2, 0)
        assert run.counters[COUNTERS[1]] == half // 16  # beats
        assert half // 16 < run.counters[COUNTERS[0]] < run.cycles_simulated
        assert run.profile == [run.counters]
        assert run.wall_seconds > 0


def test_fast_memory_answers_after_its_latency(fast):
    (run,) = fast.run([copy_program(bursts=2)])
    # 1 to the address, 16 to the first beat, 1 to the write channel, 31 more beats, 8 to the response, 1 to the end
    assert run.counters[COUNTERS[0]] == 1 + 16 + 1 + 31 + 8 + 1


def test_stalls_follow_the_seed(stall):
    first, again, other = (stall.run([copy_program(bursts=20)], seed=seed)[0] for seed in (3, 3, 4))
    assert first.cycles_simulated == again.cycles_simulated != other.cycles_simulated
    assert first.counters[COUNTERS[0]] > 20 * 16 + 57


@pytest.mark.parametrize("memory", ["fast", "stall"])
def test_error_responses(memory, request):
    simulator = request.getfixturevalue(memory)
    program = copy_program(bursts=4)
    fault = replace(program, fault=(2 * BURST + 5, 2 * BURST + 6, 2))
    outside = replace(program, descriptor_count=9, window=(0, 1 << 20))
    normal, faulty, beyond = simulator.run([program, fault, outside])
    assert [run.status & 4 for run in (normal, faulty, beyond)] == [0, 4, 4]
    assert not np.any(faulty.image[6 * BURST : 6 * BURST + 16])


@pytest.mark.parametrize("memory", ["fast", "stall"])
def test_failures_are_one_line_with_the_log(memory, request):
    simulator = request.getfixturevalue(memory)
    program = copy_program(bursts=4)
    target = program.descriptors_address
    cases = [
        (replace(program, descriptors_address=target | WAIT_FOREVER), "program 0: no interrupt within 1000 cycles"),
        (replace(program, window=(0, 5 * BURST)), f"write at 0x{5 * BURST:x} is outside the window"),
    ]
    if memory == "stall":  # the other one takes every address at once
        cases.append((replace(program, descriptors_address=target | BREAK_RULE), "AXI AW changed before it was taken"))
    for failing, reason in cases:
        with pytest.raises(SimulationError) as caught:
            simulator.run([failing], timeout_cycles=1000)
        found = re.fullmatch(re.escape(reason) + r"; log: (\S+)", str(caught.value))
        assert found, str(caught.value)
        assert Path(found[1]).is_file()


def test_programs_that_cannot_be_are_refused(stall):
    program = copy_program(bursts=1)
    for change, message in (
        ({"image": b""}, "program 0: image: expected a multiple of 16 bytes"),
        ({"image": bytes(17)}, "program 0: image: expected a multiple of 16 bytes"),
        ({"layers": 65}, "program 0: layers: expected 0..64"),
        ({"fault": (0, 1, 1)}, "program 0: fault: expected the response 2 or 3"),
        ({"fault": (0, 1, 3)}, "program 0: fault: the stall memory can only answer 2 (SLVERR)"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            stall.run([replace(program, **change)])
    with pytest.raises(ValueError, match=r"^memory: expected \"fast\" or \"stall\", got 'slow'$"):
        Simulator(EngineConfig(), "slow")
    assert stall.run([]) == []


def test_progress_and_interruption(fast):
    calls = []
    fast.run([copy_program(bursts=3), copy_program(bursts=5)], progress=lambda *call: calls.append(call))
    assert [finished for finished, _ in calls][-2:] == [1, 2]
    assert calls == sorted(calls)

    endless = replace(copy_program(bursts=1), descriptors_address=WAIT_FOREVER | BURST)

    def interrupt(finished, cycles):
        assert finished == 0 and cycles > 0
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fast.run([endless], timeout_cycles=10**9, progress=interrupt)
    assert time.monotonic() - start < 30


def test_waves(tmp_path):
    simulator = Simulator(EngineConfig(), waves=tmp_path / "waves", source=SOURCE)
    simulator.run([copy_program(bursts=2)])
    header = (tmp_path / "waves" / "winnow.fst").read_bytes()[:25]
    assert header[:9] == bytes([0, 0, 0, 0, 0, 0, 0, 1, 0x49])  # an FST header block of 329 bytes
    assert int.from_bytes(header[17:25], "big") > 10 * 50  # end time in ns


def test_one_build_for_all_who_ask_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "cache"))
    source = "module counter(input clk, output logic [7:0] n); always_ff @(posedge clk) n <= n + 1; endmodule"
    lines = []

    def build(_):
        return verilator.build(top="counter", sources={"counter.sv": source}, parameters={}, announce=lines.append)

    with ThreadPoolExecutor(3) as pool:
        paths = set(pool.map(build, range(3)))
    assert len(paths) == 1 and len(lines) == 2
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {"", ".lock"}  # nothing half built is left
    assert build(0) in paths and len(lines) == 2

    monkeypatch.setenv("PATH", "")
    with pytest.raises(SimulationError, match="needs g\\+\\+ and make, not found on PATH"):
        verilator.require_tools()
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "two words"))
    with pytest.raises(SimulationError, match="make cannot build in a path with spaces"):
        verilator.cache_folder()


def test_a_build_that_fails_names_its_log(tmp_path, monkeypatch):
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "cache"))
    with pytest.raises(SimulationError) as caught:
        verilator.build(top="broken", sources={"broken.sv": "module broken(; endmodule"}, parameters={})
    found = re.fullmatch(r"verilator_bin failed with exit status 1, see (\S+)", str(caught.value))
    assert "syntax error" in Path(found[1]).read_text()
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".lock"}
