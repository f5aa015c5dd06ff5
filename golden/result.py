"""What a layer leaves in memory, and OUT.npz."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from golden.checks import check_array, check_values
from golden.npz import NpzReader, write_npz


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerResult:
    """What a layer leaves in memory: ``output`` int8 [O,OH,OW], ``scores`` uint8 [O], ``winners`` uint8 [O] of 0 and 1.

    Losers' planes in ``output`` are as computed. Raises JobError for other dtypes and shapes.
    """

    output: np.ndarray
    scores: np.ndarray
    winners: np.ndarray

    def __post_init__(self):
        output = check_array("output", self.output, np.int8, ("O", "OH", "OW"))
        object.__setattr__(self, "output", output)
        for name in ("scores", "winners"):
            object.__setattr__(self, name, check_array(name, getattr(self, name), np.uint8, output.shape[:1]))
        check_values("winners", self.winners, 0, 1)

    def save(self, path: str | Path) -> None:
        """Write OUT.npz; the file appears whole or not at all."""
        write_npz(path, {"output": self.output, "scores": self.scores, "winners": self.winners})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read OUT.npz. Raises JobError."""
        with NpzReader(path) as npz:
            return cls(**{name: npz.array(name) for name in ("output", "scores", "winners")})
