"""The software baseline: kernels on the simulated core, bit for bit, their cycles, and what is said when they fail."""

import importlib.metadata
import json
from dataclasses import replace

import numpy as np
import pytest

from golden.job import LayerJob, Ranking
from golden.random_jobs import OPERATIONS, random_job, random_operation
from golden.reference import run as reference
from golden.result import LayerResult
from sim.software import baseline as baseline_module
from sim.software import compiler
from sim.software.band import Band, bands, whole_of
from sim.software.baseline import Baseline, Question, planned_cycles
from sim.software.memory_image import MemoryImage
from sim.software.ways import DENSE, RANK, SPARSE, kernel_name
from sim.verilator import SimulationError

WAYS = (*DENSE, *SPARSE, RANK)


@pytest.fixture(scope="module")
def software() -> Baseline:
    return Baseline()


@pytest.fixture
def nothing_kept(tmp_path, monkeypatch):
    """No result of an earlier run counts."""
    monkeypatch.setattr(baseline_module, "cache_folder", lambda: tmp_path)


def layer(channels, size, outputs, kernel, *, stride=1, groups=1, rate=0.5, seed=1) -> LayerJob:
    rng = np.random.default_rng(seed)
    mask = np.zeros(channels, np.uint8)
    mask[rng.permutation(channels)[: round(channels * rate)]] = 1
    return LayerJob(
        input=rng.integers(-128, 128, (channels, size, size), np.int8),
        weight=rng.integers(-127, 128, (outputs, channels // groups, kernel, kernel), np.int8),
        bias=rng.integers(-999, 999, outputs, np.int32), multiplier=np.full(outputs, 1 << 30, np.int32),
        shift=np.full(outputs, -7, np.int32), input_zero_point=-128, output_zero_point=-100, activation_min=-128,
        activation_max=127, stride=(stride, stride), padding=((kernel - 1) // 2,) * 4, channel_mask=mask,
        groups=groups, ranking=Ranking(score="max", select="topk", value=max(1, outputs // 2)))


def questions(job) -> list[Question]:
    """All that there are for a job."""
    result = reference(job)
    return [Question(job=job, result=result, way=way) for way in WAYS
            if kernel_name(job, way) and (way != RANK or job.ranking is not None)]


def measured(software: Baseline, asked: list[Question], budget: float = 1e12) -> dict[str, int]:
    return {one.way: found.cycles for one, found in zip(asked, software.measure(asked, budget), strict=True)}


@pytest.mark.parametrize("kind", OPERATIONS)
@pytest.mark.parametrize("seed", range(3))
def test_kernels_equal_the_golden_model(software, nothing_kept, kind, seed):
    """``run`` compares every byte; the reference is TFLite's arithmetic in PyTorch, independent of the C code."""
    asked = questions(random_operation(seed, kind=kind, max_macs=6_000))
    assert {"naive", "blocked"} < {one.way for one in asked}
    software.measure(asked, 1e12)


def test_kernels_take_weights_with_a_zero_point_and_single_rounding(software, nothing_kept):
    for seed, groups in ((0, 1), (1, 2), (2, 12)):
        job = layer(12, 6, 12, 3, groups=groups, seed=seed)
        software.measure(questions(replace(job, weight_zero_point=-37, rounding="once")), 1e12)


def test_every_selection_and_score(software, nothing_kept):
    for seed, rule in enumerate([
            Ranking(score="max", select="all"), Ranking(score="absmax", select="threshold", value=120),
            Ranking(score="mean", select="energy", value=0.7, score_multiplier=1 << 30, score_shift=-3),
            Ranking(score="max", select="energy", value=0.5, energy_power=2),
            Ranking(score="max", select="energy", value=0), Ranking(score="max", select="energy", value=1),
            Ranking(score="absmax", select="topk", value=40)]):
        job = replace(layer(8, 4, 40, 1, seed=seed), ranking=rule)
        asked = [Question(job=job, result=reference(job), way=RANK)]
        software.measure(asked, 1e12)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_energy_at_the_border_of_equal_scores(software, nothing_kept, share):
    """Few different scores, so that winners' energy is often exactly the share that is asked for."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        job = replace(layer(2, 1, 8, 1), ranking=Ranking(score="max", select="energy", value=share))
        output = (job.output_zero_point + 10 * rng.integers(0, 3, (8, 1, 1))).astype(np.int8)
        result = LayerResult(output=output, scores=np.zeros(8, np.uint8), winners=np.zeros(8, np.uint8))
        software.run(Question(job=job, result=result, way=RANK), whole_of(job))


def test_ties_of_requantization_go_away_from_zero(software, nothing_kept):
    """Every value of a quarter: the sums are the pixels themselves."""
    pixels = np.arange(-128, 128, dtype=np.int8).reshape(1, 16, 16)
    for rounding in ("twice", "once"):
        job = LayerJob(
            input=pixels, weight=np.ones((1, 1, 1, 1), np.int8), bias=np.zeros(1, np.int32),
            multiplier=np.full(1, 1 << 30, np.int32), shift=np.full(1, -1, np.int32), input_zero_point=0,
            output_zero_point=0, activation_min=-128, activation_max=127, stride=(1, 1), padding=(0, 0, 0, 0),
            rounding=rounding)
        result = reference(job)
        quarter = pixels.ravel() / 4
        away = np.sign(quarter) * np.floor(np.abs(quarter) + 0.5)
        # Twice: to the half upwards first.
        first = np.floor(pixels.ravel() / 2 + 0.5)
        twice = np.sign(first) * np.floor(np.abs(first) / 2 + 0.5)
        expected = twice if rounding == "twice" else np.floor(quarter + 0.5)
        assert np.array_equal(result.output.ravel(), expected) and not np.array_equal(expected, away)
        software.run(Question(job=job, result=result, way="blocked"), whole_of(job))


def test_a_result_that_differs_is_refused(software, nothing_kept):
    job = random_job(3, max_macs=5000)
    result = reference(job)
    wrong = LayerResult(output=result.output ^ np.int8(1), scores=result.scores, winners=result.winners)
    with pytest.raises(SimulationError, match="convolution_naive differs from the golden model"):
        software.run(Question(job=job, result=wrong, way="naive"), whole_of(job))


def test_results_are_kept(software, tmp_path, monkeypatch):
    monkeypatch.setattr(baseline_module, "cache_folder", lambda: tmp_path)
    asked = questions(layer(8, 6, 8, 3))
    first = measured(software, asked)
    assert len(list((tmp_path / "software").iterdir())) == len(asked)

    def fail(*_, **__):
        raise AssertionError("the core ran again")

    monkeypatch.setattr(software.core, "run", fail)
    assert measured(software, asked) == first


def test_blocking_and_packing_pay(software):
    """The baseline is good code: about what has been seen of such kernels on this core, or better."""
    job = layer(32, 16, 32, 3)
    found = measured(software, questions(job))
    products = 32 * 32 * 9 * 16 * 16
    assert found["naive"] / products < 16
    assert found["blocked"] / products < 5
    assert found["blocked"] / found["packed"] > 1.65
    assert found["rank"] < found["packed"] / 20


@pytest.mark.parametrize(("job", "ways", "fewer"), [
    (layer(64, 14, 128, 1), ("blocked", "indexed", "packed"), 3), (layer(16, 64, 8, 3), ("blocked",), 1),
    (layer(32, 20, 32, 3, groups=32), ("naive", "blocked", "indexed", "packed"), 3)], ids=["1x1", "3x3", "depthwise"])
def test_extrapolation_is_within_two_percent(software, job, ways, fewer):
    asked = [one for one in questions(job) if one.way in ways]
    whole = software.measure(asked, 1e12)
    assert not any(one.extrapolated for one in whole)
    part = software.measure(asked, planned_cycles(asked, 1e12) / 3)
    assert sum(one.extrapolated for one in part) >= fewer
    for one, all_of_it, some in zip(asked, whole, part, strict=True):
        assert abs(some.cycles / all_of_it.cycles - 1) < 0.02, one.way
        assert some.simulated_cycles < all_of_it.simulated_cycles or not some.extrapolated


def test_bands_lie_within_the_layer_and_keep_to_the_limit():
    job = layer(64, 56, 256, 3)
    one = Question(job=job, result=None, way="blocked")
    for share in (0.5, 0.1, 0.01, 0.001):
        for band in bands(job, "blocked", one.predicted_cycles, one.predicted_cycles * share):
            assert 0 <= band.begin < band.end <= 56
    assert bands(job, "blocked", 100, 100) == [Band(0, 56)]


def test_no_budget_runs_what_is_cheap_whole(software):
    asked = questions(layer(8, 6, 8, 3))
    assert not any(one.extrapolated for one in software.measure(asked, 0))


# What fails says so in one line


def failure(call) -> str:
    with pytest.raises(SimulationError) as error:
        call()
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("package", ["ziglang", "pythondata-cpu-vexriscv"])
def test_a_missing_package_is_named_with_its_mend(monkeypatch, package):
    version = importlib.metadata.version

    def missing(name):
        if name == package:
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    text = failure(Baseline)
    assert f"need the package {package}: pip install {package}" in text


def test_a_wrong_compiler_is_named_with_its_mend(monkeypatch, tmp_path):
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path))
    monkeypatch.setattr(compiler, "FLAGS", ("-target", "no-such-target"))
    text = failure(compiler.compile_kernels)
    assert "zig cc failed" in text and "pip install --force-reinstall ziglang" in text
    assert not list(tmp_path.glob("kernels-*"))


@pytest.mark.parametrize(("words", "what"), [
    ([0x0000_0000], "trap"), ([0x0000_006F], "no end after"), ([0x7FFF_F2B7, 0x0002_A283], "bus error")])
def test_a_failing_core_says_why(software, words, what):
    """An illegal instruction, a jump to itself, a load from 0x7ffff000. The handler of traps is that of a kernel."""
    program = bytearray(software.programs["rank"])
    call = np.array(words, np.uint32).tobytes()
    # Behind the entry: it sets the handler of traps and the stack first.
    start = next(at for at in range(0, len(program), 4) if program[at] & 0x7F == 0x6F)
    program[start : start + len(call)] = call
    image = MemoryImage(data=np.frombuffer(bytes(program).ljust(0x21000, b"\0"), np.uint8), first=0, last=0)
    assert what in failure(lambda: software.core.run(image, limit=20_000))


def test_fields_for_json(software):
    found, = software.measure(questions(layer(8, 6, 8, 3))[:1], 1e12)
    assert json.loads(json.dumps(found.fields())) == {
        "cycles": found.cycles, "extrapolated": False, "simulated_cycles": found.cycles}
