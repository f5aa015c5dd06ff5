"""Small .tflite models that tests make themselves, and inputs for them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
import tflite

from golden.checks import JobError
from golden.import_tflite import import_tflite
from scripts.tflite_kernels import interpreter

PADDING = {"SAME": 0, "VALID": 1}
ACTIVATION = {"NONE": 0, "RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3, "TANH": 4}
_OPTIONS = {"CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions", "ADD": "AddOptions",
            "MAX_POOL_2D": "Pool2DOptions", "AVERAGE_POOL_2D": "Pool2DOptions", "MEAN": "ReducerOptions",
            "FULLY_CONNECTED": "FullyConnectedOptions", "CONCATENATION": "ConcatenationOptions",
            "SOFTMAX": "SoftmaxOptions", "RESHAPE": "ReshapeOptions"}
_TYPES = {np.dtype(np.int8): "INT8", np.dtype(np.uint8): "UINT8", np.dtype(np.int32): "INT32",
          np.dtype(np.int64): "INT64", np.dtype(np.float32): "FLOAT32"}


class ModelBuilder:
    """A model's tensors and operators as they are added; each returns the number of its tensor."""

    def __init__(self, seed: int = 0):
        self.random = np.random.default_rng(seed)
        self.tensors: list[dict[str, Any]] = []
        self.operators: list[dict[str, Any]] = []
        self.inputs: list[int] = []

    def tensor(self, shape: Sequence[int], dtype: str = "INT8", *, scale: Any = None, zero_point: Any = 0,
               axis: int = 0, data: np.ndarray | None = None) -> int:
        """A tensor that an operator computes, or a constant; ``scale`` None: not quantized."""
        scales = None if scale is None else np.atleast_1d(np.asarray(scale, np.float32))
        zero_points = None if scale is None else np.broadcast_to(np.asarray(zero_point, np.int64), scales.shape)
        self.tensors.append(dict(shape=tuple(shape), type=dtype, scales=scales, zero_points=zero_points, axis=axis,
                                 data=None if data is None else np.ascontiguousarray(data).tobytes()))
        return len(self.tensors) - 1

    def input(self, shape: Sequence[int], dtype: str = "INT8", scale: Any = 0.05, zero_point: int = 3) -> int:
        """The model's input."""
        self.inputs.append(self.tensor(shape, dtype, scale=scale, zero_point=zero_point))
        return self.inputs[-1]

    def constant(self, array: np.ndarray, scale: Any = None, zero_point: Any = 0, axis: int = 0) -> int:
        """A constant of the array's type."""
        return self.tensor(array.shape, _TYPES[array.dtype], scale=scale, zero_point=zero_point, axis=axis, data=array)

    def weights(self, shape: Sequence[int], dtype: str = "INT8", *, axis: int | None = 0, zero_point: int = 0) -> int:
        """Random weights, with a scale for each step along ``axis``, or one for all (None)."""
        low, high = (-127, 128) if dtype == "INT8" else (0, 256)
        values = self.random.integers(low, high, shape).astype(np.int8 if dtype == "INT8" else np.uint8)
        scales = self.random.uniform(0.002, 0.01, 1 if axis is None else shape[axis])
        return self.constant(values, scales, zero_point, axis or 0)

    def bias(self, outputs: int, scale: float = 1e-4) -> int:
        """Random biases."""
        return self.constant(self.random.integers(-2000, 2000, outputs).astype(np.int32), scale)

    def operator(self, code: str, inputs: Sequence[int], shape: Sequence[int], dtype: str = "INT8", *,
                 scale: Any = 0.08, zero_point: int = -5, custom: str | None = None, **options: Any) -> int:
        """An operator's output; options by the names of the schema, padding and activation as words."""
        output = self.tensor(shape, dtype, scale=scale, zero_point=zero_point)
        self.operators.append(dict(code=code, inputs=list(inputs), outputs=[output], options=options, custom=custom))
        return output

    def window(self, code: str, inputs: Sequence[int], shape: Sequence[int], *, stride: Sequence[int] = (1, 1),
               dilation: Sequence[int] = (1, 1), kernel: Sequence[int] | None = None, padding: str = "VALID",
               activation: str = "NONE", multiplier: int | None = None, **fields: Any) -> int:
        """A convolution or a pooling."""
        options = dict(Padding=PADDING[padding], StrideH=stride[0], StrideW=stride[1],
                       FusedActivationFunction=ACTIVATION[activation])
        if kernel is None:
            options |= dict(DilationHFactor=dilation[0], DilationWFactor=dilation[1])
        else:
            options |= dict(FilterHeight=kernel[0], FilterWidth=kernel[1])
        if multiplier is not None:
            options["DepthMultiplier"] = multiplier
        return self.operator(code, inputs, shape, **fields, **options)

    def finish(self, *outputs: int) -> bytes:
        """The model as a file."""
        builder = flatbuffers.Builder(1024)
        codes = list(dict.fromkeys((one["code"], one["custom"]) for one in self.operators))
        buffers = [self._buffer(builder, None)] + [self._buffer(builder, one["data"]) for one in self.tensors]
        tensors = [self._tensor(builder, number, one) for number, one in enumerate(self.tensors)]
        operators = [self._operator(builder, codes.index((one["code"], one["custom"])), one) for one in self.operators]
        places = [(tflite.SubGraphAddInputs, _numbers(builder, self.inputs)),
                  (tflite.SubGraphAddOutputs, _numbers(builder, outputs)),
                  (tflite.SubGraphAddTensors, _offsets(builder, tensors)),
                  (tflite.SubGraphAddOperators, _offsets(builder, operators))]
        tflite.SubGraphStart(builder)
        for add, place in places:
            add(builder, place)
        graphs = _offsets(builder, [tflite.SubGraphEnd(builder)])
        codes = _offsets(builder, [self._code(builder, *code) for code in codes])
        buffers = _offsets(builder, buffers)
        tflite.ModelStart(builder)
        tflite.ModelAddVersion(builder, 3)
        tflite.ModelAddOperatorCodes(builder, codes)
        tflite.ModelAddSubgraphs(builder, graphs)
        tflite.ModelAddBuffers(builder, buffers)
        builder.Finish(tflite.ModelEnd(builder), b"TFL3")
        return bytes(builder.Output())

    @staticmethod
    def _buffer(builder: flatbuffers.Builder, data: bytes | None) -> int:
        place = None if data is None else builder.CreateByteVector(data)
        tflite.BufferStart(builder)
        if place is not None:
            tflite.BufferAddData(builder, place)
        return tflite.BufferEnd(builder)

    @staticmethod
    def _tensor(builder: flatbuffers.Builder, number: int, one: dict[str, Any]) -> int:
        name, shape = builder.CreateString(f"tensor{number}"), _numbers(builder, one["shape"])
        quantization = None
        if one["scales"] is not None:
            scales, zero_points = (builder.CreateNumpyVector(np.ascontiguousarray(one[field]))
                                   for field in ("scales", "zero_points"))
            tflite.QuantizationParametersStart(builder)
            tflite.QuantizationParametersAddScale(builder, scales)
            tflite.QuantizationParametersAddZeroPoint(builder, zero_points)
            tflite.QuantizationParametersAddQuantizedDimension(builder, one["axis"])
            quantization = tflite.QuantizationParametersEnd(builder)
        tflite.TensorStart(builder)
        tflite.TensorAddShape(builder, shape)
        tflite.TensorAddType(builder, getattr(tflite.TensorType, one["type"]))
        tflite.TensorAddBuffer(builder, number + 1)
        tflite.TensorAddName(builder, name)
        if quantization is not None:
            tflite.TensorAddQuantization(builder, quantization)
        return tflite.TensorEnd(builder)

    @staticmethod
    def _code(builder: flatbuffers.Builder, code: str, custom: str | None) -> int:
        name = None if custom is None else builder.CreateString(custom)
        value = getattr(tflite.BuiltinOperator, code)
        tflite.OperatorCodeStart(builder)
        tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, min(value, 127))
        tflite.OperatorCodeAddBuiltinCode(builder, value)
        tflite.OperatorCodeAddVersion(builder, 1)
        if name is not None:
            tflite.OperatorCodeAddCustomCode(builder, name)
        return tflite.OperatorCodeEnd(builder)

    @staticmethod
    def _operator(builder: flatbuffers.Builder, code: int, one: dict[str, Any]) -> int:
        kind, place = _OPTIONS.get(one["code"]), None
        if kind is not None:
            getattr(tflite, f"{kind}Start")(builder)
            for name, value in one["options"].items():
                getattr(tflite, f"{kind}Add{name}")(builder, value)
            place = getattr(tflite, f"{kind}End")(builder)
        inputs, outputs = (_numbers(builder, one[end]) for end in ("inputs", "outputs"))
        tflite.OperatorStart(builder)
        tflite.OperatorAddOpcodeIndex(builder, code)
        tflite.OperatorAddInputs(builder, inputs)
        tflite.OperatorAddOutputs(builder, outputs)
        if place is not None:
            tflite.OperatorAddBuiltinOptionsType(builder, getattr(tflite.BuiltinOptions, kind))
            tflite.OperatorAddBuiltinOptions(builder, place)
        return tflite.OperatorEnd(builder)


def _numbers(builder: flatbuffers.Builder, numbers: Sequence[int]) -> int:
    return builder.CreateNumpyVector(np.array(numbers, np.int32))


def _offsets(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def random_inputs(model: bytes, count: int, seed: int = 0) -> np.ndarray:
    """So many inputs of all values of its type, [count, ...]."""
    details = interpreter(model).get_input_details()[0]
    shape, kind, random = (count, *details["shape"][1:]), details["dtype"], np.random.default_rng(seed)
    if kind == np.float32:
        scale = 10 ** random.uniform(-1, 1, (count, *[1] * (len(shape) - 1)))
        return (random.normal(size=shape) * scale).astype(np.float32)
    return random.integers(np.iinfo(kind).min, np.iinfo(kind).max + 1, shape, kind)


def refused(model: bytes, folder: Path) -> str:
    """The one line by which ``model`` is refused, without its path."""
    path = folder / "model.tflite"
    path.write_bytes(model)
    with pytest.raises(JobError) as error:
        import_tflite(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{path}: ")
