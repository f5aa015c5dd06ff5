"""Layer jobs: one int8 layer with its input, in memory and as JOB.npz (docs/numerics.md).

:class:`LayerJob` is a convolution, :class:`PoolJob` a pooling, :class:`AddJob` an addition. All have ``op`` (the
operation's name), ``output_shape`` (O, OH, OW), ``output_zero_point``, ``ranking`` and ``save(path)``;
:func:`load_job` reads any of them.
"""

from pathlib import Path

from golden.add_job import AddJob
from golden.checks import JobError
from golden.conv_job import LayerJob
from golden.geometry import MAX_KERNEL, MAX_STRIDE
from golden.npz import NpzReader, check_op, write_npz
from golden.pool_job import OPS as POOL_OPS
from golden.pool_job import PoolJob
from golden.ranking_rule import Ranking

Job = LayerJob | PoolJob | AddJob

__all__ = ["MAX_KERNEL", "MAX_STRIDE", "AddJob", "Job", "JobError", "LayerJob", "PoolJob", "Ranking", "load_job",
           "write_npz"]


def load_job(path: str | Path) -> Job:
    """Read and validate JOB.npz of any operation: its string ``op``, or a convolution without one. Raises JobError."""
    with NpzReader(path) as npz:
        op = check_op(npz, "conv", *POOL_OPS.values(), "add")
        if op == "conv":
            return LayerJob.read(npz)
        return AddJob.read(npz) if op == "add" else PoolJob.read(npz, op)
