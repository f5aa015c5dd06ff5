"""The ways in which software computes a layer, and the kernel for each (sim/software/kernels/)."""

from golden.job import AddJob, Job, PoolJob

from .compiler import KERNEL_NAMES

DENSE = ("naive", "blocked")
"""One result after the other; four output channels at a time. Masks are not looked at: losers are zeros."""
SPARSE = ("indexed", "packed")
"""Winners by their index list; winners gathered first, activations and weights, and then blocked."""
RANK = "rank"
"""Scores, and the selection of winners."""
BLOCK = 4
"""Output channels computed at a time."""


def operation(job: Job) -> str:
    """What the kernels of a job are named after: convolution, depthwise, max_pool, average_pool, mean, addition."""
    if isinstance(job, AddJob):
        return "addition"
    if isinstance(job, PoolJob):
        return job.op
    channels = len(job.input)
    return "depthwise" if job.groups == channels == len(job.weight) and channels > 1 else "convolution"


def kernel_name(job: Job, way: str) -> str | None:
    """The kernel that computes a job in one of the ways, or ranks it; None where there is none."""
    if way == RANK:
        return RANK
    kind = operation(job)
    name = f"{'convolution' if (kind, way) == ('depthwise', 'naive') else kind}_{way}"
    return name if name in KERNEL_NAMES else None
