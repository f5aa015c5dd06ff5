"""The software baseline: layers by the kernels on the simulated core, in cycles, every result compared."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from os import cpu_count

import numpy as np
import torch

from golden.job import AddJob, Job, LayerJob
from golden.ranking import channel_scores, select_winners
from golden.result import LayerResult
from sim.report import write_json
from sim.verilator import SimulationError, cache_folder, digest

from .band import Band, bands, extrapolate, whole_of
from .compiler import compile_kernels
from .core import LATENCY, Core
from .memory_image import memory_image
from .ways import DENSE, RANK, kernel_name, operation

CYCLES = {"naive": 16, "blocked": 6, "indexed": 10, "packed": 8}
"""A product's, roughly, to decide what is run whole."""
DEPTHWISE_CYCLES = {"naive": 90, "blocked": 22, "indexed": 26, "packed": 26}
RESULT_CYCLES = 150
"""Of a convolution's result beside its products."""
PIXEL_CYCLES = 60
"""Of a pixel of a pool, a mean or an addition."""
RANK_CYCLES = 14
"""Of a pixel of the output."""
LEAST = 2e6
"""Up to so many cycles a kernel is always run whole."""
GATHER_CYCLES = 6
"""Of an activation or a block of weights that is packed."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A layer, which the golden model has run, to be measured in one way (:func:`sim.software.ways.kernel_name` knows
    a kernel)."""

    job: Job
    result: LayerResult
    way: str

    @property
    def predicted_cycles(self) -> float:
        """Roughly what the kernel takes for the whole layer."""
        job, way = self.job, self.way
        if way == RANK:
            return float(RANK_CYCLES * np.prod(job.output_shape) + 50 * job.output_shape[0])
        if isinstance(job, AddJob):
            return float(PIXEL_CYCLES * job.input_1.size + 30_000)
        if not isinstance(job, LayerJob):
            return float(PIXEL_CYCLES * max(job.input.size, np.prod(job.output_shape) * np.prod(job.kernel)))
        products = job.weight.size * np.prod(job.conv_shape[1:])
        if way not in DENSE and job.channel_mask is not None:
            products *= job.channel_mask.mean()
        each = DEPTHWISE_CYCLES if operation(job) == "depthwise" else CYCLES
        gathered = job.input.size + job.weight.size / 4 if way == "packed" else 0
        return float(each[way] * products + RESULT_CYCLES * np.prod(job.conv_shape) + GATHER_CYCLES * gathered)


@dataclass(frozen=True, kw_only=True)
class SoftwareCycles:
    """Cycles of a kernel, and those that were simulated for them: the same unless it is ``extrapolated``."""

    cycles: int
    extrapolated: bool
    simulated_cycles: int

    def fields(self) -> dict[str, int | bool]:
        """For JSON."""
        return {"cycles": self.cycles, "extrapolated": self.extrapolated, "simulated_cycles": self.simulated_cycles}


class Baseline:
    """The kernels and the core. Raises SimulationError where one of them is missing or does not compile."""

    def __init__(self, announce: Callable[[str], None] | None = None):
        self.programs = compile_kernels()
        self.core = Core(announce)

    def run(self, question: Question, band: Band) -> int:
        """Cycles of a kernel on a band of its layer; kept, once its results have been found to be the golden model's.

        Raises SimulationError where they are not, or the core fails.
        """
        job, way = question.job, question.way
        name = kernel_name(job, way)
        image = memory_image(job, way, self.programs[name], question.result, band)
        key = digest(image.data.tobytes(), str(image.first), str(image.last), self.core.executable.parent.name,
                     str(LATENCY))
        folder = cache_folder() / "software"
        folder.mkdir(exist_ok=True)
        kept = folder / f"{key}.json"
        if kept.exists():
            return json.loads(kept.read_text())["cycles"]
        cycles, found = self.core.run(image, limit=10_000_000 + 20 * round(question.predicted_cycles))
        if not _right(question, band, np.frombuffer(found, np.int8)):
            raise SimulationError(f"the kernel {name} differs from the golden model on a layer of output "
                                  f"{list(job.output_shape)}")
        write_json(kept, {"cycles": cycles})
        return cycles

    def measure(self, questions: Sequence[Question], budget: float,
                progress: Callable[[int], None] | None = None) -> list[SoftwareCycles]:
        """Every question's cycles, on all processors at once.

        ``budget``: of simulated cycles, roughly; what is dear is extrapolated from bands. ``progress`` is told the
        predicted cycles that are done, of :func:`planned_cycles`. Raises SimulationError as :meth:`run`.
        """
        limit = run_limit(questions, budget)
        tasks = [(number, band) for number, one in enumerate(questions)
                 for band in bands(one.job, one.way, one.predicted_cycles, limit)]
        cycles: list[dict[Band, int]] = [{} for _ in questions]
        done = 0.0
        with ThreadPoolExecutor(cpu_count() or 1) as pool:
            futures = {pool.submit(self.run, questions[number], band): (number, band) for number, band in tasks}
            try:
                for future in as_completed(futures):
                    number, band = futures[future]
                    cycles[number][band] = future.result()
                    done += questions[number].predicted_cycles * _share(questions[number].job, band)
                    if progress:
                        progress(round(done))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return [SoftwareCycles(cycles=extrapolate(one.job, found), extrapolated=len(found) > 1,
                               simulated_cycles=sum(found.values()))
                for one, found in zip(questions, cycles, strict=True)]


def planned_cycles(questions: Sequence[Question], budget: float) -> int:
    """The predicted cycles that :meth:`Baseline.measure` simulates."""
    limit = run_limit(questions, budget)
    return round(sum(_cost(one, limit) for one in questions))


def run_limit(questions: Sequence[Question], budget: float) -> float:
    """The cycles up to which a kernel is run whole, so that all take no more than ``budget`` if possible."""
    low, high = LEAST, max((one.predicted_cycles for one in questions), default=0) + LEAST
    if sum(_cost(one, high) for one in questions) <= budget:
        return high
    for _ in range(30):
        limit = (low * high) ** 0.5
        low, high = (limit, high) if sum(_cost(one, limit) for one in questions) <= budget else (low, limit)
    return low


def _cost(question: Question, limit: float) -> float:
    cost = question.predicted_cycles
    return sum(cost * _share(question.job, band) for band in bands(question.job, question.way, cost, limit))


def _share(job: Job, band: Band) -> float:
    """The part of the layer that a band is."""
    channels = job.output_shape[0]
    return (band.end - band.begin) / whole_of(job).end * len(band.outputs(channels)) / channels


def _right(question: Question, band: Band, found: np.ndarray) -> bool:
    """Whether a kernel has left the golden model's results, int8, in the band."""
    job, output = question.job, question.result.output
    if question.way == RANK:
        scores = channel_scores(torch.from_numpy(output[:, band.begin : band.end]), job.output_zero_point, job.ranking)
        expected = np.concatenate([scores.numpy(), select_winners(scores, job.ranking).numpy()])
        return np.array_equal(found.view(np.uint8), expected)
    channels, rows, columns = output.shape
    results = found.reshape(rows, columns, channels).transpose(2, 0, 1)
    part = (band.outputs(channels), slice(band.begin, band.end))
    return np.array_equal(results[part], output[part])
