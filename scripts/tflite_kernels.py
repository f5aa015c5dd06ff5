"""TFLite's own kernels (ai-edge-litert), which imported models are compared with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from golden.network import QuantizedNetwork

_MOST_INPUTS = 50
"""Whose tensors are held at a time."""


def interpreter(model: bytes, *, keep_all: bool = False, reference: bool = True) -> Any:
    """TFLite's interpreter of a model, with its reference kernels or those that it takes by itself.

    ``keep_all``: every tensor can be read after a run. Raises ImportError where ai-edge-litert is not installed, and
    ValueError or RuntimeError for a model that TFLite does not take.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO
    found = Interpreter(model_content=model, experimental_op_resolver_type=kernels,
                        experimental_preserve_all_tensors=keep_all, num_threads=1)
    found.allocate_tensors()
    return found


def as_int8(values: np.ndarray) -> np.ndarray:
    """uint8 values 128 less, int8 values as they are."""
    return (values ^ 0x80).view(np.int8) if values.dtype == np.uint8 else values


def model_values(network: "QuantizedNetwork", planes: np.ndarray) -> np.ndarray:
    """Inputs int8 [N,C,H,W] of a network in the order and type of the .tflite model that it was imported from."""
    ordered = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    ordered = ordered.reshape(len(planes), *network.metadata["input_shape"][1:])
    if network.metadata["input_type"] == "float32":
        return (ordered.astype(np.float32) - network.input.zero_point) * np.float32(network.input.scale)
    return ordered.view(np.uint8) ^ 0x80 if network.metadata["input_type"] == "uint8" else ordered


@dataclass(kw_only=True)
class Comparison:
    """So many bytes of ``inputs`` inputs' tensors, of which ``differing`` are not TFLite's.

    ``tensors`` names each compared layer with its own count of differing bytes; ``largest`` int64 [inputs]: the place
    of the largest value of TFLite's tensor of the network's output, the first of equal ones.
    """

    inputs: int
    bytes: int
    tensors: Mapping[str, int]
    largest: np.ndarray

    @property
    def differing(self) -> int:
        return sum(self.tensors.values())


def compare(network: "QuantizedNetwork", runner: Any, planes: np.ndarray, *, every_tensor: bool = False) -> Comparison:
    """The output of ``network`` for inputs int8 [N,C,H,W], or what each of its layers gives, beside TFLite's tensors.

    ``runner`` is the :func:`interpreter` of the model that the network was imported from, which keeps all tensors.
    """
    from golden.quantization import run_batch

    last = network.layers[-1].name
    numbers = {layer: int(number) for number, layer in network.metadata["tensors"].items()
               if layer != "input" and (every_tensor or layer == last)}
    index = runner.get_input_details()[0]["index"]
    differing, compared, places = dict.fromkeys(numbers, 0), 0, []
    for start in range(0, len(planes), _MOST_INPUTS):
        some = planes[start:start + _MOST_INPUTS]
        results = run_batch(network, some)
        outputs = {node.name: result.output.numpy().transpose(0, 2, 3, 1).reshape(len(some), -1)
                   for node, result in zip(network.layers, results, strict=True) if node.name in numbers}
        for position, one in enumerate(model_values(network, some)):
            runner.set_tensor(index, one[None])
            runner.invoke()
            for layer, number in numbers.items():
                expected = as_int8(runner.get_tensor(number)).ravel()
                differing[layer] += int((expected != outputs[layer][position]).sum())
                compared += expected.size
                if layer == last:
                    places.append(int(expected.argmax()))
    return Comparison(inputs=len(planes), bytes=compared, tensors=differing, largest=np.array(places))
