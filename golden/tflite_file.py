"""A .tflite file as plain records: tensors, operators and their options. Nothing is computed."""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tflite

from golden.checks import JobError, check

_IDENTIFIER = b"TFL3"
_VERSION = 3
_MOST_DIMENSIONS = 8
_UNREADABLE = (struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError, KeyError)
"""What reading a damaged flatbuffer ends in: offsets and lengths that point out of the file."""
_DTYPES = {"INT8": np.int8, "UINT8": np.uint8, "INT32": np.int32, "INT64": np.int64, "FLOAT32": np.float32}
_CONV = ("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor", "FusedActivationFunction")
_POOL = ("Padding", "StrideH", "StrideW", "FilterHeight", "FilterWidth", "FusedActivationFunction")
_OPTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ADD": ("AddOptions", ("FusedActivationFunction",)),
    "AVERAGE_POOL_2D": ("Pool2DOptions", _POOL),
    "CONCATENATION": ("ConcatenationOptions", ("Axis", "FusedActivationFunction")),
    "CONV_2D": ("Conv2DOptions", _CONV),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", _CONV),
    "FULLY_CONNECTED": ("FullyConnectedOptions", ("FusedActivationFunction", "WeightsFormat")),
    "MAX_POOL_2D": ("Pool2DOptions", _POOL),
    "SOFTMAX": ("SoftmaxOptions", ("Beta",)),
}
"""The options that are read, of each operator that has any: the flatbuffer's table and its fields."""
T = TypeVar("T")


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


_OPERATORS = _names(tflite.BuiltinOperator)
_TYPES = _names(tflite.TensorType)


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor: its number and name, ``shape``, ``type`` ("INT8", ...), quantization, and ``data``, None if computed.

    ``scales`` float32 [n] and ``zero_points`` int64 [n] are of the tensor (n = 1) or of the steps along ``axis``; empty
    for one that is not quantized.
    """

    number: int
    name: str
    shape: tuple[int, ...]
    type: str
    scales: np.ndarray
    zero_points: np.ndarray
    axis: int
    data: np.ndarray | None = field(repr=False)

    def values(self, *types: str) -> np.ndarray:
        """The constant as an array of its shape. Raises JobError unless it is one of these types, whole in the file."""
        check(self.data is not None, f"tensor {self.number}", "a constant", "one that is computed")
        check(self.type in types, f"tensor {self.number}", f"a constant of {' or '.join(types)}", self.type)
        dtype = np.dtype(_DTYPES[self.type]).newbyteorder("<")
        size = dtype.itemsize
        for extent in self.shape:  # One by one: the product of sizes in a damaged file may be of any length.
            size *= extent
            check(size <= len(self.data), f"tensor {self.number}", f"{len(self.data)} bytes, as the file has", "more")
        check(size == len(self.data), f"tensor {self.number}", f"{size} bytes for {list(self.shape)}", len(self.data))
        return np.frombuffer(self.data.tobytes(), dtype).astype(_DTYPES[self.type]).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class Operator:
    """An operator: its number, ``code`` ("CONV_2D", ...), numbers of its tensors (inputs may be -1, none), options."""

    number: int
    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any]

    @property
    def place(self) -> str:
        """How errors name it."""
        return f"operator {self.number} {self.code}"


@dataclass(frozen=True, eq=False)
class Model:
    """The one graph of a model, its operators in the order in which they run."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_model(path: Path) -> Model:
    """Read a .tflite file. Raises JobError for one that is damaged, or whose form Winnow does not know.

    What is known of operators and types is for the caller to say. Takes memory in proportion to the file.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise JobError(f"{path}: expected a .tflite file, got no such file") from None
    except OSError as error:
        raise JobError(f"{path}: expected a readable file, got: {error.strerror}") from None
    check(content[4:8] == _IDENTIFIER, str(path), "a .tflite file", "something else")
    with _reported(path):
        return _Reader(content).model()


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except JobError as error:
        raise JobError(f"{path}: {error}") from None
    except _UNREADABLE:
        raise JobError(f"{path}: expected a .tflite file, got one that is damaged") from None


class _Reader:
    def __init__(self, content: bytes):
        self.content = content
        self.root = tflite.Model.GetRootAs(content, 0)

    def model(self) -> Model:
        root = self.root
        check(root.Version() == _VERSION, "version", str(_VERSION), root.Version())
        graphs = self.items("subgraphs", root.SubgraphsLength(), root.Subgraphs)
        check(len(graphs) == 1, "subgraphs", "1", len(graphs))
        graph = graphs[0]
        codes = self.items("operator_codes", root.OperatorCodesLength(), root.OperatorCodes)
        buffers = self.items("buffers", root.BuffersLength(), root.Buffers)
        operators = self.items("operators", graph.OperatorsLength(), graph.Operators)
        tensors = self.items("tensors", graph.TensorsLength(), graph.Tensors)
        inputs, outputs = (_numbers(found) for found in (graph.InputsAsNumpy(), graph.OutputsAsNumpy()))
        for name, numbers in (("inputs", inputs), ("outputs", outputs)):
            check(all(0 <= number < len(tensors) for number in numbers), name, "numbers of tensors", list(numbers))
        return Model(
            tensors=tuple(self.tensor(number, item, buffers) for number, item in enumerate(tensors)),
            operators=tuple(self.operator(number, item, codes, len(tensors)) for number, item in enumerate(operators)),
            inputs=inputs, outputs=outputs)

    def items(self, name: str, count: int, item: Callable[[int], T]) -> list[T]:
        """All items of a vector, each of which takes at least four bytes."""
        check(count <= len(self.content) // 4, name, "as many as the file can hold", count)
        return [item(number) for number in range(count)]

    def tensor(self, number: int, item: Any, buffers: list[Any]) -> Tensor:
        place = f"tensor {number}"
        check(item.Sparsity() is None, place, "dense values", "sparse ones")
        check(item.Type() in _TYPES, place, "a known type", item.Type())
        check(0 <= item.Buffer() < len(buffers), place, "the number of a buffer", item.Buffer())
        rank = item.ShapeLength()
        check(rank <= _MOST_DIMENSIONS, place, f"at most {_MOST_DIMENSIONS} dimensions", rank)
        shape = _numbers(item.ShapeAsNumpy())
        check(all(extent >= 0 for extent in shape), place, "sizes of at least 0", list(shape))
        buffer = buffers[item.Buffer()]
        check(buffer.Offset() <= 1, place, "values inside the flatbuffer", "values behind it")
        data = buffer.DataAsNumpy() if item.Buffer() and buffer.DataLength() else None
        found = item.Quantization()
        quantized = found is not None and found.ScaleLength() > 0
        # Views, as many tensors of a damaged file may share one vector.
        scales = found.ScaleAsNumpy() if quantized else np.zeros(0, np.float32)
        zero_points = (found.ZeroPointAsNumpy() if quantized and found.ZeroPointLength()
                       else np.broadcast_to(np.int64(0), len(scales)))
        check(len(scales) == len(zero_points), place, f"{len(scales)} zero points, as many as scales", len(zero_points))
        return Tensor(number=number, name=(item.Name() or b"").decode(errors="replace"), shape=shape,
                      type=_TYPES[item.Type()], scales=scales, zero_points=zero_points,
                      axis=found.QuantizedDimension() if quantized else 0, data=data)

    def operator(self, number: int, item: Any, codes: list[Any], tensors: int) -> Operator:
        check(0 <= item.OpcodeIndex() < len(codes), f"operator {number}", "the number of an operator code",
              item.OpcodeIndex())
        code = codes[item.OpcodeIndex()]
        # Codes above 127 are in the newer field alone.
        value = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = _OPERATORS.get(value, str(value))
        if name == "CUSTOM":
            name = f"CUSTOM {(code.CustomCode() or b'').decode(errors='replace')!r}"
        check(max(item.InputsLength(), item.OutputsLength()) <= tensors, f"operator {number} {name}",
              f"at most {tensors} inputs and outputs", f"{item.InputsLength()} and {item.OutputsLength()}")
        inputs, outputs = _numbers(item.InputsAsNumpy()), _numbers(item.OutputsAsNumpy())
        known = all(-1 <= number < tensors for number in inputs) and all(0 <= number < tensors for number in outputs)
        check(known, f"operator {number} {name}", "numbers of tensors", [*inputs, *outputs])
        return Operator(number=number, code=name, inputs=inputs, outputs=outputs, options=_options(name, item))


def _numbers(vector: Any) -> tuple[int, ...]:
    """A vector of integers, for which the flatbuffer's classes return 0 where it is absent."""
    return tuple(np.asarray(vector).tolist()) if isinstance(vector, np.ndarray) else ()


def _options(code: str, item: Any) -> dict[str, Any]:
    """The options of an operator by name: those of :data:`_OPTIONS`, none where it has no table of the right type."""
    if code not in _OPTIONS:
        return {}
    kind, names = _OPTIONS[code]
    if item.BuiltinOptionsType() != getattr(tflite.BuiltinOptions, kind) or item.BuiltinOptions() is None:
        return {}
    table = item.BuiltinOptions()
    options = getattr(tflite, kind)()
    options.Init(table.Bytes, table.Pos)
    return {name: getattr(options, name)() for name in names}
