"""An int8 network on any number of inputs, a few at a time: its outputs, and how many channels win."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from golden.network import QuantizedNetwork
from golden.quantization import run_batch

_MOST_VALUES = 1 << 23
"""Of a layer's output for the inputs that run at a time."""
_MOST_INPUTS = 100


@dataclass(frozen=True, kw_only=True)
class Inference:
    """``outputs`` int8 [N,O,OH,OW] of the last layer; ``rates`` {layer: mean fraction of channels that win} of those
    that are ranked."""

    outputs: np.ndarray
    rates: Mapping[str, float]


def infer(network: QuantizedNetwork, inputs: np.ndarray, *, dense: bool = False,
          progress: Callable[[int], None] | None = None) -> Inference:
    """Run inputs int8 [N,C,H,W] as the engine does, bit for bit. ``progress`` is told how many are done."""
    largest = max(int(np.prod(node.output_shape)) for node in network.layers)
    step = max(1, min(_MOST_INPUTS, _MOST_VALUES // largest))
    ranked = [] if dense else [node.name for node in network.layers if node.ranking is not None]
    outputs, wins = [], dict.fromkeys(ranked, 0.0)
    for start in range(0, len(inputs), step):
        results = run_batch(network, inputs[start:start + step], dense=dense)
        outputs.append(results[-1].output.numpy())
        for node, result in zip(network.layers, results, strict=True):
            if node.name in wins:
                wins[node.name] += float(result.winners.double().mean(1).sum())
        if progress:
            progress(min(start + step, len(inputs)))
    return Inference(outputs=np.concatenate(outputs), rates={name: total / len(inputs) for name, total in wins.items()})


def real_values(network: QuantizedNetwork, outputs: np.ndarray) -> np.ndarray:
    """What int8 outputs [N, ...] stand for, float64 [N, values]: probabilities where the host is left a softmax."""
    node = network.layers[-1]
    values = (outputs.reshape(len(outputs), -1).astype(np.float64) - node.output_zero_point) * node.output_scale
    if "softmax" not in network.metadata.get("host", ""):
        return values
    exponentials = np.exp(values - values.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def largest(outputs: np.ndarray, count: int) -> np.ndarray:
    """The places of the ``count`` largest of int8 outputs [N, ...], largest first, of equal ones the lower first."""
    flat = outputs.reshape(len(outputs), -1).astype(np.int64)
    return np.argsort(-flat, axis=1, kind="stable")[:, :count]
