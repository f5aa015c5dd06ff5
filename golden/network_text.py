"""NETWORK.json: a network as a text that people write by hand (docs/network.md)."""

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from golden.checks import JobError, check, check_integer, check_integers
from golden.conv_tensors import ConvTensors, stored_arrays
from golden.layers import ConvLayer, LayerDescription
from golden.network import NetworkInput, QuantizedNetwork
from golden.network_npz import OPERATIONS
from golden.node import Node
from golden.npz import NpzReader, whole_file, write_npz
from golden.winner_rule import WinnerRule

_MOST = 2**31 - 1
_NETWORK = ("name", "input", "layers", "weights", "seed", "metadata")
_COMMON = ("name", "op", "inputs", "winners")
_SCALED = (*_COMMON, "activation", "output_scale", "output_zero_point")
_POOL = ("kernel", "stride", "padding")
_FIELDS = {
    "conv": (*_SCALED, "out_channels", "kernel", "stride", "padding", "groups", "pool"),
    "max_pool": (*_COMMON, *_POOL, "activation"), "average_pool": (*_COMMON, *_POOL, "activation", "ties"),
    "mean": _SCALED, "add": _SCALED, "concat": _COMMON}


def load(path: Path) -> QuantizedNetwork:
    """Read a network from its text and the file of its weights, if it names one. Raises JobError."""
    try:
        text = json.loads(path.read_text())
    except FileNotFoundError:
        raise JobError(f"{path}: expected a JSON file, got no such file") from None
    except json.JSONDecodeError as error:
        raise JobError(f"{path}: expected JSON, got {error.msg} in line {error.lineno}") from None
    except (OSError, UnicodeDecodeError):
        raise JobError(f"{path}: expected a JSON file, got something unreadable") from None
    network = read(text)
    if "weights" not in text:
        return network
    check(isinstance(text["weights"], str), "weights", "the name of an npz file", repr(text["weights"]))
    return _with_tensors(text, path.parent / text["weights"])


def read(text: Any) -> QuantizedNetwork:
    """The network of a JSON object, its weights left to draw. Raises JobError."""
    _object("network", text, _NETWORK, needed=("name", "input", "layers"))
    check(isinstance(text["name"], str), "name", "a string", repr(text["name"]))
    metadata = text.get("metadata", {})
    check(isinstance(metadata, dict), "metadata", "an object", repr(metadata))
    return QuantizedNetwork(name=text["name"], input=_input(text["input"]), layers=tuple(_layers(text["layers"])),
                            seed=text.get("seed", 0), metadata=metadata)


def _with_tensors(text: dict[str, Any], path: Path) -> QuantizedNetwork:
    layers = []
    with NpzReader(path) as npz:
        for layer in _layers(text["layers"]):
            if layer.op == "conv":
                arrays = stored_arrays(npz, f"{layer.name}.")
                try:
                    layer = replace(layer, tensors=ConvTensors(**arrays))
                except JobError as error:
                    prefix = "" if str(error).startswith("layer ") else f"layer {layer.name}: "
                    raise JobError(f"{prefix}{error}") from None
            layers.append(layer)
    return QuantizedNetwork(name=text["name"], input=_input(text["input"]), layers=tuple(layers),
                            metadata=text.get("metadata", {}))


def _object(name: str, value: Any, known: tuple[str, ...], *, needed: tuple[str, ...] = ()) -> None:
    """Raise JobError unless ``value`` is a JSON object of known fields, among them the needed ones."""
    check(isinstance(value, dict), name, f"an object with {', '.join(needed or known)}", repr(value))
    for field in needed:
        check(field in value, field, "this field", "none")
    for field in value:
        check(field in known, field, f"fields among {', '.join(known)}", "this one")


def _input(value: Any) -> NetworkInput:
    _object("input", value, ("shape", "scale", "zero_point"), needed=("shape",))
    return NetworkInput(shape=value["shape"], scale=value.get("scale", 1 / 255),
                        zero_point=value.get("zero_point", -128))


def _layers(value: Any) -> list[LayerDescription]:
    check(isinstance(value, list), "layers", "a list of layers", type(value).__name__)
    layers = []
    for number, item in enumerate(value):
        name = item.get("name") if isinstance(item, dict) else None
        check(isinstance(name, str), f"layers[{number}]", "an object with a name", repr(item))
        try:
            layers.append(_layer(item))
        except JobError as error:
            prefix = "" if str(error).startswith("layer ") else f"layer {name}: "
            raise JobError(f"{prefix}{error}") from None
    return layers


def _layer(item: Mapping[str, Any]) -> LayerDescription:
    op = item.get("op", "conv")
    check(op in OPERATIONS, "op", f"one of {', '.join(OPERATIONS)}", repr(op))
    needed = {"conv": ("out_channels", "kernel"), "max_pool": ("kernel",), "average_pool": ("kernel",)}.get(op, ())
    _object("layer", item, _FIELDS[op], needed=needed)
    values = {name: _READERS.get(name, _as_is)(name, value) for name, value in item.items() if name != "op"}
    if isinstance(values.get("inputs"), list):
        values["inputs"] = tuple(values["inputs"])
    if "winners" in values:
        values["ranking"] = values.pop("winners")
    if "pool" in values:
        pool = values.pop("pool")
        values |= {"pool": (*pool["kernel"], *pool.get("stride", pool["kernel"])),
                   "pool_padding": pool.get("padding", (0, 0, 0, 0))}
    return OPERATIONS[op](**values)


def _as_is(name: str, value: Any) -> Any:
    return value


def _integer(name: str, value: Any) -> int:
    return check_integer(name, value, 1, _MOST)


def _pair(name: str, value: Any) -> tuple[int, ...]:
    expected = "a positive integer, or two (rows, columns)"
    return check_integers(name, value if isinstance(value, list) else [value, value], 2, 1, _MOST, expected)


def _padding(name: str, value: Any) -> str | tuple[int, ...]:
    if isinstance(value, str):
        return value
    expected = "same, valid, an integer, or four (top, bottom, left, right)"
    return check_integers(name, value if isinstance(value, list) else [value] * 4, 4, 0, _MOST, expected)


def _pool(name: str, value: Any) -> dict[str, Any]:
    _object(name, value, _POOL, needed=("kernel",))
    return {field: _READERS[field](f"pool {field}", item) for field, item in value.items()}


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "out_channels": _integer, "groups": _integer, "kernel": _pair, "stride": _pair, "padding": _padding, "pool": _pool,
    "winners": lambda name, value: WinnerRule.read(value)}


def save(network: QuantizedNetwork, path: Path) -> None:
    """Write the text of ``network``, and beside it the tensors as NAME.npz if they are its own; whole or not at all."""
    own = all(node.draw is None for node in network.layers)
    text: dict[str, Any] = {
        "name": network.name,
        "input": {"shape": list(network.input.shape), "scale": network.input.scale,
                  "zero_point": network.input.zero_point}}
    if own:
        text["weights"] = path.with_suffix(".npz").name
    else:
        text["seed"] = network.seed
    if network.metadata:
        text["metadata"] = network.metadata
    if own:
        write_npz(path.with_suffix(".npz"), {f"{node.name}.{name}": array for node in network.layers
                                             if node.op == "conv" for name, array in node.tensors.arrays().items()},
                  compressed=True)
    head = "".join(f" {json.dumps(name)}: {json.dumps(value)},\n" for name, value in text.items())
    lines = ",\n".join(f"  {json.dumps(_text(node))}" for node in network.layers)
    with whole_file(path) as partial:
        partial.write_text(f'{{\n{head} "layers": [\n{lines}\n ]\n}}\n')


def _text(node: Node) -> dict[str, Any]:
    """The JSON object of a layer: what its description states, without defaults."""
    layer = node.layer
    text: dict[str, Any] = {"name": node.name, "op": node.op, "inputs": list(node.inputs)}
    for field in fields(layer):
        value = getattr(layer, field.name)
        if field.name in _FIELDS[node.op] and field.name not in text and value != field.default and value is not None:
            text[field.name] = list(value) if isinstance(value, tuple) else value
    if isinstance(layer, ConvLayer) and layer.pool is not None:
        text["pool"] = {"kernel": list(layer.pool[:2]), "stride": list(layer.pool[2:])}
        if node.pool_padding != (0, 0, 0, 0):
            text["pool"]["padding"] = list(node.pool_padding)
    if layer.ranking is not None:
        rule = layer.ranking if isinstance(layer.ranking, WinnerRule) else WinnerRule.of(layer.ranking)
        text["winners"] = rule.text()
    return text
