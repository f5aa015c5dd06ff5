"""Cycles in the report of ``winnow compare``: where those of a run went, and software's beside them."""

from collections.abc import Mapping
from typing import Any

CAUSES = {"program": "waits for descriptors", "activations": "waits for activations", "weights": "waits for weights",
          "drain": "waits for the drain", "output": "waits for the output"}
"""The counters of stalls, as people read them."""
LABELS = {"active": "array active"} | CAUSES | {"rest": "rest"}
"""Every part of a run's cycles, in the order in which they are shown."""


def cycle_parts(run: Mapping[str, Any]) -> dict[str, int] | None:
    """The parts of :data:`LABELS` that are not 0; together they are ``run["cycles"]``. None if they were not measured.

    The cycles that ranking adds are among these: no counter tells them apart.
    """
    if run["array_active_cycles"] is None or run["stall_cycles"] is None:
        return None
    parts = {"active": run["array_active_cycles"]} | {cause: run["stall_cycles"].get(cause, 0) for cause in CAUSES}
    rest = run["cycles"] - sum(parts.values())
    if rest < 0:
        raise ValueError(f"cycles: expected at least those of the array and the stalls, got {run['cycles']:,}, "
                         f"{-rest:,} too few")
    return {name: cycles for name, cycles in (parts | {"rest": rest}).items() if cycles}


def software_cycles(software: Mapping[str, Any] | None, run: str) -> int | None:
    """The best kernel's, and, of the sparse layer, those of its ranking: what the engine is compared with."""
    if software is None:
        return None
    ranking = software["ranking"] if run == "sparse" else None
    return software[run][software[f"best_{run}"]]["cycles"] + (ranking["cycles"] if ranking else 0)
