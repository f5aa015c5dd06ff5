"""A network with every operation, and the same with stored weights."""

from dataclasses import replace
from pathlib import Path

from golden.network import QuantizedNetwork

EVERY_OPERATION = Path(__file__).parent / "every_operation.json"


def with_stored_weights(path: Path) -> QuantizedNetwork:
    """It is written to ``path`` with weights of its own, of which whole blocks are zero in the layer ``sparse``."""
    network = QuantizedNetwork.load(EVERY_OPERATION)
    layers = []
    for node in network.layers:
        layer = node.layer
        if not layer.keeps_quantization:
            layer = replace(layer, output_scale=node.output_scale, output_zero_point=node.output_zero_point)
        if node.op == "conv":
            weight = node.weight.copy()
            if node.name == "sparse":
                weight[:8, ::2] = weight[8:16, 1::2] = 0
            layer = replace(layer, tensors=replace(node.tensors, weight=weight))
        layers.append(layer)
    replace(network, layers=tuple(layers)).save(path)
    return QuantizedNetwork.load(path)
