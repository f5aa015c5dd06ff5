"""Winners as people state them: a rate or a number, resolved to a Ranking once the layer's channels are known."""

from dataclasses import dataclass, fields
from typing import Any, Self

from golden.checks import MAX_CHANNELS, JobError, check
from golden.multipliers import quantize_multiplier
from golden.ranking_rule import SELECTS, Ranking

_NEEDED = {"all": (), "topk": ("rate", "value"), "energy": ("eps",), "threshold": ("value",)}


@dataclass(frozen=True, kw_only=True)
class WinnerRule:
    """How a layer's winners are to be chosen.

    Parameters
    ----------
    score : "max", "absmax" or "mean"
    select : "topk", "energy", "threshold" or "all"
    rate : for topk, the fraction of channels that win, above 0 and at most 1; rounded to a number, at least one
    value : the number of winners for topk, instead of ``rate``; the least winning score 0..255 for threshold
    eps : for energy, the share of the winners, 0..1
    power : for energy, the power of the score that is summed, 1 or 2
    score_multiplier, score_shift : for the score mean; without them it is the mean itself

    Raises JobError for a rule that is incomplete, or states what its selection does not take.
    """

    score: str = "max"
    select: str = "topk"
    rate: float | None = None
    value: int | None = None
    eps: float | None = None
    power: int = 1
    score_multiplier: int | None = None
    score_shift: int | None = None

    def __post_init__(self):
        check(self.select in SELECTS, "select", f"one of {', '.join(SELECTS)}", repr(self.select))
        needed = _NEEDED[self.select]
        stated = [name for name in ("rate", "value", "eps") if getattr(self, name) is not None]
        fits = set(stated) <= set(needed) and len(stated) == min(1, len(needed))
        check(fits, "winners", f"{' or '.join(needed) or 'neither rate, value nor eps'} for {self.select}",
              " and ".join(stated) or "none")
        if self.rate is not None:
            number = isinstance(self.rate, (int, float)) and not isinstance(self.rate, bool)
            check(number and 0 < self.rate <= 1, "rate", "a number above 0, at most 1", repr(self.rate))
        check((self.score_multiplier is None) == (self.score_shift is None), "score_shift",
              "both score_multiplier and score_shift, or neither", "one of them")
        self.ranking(MAX_CHANNELS, 1)  # Whatever else is wrong shows here, and not first where channels are known.

    def ranking(self, channels: int, pixels: int) -> Ranking:
        """The rule of a layer with ``channels`` outputs of ``pixels`` each. Raises JobError."""
        value = self.eps if self.select == "energy" else self.value
        if self.rate is not None:
            value = winner_count(self.rate, channels)
        multiplier, shift = self.score_multiplier, self.score_shift
        if multiplier is None:
            multiplier, shift = quantize_multiplier(1 / pixels)
        return Ranking(score=self.score, select=self.select, value=0 if value is None else value,
                       score_multiplier=multiplier, score_shift=shift, energy_power=self.power)

    @classmethod
    def of(cls, ranking: Ranking) -> Self:
        """The rule that resolves to ``ranking``."""
        name = _NEEDED[ranking.select][-1:]
        factors = {field: getattr(ranking, field) for field in ("score_multiplier", "score_shift")}
        return cls(score=ranking.score, select=ranking.select, power=ranking.energy_power,
                   **dict.fromkeys(name, ranking.value), **(factors if ranking.score == "mean" else {}))

    @classmethod
    def read(cls, stated: Any) -> Self:
        """The rule of a JSON object. Raises JobError for unknown fields."""
        check(isinstance(stated, dict), "winners", "an object such as {\"rate\": 0.5}", repr(stated))
        names = [field.name for field in fields(cls)]
        for name in stated:
            check(name in names, "winners", f"fields among {', '.join(names)}", repr(name))
        try:
            return cls(**stated)
        except TypeError:
            raise JobError(f"winners: expected numbers and words, got {stated}") from None

    def text(self) -> dict[str, Any]:
        """The JSON object that :meth:`read` reads."""
        return {field.name: getattr(self, field.name) for field in fields(self)
                if field.name in ("score", "select") or getattr(self, field.name) != field.default}


def winner_count(rate: float, channels: int) -> int:
    """Winners among ``channels`` at a rate: rounded, at least one."""
    return max(1, round(rate * channels))
