"""From a float network to the int8 network of the engine: calibrated, then quantized as TFLite does."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from golden.calibration import METHODS, Quantization, calibrate
from golden.checks import check
from golden.conv_tensors import ConvTensors
from golden.float_layers import FloatLayer, FloatNetwork
from golden.layers import LayerDescription
from golden.network import NetworkInput, QuantizedNetwork
from golden.numerics import INT32_MAX, quantize_multiplier
from golden.winner_rule import WinnerRule

_LARGEST_BIAS = 2**30
"""Of a quantized bias, so that the sums have as much room again."""


def quantize_network(network: FloatNetwork, images: Tensor, *, name: str, rules: Mapping[str, WinnerRule] | None = None,
                     method: str = "mse", input_range: tuple[float, float] | None = None,
                     metadata: Mapping[str, Any] | None = None) -> QuantizedNetwork:
    """The int8 form of ``network``, calibrated with ``images`` float [N,C,H,W] (:func:`golden.calibration.calibrate`).

    Weights are symmetric, -127..127, with a scale for each output channel, activations have a scale and zero point for
    each tensor, biases the scale of the sums. ``rules`` are the winners of layers, by name. The metadata gets what the
    calibration was. Raises JobError; all but for values that are not finite before an image is run.
    """
    check(method in METHODS, "method", f"one of {', '.join(METHODS)}", repr(method))
    rules = rules or {}
    names = ("input", *(layer.name for layer in network.layers))
    # With any quantization a network says whether its layers fit together.
    _assembled(network, dict.fromkeys(names, Quantization(scale=1.0, zero_point=0)), rules, name, {}, tensors=False)
    found = calibrate(network, images, rules, method=method, input_range=input_range)
    calibration = {"calibration": {"images": len(images), "method": method}}
    return _assembled(network, found, rules, name, {**(metadata or {}), **calibration}, tensors=True)


def _assembled(network: FloatNetwork, found: Mapping[str, Quantization], rules: Mapping[str, WinnerRule], name: str,
               metadata: dict[str, Any], *, tensors: bool) -> QuantizedNetwork:
    """The network of the quantizations ``found``; without ``tensors`` its weights are never asked for."""
    layers = [_layer(layer, found, rules.get(layer.name), tensors) for layer in network.layers]
    input = NetworkInput(scale=found["input"].scale, zero_point=found["input"].zero_point, shape=network.input_shape)
    return QuantizedNetwork(name=name, input=input, layers=tuple(layers), metadata=metadata)


def _layer(layer: FloatLayer, found: Mapping[str, Quantization], rule: WinnerRule | None, tensors: bool
           ) -> LayerDescription:
    fields: dict[str, Any] = {"ranking": rule}
    source, output = found[layer.inputs[0]], found[layer.name]
    if not layer.description.keeps_quantization:
        fields |= {"output_scale": output.scale, "output_zero_point": output.zero_point}
    if tensors and layer.description.op == "conv":
        fields |= {"tensors": _tensors(layer, source.scale, output.scale), "input_zero_point": source.zero_point}
    return replace(layer.description, **fields)


def _tensors(layer: FloatLayer, input_scale: float, output_scale: float) -> ConvTensors:
    """A convolution's tensors; each channel has the smallest scale that holds its weights and its bias."""
    weight, bias = layer.weight.double(), layer.bias.double()
    if layer.exact:
        scale = torch.ones(len(weight), dtype=torch.float64)
    else:
        scale = torch.maximum(weight.flatten(1).abs().amax(1) / 127, bias.abs() / input_scale / _LARGEST_BIAS)
        scale[scale == 0] = 1.0
    sums = input_scale * scale
    factors = [quantize_multiplier(factor) for factor in (sums / output_scale).tolist()]
    multiplier, shift = np.array(factors, np.int32).T
    return ConvTensors(weight=(weight / scale.reshape(-1, 1, 1, 1)).round().to(torch.int8).numpy(),
                       bias=(bias / sums).round().clamp(-INT32_MAX, INT32_MAX).to(torch.int32).numpy(),
                       multiplier=np.ascontiguousarray(multiplier), shift=np.ascontiguousarray(shift))
