"""What gathering the winners brings in PyTorch on this computer's CPU, one thread: times as ratios.

For each layer three times, in float32 and in int8: *dense*, the weights packed beforehand; *winners*, the activations
gathered (``index_select``), the weights gathered and packed, as they must be where winners change with each image, and
a smaller convolution; *packed*, the same with the winners' weights packed beforehand, as static pruning could. Of each
the fastest of the ways in :mod:`sim.host_kernels` counts. Choosing the winners is not part of it. Where every channel
wins there is nothing to gather: all three are the dense layer.

How it is measured: every way is called until it takes :data:`LEAST_SECONDS` (a first call is not counted, so its
weights are as near to the CPU as they fit), the ways of a layer in turn, ``repetitions`` times round, and the median
counts. Ways that are :data:`HOPELESS` times slower than the fastest at first are left out.
"""

import math
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any

import torch

from golden.job import Job, LayerJob

from .host_kernels import Kernel, Part, compute, float_kernels, int8_kernels, int8_missing, winner_parts

LEAST_SECONDS = 0.005
HOPELESS = 2


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds a layer takes: dense, with winners gathered, and with winners whose weights are packed beforehand."""

    dense_seconds: float
    winners_seconds: float
    packed_seconds: float

    @property
    def ratio(self) -> float:
        """Dense / winners: above 1 where gathering pays."""
        return self.dense_seconds / self.winners_seconds

    @property
    def packed_ratio(self) -> float:
        """Dense / packed."""
        return self.dense_seconds / self.packed_seconds

    def fields(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self) | {"ratio": self.ratio, "packed_ratio": self.packed_ratio}


@dataclass(frozen=True, kw_only=True)
class HostCpu:
    """A layer on this computer; ``int8`` is None where PyTorch cannot, ``int8_missing`` says why."""

    float32: Times
    int8: Times | None
    int8_missing: str | None
    repetitions: int

    def fields(self) -> dict[str, Any]:
        """For JSON."""
        return {"float32": self.float32.fields(), "int8": self.int8 and self.int8.fields(),
                "int8_missing": self.int8_missing, "repetitions": self.repetitions}


def host_ratios(jobs: Sequence[Job], *, repetitions: int,
                progress: Callable[[int], None] | None = None) -> list[HostCpu | None]:
    """Measure layers; None for operations without weights and for layers without winners.

    ``progress(layers measured)`` is called after each. PyTorch's number of threads is as before afterwards.
    """
    if repetitions < 1:
        raise ValueError(f"repetitions: expected at least 1, got {repetitions}")
    found = []
    with _one_thread(), torch.inference_mode(), warnings.catch_warnings():
        # Quantized tensors are announced to leave PyTorch; of the pinned version they are part.
        warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)
        for number, job in enumerate(jobs, start=1):
            parts = winner_parts(job) if isinstance(job, LayerJob) else []
            found.append(_measure(job, parts, repetitions) if parts else None)
            if progress:
                progress(number)
    return found


def this_computer() -> dict[str, str]:
    """What the times depend on, for people: the processor, the instructions and kernels that PyTorch uses, PyTorch."""
    return {"processor": torch.cpu.get_capabilities().get("cpu_name") or platform.machine(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "int8 kernels": torch.backends.quantized.engine, "PyTorch": torch.__version__}


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _measure(job: LayerJob, parts: list[Part], repetitions: int) -> HostCpu:
    if len(job.winner_indices) == len(job.input):
        parts = []
    ways = {"float32": _ways(float_kernels(job), job.groups, parts)}
    missing = int8_missing(job)
    if missing is None:
        try:
            ways["int8"] = _ways(int8_kernels(job), job.groups, parts)
            for calls in ways["int8"].values():
                calls[0]()
        except RuntimeError as error:  # a size or a processor that the kernels do not know
            ways.pop("int8", None)
            missing = str(error).splitlines()[0]
    # Both precisions take turns, so that what else the computer does falls on both.
    found = _medians({(precision, name): calls for precision, named in ways.items() for name, calls in named.items()},
                     repetitions)
    times = {precision: Times(**{field.name: found.get((precision, field.name), found[precision, "dense_seconds"])
                                 for field in fields(Times)}) for precision in ways}
    return HostCpu(float32=times["float32"], int8=times.get("int8"), int8_missing=missing, repetitions=repetitions)


def _ways(kernels: Sequence[Kernel], groups: int, parts: list[Part]) -> dict[str, list[Callable[[], Any]]]:
    """For each time of :class:`Times` the calls that it can be the time of; without ``parts`` for the dense layer's."""
    def packed(parts: list[Part]) -> list[Callable[[], Any]]:
        return [partial(compute, kernel, parts, [kernel.pack(part) for part in parts]) for kernel in kernels]

    ways = {"dense_seconds": packed([Part(groups=groups)])}
    if parts:
        ways |= {"packed_seconds": packed(parts),
                 "winners_seconds": [partial(compute, kernel, parts) for kernel in kernels]}
    return ways


def _medians(ways: dict[Any, list[Callable[[], Any]]], repetitions: int) -> dict[Any, float]:
    """For each key the median seconds of the fastest of its calls."""
    runs: list[tuple[Any, Callable[[], Any], int, list[float]]] = []
    for key, calls in ways.items():
        first = [_seconds(call, 1) for call in calls if call() is not None]
        runs += [(key, call, max(1, math.ceil(LEAST_SECONDS / seconds)), [])
                 for call, seconds in zip(calls, first, strict=True) if seconds <= HOPELESS * min(first)]
    for _ in range(repetitions):
        for _, call, count, seconds in runs:
            seconds.append(_seconds(call, count))
    return {key: min(statistics.median(seconds) for name, _, _, seconds in runs if name == key) for key in ways}


def _seconds(call: Callable[[], Any], count: int) -> float:
    """Of one of ``count`` calls."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count
