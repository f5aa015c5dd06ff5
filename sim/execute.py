"""Chains of layers through the engine in RTL: run them, compare every byte, read what they cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from golden.job import Job
from golden.result import LayerResult
from hw.config import EngineConfig
from hw.descriptor import DESCRIPTOR_BYTES
from hw.program import UNTOUCHED, MemoryProgram, PlacedLayer, build_program, job_inputs
from hw.registers import COUNTERS, Error

from .analytical import Prediction, predict_program
from .losers import written_planes
from .report import Measure, measure
from .simulator import Program, Run, Simulator
from .verilator import SimulationError
from .workload import Workload

OCCUPIED = ("array_active", *(name for name in COUNTERS if name.startswith("stall_")))
"""Counters that together count every cycle."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Chain:
    """Layers that run as one program, and what is known of them beforehand.

    Parameters
    ----------
    names : of the layers
    jobs : the layers with the inputs and masks that the golden model found; None for a concatenation
    expected : the golden results
    config : the engine
    sources : for each layer those that its inputs come from, as :func:`hw.program.build_program` has them; unless
        given, each takes the output of the one before
    dense : nothing is ranked or skipped
    keep_outputs : outputs that stay on chip are in memory, too, and compared

    Raises :class:`hw.plan.PlanError` where the engine cannot run a layer.
    """

    names: Sequence[str]
    jobs: Sequence[Job | None]
    expected: Sequence[LayerResult]
    config: EngineConfig
    sources: Sequence[Sequence[int]] | None = None
    dense: bool = False
    keep_outputs: bool = False
    program: MemoryProgram = field(init=False)
    workloads: list[Workload] = field(init=False)
    predictions: list[Prediction] = field(init=False)

    def __post_init__(self):
        # A concatenation is only addresses: what follows is about the layers that run.
        program = build_program(self.jobs, self.config, dense=self.dense, sources=self.sources,
                                keep_outputs=self.keep_outputs)
        run = [number for number, job in enumerate(self.jobs) if job is not None]
        put = object.__setattr__
        put(self, "program", program)
        put(self, "names", [self.names[number] for number in run])
        put(self, "jobs", [self.jobs[number] for number in run])
        put(self, "expected", [self.expected[number] for number in run])
        put(self, "workloads", [self._workload(placed, job, result) for placed, job, result in zip(
            program.layers, self.jobs, self.expected, strict=True)])
        put(self, "predictions", predict_program(self.workloads))

    @property
    def predicted_cycles(self) -> int:
        """Cycles of the whole program by the analytical model."""
        return sum(prediction.cycles for prediction in self.predictions)

    def _workload(self, placed: PlacedLayer, job: Job, result: LayerResult) -> Workload:
        masked = tuple(mask is not None for mask in placed.addresses.masks)
        channels = placed.plan.layer.channels
        winners = [channels if mask is None or self.dense else mask for _, mask in job_inputs(job)]
        return Workload(plan=placed.plan, ranking=placed.ranking, winners=winners, masked=masked, blocks=placed.blocks,
                        scores=result.scores, in_memory=placed.in_memory,
                        on_chip=placed.addresses.chip_output is not None)


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """A chain after its run: results as the engine left them in memory, ``differences`` (a line for every layer that
    is not bit-exact), a :class:`Measure` a layer, cycles simulated and seconds taken."""

    results: list[LayerResult]
    differences: list[str]
    measures: list[Measure]
    cycles_simulated: int
    seconds: float


def execute(simulator: Simulator, chains: Sequence[Chain], *, seed: int = 0,
            progress: Callable[[int, int], None] | None = None) -> list[Outcome]:
    """Run chains in one simulator process. ``seed`` and ``progress``: as in :meth:`Simulator.run`.

    Raises :class:`SimulationError`, also for an engine that stops with an error status.
    """
    programs = [as_simulation(chain.program) for chain in chains]
    slack = 20 if simulator.memory == "fast" else 100
    timeout = 1_000_000 + slack * max((chain.predicted_cycles for chain in chains), default=0)
    runs = simulator.run(programs, seed=seed, timeout_cycles=timeout, progress=progress)
    return [_outcome(chain, run) for chain, run in zip(chains, runs, strict=True)]


def as_simulation(program: MemoryProgram) -> Program:
    """What the simulator is to run."""
    return Program(image=program.image, descriptors_address=program.descriptors_address,
                   descriptor_count=program.descriptor_count, window=program.window, layers=len(program.layers))


def layer_counters(profile: Sequence[dict[str, int]], final: dict[str, int]) -> list[dict[str, int]]:
    """Each layer's own counters from cumulative records, one a layer; what follows the last record is the last's.

    A layer's first descriptor is fetched while the layer before runs; it is charged to the layer that it describes. The
    words of a record are stored one a cycle, ``cycles`` first, while the array waits for the next layer's program: what
    the others are ahead by is that.
    """
    ends = [dict(record) for record in [*profile[:-1], final]]
    for record in ends[:-1]:
        record["read_program"] -= DESCRIPTOR_BYTES
        record["stall_program"] -= sum(record[name] for name in OCCUPIED) - record["cycles"]
    starts = [dict.fromkeys(COUNTERS, 0), *ends[:-1]]
    return [{name: end[name] - start[name] for name in COUNTERS} for start, end in zip(starts, ends, strict=True)]


def difference(result: LayerResult, expected: LayerResult, *, written: np.ndarray | None = None,
               in_memory: bool = True) -> str | None:
    """The first array that differs, where and how; None if every byte is equal.

    ``written``: bool [O], the planes that the engine writes; the others must be as they were before the run. Of an
    output that is not ``in_memory`` only scores and winners are compared.
    """
    for name in ("output", "scores", "winners"):
        got, want = getattr(result, name), getattr(expected, name)
        if name == "output" and not in_memory:
            continue
        if got.shape != want.shape:
            return f"{name}: shape {list(got.shape)}, expected {list(want.shape)}"
        if name == "output" and written is not None:
            want = np.where(written[:, None, None], want, np.array(UNTOUCHED, np.uint8).view(np.int8))
        wrong = np.argwhere(got != want)
        if len(wrong):
            index = tuple(map(int, wrong[0]))
            return (f"{name}: {len(wrong)} of {got.size} values differ, the first at {list(index)}: "
                    f"{got[index]}, expected {want[index]}")
    return None


def _outcome(chain: Chain, run: Run) -> Outcome:
    if run.error:
        code = Error(run.error).name if run.error in list(Error) else run.error
        raise SimulationError(f"{', '.join(chain.names)}: the engine stopped with error {code}")
    results = chain.program.results(run.image)
    found = []
    for result, expected, placed in zip(results, chain.expected, chain.program.layers, strict=True):
        written = written_planes(placed.plan, placed.ranking, expected.scores) if placed.plan.skips_losers else None
        found.append(difference(result, expected, written=written, in_memory=placed.in_memory))
    differences = [f"{name}: {text}" for name, text in zip(chain.names, found, strict=True) if text]
    counters = layer_counters(run.profile, run.counters)
    measures = [measure(name=name, workload=work, counters=own, prediction=prediction, bit_exact=text is None)
                for name, work, own, prediction, text in zip(
                    chain.names, chain.workloads, counters, chain.predictions, found, strict=True)]
    return Outcome(results=results, differences=differences, measures=measures,
                   cycles_simulated=run.cycles_simulated, seconds=run.wall_seconds)
