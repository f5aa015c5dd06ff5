"""The classes that a network finds, for reports."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from golden.network import QuantizedNetwork

TOP = 5
SHOWN = 10
"""Inputs whose classes are printed, where there are many."""


def class_fields(network: "QuantizedNetwork", outputs: "np.ndarray", names: Sequence[str], labels: Sequence[int] | None,
                 class_names: Sequence[str] = ()) -> dict[str, Any]:
    """Of outputs int8 [N, ...]: the largest classes of each input, with their names, as far as there are any, and the
    accuracy where labels are known."""
    import numpy as np

    from golden.inference import largest, real_values

    places = largest(outputs, TOP)
    scores = np.take_along_axis(real_values(network, outputs), places, 1)

    def entry(place: int, score: float) -> dict[str, Any]:
        named = {"name": class_names[place]} if place < len(class_names) else {}
        return {"class": place, "score": score} | named

    results = [{"input": name, "top": [entry(*pair) for pair in zip(row, line, strict=True)]}
               for name, row, line in zip(names, places.tolist(), scores.tolist(), strict=True)]
    if labels is None:
        return {"results": results}
    for result, label in zip(results, labels, strict=True):
        result["label"] = label
    right = places == np.array(labels)[:, None]
    return {"accuracy": float(right[:, 0].mean()), "top5_accuracy": float(right.any(1).mean()), "results": results}


def class_lines(report: dict[str, Any], most: int | None = SHOWN) -> list[str]:
    """The fields of :func:`class_fields` as text, of ``most`` inputs or of all."""
    lines = []
    if "accuracy" in report:
        lines.append(f"Accuracy: {report['accuracy']:.2%}, label among the five largest: {report['top5_accuracy']:.2%}")
    shown = report["results"][:most]
    for result in shown:
        label = f" (label {result['label']})" if "label" in result else ""
        top = ", ".join(f"{one.get('name', one['class'])} {one['score']:.4g}" for one in result["top"])
        lines.append(f"  {result['input']}{label}: {top}")
    if len(shown) < len(report["results"]):
        lines.append(f"  ... and {len(report['results']) - len(shown):,} more (--json has all)")
    return lines
