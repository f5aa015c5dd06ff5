"""The rule by which a layer's output channels are scored and its winners selected (docs/numerics.md)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from golden.checks import MAX_CHANNELS, JobError, check, check_integer
from golden.multipliers import INT32_MAX, SHIFT_MAX, SHIFT_MIN
from golden.npz import NpzReader

SCORES = ("max", "absmax", "mean")
SELECTS = ("all", "topk", "energy", "threshold")


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How the output channels are scored and which of them win.

    Parameters
    ----------
    score : "max", "absmax" or "mean"
    select : "all", "topk", "energy" or "threshold"
    value : k (topk, at least 1), eps in 0..1 (energy), the least winning score 0..255 (threshold); 0 for all
    score_multiplier, score_shift : the requantization of the mean's sum; both 0 for other scores
    energy_power : 1 or 2, the power of the score that energy sums; 1 for other selections

    Raises JobError, naming the array of JOB.npz that the parameter is stored as.
    """

    score: str
    select: str
    value: float | int = 0
    score_multiplier: int = 0
    score_shift: int = 0
    energy_power: int = 1

    def __post_init__(self):
        check(self.score in SCORES, "score", f"one of {', '.join(SCORES)}", repr(self.score))
        check(self.select in SELECTS, "select", f"one of {', '.join(SELECTS)}", repr(self.select))
        put = object.__setattr__
        put(self, "value", self._checked_value())
        mean, energy = self.score == "mean", self.select == "energy"
        multiplier = check_integer("score_multiplier", self.score_multiplier, 0, INT32_MAX) if mean else 0
        shift = check_integer("score_shift", self.score_shift, SHIFT_MIN, SHIFT_MAX) if mean else 0
        put(self, "score_multiplier", multiplier)
        put(self, "score_shift", shift)
        put(self, "energy_power", check_integer("energy_power", self.energy_power, 1, 2, "1 or 2") if energy else 1)

    def _checked_value(self) -> float | int:
        value = self.value
        if self.select == "all":
            return 0
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise JobError(f"select_value: expected a number, got {value!r}") from None
        if self.select == "energy":
            check(0 <= number <= 1, "select_value", "eps in 0..1 for energy", value)
            return number
        low, high, what = (1, MAX_CHANNELS, "k") if self.select == "topk" else (0, 255, "a score")
        expected = f"{what} in {low}..{high} (an integer) for {self.select}"
        check(low <= number <= high and number == int(number), "select_value", expected, value)
        return int(number)

    @property
    def eps16(self) -> int:
        """``round(65536 * eps)``, ties to even, 0..65536: the energy rule's threshold."""
        return round(65536 * self.value)


def check_ranking(ranking: Any, channels: int) -> None:
    """Raise JobError unless ``ranking`` is None or a Ranking that ``channels`` output channels can have."""
    if ranking is None:
        return
    check(isinstance(ranking, Ranking), "ranking", "a Ranking", type(ranking).__name__)
    if ranking.select == "topk":
        check(ranking.value <= channels, "select_value", f"k in 1..{channels} for topk", ranking.value)


def ranking_arrays(ranking: Ranking | None, prefix: str = "") -> dict[str, Any]:
    """The arrays of JOB.npz that store ``ranking``: none of them for None."""
    if ranking is None:
        return {}
    arrays = {"score": np.array(ranking.score), "select": np.array(ranking.select)}
    if ranking.select != "all":
        arrays["select_value"] = np.array(ranking.value)
    if ranking.score == "mean":
        arrays |= {name: np.int64(getattr(ranking, name)) for name in ("score_multiplier", "score_shift")}
    if ranking.select == "energy":
        arrays["energy_power"] = np.int64(ranking.energy_power)
    return {prefix + name: array for name, array in arrays.items()}


def read_ranking(npz: NpzReader, prefix: str = "") -> Ranking | None:
    """The inverse of :func:`ranking_arrays`. ``score`` alone selects all; ``select`` needs ``score``."""
    if prefix + "score" not in npz and prefix + "select" not in npz:
        return None
    score = npz.scalar(prefix + "score", "U")
    select = npz.scalar(prefix + "select", "U") if prefix + "select" in npz else "all"
    fields = {}
    if select != "all":
        fields["value"] = npz.scalar(prefix + "select_value", "iuf")
    if score == "mean":
        fields |= {name: npz.scalar(prefix + name, "iu") for name in ("score_multiplier", "score_shift")}
    if prefix + "energy_power" in npz:
        fields["energy_power"] = npz.scalar(prefix + "energy_power", "iu")
    return Ranking(score=score, select=select, **fields)
