"""Random layer jobs through the engine in RTL: what must hold for each, and what occurred among them."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from golden.job import AddJob, Job, LayerJob
from golden.random_jobs import random_job, random_operation
from golden.reference import run as reference
from golden.result import LayerResult
from hw.plan import EVERY_WINNER, Plan, PlanError
from hw.program import job_inputs

from .execute import Chain, Outcome, execute
from .report import deviation, percent
from .simulator import Simulator
from .verilator import SimulationError

OCCURRENCES = (
    "convolution", "grouped", "depthwise", "max pooling", "average pooling", "mean", "addition", "blocks left out",
    "banding", "passes", "channels in chunks", "stride", "pool", "padded pool", "no padding", "uneven padding",
    "one pixel", "one channel", "more channels than the engine's", "partial group", "empty mask", "full mask",
    "no mask", "ties at the border", "topk", "energy", "threshold", "score mean", "score absmax")


def drawn_job(seed: int, max_macs: int) -> Job:
    """Odd seeds draw any operation, even ones a convolution of all input channels."""
    return random_operation(seed, max_macs=max_macs) if seed % 2 else random_job(seed, max_macs=max_macs)


@dataclass(kw_only=True)
class Tally:
    """What was found: jobs run, refused by an engine's plan, exact; a line a failure; how often each kind occurred.

    ``worst``: the largest deviation of the predicted cycles among layers of 5,000 cycles and more (fast memory).
    """

    jobs: int = 0
    refused: int = 0
    exact: int = 0
    bytes_as_predicted: int = 0
    cycles_simulated: int = 0
    seconds: float = 0.0
    worst: float = 0.0
    failures: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    occurred: Counter = field(default_factory=Counter)

    def add(self, other: "Tally") -> None:
        """Add what another tally found."""
        for name in ("jobs", "refused", "exact", "bytes_as_predicted", "cycles_simulated", "seconds", "failures",
                     "refusals"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.occurred += other.occurred
        self.worst = max(self.worst, other.worst)

    def fields(self) -> dict[str, Any]:
        """For JSON."""
        return {"jobs": self.jobs, "run": self.jobs - self.refused, "refused": self.refused, "bit_exact": self.exact,
                "bytes_as_predicted": self.bytes_as_predicted, "cycles_simulated": self.cycles_simulated,
                "seconds": self.seconds, "worst_cycle_deviation": self.worst, "failures": self.failures,
                "refusals": self.refusals, "occurred": {name: self.occurred[name] for name in OCCURRENCES}}

    def text(self) -> str:
        """The summary that people read."""
        run = self.jobs - self.refused
        lines = [f"{self.jobs} jobs: {run} run, {self.refused} refused by the engine's plan",
                 f"bit-exact: {self.exact} of {run}; bytes as predicted: {self.bytes_as_predicted} of {run}"]
        if self.worst:
            lines.append(f"cycles: at most {percent(self.worst)} from the prediction (layers of 5,000 cycles or more)")
        lines.append("occurred: " + ", ".join(f"{name} {self.occurred[name]}" for name in OCCURRENCES))
        absent = [name for name in OCCURRENCES if not self.occurred[name]]
        if absent:
            lines.append(f"did not occur: {', '.join(absent)}")
        lines.append(f"{self.cycles_simulated:,} cycles in {self.seconds:.0f} s")
        return "\n".join(lines)


def batches(jobs: int, seed: int, names: Sequence[str], size: int) -> Iterator[tuple[str, range]]:
    """Cut the seeds ``seed .. seed + jobs - 1`` into runs of at most ``size``, on each engine in turn."""
    size = min(size, -(-jobs // len(names)))
    for index, start in enumerate(range(0, jobs, size)):
        yield names[index % len(names)], range(seed + start, seed + min(start + size, jobs))


def run_batch(simulator: Simulator, name: str, seeds: range, *, max_macs: int = 1_000_000,
              progress: Callable[[int], None] | None = None) -> Tally:
    """Run the random jobs of these seeds in one simulator process, whose stalls follow the first seed.

    So that ``winnow conformance --config NAME --seed FIRST --jobs N`` repeats the first N jobs with the same stalls.
    """
    tally = Tally()
    chains, kept = [], []
    for seed in seeds:
        job = drawn_job(seed, max_macs)
        tally.jobs += 1
        try:
            chains.append(Chain(names=[f"job {seed}"], jobs=[job], expected=[reference(job)], config=simulator.config))
            kept.append(seed)
        except PlanError as error:
            tally.refused += 1
            tally.refusals.append(f"{name}, seed {seed}: {error}")
    repeat = f"winnow conformance --config {name} --memory {simulator.memory} --max-macs {max_macs}"
    try:
        runs = _execute(simulator, chains, seeds.start, progress)
    except SimulationError as error:
        if len(seeds) == 1:
            tally.failures.append(f"{error}; {repeat} --seed {seeds.start} --jobs 1")
            return tally
        # One job that fails takes the whole process with it: run each alone, and see which.
        alone = [run_batch(simulator, name, range(seed, seed + 1), max_macs=max_macs) for seed in seeds]
        tally = Tally()
        for one in alone:
            tally.add(one)
        if not tally.failures:
            tally.failures.append(f"only in this order, {error}; {repeat} --seed {seeds.start} --jobs {len(seeds)}")
        return tally
    for seed, chain, outcome in zip(kept, chains, runs, strict=True):
        tally.occurred += occurrences(chain.jobs[0], chain.expected[0], chain.program.layers[0].plan)
        _judge(tally, simulator, outcome, f"{repeat} --seed {seeds.start} --jobs {seed - seeds.start + 1}")
    return tally


def _execute(simulator: Simulator, chains: list[Chain], seed: int, progress) -> list[Outcome]:
    return execute(simulator, chains, seed=seed, progress=progress and (lambda finished, _: progress(finished)))


def _judge(tally: Tally, simulator: Simulator, outcome: Outcome, repeat: str) -> None:
    measured, = outcome.measures
    tally.exact += measured.bit_exact
    tally.bytes_as_predicted += measured.bytes_as_predicted
    tally.cycles_simulated += outcome.cycles_simulated
    tally.seconds += outcome.seconds
    faults = list(outcome.differences)
    if not measured.bytes_as_predicted:
        predicted = measured.predicted
        faults.append(f"{measured.name}: bytes read {measured.bytes_read}, predicted {predicted.bytes_read}; "
                      f"written {measured.bytes_written}, predicted {predicted.bytes_written}")
    if simulator.memory == "fast":
        error = abs(measured.predicted.cycles - measured.cycles)
        if measured.cycles >= 5000:
            tally.worst = max(tally.worst, error / measured.cycles)
        if error > max(50, measured.cycles / 100):
            faults.append(f"{measured.name}: {measured.cycles:,} cycles, predicted "
                          f"{deviation(measured.predicted.cycles, measured.cycles)}")
    tally.failures += [f"{fault}; {repeat}" for fault in faults]


def occurrences(job: Job, result: LayerResult, plan: Plan) -> Counter:
    """Which of :data:`OCCURRENCES` a job is an example of."""
    select = job.ranking.select if job.ranking else "all"
    score = job.ranking.score if job.ranking else "max"
    lost = result.winners == 0
    tie = lost.any() and not lost.all() and result.scores[~lost].min() == result.scores[lost].max()
    masks = [mask for _, mask in job_inputs(job)]
    layer, convolves, adds = plan.layer, isinstance(job, LayerJob), isinstance(job, AddJob)
    padding = () if adds else job.padding
    holds = {
        "convolution": convolves and not layer.vector and layer.groups == 1, "grouped": layer.groups > 1,
        "depthwise": convolves and layer.vector, "max pooling": job.op == "max_pool",
        "average pooling": job.op == "average_pool", "mean": job.op == "mean", "addition": adds,
        "blocks left out": plan.shape.blocks, "banding": plan.band_count > 1,
        "passes": plan.pass_winners != EVERY_WINNER, "channels in chunks": len(plan.chunks) > 1 and not layer.vector,
        "stride": max(layer.stride) > 1, "pool": convolves and job.pool is not None,
        "padded pool": max(layer.pool_padding) > 0, "no padding": max(padding, default=0) == 0,
        "uneven padding": len(set(padding)) > 1, "one pixel": layer.conv_extent == (1, 1),
        "one channel": layer.channels == 1,
        "more channels than the engine's": layer.channels > plan.config.max_channels,
        "partial group": plan.shape.out_channels % plan.config.columns != 0,
        "empty mask": any(mask is not None and not mask.any() for mask in masks),
        "full mask": any(mask is not None and mask.all() for mask in masks), "no mask": masks[0] is None,
        "ties at the border": bool(tie), "topk": select == "topk", "energy": select == "energy",
        "threshold": select == "threshold", "score mean": score == "mean", "score absmax": score == "absmax"}
    return Counter(name for name in OCCURRENCES if holds[name])
