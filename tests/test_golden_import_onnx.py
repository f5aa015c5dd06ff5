"""ONNX QDQ models: every layer is ONNX's own value or one step beside it, on the values that ONNX has before it."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from golden.checks import JobError
from golden.import_onnx import import_onnx
from golden.network import QuantizedNetwork
from golden.preprocess import quantize_input
from golden.reference import run
from tests.onnx_models import ModelBuilder, answers


def compared(model: ModelBuilder, output: str, folder: Path, *, fuse: bool = True,
             few: float = 0.05) -> QuantizedNetwork:
    """The network of a model, each of whose known tensors is within a step of ONNX's, most of them equal."""
    path, proto = folder / "model.onnx", model.finish(output)
    onnx.save(proto, path)
    network = import_onnx(path, fuse=fuse)
    inputs = np.random.default_rng(1).normal(size=(4, *model.shape[1:])).astype(np.float32) * 3
    tensors = {layer: name for name, layer in network.metadata["tensors"].items()}
    names = [tensors[node.name] for node in network.layers if node.name in tensors]
    known = dict(zip(names, answers(proto, inputs, *names), strict=True))
    for number, one in enumerate(inputs):
        planes = one[None] if one.shape == network.input.shape or one.ndim == 1 else one.transpose(2, 0, 1)[None]
        values = {"input": quantize_input(network, planes)[0]}
        for node in network.layers:
            maps = [values[name] for name in node.inputs]
            found = np.concatenate(maps) if node.op == "concat" else run(node.job(*maps)).output
            values[node.name] = found
            if node.name in tensors:
                expected = known[tensors[node.name]][number]
                expected = (expected ^ 0x80).view(np.int8) if expected.dtype == np.uint8 else expected
                expected = expected.reshape(found.shape)
                off = np.abs(expected.astype(int) - found)
                assert off.max() <= 1 and (off > 0).mean() <= few, node.name
                values[node.name] = expected
    return network


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("unsigned", [False, True])
def test_every_operator(fuse, unsigned, tmp_path):
    m = ModelBuilder((1, 6, 9, 7), unsigned=unsigned)
    y = m.node("Conv", [m.nodes[-1].output[0], m.weights((8, 6, 3, 3)), m.bias(8, 0.05)], pads=[1] * 4, strides=[2, 2])
    y = m.quantized(m.node("Relu", [y]), 0.03, -128)
    z = m.node("Conv", [y, m.weights((8, 1, 3, 3), axis=None, zero_point=3), m.bias(8, 0.03)], pads=[1] * 4, group=8)
    z = m.node("Clip", [z, m.constant(np.float32(0)), m.constant(np.float32(6))])
    s = m.quantized(m.node("Add", [y, m.quantized(z, 0.05, -128)]), 0.06, -100)
    c = m.quantized(m.node("Concat", [s, y], axis=1), 0.06, -100)
    c = m.quantized(m.node("Conv", [c, m.weights((8, 8, 2, 2)), m.bias(8, 0.06)], dilations=[2, 2], group=2,
                           auto_pad="VALID"), 0.06, -100)
    p = m.quantized(m.node("MaxPool", [c], kernel_shape=[2, 1], strides=[1, 1]), 0.06, -100)
    a = m.quantized(m.node("AveragePool", [p], kernel_shape=[2, 1], strides=[1, 1]), 0.05, -100)
    f = m.quantized(m.node("Flatten", [a]), 0.05, -100)
    g = m.quantized(m.node("Gemm", [f, m.weights((10, 16)), m.bias(10, 0.05)], transB=1), 0.3, 5)
    g = m.node("MatMul", [g, m.weights((10, 7), axis=1, kind=np.uint8, zero_point=120)])
    g = m.node("Add", [g, m.constant(m.random.normal(size=7).astype(np.float32))])
    g = m.node("Softmax", [m.quantized(m.node("Identity", [g]), 0.3, 5)], axis=1)
    network = compared(m, g, tmp_path, fuse=fuse, few=0.1)
    assert network.metadata["host"] == "softmax"
    assert [node.op for node in network.layers][-2:] == ["conv", "conv"]
    assert any(node.pool for node in network.layers) == fuse
    assert network.layers[-1].tensors.weight_zero_point != 0


@pytest.mark.parametrize("fuse", [True, False])
def test_order_of_channels_pads_and_means(fuse, tmp_path):
    m = ModelBuilder((1, 9, 7, 6))
    y = m.node("Transpose", [m.nodes[-1].output[0]], perm=[0, 3, 1, 2])
    y = m.node("Pad", [y, m.constant(np.array([0, 0, 1, 0, 0, 0, 1, 2]))])
    y = m.node("Conv", [y, m.weights((8, 6, 3, 3)), m.bias(8, 0.05)], strides=[2, 2])
    y = m.node("Relu", [m.quantized(y, 0.1, 0)])
    y = m.quantized(y, 0.1, 0)
    first = m.quantized(m.node("GlobalAveragePool", [y]), 0.05, 3)
    second = m.quantized(m.node("ReduceMean", [y, m.constant(np.array([2, 3]))], keepdims=0), 0.05, 3)
    first = m.node("Squeeze", [m.node("Reshape", [first, m.constant(np.array([1, -1, 1, 1]))]),
                               m.constant(np.array([2, 3]))])
    network = compared(m, m.quantized(m.node("Add", [first, second]), 0.07, 3), tmp_path, fuse=fuse, few=0.5)
    assert network.input.shape == (6, 9, 7) and network.metadata["input_shape"] == [1, 9, 7, 6]
    assert len(network.layers) == (4 if fuse else 6)


def test_weights_quantized_in_the_graph_and_an_int8_input(tmp_path):
    """QuantizeLinear of float weights is computed at import."""
    m = ModelBuilder((1, 3, 5, 5))
    weights, scales = m.random.normal(size=(4, 3, 3, 3)).astype(np.float32), np.full(4, 0.02, np.float32)
    pair = [m.constant(scales), m.constant(np.zeros(4, np.int8))]
    w = m.node("DequantizeLinear", [m.node("QuantizeLinear", [m.constant(weights), *pair], axis=0), *pair], axis=0)
    y = m.quantized(m.node("Conv", [m.nodes[1].output[0], w]), 0.2, 1)
    network = compared(m, y, tmp_path)
    expected = np.clip(np.rint(weights / np.float32(0.02)), -128, 127)
    np.testing.assert_array_equal(network.layers[0].weight, expected)


def test_zero_points_that_are_left_out(tmp_path):
    """They are 0 of the tensor's own type: int8, uint8 or int32."""
    m = ModelBuilder((1, 3, 5, 5))
    weights = m.constant(m.random.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8))
    weights = m.node("DequantizeLinear", [weights, m.constant(np.full(4, 0.004, np.float32))], axis=0)
    bias = m.constant(m.random.integers(-2000, 2000, 4).astype(np.int32))
    bias = m.node("DequantizeLinear", [bias, m.constant(np.full(4, 0.0002, np.float32))], axis=0)
    y = m.node("Conv", [m.nodes[1].output[0], weights, bias])
    scale = m.constant(np.float32(0.02))
    m.last = m.node("QuantizeLinear", [m.node("Relu", [y]), scale])  # uint8
    y = m.node("DequantizeLinear", [m.last, scale])
    flat = m.node("Flatten", [m.node("Dropout", [y])])
    matrix = m.constant(m.random.integers(0, 256, (36, 5)).astype(np.uint8))
    y = m.node("MatMul", [flat, m.node("DequantizeLinear", [matrix, m.constant(np.float32(0.002))])])
    network = compared(m, m.quantized(y, 0.5, -90), tmp_path)
    assert [node.output_zero_point for node in network.layers] == [-128, -90]
    assert [node.tensors.weight_zero_point for node in network.layers] == [0, -128]
    assert network.layers[0].tensors.bias.tolist() == numpy_helper.to_array(
        next(one for one in m.constants if one.data_type == onnx.TensorProto.INT32)).tolist()


def test_windows_over_the_edge(tmp_path):
    """Pads of every window, stated and SAME_UPPER; an average is one of the pixels inside."""
    m = ModelBuilder((1, 3, 9, 8))
    y = m.node("Conv", [m.nodes[1].output[0], m.weights((4, 3, 3, 3)), m.bias(4, 0.05)], auto_pad="SAME_UPPER",
               strides=[2, 2])
    y = m.quantized(y, 0.1, -4)
    # ONNX's evaluator confuses rows and columns of a MaxPool whose pads are not as many for both.
    y = m.quantized(m.node("MaxPool", [y], kernel_shape=[3, 3], pads=[1, 0, 0, 1]), 0.1, -4)
    y = m.quantized(m.node("AveragePool", [y], kernel_shape=[3, 2], pads=[1, 1, 0, 0], strides=[2, 1]), 0.1, -4)
    y = m.quantized(m.node("Concat", [y, m.quantized(m.node("Relu", [y]), 0.07, -100)], axis=-3), 0.1, -4)
    y = m.quantized(m.node("Pad", [y, m.constant(np.array([0, 1, 1, 0, 0, 2, 0, 1]))]), 0.1, -4)
    network = compared(m, y, tmp_path, few=0.2)  # Averages lie between two values often.
    assert network.layers[-1].output_shape == (11, 3, 4)


def refused(model: ModelBuilder, output: str, folder: Path) -> str:
    path = folder / "model.onnx"
    onnx.save(model.finish(output), path)
    with pytest.raises(JobError) as error:
        import_onnx(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{path}: ")


def test_refusals(tmp_path):
    def start() -> tuple[ModelBuilder, str]:
        m = ModelBuilder((1, 3, 5, 5))
        return m, m.nodes[-1].output[0]

    m, x = start()
    assert refused(m, m.node("Sigmoid", [x]), tmp_path).startswith("operator 2: expected one of Add, ")
    m, x = start()
    y = m.node("Conv", [x, m.constant(np.ones((2, 3, 1, 1), np.float32))])
    assert refused(m, m.quantized(y), tmp_path) == (
        "operator 2 Conv: weight: expected int8 or uint8 constants behind DequantizeLinear, got others")
    m, x = start()
    y = m.node("Conv", [x, m.weights((2, 3, 1, 1))])
    assert refused(m, y, tmp_path) == ("output: expected a quantized tensor, or one behind DequantizeLinear, got "
                                       "another")
    m, x = start()
    y = m.node("MaxPool", [m.node("Conv", [x, m.weights((2, 3, 1, 1))])], kernel_shape=[2, 2])
    assert refused(m, m.quantized(y), tmp_path) == (
        "operator 4 MaxPool: input 0: expected a tensor behind DequantizeLinear, got one that is not quantized")
    m, x = start()
    y = m.node("Conv", [x, m.weights((2, 3, 1, 1))], strides=[5, 5])
    assert refused(m, m.quantized(y), tmp_path).startswith(
        "operator 3 Conv: stride: expected two integers in 1..4 (vertical, horizontal), got ")
    m, x = start()
    y = m.node("AveragePool", [x], kernel_shape=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1)
    assert refused(m, m.quantized(y), tmp_path) == (
        "operator 2 AveragePool: count_include_pad: expected 0 where there is padding, got 1")
    m, x = start()
    y = m.node("Transpose", [m.quantized(m.node("Relu", [x]))], perm=[0, 3, 1, 2])
    assert refused(m, m.quantized(y), tmp_path).startswith("operator 5 Transpose: perm: expected [0, 3, 1, 2] of the")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x08\x07\x12"])
def test_files_that_are_no_models(content, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(JobError, match=f"^{path}: [^\n]*$"):
        import_onnx(path)


def test_damaged_files_end_in_one_line(tmp_path):
    m = ModelBuilder((1, 3, 8, 8))
    y = m.quantized(m.node("Relu", [m.node("Conv", [m.nodes[-1].output[0], m.weights((4, 3, 3, 3))])]))
    y = m.quantized(m.node("Gemm", [m.node("Flatten", [m.quantized(m.node("GlobalAveragePool", [y]))]),
                                    m.weights((5, 4))], transB=1))
    content, random, path = m.finish(y).SerializeToString(), np.random.default_rng(0), tmp_path / "model.onnx"
    for number in range(500):
        damaged = bytearray(content)
        for place in random.integers(0, len(damaged), random.integers(1, 5)):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged[:random.integers(len(damaged))] if number % 4 == 0 else damaged)
        try:
            import_onnx(path)
        except JobError as error:
            assert "\n" not in str(error)
