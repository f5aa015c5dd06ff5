"""Every operator of small .tflite models: each tensor equals that of TFLite's reference kernels, or is refused."""

from pathlib import Path

import numpy as np
import pytest

from golden.import_tflite import import_tflite
from golden.network import QuantizedNetwork
from golden.quantization import run_batch
from scripts.tflite_kernels import as_int8, interpreter
from tests.tflite_models import ModelBuilder, random_inputs, refused

TYPES = ("INT8", "UINT8")
ZERO_POINTS = {"INT8": (3, -5, 0), "UINT8": (120, 99, 131)}
"""Of inputs, outputs and weights."""


def compared(model: bytes, folder: Path, *, fuse: bool = False, count: int = 20, seed: int = 0) -> QuantizedNetwork:
    """The network of ``model``, all of whose known tensors have been found equal to TFLite's for random inputs."""
    path = folder / "model.tflite"
    path.write_bytes(model)
    network = import_tflite(path, fuse=fuse)
    runner = interpreter(model, keep_all=True)
    index, values = runner.get_input_details()[0]["index"], random_inputs(model, count, seed)
    channels, rows, columns = network.input.shape
    planes = as_int8(values).reshape(count, rows, columns, channels).transpose(0, 3, 1, 2)
    found = run_batch(network, np.ascontiguousarray(planes))
    outputs = {node.name: result.output.numpy() for node, result in zip(network.layers, found, strict=True)}
    tensors = {int(number): layer for number, layer in network.metadata["tensors"].items() if layer != "input"}
    assert network.layers[-1].name in tensors.values()
    for number, one in enumerate(values):
        runner.set_tensor(index, one[None])
        runner.invoke()
        for tensor, layer in tensors.items():
            expected = as_int8(runner.get_tensor(tensor))
            np.testing.assert_array_equal(outputs[layer][number].transpose(1, 2, 0).reshape(expected.shape), expected)
    return network


def model_of(kind: str, shape: tuple[int, ...] = (1, 9, 7, 6), seed: int = 0) -> tuple[ModelBuilder, int]:
    builder = ModelBuilder(seed)
    return builder, builder.input(shape, kind, 0.05, ZERO_POINTS[kind][0])


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("activation", ["NONE", "RELU", "RELU_N1_TO_1", "RELU6"])
def test_convolution(kind, activation, tmp_path):
    for seed in range(2):
        model, x = model_of(kind, seed=seed)
        weights = model.weights((5, 3, 3, 6), kind, axis=0 if kind == "INT8" else None, zero_point=ZERO_POINTS[kind][2])
        y = model.window("CONV_2D", [x, weights, model.bias(5)], (1, 5, 4, 5), dtype=kind, scale=0.2, stride=(2, 2),
                         zero_point=ZERO_POINTS[kind][1], padding="SAME", activation=activation)
        network = compared(model.finish(y), tmp_path)
        assert [node.name for node in network.layers] == ["conv_0"]
        assert network.layers[0].tensors.weight_zero_point == (0 if kind == "INT8" else 3)


@pytest.mark.parametrize("kind", TYPES)
def test_groups_and_dilation(kind, tmp_path):
    model, x = model_of(kind)
    weights = model.weights((4, 3, 3, 3), kind, axis=0 if kind == "INT8" else None, zero_point=ZERO_POINTS[kind][2])
    y = model.window("CONV_2D", [x, weights, model.bias(4)], (1, 5, 3, 4), dtype=kind, scale=0.2, dilation=(2, 2),
                     zero_point=ZERO_POINTS[kind][1])
    assert compared(model.finish(y), tmp_path).layers[0].groups == 2


@pytest.mark.parametrize("kind", TYPES)
def test_depthwise_convolution(kind, tmp_path):
    model, x = model_of(kind)
    weights = model.weights((1, 3, 2, 12), kind, axis=3 if kind == "INT8" else None, zero_point=ZERO_POINTS[kind][2])
    y = model.window("DEPTHWISE_CONV_2D", [x, weights, model.bias(12)], (1, 9, 7, 12), dtype=kind, scale=0.1,
                     zero_point=ZERO_POINTS[kind][1], padding="SAME", multiplier=2, activation="RELU")
    assert [node.name for node in compared(model.finish(y), tmp_path).layers] == ["depthwise_0"]


def test_weights_that_fit_int8_need_no_zero_point(tmp_path):
    model, x = model_of("UINT8")
    values = model.random.integers(20, 200, (5, 1, 1, 6)).astype(np.uint8)
    y = model.window("CONV_2D", [x, model.constant(values, 0.01, 100), model.bias(5)], (1, 9, 7, 5), dtype="UINT8",
                     zero_point=9)
    tensors = compared(model.finish(y), tmp_path).layers[0].tensors
    assert tensors.weight_zero_point == 0
    np.testing.assert_array_equal(tensors.weight[:, :, 0, 0], values[:, 0, 0].astype(int) - 100)


@pytest.mark.parametrize("kind", TYPES)
def test_fully_connected(kind, tmp_path):
    """TFLite's reference kernel multiplies in float64: the map as a kernel, without bias, per channel, many scales."""
    _, low, weight_zero_point = ZERO_POINTS[kind]
    for seed in range(12):
        model, x = model_of(kind, (1, 4, 3, 6), seed)
        axis = 0 if kind == "INT8" and seed % 2 else None
        weights = model.weights((11, 72), kind, axis=axis, zero_point=0 if kind == "INT8" else 77)
        bias = model.bias(11, 0.05 * float(model.tensors[weights]["scales"][0]))
        y = model.operator("FULLY_CONNECTED", [x, weights, bias], (1, 11), kind, zero_point=low,
                           scale=10 ** model.random.uniform(-2, 0.5), FusedActivationFunction=seed % 3 == 0)
        z = model.operator("FULLY_CONNECTED", [y, model.weights((7, 11), kind, axis=None,
                                                                zero_point=weight_zero_point)], (1, 7), kind,
                           scale=0.15, zero_point=low)
        compared(model.finish(z), tmp_path, count=60, seed=seed)


@pytest.mark.parametrize("scales", [(0.5, 0.25, 1.0), (1.0, 1.0, 4.0), (0.5, 0.125, 0.25), (1.0, 2.0, 1.0)])
@pytest.mark.parametrize("kind", TYPES)
def test_sums_between_two_values_go_away_from_zero(kind, scales, tmp_path):
    model = ModelBuilder()
    x = model.input((1, 20), kind, scales[0], ZERO_POINTS[kind][0])
    shift = 0 if kind == "INT8" else 128
    values = (model.random.integers(-9, 9, (11, 20)) + shift).astype(np.int8 if kind == "INT8" else np.uint8)
    bias = model.constant(model.random.integers(-20, 20, 11).astype(np.int32), scales[0] * scales[1])
    y = model.operator("FULLY_CONNECTED", [x, model.constant(values, scales[1], shift), bias], (1, 11), kind,
                       scale=scales[2], zero_point=ZERO_POINTS[kind][1], FusedActivationFunction=0)
    compared(model.finish(y), tmp_path, count=200)


def test_rounding_once_where_no_other_multiplier_is_equal(tmp_path):
    model = ModelBuilder()
    x = model.input((1, 128), "INT8", 0.0247, -128)
    weights = model.constant(model.random.integers(-127, 128, (40, 128)).astype(np.int8), 0.0195)
    y = model.operator("FULLY_CONNECTED", [x, weights], (1, 40), scale=9.1, zero_point=96)
    assert compared(model.finish(y), tmp_path, count=100).layers[0].tensors.rounding == "once"


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("code", ["MAX_POOL_2D", "AVERAGE_POOL_2D"])
@pytest.mark.parametrize("padding, shape", [("SAME", (1, 5, 4, 6)), ("VALID", (1, 4, 3, 6))])
def test_pools(kind, code, padding, shape, tmp_path):
    model, x = model_of(kind)
    y = model.window(code, [x], shape, dtype=kind, scale=0.05, zero_point=ZERO_POINTS[kind][0], stride=(2, 2),
                     kernel=(3, 2), padding=padding, activation="RELU")
    compared(model.finish(y), tmp_path)
    model, x = model_of(kind, (1, 4, 4, 6))
    y = model.window(code, [x], (1, 1, 1, 6), dtype=kind, scale=0.05, zero_point=ZERO_POINTS[kind][0], kernel=(4, 4))
    compared(model.finish(y), tmp_path, count=200)  # Sums that lie between two averages are frequent.


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("scale", [0.05, 0.013, 0.08])
def test_mean(kind, keep, scale, tmp_path):
    model, x = model_of(kind)
    axes = model.constant(np.array([1, 2] if keep else [-2, 1], np.int32))
    y = model.operator("MEAN", [x, axes], (1, 1, 1, 6) if keep else (1, 6), kind, scale=scale,
                       zero_point=ZERO_POINTS[kind][1], KeepDims=keep)
    compared(model.finish(y), tmp_path, count=100)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("code", ["RELU", "RELU6"])
@pytest.mark.parametrize("scale, same", [(0.05, True), (0.05, False), (0.04, False), (0.2, False)])
def test_activation_alone(kind, code, scale, same, tmp_path):
    model, x = model_of(kind)
    y = model.operator(code, [x], (1, 9, 7, 6), kind, scale=scale, zero_point=ZERO_POINTS[kind][0 if same else 1])
    assert compared(model.finish(y), tmp_path).layers[0].op == ("max_pool" if same else "conv")


@pytest.mark.parametrize("kind", TYPES)
def test_addition(kind, tmp_path):
    low = ZERO_POINTS[kind][1]
    model, x = model_of(kind)
    y = model.operator("RELU", [x], (1, 9, 7, 6), kind, scale=0.02, zero_point=low)
    z = model.operator("ADD", [x, y], (1, 9, 7, 6), kind, scale=0.06, zero_point=low, FusedActivationFunction=3)
    z = model.operator("ADD", [z, z], (1, 9, 7, 6), kind, scale=0.09, zero_point=low, FusedActivationFunction=0)
    compared(model.finish(z), tmp_path)


@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize("kind", TYPES)
def test_padding(kind, fuse, tmp_path):
    """Before a convolution, behind one, of channels, twice, and before a pool, for which its zeros count."""
    first, last, weight = ZERO_POINTS[kind]
    model, x = model_of(kind, (1, 5, 7, 6))

    def padded(y, paddings, shape, **quantization):
        return model.operator("PAD", [y, model.constant(np.array([[0, 0], *paddings], np.int32))], shape, kind,
                              **quantization)

    y = padded(x, [[1, 2], [0, 3], [0, 0]], (1, 8, 10, 6), scale=0.05, zero_point=first)
    weights = model.weights((5, 3, 3, 6), kind, axis=0 if kind == "INT8" else None, zero_point=weight)
    y = model.window("CONV_2D", [y, weights, model.bias(5)], (1, 6, 8, 5), dtype=kind, scale=0.2, zero_point=last)
    y = padded(y, [[1, 0], [0, 0], [2, 1]], (1, 7, 8, 8), scale=0.2, zero_point=last)
    y = padded(y, [[1, 0], [0, 1], [0, 0]], (1, 8, 9, 8), scale=0.2, zero_point=last)
    y = model.window("MAX_POOL_2D", [y], (1, 7, 8, 8), dtype=kind, scale=0.2, zero_point=last, kernel=(2, 2))
    network = compared(model.finish(y), tmp_path, fuse=fuse)
    assert len(network.layers) == (4 if fuse else 5)


def test_pads_become_padding_where_the_kernel_is_larger(tmp_path):
    model, x = model_of("INT8", (1, 8, 8, 3))
    y = model.operator("PAD", [x, model.constant(np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))],
                       (1, 10, 10, 3), scale=0.05, zero_point=3)
    y = model.window("CONV_2D", [y, model.weights((4, 3, 3, 3)), model.bias(4)], (1, 4, 4, 4), stride=(2, 2))
    network = compared(model.finish(y), tmp_path, fuse=True)
    assert [(node.name, node.padding) for node in network.layers] == [("conv_1", (1, 1, 1, 1))]


@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize("kind", TYPES)
def test_concatenation(kind, fuse, tmp_path):
    """Of the input, of one tensor twice, and within another."""
    model, x = model_of(kind)
    quantization = dict(scale=0.05, zero_point=ZERO_POINTS[kind][0])
    y = model.operator("RELU", [x], (1, 9, 7, 6), kind, **quantization)
    z = model.operator("CONCATENATION", [x, y, x], (1, 9, 7, 18), kind, Axis=3, **quantization)
    z = model.operator("CONCATENATION", [z, y], (1, 9, 7, 24), kind, Axis=-1, **quantization)
    compared(model.finish(z), tmp_path, fuse=fuse)


def test_concatenation_of_other_scales(tmp_path):
    """In uint8 models TFLite rescales, in floating point; in int8 models it refuses."""
    for seed in range(5):
        model, x = model_of("UINT8", seed=seed)
        scales = 0.05 * model.random.uniform(0.5, 2, 2)
        y = model.operator("RELU", [x], (1, 9, 7, 6), "UINT8", scale=scales[0], zero_point=99)
        z = model.operator("CONCATENATION", [x, y], (1, 9, 7, 12), "UINT8", scale=scales[1], zero_point=77, Axis=3)
        compared(model.finish(z), tmp_path)
    model, x = model_of("INT8")
    z = model.operator("CONCATENATION", [x, x], (1, 9, 7, 12), scale=0.06, zero_point=3, Axis=3)
    assert refused(model.finish(z), tmp_path).startswith(
        "operator 0 CONCATENATION: inputs: expected the output's scale 0.05")


@pytest.mark.parametrize("kind", TYPES)
def test_quantization_reshape_and_what_the_host_does(kind, tmp_path):
    other, shift = ("UINT8", 128) if kind == "INT8" else ("INT8", -128)
    first, last, _ = ZERO_POINTS[kind]
    model, x = model_of(kind)
    y = model.operator("QUANTIZE", [x], (1, 9, 7, 6), other, scale=0.05, zero_point=first + shift)
    y = model.operator("QUANTIZE", [y], (1, 9, 7, 6), kind, scale=0.031, zero_point=last)
    y = model.operator("RESHAPE", [y, model.constant(np.array([1, 378], np.int32))], (1, 378), kind, scale=0.031,
                       zero_point=last)
    y = model.operator("SOFTMAX", [y], (1, 378), kind, scale=1 / 256, zero_point=-128 if kind == "INT8" else 0, Beta=1.)
    y = model.operator("DEQUANTIZE", [y], (1, 378), "FLOAT32", scale=None)
    network = compared(model.finish(y), tmp_path)
    assert [node.name for node in network.layers] == ["quantize_1"]
    assert network.metadata["host"] == "softmax, dequantize"
    assert (network.metadata["input_type"], network.metadata["output_type"]) == (kind.lower(), "float32")


def test_float_input_that_is_quantized_at_once(tmp_path):
    model = ModelBuilder()
    x = model.tensor((1, 28), "FLOAT32")
    model.inputs.append(x)
    q = model.operator("QUANTIZE", [x], (1, 28), scale=0.07, zero_point=11)
    y = model.operator("RESHAPE", [q, model.constant(np.array([1, 7, 4, 1], np.int32))], (1, 7, 4, 1), scale=0.07,
                       zero_point=11)
    y = model.window("CONV_2D", [y, model.weights((3, 2, 2, 1)), model.bias(3)], (1, 6, 3, 3))
    path = tmp_path / "model.tflite"
    path.write_bytes(model.finish(y))
    network = import_tflite(path)
    assert (network.input.shape, network.input.zero_point) == ((1, 7, 4), 11)
    assert network.input.scale == pytest.approx(0.07)
    assert network.metadata["input_type"] == "float32"


def test_fused_layers(tmp_path):
    """An activation and a pool are parts of the convolution that nothing else reads, and layers behind one that is."""
    def model(shared: bool) -> bytes:
        builder, x = model_of("INT8", (1, 8, 8, 3))
        y = builder.window("CONV_2D", [x, builder.weights((4, 3, 3, 3)), builder.bias(4)], (1, 8, 8, 4),
                           padding="SAME")
        z = builder.operator("RELU6", [y], (1, 8, 8, 4))
        z = builder.window("MAX_POOL_2D", [z], (1, 4, 4, 4), scale=0.08, zero_point=-5, kernel=(2, 2), stride=(2, 2))
        if shared:
            y = builder.window("MAX_POOL_2D", [y], (1, 4, 4, 4), scale=0.08, zero_point=-5, kernel=(2, 2),
                               stride=(2, 2))
            z = builder.operator("ADD", [y, z], (1, 4, 4, 4), FusedActivationFunction=0)
        return builder.finish(z)

    network = compared(model(False), tmp_path, fuse=True)
    assert [node.name for node in network.layers] == ["conv_0"] and network.layers[0].pool == (2, 2, 2, 2)
    assert list(network.metadata["tensors"].values()) == ["input", "conv_0"]
    network = compared(model(True), tmp_path, fuse=True)
    assert [node.name for node in network.layers] == ["conv_0", "relu6_1", "max_pool_2", "max_pool_3", "add_4"]


def test_saved_network_is_the_same(tmp_path):
    """Zero points of weights, both roundings, and ties that go up."""
    model, x = model_of("UINT8", (1, 4, 4, 6))
    y = model.window("CONV_2D", [x, model.weights((5, 1, 1, 6), "UINT8", axis=None, zero_point=131), model.bias(5)],
                     (1, 4, 4, 5), dtype="UINT8", zero_point=7)
    y = model.window("AVERAGE_POOL_2D", [y], (1, 1, 1, 5), dtype="UINT8", scale=0.08, zero_point=7, kernel=(4, 4))
    weights = model.weights((30, 5), "UINT8", axis=None, zero_point=100)
    y = model.operator("FULLY_CONNECTED", [y, weights], (1, 30), "UINT8", scale=0.3, zero_point=200)
    network = compared(model.finish(y), tmp_path)
    inputs = np.random.default_rng(0).integers(-128, 128, (8, *network.input.shape), np.int8)
    expected = run_batch(network, inputs)[-1].output
    for name in ("network.npz", "network.json"):
        network.save(tmp_path / name)
        loaded = QuantizedNetwork.load(tmp_path / name)
        assert loaded.metadata == network.metadata
        np.testing.assert_array_equal(run_batch(loaded, inputs)[-1].output, expected)
        assert [getattr(node.layer, "ties", None) for node in loaded.layers] == [None, "up", None]
        assert loaded.layers[0].tensors.weight_zero_point == 3
