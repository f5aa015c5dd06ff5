"""What ``winnow compare`` compares: a network or a job, run by the golden model dense and with winners."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from golden.job import AddJob, Job
from golden.network import QuantizedNetwork
from golden.reference import run as reference
from golden.result import LayerResult
from hw.config import EngineConfig

from .estimate import Estimate, LayerQuestion, estimate_layers, job_question
from .execute import Chain
from .network import GoldenLayer, estimate_questions, golden_layers, network_chain, network_questions
from .ranking_cost import unranked

RUNS = ("dense", "sparse")


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """A layer that the golden model has run."""

    name: str
    job: Job
    result: LayerResult


class Subject(ABC):
    """Layers, dense and sparse, and what the analytical model says of them on an engine.

    ``layers`` and ``estimates``: of each run all layers but concats, in order. ``ranking_cycles``: of each layer what
    its ranking adds by the analytical model. ``chain(run)``: the whole as a program of the engine.
    """

    name: str
    weights_are_random: bool
    layers: dict[str, list[Layer]]

    @cached_property
    def estimates(self) -> dict[str, list[Estimate]]:
        return {run: self._estimate(self._questions(run)) for run in RUNS}

    @cached_property
    def ranking_cycles(self) -> list[int]:
        known = self._estimate([question and unranked(question) for question in self._questions("sparse")])
        return [one.predicted.cycles - other.predicted.cycles
                for one, other in zip(self.estimates["sparse"], known, strict=True)]

    @property
    def predicted_cycles(self) -> int:
        """Of both runs."""
        return sum(one.predicted.cycles for found in self.estimates.values() for one in found)

    @abstractmethod
    def _questions(self, run: str) -> list[LayerQuestion | None]:
        """All layers of a run for the analytical model, None for concats."""

    @abstractmethod
    def _estimate(self, questions: Sequence[LayerQuestion | None]) -> list[Estimate]:
        """What the analytical model answers, as one program."""

    @abstractmethod
    def chain(self, run: str) -> Chain:
        """A run as a program of the engine."""


class NetworkSubject(Subject):
    """A network on one image, int8 [C,H,W]. Raises PlanError where the engine cannot run a layer.

    ``progress`` is told the products that are done, of twice the network's.
    """

    def __init__(self, network: QuantizedNetwork, image: np.ndarray, config: EngineConfig,
                 progress: Callable[[int], None]):
        self.name, self.weights_are_random = network.name, network.weights_are_random
        self._network, self._config = network, config
        self._golden: dict[str, list[GoldenLayer]] = {}
        done = 0
        for run in RUNS:
            self._golden[run] = []
            for layer in golden_layers(network, image, dense=run == "dense"):
                self._golden[run].append(layer)
                done += layer.node.macs
                progress(done)
        self.layers = {run: [Layer(name=layer.node.name, job=layer.job, result=layer.result)
                             for layer in found if layer.job is not None] for run, found in self._golden.items()}

    def _questions(self, run: str) -> list[LayerQuestion | None]:
        results = {layer.node.name: layer.result for layer in self._golden[run]}
        return network_questions(self._network, self._config, dense=run == "dense", results=results)

    def _estimate(self, questions: Sequence[LayerQuestion | None]) -> list[Estimate]:
        return estimate_questions(self._network, questions, self._config)

    def chain(self, run: str) -> Chain:
        return network_chain(self._network, self._golden[run], self._config, dense=run == "dense")


class JobSubject(Subject):
    """A layer job: sparse as it is, dense without masks and ranking. Raises PlanError."""

    weights_are_random = False

    def __init__(self, name: str, job: Job, config: EngineConfig):
        self.name, self._config = name, config
        masks = ("channel_mask_1", "channel_mask_2") if isinstance(job, AddJob) else ("channel_mask",)
        jobs = {"dense": replace(job, ranking=None, **dict.fromkeys(masks)), "sparse": job}
        self.layers = {run: [Layer(name=name, job=one, result=reference(one))] for run, one in jobs.items()}

    def _questions(self, run: str) -> list[LayerQuestion | None]:
        layer, = self.layers[run]
        question = job_question(layer.name, layer.job, self._config)
        return [replace(question, scores=layer.result.scores)]

    def _estimate(self, questions: Sequence[LayerQuestion | None]) -> list[Estimate]:
        return estimate_layers(questions, self._config)

    def chain(self, run: str) -> Chain:
        layer, = self.layers[run]
        return Chain(names=[layer.name], jobs=[layer.job], expected=[layer.result], config=self._config)
