"""Chains of layers through the engine in RTL: run them, compare every byte, read what they cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from golden.job import LayerJob
from golden.reference import LayerResult
from hw.config import EngineConfig
from hw.descriptor import DESCRIPTOR_BYTES
from hw.program import MemoryProgram, build_program
from hw.registers import COUNTERS, Error

from .analytical import Prediction, predict_program
from .report import Measure, measure
from .simulator import Program, Run, Simulator
from .verilator import SimulationError

OCCUPIED = ("array_active", *(name for name in COUNTERS if name.startswith("stall_")))
"""Counters that together count every cycle."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Chain:
    """Layers that run as one program, each on the output of the one before, and what is known of them beforehand.

    Parameters
    ----------
    names : of the layers
    jobs : the layers with the inputs and masks that the golden model found
    expected : the golden results
    config : the engine
    dense : nothing is ranked or skipped

    Raises :class:`hw.plan.PlanError` where the engine cannot run a layer.
    """

    names: Sequence[str]
    jobs: Sequence[LayerJob]
    expected: Sequence[LayerResult]
    config: EngineConfig
    dense: bool = False
    program: MemoryProgram = field(init=False)
    predictions: list[Prediction] = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "program", build_program(self.jobs, self.config, dense=self.dense))
        object.__setattr__(self, "predictions", self._predict())

    @property
    def winners(self) -> list[int]:
        """Input channels of each layer that take part."""
        return [job.input.shape[0] if self.dense else len(job.winner_indices) for job in self.jobs]

    @property
    def predicted_cycles(self) -> int:
        """Cycles of the whole program by the analytical model."""
        return sum(prediction.cycles for prediction in self.predictions)

    def _predict(self) -> list[Prediction]:
        layers = []
        for placed, job in zip(self.program.layers, self.jobs, strict=True):
            masked = placed.addresses.mask is not None
            layers.append((placed.plan, placed.ranking, job.channel_mask if masked else job.input.shape[0], masked))
        return predict_program(layers)


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


def difference(result: LayerResult, expected: LayerResult) -> str | None:
    """The first array that differs, where and how; None if every byte is equal."""
    for name in ("output", "scores", "winners"):
        got, want = getattr(result, name), getattr(expected, name)
        if got.shape != want.shape:
            return f"{name}: shape {list(got.shape)}, expected {list(want.shape)}"
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
    found = [difference(result, expected) for result, expected in zip(results, chain.expected, strict=True)]
    differences = [f"{name}: {text}" for name, text in zip(chain.names, found, strict=True) if text]
    layers = zip(chain.names, chain.program.layers, chain.winners, layer_counters(run.profile, run.counters),
                 chain.predictions, found, strict=True)
    measures = [measure(name=name, shape=placed.plan.shape, config=chain.config, winners=winners, counters=counters,
                        prediction=prediction, bit_exact=text is None)
                for name, placed, winners, counters, prediction, text in layers]
    return Outcome(results=results, differences=differences, measures=measures,
                   cycles_simulated=run.cycles_simulated, seconds=run.wall_seconds)
