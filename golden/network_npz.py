"""NETWORK.npz: a network with all its tensors in one file (docs/network.md)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from golden.checks import JobError, check
from golden.conv_tensors import ConvTensors, stored_arrays
from golden.layers import (
    AddLayer,
    AveragePoolLayer,
    ConcatLayer,
    ConvLayer,
    LayerDescription,
    MaxPoolLayer,
    MeanLayer,
)
from golden.network import NetworkInput, QuantizedNetwork
from golden.node import Node
from golden.npz import NpzReader, write_npz
from golden.ranking_rule import ranking_arrays, read_ranking

OPERATIONS = {kind.op: kind for kind in
              (ConvLayer, MaxPoolLayer, AveragePoolLayer, MeanLayer, AddLayer, ConcatLayer)}
"""The description of each operation by name."""


def save(network: QuantizedNetwork, path: Path) -> None:
    """Write ``network`` compressed, drawing the weights that it has not; the file appears whole or not at all."""
    metadata = network.metadata
    if network.weights_are_random:
        metadata = metadata | {"weights_are_random": True}
    arrays: dict[str, Any] = {
        "name": np.array(network.name), "metadata": np.array(json.dumps(metadata)),
        "input_scale": np.float64(network.input.scale), "input_zero_point": np.int64(network.input.zero_point),
        "input_shape": np.array(network.input.shape, np.int64),
        "layers": np.array([node.name for node in network.layers])}
    before = "input"
    for node in network.layers:
        fields = _fields(node)
        if node.inputs != (before,):
            fields["inputs"] = np.array(node.inputs)
        arrays |= {f"{node.name}.{name}": array for name, array in fields.items()}
        arrays |= ranking_arrays(node.ranking, f"{node.name}.")
        before = node.name
    write_npz(path, arrays, compressed=True)


def _fields(node: Node) -> dict[str, Any]:
    """The arrays of a layer without the prefix of its name, its inputs and its ranking."""
    fields: dict[str, Any] = {} if node.op == "conv" else {"op": np.array(node.op)}
    if node.op == "concat":
        return fields
    fields |= {name: np.int64(getattr(node, name)) for name in ("activation_min", "activation_max")}
    if not node.layer.keeps_quantization:
        fields |= {"output_scale": np.float64(node.output_scale), "output_zero_point": np.int64(node.output_zero_point)}
    if node.sizes is not None:
        names = ("stride", "padding") if node.op == "conv" else ("kernel", "stride", "padding")
        fields |= {name: np.array(getattr(node, name), np.int64) for name in names}
    if getattr(node.layer, "ties", "away") != "away":
        fields["ties"] = np.array(node.layer.ties)
    if node.op == "conv":
        fields |= node.tensors.arrays()
        fields |= {name: np.int64(getattr(node, name)) for name in ("input_zero_point", "groups")}
        if node.pool is not None:
            fields["pool"] = np.array(node.pool, np.int64)
        if any(node.pool_padding):
            fields["pool_padding"] = np.array(node.pool_padding, np.int64)
    return fields


def load(path: Path) -> QuantizedNetwork:
    """Read what :func:`save` wrote. Raises JobError."""
    with NpzReader(path) as npz:
        names = npz.array("layers")
        check(names.dtype.kind == "U" and names.ndim == 1, "layers", "layer names [L]", names.dtype)
        input = NetworkInput(scale=npz.scalar("input_scale", "iuf"), shape=npz.array("input_shape"),
                             zero_point=npz.scalar("input_zero_point", "iu"))
        try:
            metadata = json.loads(npz.scalar("metadata", "U"))
        except json.JSONDecodeError:
            metadata = None
        check(isinstance(metadata, dict), "metadata", "a JSON object", "something else")
        return QuantizedNetwork(name=npz.scalar("name", "U"), input=input, metadata=metadata,
                                layers=tuple(_read_layer(npz, str(name)) for name in names))


def _read_layer(npz: NpzReader, name: str) -> LayerDescription:
    def array(key: str) -> np.ndarray:
        return npz.array(f"{name}.{key}")

    def integers(key: str) -> tuple[int, ...]:
        found = array(key)
        check(found.dtype.kind in "iu" and found.ndim == 1, f"{name}.{key}", "integers [n]", found.dtype)
        return tuple(found.tolist())

    def optional(keys: tuple[str, ...], read: Callable[[str], Any]) -> dict[str, Any]:
        return {key: read(key) for key in keys if f"{name}.{key}" in npz}

    op = npz.scalar(f"{name}.op", "U") if f"{name}.op" in npz else "conv"
    check(op in OPERATIONS, f"{name}.op", f"one of {', '.join(OPERATIONS)}", repr(op))
    fields: dict[str, Any] = {"name": name, "ranking": read_ranking(npz, f"{name}.")}
    fields |= {key: tuple(map(str, value.ravel())) for key, value in optional(("inputs",), array).items()}
    if op == "concat":
        return ConcatLayer(**fields)
    fields["activation"] = tuple(npz.scalar(f"{name}.activation_{end}", "iu") for end in ("min", "max"))
    if not OPERATIONS[op].keeps_quantization:
        fields["output_scale"] = npz.scalar(f"{name}.output_scale", "iuf")
        fields["output_zero_point"] = npz.scalar(f"{name}.output_zero_point", "iu")
    if op == "average_pool" and f"{name}.ties" in npz:
        fields["ties"] = npz.scalar(f"{name}.ties", "U")
    if op in ("conv", "max_pool", "average_pool"):
        fields |= {key: integers(key) for key in ("stride", "padding")}
    if op == "conv":
        arrays = stored_arrays(npz, f"{name}.")
        try:
            tensors = ConvTensors(**arrays)
        except JobError as error:
            raise JobError(f"layer {name}: {error}") from None
        outputs, _, *kernel = tensors.weight.shape
        fields |= {"tensors": tensors, "out_channels": outputs, "kernel": tuple(kernel)}
        fields |= {key: npz.scalar(f"{name}.{key}", "iu") for key in ("input_zero_point", "groups")}
        fields |= optional(("pool", "pool_padding"), integers)
    elif op != "mean" and op != "add":
        fields["kernel"] = integers("kernel")
    return OPERATIONS[op](**fields)
