"""A network on the engine by the model: dense, with winners, with zero blocks of weights left out, and with both."""

from dataclasses import replace
from typing import TYPE_CHECKING

from .estimate import Estimate, LayerQuestion
from .network import estimate_questions, network_questions

if TYPE_CHECKING:
    from golden.network import QuantizedNetwork
    from hw.config import EngineConfig


def predicted_runs(network: "QuantizedNetwork", config: "EngineConfig") -> dict[str, list[Estimate]]:
    """The layers of ``network`` as one program, by run.

    ``dense``: all channels take part, and all weights; ``winners``: winners alone, where a layer is ranked; ``blocks``:
    all channels, and blocks of zero weights are left out, where the engine leaves any out; ``both``, where there are
    both. Raises PlanError, naming the layer that the engine cannot run, and JobError where a layer's number of winners
    is not known.
    """
    runs = {}
    ranked = any(node.ranking is not None for node in network.layers)
    for name, dense in (("dense", True), ("winners", False)):
        if dense or ranked:
            questions = network_questions(network, config, dense=dense)
            runs[name] = estimate_questions(network, [one and _whole(one) for one in questions], config)
            if any(one is not None and one.shape.blocks for one in questions):
                runs["blocks" if dense else "both"] = estimate_questions(network, questions, config)
    return {name: runs[name] for name in ("dense", "winners", "blocks", "both") if name in runs}


def _whole(question: LayerQuestion) -> LayerQuestion:
    """The same layer, none of its blocks left out."""
    return replace(question, shape=replace(question.shape, blocks=False), blocks=None)
