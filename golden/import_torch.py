"""From a PyTorch module to the int8 network of the engine, its winners included."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from golden.calibration import METHODS
from golden.checks import JobError, check
from golden.dasnet.winners import everywhere, submodules
from golden.float_layers import FloatNetwork
from golden.network import QuantizedNetwork
from golden.preprocess import Normalization
from golden.quantize_network import quantize_network
from golden.torch_operators import read_network
from golden.winner_rule import WinnerRule


def import_torch(module: nn.Module, example_input: Tensor, calibration: Tensor | np.ndarray, *, name: str = "network",
                 winners: Mapping[str, WinnerRule] | None = None, method: str = "mse",
                 normalize: tuple[Sequence[float], Sequence[float]] | None = None) -> QuantizedNetwork:
    """The int8 form of ``module`` in evaluation mode.

    Parameters
    ----------
    example_input : float [N,C,H,W] or [N,C], such as the module takes; only its sizes matter
    calibration : float images of these sizes, as the module takes them
    winners : the winner rules of submodules by path, such as "layer1.0.relu1"; None: those of ``module`` itself
        (:func:`golden.dasnet.winners.everywhere`)
    method : how an output's range follows from its values: "minmax" or "mse" (:func:`golden.calibration.calibrate`)
    normalize : (mean, std) of each channel, where the module takes ``(pixels / 255 - mean) / std``: the input's range
        is then that of all pixels, and the metadata's ``preprocess`` says what to do with them

    What becomes of the module's operators is said by :func:`golden.torch_operators.read_network`, how they are
    quantized by :func:`golden.quantize_network.quantize_network`. A rule belongs to the int8 layer whose output the
    submodule returns; where it is called more than once, to each. The metadata's ``submodules`` names for each layer
    the first submodule that returns its output, ``host`` a softmax that is left to the host.

    Raises JobError for a rule whose submodule returns no layer's output, as where the layer has taken up the operator
    behind it, and for what cannot be imported, all before an image is run. ``module`` is left as it was.
    """
    check(method in METHODS, "method", f"one of {', '.join(METHODS)}", repr(method))
    network = read_network(module, example_input)
    images = _checked_images(calibration, example_input)
    preprocess = None if normalize is None else _normalization(normalize, example_input)
    if winners is None:
        winners = {path: taking.rule for path, taking in everywhere(module).items()}
    submodules(module, winners)
    metadata: dict[str, Any] = {"submodules": _first_submodules(network)}
    if network.host:
        metadata["host"] = network.host
    if preprocess:
        metadata["preprocess"] = preprocess.text()
    return quantize_network(
        network, images.reshape(-1, *network.input_shape), name=name, rules=_layer_rules(network, winners),
        method=method, metadata=metadata,
        input_range=preprocess and (preprocess.values.min().item(), preprocess.values.max().item()))


def _checked_images(calibration: Tensor | np.ndarray, example: Tensor) -> Tensor:
    """The calibration images as float32 on the CPU."""
    array = isinstance(calibration, (Tensor, np.ndarray))
    images = torch.as_tensor(calibration) if array else None
    sizes = list(example.shape[1:])
    fits = array and images.is_floating_point() and list(images.shape[1:]) == sizes and len(images) >= 1
    check(fits, "calibration", f"float images [N, {', '.join(map(str, sizes))}], at least one",
          f"{images.dtype} {list(images.shape)}" if array else type(calibration).__name__)
    return images.detach().cpu().float()


def _normalization(stated: tuple[Sequence[float], Sequence[float]], example: Tensor) -> Normalization:
    check(isinstance(stated, (tuple, list)) and len(stated) == 2, "normalize", "(mean, std)", stated)
    try:
        found = Normalization(mean=stated[0], std=stated[1])
    except JobError as error:
        raise JobError(f"normalize: {error}") from None
    check(len(found.mean) == example.shape[1], "normalize", f"numbers for {example.shape[1]} channels", found.mean)
    return found


def _layer_rules(network: FloatNetwork, winners: Mapping[str, WinnerRule]) -> dict[str, WinnerRule]:
    """The rules of submodules as those of layers, by name."""
    rules: dict[str, WinnerRule] = {}
    owners: dict[str, str] = {}
    firsts = _first_submodules(network)
    for path, rule in winners.items():
        check(isinstance(rule, WinnerRule), f"winners: {path}", "a WinnerRule", type(rule).__name__)
        ends, layer = network.ends.get(path, ()), network.inside.get(path)
        instead = f", as {firsts[layer]} does" if layer in firsts else ""
        check(bool(ends) and None not in ends, f"winners: {path}",
              f"a submodule that returns a layer's output{instead}",
              f"one within layer {layer}" if layer else "one that returns none")
        for name in ends:
            check(owners.setdefault(name, path) == path, f"winners: {path}", f"one rule for layer {name}",
                  f"that of {owners[name]}, too")
            rules[name] = rule
    return rules


def _first_submodules(network: FloatNetwork) -> dict[str, str]:
    """For each layer the path of the first submodule that returns its output."""
    firsts: dict[str, str] = {}
    for path, names in network.ends.items():
        for name in names:
            if name is not None:
                firsts.setdefault(name, path)
    return firsts
