"""Options ``[LAYER=]NUMBER`` and ``[LAYER=]WORD`` of the training commands, and files of rates."""

import json
from collections.abc import Sequence
from pathlib import Path

from scripts.options import Refusal

SCORES = ("max", "mean")
"""Of which winner rates may be, the first unless told otherwise."""


def read_numbers(option: str, stated: Sequence[str], layers: Sequence[str], *, everyone: Sequence[str] | None = None,
                 whole: bool = True) -> dict[str, float]:
    """{layer: number} of ``[LAYER=]NUMBER`` options, numbers above 0, at most 1 (not ``whole``: below 1).

    ``layers``: those that may be named; one without a layer is of ``everyone``, by default all of these, and gives way
    to one of a layer wherever that stands. Raises Refusal.
    """
    found: dict[str, float] = {}
    for text in sorted(stated, key=lambda text: "=" in text):
        layer, number = _split(option, text, layers)
        try:
            value = float(number)
        except ValueError:
            value = 0.0
        if not 0 < value <= 1 or (value == 1 and not whole):
            raise Refusal(f"{option}: expected a number above 0, {'at most' if whole else 'below'} 1, got {number!r}")
        found |= {layer: value} if layer else dict.fromkeys(layers if everyone is None else everyone, value)
    return found


def read_words(option: str, stated: Sequence[str], layers: Sequence[str], words: Sequence[str]) -> dict[str, str]:
    """{layer: word} of ``[LAYER=]WORD`` options for all ``layers``; the first of ``words`` where nothing is stated.

    Raises Refusal.
    """
    found = dict.fromkeys(layers, words[0])
    for text in sorted(stated, key=lambda text: "=" in text):
        layer, word = _split(option, text, layers)
        if word not in words:
            raise Refusal(f"{option}: expected one of {', '.join(words)}, got {word!r}")
        found |= dict.fromkeys([layer] if layer else layers, word)
    return found


def _split(option: str, text: str, layers: Sequence[str]) -> tuple[str, str]:
    """LAYER, empty where there is none, and what is stated of it. Raises Refusal."""
    layer, _, value = text.rpartition("=")
    if layer and layer not in layers:
        raise Refusal(f"{option}: expected a layer among {', '.join(layers)}, got {layer!r}")
    return layer, value


def read_rounds(option: str, stated: Sequence[str], layers: Sequence[str]) -> list[dict[str, float]]:
    """The numbers of each round: of one without a layer, with those of single layers over it. Raises Refusal."""
    single = [text for text in stated if "=" in text]
    rounds = [read_numbers(option, [text, *single], layers) for text in stated if "=" not in text]
    return rounds or ([read_numbers(option, single, layers)] if single else [])


def read_rates_and_scores(option: str, path: Path, layers: Sequence[str]) -> tuple[dict[str, float], dict[str, str]]:
    """The winner rates of a file, {layer: rate} or an object that has it as ``rates``, and its ``scores``, if any.

    Raises Refusal or JobError.
    """
    from golden.network import read_rates

    rates = read_rates(path)
    scores = json.loads(path.read_text()).get("scores", {})
    for name in rates:
        if name not in layers:
            raise Refusal(f"{option}: {path}: expected layers among {', '.join(layers)}, got {name!r}")
    if not isinstance(scores, dict) or any(score not in SCORES for score in scores.values()):
        raise Refusal(f"{option}: {path}: expected scores among {', '.join(SCORES)}, got {scores}")
    return rates, dict.fromkeys(layers, SCORES[0]) | scores
