"""A quantized network: int8 layers in a chain, each ranking its channels for the next; stored as one npz file."""

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from golden.job import (
    JobError,
    LayerJob,
    NpzReader,
    Ranking,
    check,
    check_integer,
    check_integers,
    ranking_arrays,
    read_ranking,
    write_npz,
)
from golden.reference import LayerResult, run

_INTEGERS = ("input_zero_point", "output_zero_point", "activation_min", "activation_max", "groups")


def check_scale(name: str, scale: Any) -> float:
    """Return ``scale`` as a float, or raise JobError unless it is finite and positive."""
    valid = isinstance(scale, (int, float, np.number)) and math.isfinite(scale) and scale > 0
    check(valid, name, "a finite number above 0", repr(scale))
    return float(scale)


@dataclass(frozen=True, kw_only=True)
class NetworkInput:
    """The network's int8 input: real value = ``scale`` * (q - ``zero_point``), ``shape`` = (C, H, W)."""

    scale: float
    zero_point: int
    shape: tuple[int, int, int]

    def __post_init__(self):
        object.__setattr__(self, "scale", check_scale("input_scale", self.scale))
        object.__setattr__(self, "zero_point", check_integer("input_zero_point", self.zero_point, -128, 127))
        shape = check_integers("input_shape", self.shape, 3, 1, 2**31 - 1, "three positive integers (C, H, W)")
        object.__setattr__(self, "shape", shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """A LayerJob without its input and channel mask; ``output_scale`` gives the real value of an output step.

    Fields mean what they mean in :class:`golden.job.LayerJob` and are validated by it. ``name`` is made of letters,
    digits, ``_`` and ``-``.
    """

    name: str
    weight: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray
    input_zero_point: int
    output_zero_point: int
    activation_min: int
    activation_max: int
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    output_scale: float
    groups: int = 1
    pool: tuple[int, int, int, int] | None = None
    ranking: Ranking | None = None

    def __post_init__(self):
        valid = isinstance(self.name, str) and re.fullmatch(r"[A-Za-z0-9_-]+", self.name)
        check(bool(valid), "name", "letters, digits, _ and -", repr(self.name))
        object.__setattr__(self, "output_scale", check_scale("output_scale", self.output_scale))

    def job(self, input: np.ndarray, channel_mask: np.ndarray | None = None, *, ranked: bool = True) -> LayerJob:
        """This layer's job for an input int8 [C,H,W]; ``ranked=False`` drops the ranking. Raises JobError."""
        return LayerJob(
            input=input, weight=self.weight, bias=self.bias, multiplier=self.multiplier, shift=self.shift,
            input_zero_point=self.input_zero_point, output_zero_point=self.output_zero_point,
            activation_min=self.activation_min, activation_max=self.activation_max, groups=self.groups,
            stride=self.stride, padding=self.padding, channel_mask=channel_mask, pool=self.pool,
            ranking=self.ranking if ranked else None)


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedNetwork:
    """A chain of layers, checked as a whole: shapes and zero points of one layer's output fit the next one's input.

    ``metadata`` is any JSON object (accuracies, seed, the command that made the network). Raises JobError, prefixed
    by the layer's name.
    """

    name: str
    input: NetworkInput
    layers: tuple[Layer, ...]
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "layers", tuple(self.layers))
        names = [layer.name for layer in self.layers]
        check(len(names) >= 1 and len(set(names)) == len(names), "layers", "at least one, names that differ", names)
        shape, zero_point = self.input.shape, self.input.zero_point
        for layer in self.layers:
            try:
                job = layer.job(np.zeros(shape, np.int8))
                check(job.input_zero_point == zero_point, "input_zero_point",
                      f"{zero_point}, that of the tensor before", job.input_zero_point)
            except JobError as error:
                raise JobError(f"layer {layer.name}: {error}") from None
            shape, zero_point = job.output_shape, job.output_zero_point

    def layer_job(self, index: int, input: np.ndarray, channel_mask: np.ndarray | None = None, *,
                  ranked: bool = True) -> LayerJob:
        """The job of layer ``index`` for an input int8 [C,H,W] and the winners among its channels (None: all)."""
        return self.layers[index].job(input, channel_mask, ranked=ranked)

    def run(self, image: np.ndarray, dense: bool = False) -> list[tuple[LayerJob, LayerResult]]:
        """Run an image int8 [C,H,W] through all layers; a ranked layer's winners are the next layer's channel mask.

        ``dense=True``: no masks and no ranking. Returns each layer's job and result. Raises JobError.
        """
        shape = list(getattr(image, "shape", ()))
        check(shape == list(self.input.shape), "image", f"int8 {list(self.input.shape)}", shape)
        results, activations, mask = [], image, None
        for index in range(len(self.layers)):
            job = self.layer_job(index, activations, mask, ranked=not dense)
            result = run(job)
            results.append((job, result))
            activations, mask = result.output, result.winners if job.ranking else None
        return results

    def save(self, path: str | Path) -> None:
        """Write the network as a compressed npz file; the file appears whole or not at all."""
        arrays: dict[str, Any] = {
            "name": np.array(self.name), "metadata": np.array(json.dumps(self.metadata)),
            "input_scale": np.float64(self.input.scale), "input_zero_point": np.int64(self.input.zero_point),
            "input_shape": np.array(self.input.shape, np.int64),
            "layers": np.array([layer.name for layer in self.layers])}
        for layer in self.layers:
            fields = {name: getattr(layer, name) for name in ("weight", "bias", "multiplier", "shift")}
            fields |= {name: np.int64(getattr(layer, name)) for name in _INTEGERS}
            fields |= {name: np.array(getattr(layer, name), np.int64) for name in ("stride", "padding")}
            fields["output_scale"] = np.float64(layer.output_scale)
            if layer.pool is not None:
                fields["pool"] = np.array(layer.pool, np.int64)
            arrays |= {f"{layer.name}.{name}": array for name, array in fields.items()}
            arrays |= ranking_arrays(layer.ranking, f"{layer.name}.")
        write_npz(path, arrays, compressed=True)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote. Raises JobError."""
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
            return cls(name=npz.scalar("name", "U"), input=input, metadata=metadata,
                       layers=tuple(_read_layer(npz, str(name)) for name in names))


def _read_layer(npz: NpzReader, name: str) -> Layer:
    fields: dict[str, Any] = {key: npz.scalar(f"{name}.{key}", "iu") for key in _INTEGERS}
    for key in ("weight", "bias", "multiplier", "shift", "stride", "padding"):
        fields[key] = npz.array(f"{name}.{key}")
    if f"{name}.pool" in npz:
        fields["pool"] = npz.array(f"{name}.pool")
    return Layer(name=name, output_scale=npz.scalar(f"{name}.output_scale", "iuf"),
                 ranking=read_ranking(npz, f"{name}."), **fields)
