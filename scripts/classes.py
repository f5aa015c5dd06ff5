"""The classes that a network finds, for reports."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from golden.network import QuantizedNetwork

TOP = 5
SHOWN = 10
"""Inputs whose classes are printed, where there are many."""


def class_fields(network: "QuantizedNetwork", outputs: "np.ndarray", names: Sequence[str],
                 labels: Sequence[int] | None) -> dict[str, Any]:
    """Of outputs int8 [N, ...]: the largest classes of each input, and the accuracy where labels are known."""
    import numpy as np

    from golden.inference import largest, real_values

    places = largest(outputs, TOP)
    scores = np.take_along_axis(real_values(network, outputs), places, 1)
    results = [{"input": name, "top": [{"class": place, "score": score} for place, score in
                                       zip(row, line, strict=True)]}
               for name, row, line in zip(names, places.tolist(), scores.tolist(), strict=True)]
    if labels is None:
        return {"results": results}
    for result, label in zip(results, labels, strict=True):
        result["label"] = label
    right = places == np.array(labels)[:, None]
    return {"accuracy": float(right[:, 0].mean()), "top5_accuracy": float(right.any(1).mean()), "results": results}


def class_lines(report: dict[str, Any]) -> list[str]:
    """The fields of :func:`class_fields` as text."""
    lines = []
    if "accuracy" in report:
        lines.append(f"Accuracy: {report['accuracy']:.2%}, label among the five largest: {report['top5_accuracy']:.2%}")
    for result in report["results"][:SHOWN]:
        label = f" (label {result['label']})" if "label" in result else ""
        top = ", ".join(f"{one['class']} {one['score']:.4g}" for one in result["top"])
        lines.append(f"  {result['input']}{label}: {top}")
    if len(report["results"]) > SHOWN:
        lines.append(f"  ... and {len(report['results']) - SHOWN:,} more (--json has all)")
    return lines
