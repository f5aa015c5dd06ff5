"""What random jobs draw alike: masks, rankings, scaling and activations, each from a numpy generator."""

import math

import numpy as np

from golden.job import Ranking
from golden.multipliers import INT32_MAX, SHIFT_MAX, SHIFT_MIN, quantize_multiplier

# How outputs spread: over int8, clipped by it, all near the zero point (score ties), or any register value at all.
_SPREADS = (("normal", 10), ("saturated", 2), ("flat", 1), ("wild", 1))


def choose(rng: np.random.Generator, weighted: tuple[tuple[str, float], ...]) -> str:
    """One of (name, weight), with a probability in proportion to its weight."""
    weights = np.array([weight for _, weight in weighted], float)
    return weighted[rng.choice(len(weighted), p=weights / weights.sum())][0]


def between(rng: np.random.Generator, low: int, high: int) -> int:
    """A log-uniform integer in low..high, so that small and large sizes are equally frequent."""
    return min(high, int(math.exp(rng.uniform(math.log(low), math.log(high + 1)))))


def channel_mask(rng: np.random.Generator, channels: int) -> np.ndarray | None:
    """A mask uint8 [``channels``]: absent, at a rate, empty, full, or of one winner."""
    kind = choose(rng, (("absent", 4), ("rate", 8), ("empty", 1), ("full", 1), ("one", 1)))
    if kind == "absent":
        return None
    mask = np.full(channels, kind == "full", np.uint8)
    if kind == "rate":
        mask[:] = rng.random(channels) < rng.uniform(0.05, 0.95)
    elif kind == "one":
        mask[rng.integers(channels)] = 1
    return mask


def ranking(rng: np.random.Generator, outputs: int, pixels: int) -> Ranking | None:
    """A ranking of ``outputs`` channels of ``pixels`` each, by any score and selection, or none."""
    if rng.random() < 0.1:
        return None
    score = str(rng.choice(["max", "absmax", "mean"]))
    select = str(rng.choice(["all", "topk", "energy", "threshold"], p=[0.1, 0.4, 0.3, 0.2]))
    value = {"all": 0,
             "topk": int(rng.choice([1, outputs, rng.integers(1, outputs + 1)], p=[0.1, 0.1, 0.8])),
             "energy": float(rng.choice([0, 1, 0.5, rng.uniform()], p=[0.05, 0.1, 0.15, 0.7])),
             "threshold": int(rng.choice([0, 255, rng.integers(256)], p=[0.1, 0.1, 0.8]))}[select]
    # A mean over the map, scaled by up to 8 as quantized scores are, or a drawn register value.
    multiplier, shift = quantize_multiplier(rng.uniform(0.5, 8) / pixels)
    if rng.random() < 0.1:
        multiplier, shift = int(rng.integers(INT32_MAX, endpoint=True)), int(rng.integers(SHIFT_MIN, SHIFT_MAX + 1))
    return Ranking(score=score, select=select, value=value, score_multiplier=multiplier, score_shift=shift,
                   energy_power=int(rng.integers(1, 3)))


def scaling(rng: np.random.Generator, outputs: int, deviation: float) -> dict[str, np.ndarray]:
    """Bias, multiplier and shift of ``outputs`` channels whose sums have about this standard deviation."""
    spread = choose(rng, _SPREADS)
    if spread == "wild":
        return {"bias": rng.integers(-2**31, 2**31, outputs).astype(np.int32),
                "multiplier": rng.integers(0, 2**31, outputs).astype(np.int32),
                "shift": rng.integers(SHIFT_MIN, SHIFT_MAX + 1, outputs).astype(np.int32)}
    target = {"normal": 40, "saturated": 1000, "flat": 0.2}[spread]
    scales = [quantize_multiplier(target / deviation * rng.uniform(0.5, 2)) for _ in range(outputs)]
    multiplier, shift = np.array(scales, np.int32).T
    return {"bias": (rng.normal(0, deviation, outputs)).astype(np.int32), "multiplier": multiplier, "shift": shift}


def activation(rng: np.random.Generator) -> dict[str, int]:
    """An output zero point and a clamp: none, ReLU, ReLU6-like, or a single value (every score ties)."""
    kind = choose(rng, (("none", 4), ("relu", 6), ("bounded", 2), ("constant", 0.4)))
    zero_point = int(rng.choice([-128, 127, rng.integers(-128, 128)], p=[0.5, 0.05, 0.45]))
    low, high = -128, 127
    if kind in ("relu", "bounded"):
        low = zero_point
    if kind == "bounded":
        high = int(rng.integers(zero_point, 128))
    elif kind == "constant":
        low = high = int(rng.integers(-128, 128))
    return {"output_zero_point": zero_point, "activation_min": low, "activation_max": high}
