"""The software's side of ``winnow compare``: which kernels are measured on which layers, and the best of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from golden.job import AddJob, LayerJob

from .compare_subject import Layer, Subject
from .software.baseline import Baseline, Question, SoftwareCycles, planned_cycles
from .software.ways import DENSE, RANK, SPARSE, kernel_name

BEST = "best"
"""In a total: of each layer its best."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is measured. ``questions`` in all; ``places``: for each layer, the question of each way."""

    questions: list[Question]
    places: list[dict[str, int]]

    def planned_cycles(self, budget: float) -> int:
        """Predicted cycles that are simulated."""
        return planned_cycles(self.questions, budget)


def ask(subject: Subject) -> Asked:
    """Every kernel on every layer; layers of one shape with as many winners are measured once."""
    questions, found, places = [], {}, []
    for dense, sparse in zip(subject.layers["dense"], subject.layers["sparse"], strict=True):
        place = {}
        for way in (*DENSE, *SPARSE, RANK):
            layer = dense if way in DENSE else sparse
            ranks = layer.job.ranking is not None and layer.job.ranking.select != "all"
            if kernel_name(layer.job, way) is None or (way == RANK and not ranks):
                continue
            key = _shape(layer, way)
            if key not in found:
                found[key] = len(questions)
                questions.append(Question(job=layer.job, result=layer.result, way=way))
            place[way] = found[key]
        places.append(place)
    return Asked(questions=questions, places=places)


def _shape(layer: Layer, way: str) -> tuple:
    """What a kernel's cycles depend on, but for the values."""
    job = layer.job
    if way == RANK:
        return way, job.output_shape, job.ranking.score, job.ranking.select
    if isinstance(job, AddJob):
        masks = [None if mask is None else int(mask.sum()) for mask in (job.channel_mask_1, job.channel_mask_2)]
        return way, job.op, job.input_1.shape, *masks
    winners = None if job.channel_mask is None or way in DENSE else int(job.channel_mask.sum())
    key = (way, job.op, job.input.shape, job.output_shape, job.stride, job.padding, winners)
    if isinstance(job, LayerJob):
        key += (job.weight.shape, job.groups, job.pool, job.pool_padding, bool(job.weight_zero_point), job.rounding)
    return key


def measure(asked: Asked, baseline: Baseline, budget: float,
            progress: Callable[[int], None]) -> list[dict[str, Any]]:
    """Each layer's fields of the report, ``software``. Raises SimulationError."""
    cycles = baseline.measure(asked.questions, budget, progress)
    return [_fields({way: cycles[number] for way, number in place.items()}) for place in asked.places]


def _fields(found: dict[str, SoftwareCycles]) -> dict[str, Any]:
    """The kernels of a layer. Those that skip nothing do for the sparse layer, too: its losers are zeros."""
    dense = {way: found[way].fields() for way in DENSE if way in found}
    sparse = {way: found[way].fields() for way in SPARSE if way in found} | dense
    return {"dense": dense, "sparse": sparse, "ranking": found[RANK].fields() if RANK in found else None,
            "best_dense": _best(dense), "best_sparse": _best(sparse)}


def _best(kernels: dict[str, Any]) -> str:
    return min(kernels, key=lambda way: kernels[way]["cycles"])


def total(layers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The sums over layers. A way that some layer has no kernel for takes that layer's best."""
    fields: dict[str, Any] = {}
    for run in ("dense", "sparse"):
        def chosen(layer: dict[str, Any], way: str, run: str = run) -> dict[str, Any]:
            return layer[run].get(way) or layer[run][layer[f"best_{run}"]]

        ways = list(dict.fromkeys(way for layer in layers for way in layer[run]))
        fields[run] = {way: added([chosen(layer, way) for layer in layers]) for way in (*ways, BEST)}
        fields[f"best_{run}"] = BEST
    ranked = [layer["ranking"] for layer in layers if layer["ranking"]]
    return fields | {"ranking": added(ranked) if ranked else None}


def added(cycles: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Fields of cycles in sum; extrapolated where one of them is."""
    return {"cycles": sum(one["cycles"] for one in cycles), "extrapolated": any(one["extrapolated"] for one in cycles),
            "simulated_cycles": sum(one["simulated_cycles"] for one in cycles)}
