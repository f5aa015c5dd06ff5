"""The layers of a network as people describe them: each knows its sizes, its quantization and how to make its job."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from golden.checks import MAX_CHANNELS, JobError, check, check_integer, check_integers, check_scale
from golden.conv_tensors import ConvTensors
from golden.geometry import NO_PADDING, ConvGeometry, PoolGeometry, same_padding
from golden.job import AddJob, Job, LayerJob, PoolJob, Ranking
from golden.multipliers import INT32_MAX, add_multipliers, mean_multiplier
from golden.pool_job import OPS as POOL_OPS
from golden.pool_job import TIES
from golden.winner_rule import WinnerRule

if TYPE_CHECKING:
    from golden.node import Node

Activation = str | tuple[int, int]
Padding = str | tuple[int, int, int, int]
ACTIVATIONS = ("none", "relu", "relu6")
MASK_ALIGNMENT = 16
"""Channels: where a ranked tensor may begin within a concatenation."""


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """A tensor between layers: real value = ``scale`` * (q - ``zero_point``), ``shape`` = (C, H, W).

    ``masked``: winners were chosen among its channels.
    """

    shape: tuple[int, int, int]
    scale: float
    zero_point: int
    masked: bool = False


def activation_range(activation: Activation, scale: float, zero_point: int) -> tuple[int, int]:
    """The int8 clamp (low, high) of an activation, as TFLite computes it. Raises JobError."""
    if isinstance(activation, (tuple, list)):
        check(len(activation) == 2, "activation", "two integers (low, high)", activation)
        low, high = (check_integer("activation", value, -128, 127) for value in activation)
        check(low <= high, "activation", "a low end no larger than the high one", activation)
        return low, high
    check(activation in ACTIVATIONS, "activation", f"one of {', '.join(ACTIVATIONS)}, or two integers",
          repr(activation))
    six = zero_point + int(6 / scale + 0.5) if activation == "relu6" else 127
    return zero_point if activation != "none" else -128, min(six, 127)


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerDescription:
    """What all layers state.

    Parameters
    ----------
    name : letters, digits, ``_`` and ``-``; not "input"
    inputs : names of earlier layers, or "input", the network's; None: the layer before, or "input" for the first
    output_scale, output_zero_point : quantization of the output. Both or neither; a network without learnt tensors
        chooses what is not stated, and operations that keep their input's quantization take it from there
    ranking : where winners-take-all sits, every consumer then sees losers as real zeros; or None

    Raises JobError.
    """

    op: ClassVar[str]
    arity: ClassVar[int | None] = 1
    keeps_quantization: ClassVar[bool] = False

    name: str
    inputs: tuple[str, ...] | None = None
    output_scale: float | None = None
    output_zero_point: int | None = None
    ranking: Ranking | WinnerRule | None = None

    def __post_init__(self):
        valid = isinstance(self.name, str) and re.fullmatch(r"[A-Za-z0-9_-]+", self.name) and self.name != "input"
        check(bool(valid), "name", "letters, digits, _ and -", repr(self.name))
        try:
            self._check()
        except JobError as error:
            raise JobError(f"layer {self.name}: {error}") from None

    def _check(self) -> None:
        put = object.__setattr__
        if self.inputs is not None:
            names = (self.inputs,) if isinstance(self.inputs, str) else self.inputs
            valid = isinstance(names, (tuple, list)) and names and all(isinstance(name, str) for name in names)
            check(bool(valid), "inputs", "names of layers", self.inputs)
            put(self, "inputs", tuple(names))
        stated = [name for name in ("output_scale", "output_zero_point") if getattr(self, name) is not None]
        check(len(stated) != 1, "output_zero_point", "a scale and a zero point of the output, or neither", stated)
        if stated:
            put(self, "output_scale", check_scale("output_scale", self.output_scale))
            put(self, "output_zero_point", check_integer("output_zero_point", self.output_zero_point, -128, 127))
        known = self.ranking is None or isinstance(self.ranking, (Ranking, WinnerRule))
        check(known, "ranking", "a Ranking or a WinnerRule", type(self.ranking).__name__)

    @property
    def quantized(self) -> bool:
        """Whether nothing about the numbers of this layer is left to choose."""
        return self.keeps_quantization or self.output_scale is not None

    def sizes(self, sources: Sequence[TensorSpec]) -> ConvGeometry | PoolGeometry | None:
        """The sizes of this layer's windows for these inputs, or None where it has none. Raises JobError."""
        return None

    def output_shape(self, sources: Sequence[TensorSpec], sizes: Any) -> tuple[int, int, int]:
        """(O, OH, OW) for these inputs and :meth:`sizes`. Raises JobError."""
        return sources[0].shape if sizes is None else sizes.output_shape

    def check_node(self, node: "Node") -> None:
        """Raise JobError unless this layer's numbers fit its inputs'."""

    def make_job(self, node: "Node", maps: Sequence[np.ndarray], masks: Sequence[np.ndarray | None],
                 ranking: Ranking | None) -> Job:
        """This layer's job for concrete inputs, bound in a network as ``node``. Raises JobError."""
        raise JobError(f"layer {self.name}: expected an operation, a {self.op} has no job of its own")


@dataclass(frozen=True, kw_only=True, eq=False)
class ConvLayer(LayerDescription):
    """A convolution with its max-pool; fields as in :class:`golden.job.LayerJob`.

    ``padding`` and ``pool_padding`` may be "same" (TFLite's) or "valid"; ``activation`` is "none", "relu", "relu6" or
    the int8 clamp (low, high). Without ``tensors`` the network draws them. ``input_zero_point`` may be stated, to be
    checked against the tensor before.
    """

    op: ClassVar[str] = "conv"

    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: Padding = NO_PADDING
    groups: int = 1
    activation: Activation = "none"
    pool: tuple[int, int, int, int] | None = None
    pool_padding: Padding = NO_PADDING
    tensors: ConvTensors | None = None
    input_zero_point: int | None = None

    def _check(self) -> None:
        super()._check()
        put = object.__setattr__
        put(self, "out_channels", check_integer("out_channels", self.out_channels, 1, MAX_CHANNELS))
        put(self, "kernel", _pair("kernel", self.kernel))
        put(self, "stride", _pair("stride", self.stride))
        if self.pool is not None:
            expected = "four positive integers (kernel rows, kernel columns, stride rows, stride columns)"
            put(self, "pool", check_integers("pool", self.pool, 4, 1, INT32_MAX, expected))
        stated = self.tensors is None or self.output_scale is not None
        check(stated, "output_scale", "that of the output, as there are tensors", "none")

    @property
    def quantized(self) -> bool:
        return self.tensors is not None

    def sizes(self, sources: Sequence[TensorSpec]) -> ConvGeometry:
        shape, fields = sources[0].shape, dict(out_channels=self.out_channels, kernel=self.kernel, stride=self.stride,
                                               groups=self.groups, pool=self.pool)
        sizes = ConvGeometry(input_shape=shape, padding=_padding(self.padding, shape[1:], self.kernel, self.stride),
                             **(fields | {"pool": None}))
        if self.pool is None:
            return sizes
        edges = _padding(self.pool_padding, sizes.conv_shape[1:], self.pool[:2], self.pool[2:])
        return ConvGeometry(input_shape=shape, padding=sizes.padding, pool_padding=edges, **fields)

    def check_node(self, node: "Node") -> None:
        if self.input_zero_point is not None:
            zero_point = node.sources[0].zero_point
            check(self.input_zero_point == zero_point, "input_zero_point", f"{zero_point}, that of the tensor before",
                  self.input_zero_point)
        if self.tensors is not None:
            found, expected = self.tensors.weight.shape, node.sizes.weight_shape
            depth = expected[1]
            check(found[1] == depth, "weight", f"C/groups = {depth} input channels", found[1])
            check(found == expected, "weight", f"int8 {list(expected)}", list(found))

    def make_job(self, node: "Node", maps: Sequence[np.ndarray], masks: Sequence[np.ndarray | None],
                 ranking: Ranking | None) -> LayerJob:
        return self._job(maps[0], masks[0], ranking, node.tensors, node.sizes, node.sources[0].zero_point,
                         (node.activation_min, node.activation_max), node.output.zero_point)

    def job(self, input: np.ndarray, channel_mask: np.ndarray | None = None, *, ranked: bool = True) -> LayerJob:
        """The job of this layer on its own, whose tensors, zero points and Ranking are all stated. Raises JobError."""
        for name in ("tensors", "output_scale", "input_zero_point"):
            check(getattr(self, name) is not None, f"layer {self.name}: {name}", "it to be stated for a job", "none")
        source = TensorSpec(shape=input.shape, scale=1.0, zero_point=self.input_zero_point)
        clamp = activation_range(self.activation, self.output_scale, self.output_zero_point)
        return self._job(input, channel_mask, self.ranking if ranked else None, self.tensors, self.sizes([source]),
                         self.input_zero_point, clamp, self.output_zero_point)

    @staticmethod
    def _job(input: np.ndarray, mask: np.ndarray | None, ranking: Ranking | None, tensors: ConvTensors,
             sizes: ConvGeometry, input_zero_point: int, clamp: tuple[int, int], output_zero_point: int) -> LayerJob:
        return LayerJob(
            input=input, channel_mask=mask, ranking=ranking, **tensors.arrays(), input_zero_point=input_zero_point,
            output_zero_point=output_zero_point, activation_min=clamp[0], activation_max=clamp[1], groups=sizes.groups,
            stride=sizes.stride, padding=sizes.padding, pool=sizes.pool, pool_padding=sizes.pool_padding)


@dataclass(frozen=True, kw_only=True, eq=False)
class _PoolLayer(LayerDescription):
    activation: Activation = "none"

    def make_job(self, node: "Node", maps: Sequence[np.ndarray], masks: Sequence[np.ndarray | None],
                 ranking: Ranking | None) -> PoolJob:
        kind = next(kind for kind, op in POOL_OPS.items() if op == self.op)
        source, output = node.sources[0], node.output
        fields = dict(kernel=node.kernel, stride=node.stride, padding=node.padding)
        if kind == "mean":
            multiplier, shift = mean_multiplier(source.scale, output.scale, source.shape[1] * source.shape[2])
            fields = dict(multiplier=multiplier, shift=shift)
        elif kind == "average":
            fields["ties"] = self.ties
        return PoolJob(kind=kind, input=maps[0], channel_mask=masks[0], ranking=ranking,
                       input_zero_point=source.zero_point, output_zero_point=output.zero_point,
                       activation_min=node.activation_min, activation_max=node.activation_max, **fields)


@dataclass(frozen=True, kw_only=True, eq=False)
class _WindowLayer(_PoolLayer):
    keeps_quantization: ClassVar[bool] = True

    kernel: tuple[int, int]
    stride: tuple[int, int] | None = None
    padding: Padding = NO_PADDING

    def _check(self) -> None:
        super()._check()
        object.__setattr__(self, "kernel", _pair("kernel", self.kernel))
        object.__setattr__(self, "stride", _pair("stride", self.kernel if self.stride is None else self.stride))

    def sizes(self, sources: Sequence[TensorSpec]) -> PoolGeometry:
        shape = sources[0].shape
        return PoolGeometry(input_shape=shape, kernel=self.kernel, stride=self.stride,
                            padding=_padding(self.padding, shape[1:], self.kernel, self.stride))


@dataclass(frozen=True, kw_only=True, eq=False)
class MaxPoolLayer(_WindowLayer):
    """The largest pixel of each window; fields as in :class:`golden.job.PoolJob`. Keeps the input's quantization.

    ``stride`` None is the kernel's size; ``padding`` and ``activation`` as for :class:`ConvLayer`.
    """

    op: ClassVar[str] = "max_pool"


@dataclass(frozen=True, kw_only=True, eq=False)
class AveragePoolLayer(_WindowLayer):
    """The mean of each window's pixels inside the map; as :class:`MaxPoolLayer`. ``ties``: "away" from zero or "up"."""

    op: ClassVar[str] = "average_pool"

    ties: str = "away"

    def _check(self) -> None:
        super()._check()
        check(self.ties in TIES, "ties", " or ".join(TIES), repr(self.ties))


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanLayer(_PoolLayer):
    """The mean over the whole map, with a quantization of its own."""

    op: ClassVar[str] = "mean"

    def output_shape(self, sources: Sequence[TensorSpec], sizes: None) -> tuple[int, int, int]:
        return sources[0].shape[0], 1, 1


@dataclass(frozen=True, kw_only=True, eq=False)
class AddLayer(LayerDescription):
    """The sum of two tensors of one shape; ``activation`` as for :class:`ConvLayer`."""

    op: ClassVar[str] = "add"
    arity: ClassVar[int] = 2

    activation: Activation = "none"

    def output_shape(self, sources: Sequence[TensorSpec], sizes: None) -> tuple[int, int, int]:
        first, second = (source.shape for source in sources)
        check(first == second, "inputs", f"two of one shape, the first is {list(first)}", list(second))
        return first

    def _factors(self, node: "Node") -> tuple[tuple[int, int], ...]:
        try:
            return add_multipliers(*(source.scale for source in node.sources), node.output.scale)
        except ValueError as error:
            raise JobError(str(error)) from None

    def check_node(self, node: "Node") -> None:
        self._factors(node)

    def make_job(self, node: "Node", maps: Sequence[np.ndarray], masks: Sequence[np.ndarray | None],
                 ranking: Ranking | None) -> AddJob:
        (multiplier_1, shift_1), (multiplier_2, shift_2), (multiplier, shift) = self._factors(node)
        first, second = node.sources
        return AddJob(
            input_1=maps[0], input_2=maps[1], channel_mask_1=masks[0], channel_mask_2=masks[1], ranking=ranking,
            input_1_zero_point=first.zero_point, input_2_zero_point=second.zero_point,
            output_zero_point=node.output.zero_point, input_1_multiplier=multiplier_1, input_1_shift=shift_1,
            input_2_multiplier=multiplier_2, input_2_shift=shift_2, output_multiplier=multiplier, output_shift=shift,
            activation_min=node.activation_min, activation_max=node.activation_max)


@dataclass(frozen=True, kw_only=True, eq=False)
class ConcatLayer(LayerDescription):
    """The channels of several tensors of one size and quantization, one behind the other: only addresses, no job.

    It cannot be ranked itself. Its inputs can, where they begin at a multiple of :data:`MASK_ALIGNMENT` channels.
    """

    op: ClassVar[str] = "concat"
    arity: ClassVar[None] = None
    keeps_quantization: ClassVar[bool] = True

    def output_shape(self, sources: Sequence[TensorSpec], sizes: None) -> tuple[int, int, int]:
        first, channels = sources[0], 0
        for source in sources:
            check(source.shape[1:] == first.shape[1:], "inputs", f"maps of one size, the first is "
                  f"{list(first.shape[1:])}", list(source.shape[1:]))
            same = (source.scale, source.zero_point) == (first.scale, first.zero_point)
            check(same, "inputs", f"one scale and zero point, the first has {first.scale} and {first.zero_point}",
                  f"{source.scale} and {source.zero_point}")
            aligned = not source.masked or channels % MASK_ALIGNMENT == 0
            check(aligned, "inputs", f"a ranked one to begin at a multiple of {MASK_ALIGNMENT} channels", channels)
            channels += source.shape[0]
        return channels, *first.shape[1:]

    def check_node(self, node: "Node") -> None:
        check(self.ranking is None, "ranking", "none on a concat, but on its inputs", "one")


def _pair(name: str, value: Any) -> tuple[int, ...]:
    return check_integers(name, value, 2, 1, INT32_MAX, "two positive integers (rows, columns)")


def _padding(padding: Padding, extent: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> Padding:
    if isinstance(padding, str):
        check(padding in ("same", "valid"), "padding", "same, valid or four integers", repr(padding))
        return same_padding(extent, kernel, stride) if padding == "same" else NO_PADDING
    return padding


def conv_layer(*, name: str, weight: np.ndarray, bias: np.ndarray, multiplier: np.ndarray, shift: np.ndarray,
               activation_min: int, activation_max: int, **fields: Any) -> ConvLayer:
    """A :class:`ConvLayer` of given tensors; the other fields are its own. Raises JobError."""
    try:
        tensors = ConvTensors(weight=weight, bias=bias, multiplier=multiplier, shift=shift)
    except JobError as error:
        raise JobError(f"layer {name}: {error}") from None
    outputs, _, *kernel = tensors.weight.shape
    return ConvLayer(name=name, out_channels=outputs, kernel=tuple(kernel), tensors=tensors,
                     activation=(activation_min, activation_max), **fields)
