"""``winnow winners FILE.pt --save-macs``: the winner rates and scores that save MACs at the least cost."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from scripts.options import Refusal, progress_of

if TYPE_CHECKING:
    from golden.dasnet.trained import Trained
    from golden.datasets import Dataset

RATES = tuple(number / 16 for number in (*range(2, 9), 10, 12, 14))
"""Those tried of each layer."""


def cheapest_rates(trained: "Trained", dataset: "Dataset", *, saved: float, with_accuracy: bool,
                   seed: int) -> dict[str, Any]:
    """Rates and scores of the layers that save this fraction of the MACs while the outputs change least.

    Each layer's cost is measured by itself, without fine-tuning, on the 1,000 training images that
    :func:`golden.dasnet.finetune.flow` takes. Raises Refusal.
    """
    from golden.checks import JobError
    from golden.dasnet import macs
    from golden.dasnet.curves import accuracies_at
    from golden.dasnet.finetune import analysed_images
    from golden.dasnet.sensitivity import cheapest, choices

    network, view, ranked = trained.network, trained.recipe.view, trained.recipe.ranked
    images = analysed_images(dataset.train, view, seed=seed)
    # What can be saved at all is known at once, what it costs after minutes.
    most = sum(macs.reduction(macs.count(network, images[:1], {name: RATES[0]})) for name in ranked)
    if saved > most:
        raise Refusal(f"--save-macs: expected a fraction of the MACs above 0, at most {most:.4f}, got {saved:g}")
    found = choices(network, images, ranked, RATES, ("max", "mean"), progress=progress_of,
                    bfloat16=trained.recipe.fine_tuning.bfloat16)
    try:
        chosen = cheapest(found, saved)
    except JobError as error:
        raise Refusal(f"--save-macs: {str(error).partition(': ')[2]}") from None
    rates = {name: one.rate for name, one in chosen.items()}
    scores = {name: one.score for name, one in chosen.items()}
    report = {"network": trained.name, "source": dataset.source, "images": len(images), "seed": seed,
              "saved": sum(one.saved for one in chosen.values()),
              "divergence": sum(one.divergence for one in chosen.values()), "rates": rates, "scores": scores,
              "choices": {name: [asdict(one) for one in options] for name, options in found.items()}}
    if with_accuracy:
        report["test_images"] = len(dataset.test.labels)
        report["baseline_accuracy"] = trained.accuracy(dataset.test, dense=True, progress=progress_of)
        report["accuracy"], = accuracies_at(network, [rates], dataset.test, view, score=scores, progress=progress_of)
    return report


def cheapest_rates_text(report: dict[str, Any]) -> str:
    """:func:`cheapest_rates` as people read it."""
    from sim.report import table

    rows = []
    for name, options in report["choices"].items():
        rate, score = report["rates"].get(name), report["scores"].get(name)
        one, = [one for one in options if (one["rate"], one["score"]) == (rate, score)] or [None]
        rows.append([name, f"{rate:.1%}", score, f"{one['saved']:.2%}", f"{one['divergence']:.4f}"] if one
                    else [name, "all", "", "", ""])
    accuracy = (f"; accuracy {report['accuracy']:.2%} before fine-tuning, {report['baseline_accuracy']:.2%} with all "
                "channels" if "accuracy" in report else "")
    return (f"{report['network']}, {report['source']}\n\n"
            + table(["layer", "rate", "score", "MACs saved", "divergence"], rows)
            + f"\n{report['saved']:.2%} of the MACs saved, divergence {report['divergence']:.4f} in sum{accuracy}")
