"""What .tflite files are refused for, in one line with the operator's number and name; damaged files, too."""

from collections import Counter

import numpy as np
import pytest

from golden.checks import JobError
from golden.import_tflite import import_tflite
from scripts.fuzz_import import EQUAL, NOT_TAKEN, REFUSED, fuzz
from tests.tflite_models import ModelBuilder, refused

MUTATIONS = 200


def start(shape=(1, 8, 8, 3)) -> tuple[ModelBuilder, int]:
    model = ModelBuilder()
    return model, model.input(shape)


def convolved(model: ModelBuilder, x: int, **changes) -> int:
    fields = dict(shape=(1, 6, 6, 4), weights=(4, 3, 3, 3)) | changes
    weights = fields.pop("weights")
    weights = model.weights(weights) if isinstance(weights, tuple) else weights
    return model.window("CONV_2D", [x, weights, fields.pop("bias", None) or model.bias(4)], fields.pop("shape"),
                        **fields)


def test_unknown_operators_are_refused_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("golden.tflite_file.Tensor.values", None)
    model, x = start()
    y = convolved(model, x)
    y = model.operator("LOGISTIC", [y], (1, 6, 6, 4), scale=1 / 256, zero_point=-128)
    assert refused(model.finish(y), tmp_path).startswith("operator 1: expected one of ADD, ")
    assert refused(model.finish(y), tmp_path).endswith(", SOFTMAX, got LOGISTIC")
    model, x = start()
    y = model.operator("CUSTOM", [x], (1, 8, 8, 3), custom="Mine")
    assert refused(model.finish(y), tmp_path).endswith("got CUSTOM 'Mine'")


@pytest.mark.parametrize("changes, message", [
    (dict(weights=(4, 3, 3, 2)), "operator 0 CONV_2D: weight: expected a divisor of 3 input channels, got 2"),
    (dict(shape=(1, 8, 8, 4)), "operator 0 CONV_2D: output: expected [1, 6, 6, 4], as the operator computes, got "
                               "[1, 8, 8, 4]"),
    (dict(stride=(0, 1)), "operator 0 CONV_2D: stride: expected at least 1, got [0, 1]"),
    (dict(stride=(5, 5), shape=(1, 2, 2, 4)), "operator 0 CONV_2D: stride: expected two integers in 1..4 (vertical, "
                                              "horizontal), got 5"),
    (dict(dilation=(6, 1)), "operator 0 CONV_2D: weight: expected a kernel of 1..11, got [13, 3]"),
    (dict(activation="TANH"), "operator 0 CONV_2D: activation: expected one of NONE, RELU, RELU_N1_TO_1, RELU6, got "
                              "TANH"),
    (dict(dtype="INT16"), "operator 0 CONV_2D: tensor 3: expected INT8 or UINT8, got INT16"),
    (dict(dtype="UINT8", zero_point=5), "operator 0 CONV_2D: output: expected INT8 as the input, got UINT8"),
    (dict(scale=(0.1, 0.2)), "operator 0 CONV_2D: tensor 3: expected one scale, got 2"),
    (dict(scale=np.nan), "operator 0 CONV_2D: tensor 3: expected a scale above 0, got nan"),
    (dict(zero_point=128), "operator 0 CONV_2D: tensor 3: expected a zero point in -128..127, got 128"),
])
def test_convolutions(changes, message, tmp_path):
    model, x = start()
    assert refused(model.finish(convolved(model, x, **changes)), tmp_path) == message


def test_constants(tmp_path):
    model, x = start()
    weights = model.weights((4, 3, 3, 3))
    model.tensors[weights]["zero_points"] = np.array([0, 7, 0, 0])
    message = refused(model.finish(convolved(model, x, weights=weights)), tmp_path)
    assert message == "operator 0 CONV_2D: weight: expected zero points of 0, got [7]"
    model, x = start()
    weights = model.weights((4, 3, 3, 3))
    model.tensors[weights]["data"] = model.tensors[weights]["data"][:-1]
    message = refused(model.finish(convolved(model, x, weights=weights)), tmp_path)
    assert message == "operator 0 CONV_2D: tensor 1: expected 107 bytes, as the file has, got more"
    model, x = start()
    message = refused(model.finish(convolved(model, x, bias=model.bias(5))), tmp_path)
    assert message == "operator 0 CONV_2D: bias: expected [4], got [5]"
    model, x = start()
    message = refused(model.finish(convolved(model, x, weights=x)), tmp_path)
    assert message == "operator 0 CONV_2D: tensor 0: expected a constant, got one that is computed"


def test_graphs(tmp_path):
    model, x = start((2, 8, 8, 3))
    assert refused(model.finish(convolved(model, x)), tmp_path) == "input: expected a batch of 1, got [2, 8, 8, 3]"
    model, x = start()
    y = convolved(model, x)
    assert refused(model.finish(x, y), tmp_path) == "outputs: expected 1, got 2"
    assert refused(model.finish(x), tmp_path) == "output: expected one that a layer computes, got the input"
    model.inputs.append(model.tensor((1, 3), scale=0.1))
    assert refused(model.finish(y), tmp_path) == "inputs: expected 1, got 2"
    model, x = start()
    y = convolved(model, x)
    model.operators.insert(0, dict(code="RELU", inputs=[y], outputs=[model.tensor((1, 6, 6, 4), scale=0.1)],
                                   options={}, custom=None))
    z = model.operator("ADD", [y, model.operators[0]["outputs"][0]], (1, 6, 6, 4))
    assert refused(model.finish(z), tmp_path) == (
        f"operator 0 RELU: tensor {y}: expected one that is computed before, got another")


def test_other_operators(tmp_path):
    model, x = start()
    y = model.operator("ADD", [x, model.constant(np.ones((1, 8, 8, 3), np.int8), 0.1)], (1, 8, 8, 3))
    assert refused(model.finish(y), tmp_path) == (
        "operator 0 ADD: tensor 1: expected one that is computed before, got another")
    model, x = start()
    y = model.operator("MEAN", [x, model.constant(np.array([1], np.int32))], (1, 8, 3))
    assert refused(model.finish(y), tmp_path) == (
        "operator 0 MEAN: axes: expected height and width of [1, H, W, C], got [1]")
    model, x = start()
    y = model.operator("CONCATENATION", [x, x], (1, 16, 8, 3), scale=0.05, zero_point=3, Axis=1)
    assert refused(model.finish(y), tmp_path) == (
        "operator 0 CONCATENATION: axis: expected that of the channels, got 1")
    model, x = start()
    y = model.operator("SOFTMAX", [x], (1, 8, 8, 3), scale=1 / 256, zero_point=-128, Beta=1.0)
    assert refused(model.finish(model.operator("RELU", [y], (1, 8, 8, 3), scale=1 / 256, zero_point=-128)),
                   tmp_path) == ("operator 1 RELU: tensor 1: expected nothing behind softmax, which is left to the "
                                 "host, got RELU")
    model, x = start()
    y = model.window("AVERAGE_POOL_2D", [x], (1, 4, 4, 3), stride=(2, 2), kernel=(2, 2), scale=0.06, zero_point=3)
    assert refused(model.finish(y), tmp_path).startswith(
        "operator 0 AVERAGE_POOL_2D: output: expected the input's scale 0.05")
    model, x = start()
    y = model.operator("RESHAPE", [x, model.constant(np.array([1, 12, 16, 1], np.int32))], (1, 12, 16, 1), scale=0.05,
                       zero_point=3)
    z = model.operator("ADD", [y, convolved(model, x, shape=(1, 12, 16, 1))], (1, 12, 16, 1))
    assert refused(model.finish(z), tmp_path).startswith("operator 1 CONV_2D: output: expected [1, 6, 6, 4]")
    model, x = start()
    y = convolved(model, x)
    y = model.operator("RESHAPE", [y, model.constant(np.array([1, 12, 12, 1], np.int32))], (1, 12, 12, 1))
    y = model.window("MAX_POOL_2D", [y], (1, 6, 6, 1), stride=(2, 2), kernel=(2, 2), scale=0.08, zero_point=-5)
    assert refused(model.finish(y), tmp_path) == (
        "operator 2 MAX_POOL_2D: input: expected [1, 6, 6, 4], as it was computed, got [1, 12, 12, 1]")
    model, x = start()
    y = model.operator("PAD", [x, model.constant(np.array([[0, 0], [11, 0], [0, 0], [0, 0]], np.int32))],
                       (1, 19, 8, 3), scale=0.05, zero_point=3)
    y = model.window("MAX_POOL_2D", [y], (1, 9, 4, 3), stride=(2, 2), kernel=(2, 2), scale=0.05, zero_point=3)
    assert refused(model.finish(y), tmp_path) == (
        "operator 1 MAX_POOL_2D: padding: expected at most 10 rows and columns, got [11, 0, 0, 0]")


@pytest.mark.parametrize("content, message", [
    (b"", "expected a .tflite file, got something else"),
    (b"nonsense, and more of it", "expected a .tflite file, got something else"),
    (b"\x10\0\0\0TFL3", "expected a .tflite file, got one that is damaged"),
])
def test_files_that_are_no_models(content, message, tmp_path):
    assert refused(content, tmp_path) == message
    with pytest.raises(JobError, match=r"^/nowhere/x\.tflite: expected a \.tflite file, got no such file$"):
        import_tflite("/nowhere/x.tflite")


# Damaged files


def small_models() -> list[bytes]:
    """Models that are mostly structure, with all kinds of operators."""
    models = []
    for kind, zero_points in (("INT8", (3, -5, 0)), ("UINT8", (120, 99, 131))):
        first, last, weight = zero_points
        model = ModelBuilder()
        x = model.input((1, 8, 8, 3), kind, 0.05, first)
        axis = 0 if kind == "INT8" else None
        y = model.operator("PAD", [x, model.constant(np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))],
                           (1, 10, 10, 3), kind, scale=0.05, zero_point=first)
        y = model.window("CONV_2D", [y, model.weights((4, 3, 3, 3), kind, axis=axis, zero_point=weight), model.bias(4)],
                         (1, 8, 8, 4), dtype=kind, zero_point=last, activation="RELU6")
        z = model.window("DEPTHWISE_CONV_2D", [y, model.weights((1, 3, 3, 4), kind, axis=3 if kind == "INT8" else None,
                                                                zero_point=weight), model.bias(4)], (1, 8, 8, 4),
                         dtype=kind, zero_point=last, padding="SAME", multiplier=1)
        z = model.operator("ADD", [y, z], (1, 8, 8, 4), kind, zero_point=last, FusedActivationFunction=1)
        z = model.operator("CONCATENATION", [z, z], (1, 8, 8, 8), kind, zero_point=last, Axis=3)
        z = model.window("MAX_POOL_2D", [z], (1, 4, 4, 8), dtype=kind, scale=0.08, zero_point=last, stride=(2, 2),
                         kernel=(2, 2))
        z = model.window("AVERAGE_POOL_2D", [z], (1, 2, 2, 8), dtype=kind, scale=0.08, zero_point=last, stride=(2, 2),
                         kernel=(2, 2))
        z = model.operator("RELU", [z], (1, 2, 2, 8), kind, scale=0.06, zero_point=last)
        z = model.operator("MEAN", [z, model.constant(np.array([1, 2], np.int32))], (1, 8), kind, zero_point=last)
        z = model.operator("RESHAPE", [z, model.constant(np.array([1, 1, 1, 8], np.int32))], (1, 1, 1, 8), kind,
                           zero_point=last)
        z = model.operator("FULLY_CONNECTED", [z, model.weights((6, 8), kind, axis=None, zero_point=weight)], (1, 6),
                           kind, zero_point=last)
        z = model.operator("SOFTMAX", [z], (1, 6), kind, scale=1 / 256, zero_point=-128 if kind == "INT8" else 0,
                           Beta=1.0)
        models.append(model.finish(z))
    return models


def test_damaged_files_end_in_one_line_or_as_tflite_has_them(tmp_path):
    """In processes that have 1 GB more; the command takes other models and any number of mutations."""
    found = Counter(fuzz(small_models(), MUTATIONS, 0, tmp_path / "model.tflite", compare=True))
    assert set(found) <= {REFUSED, EQUAL, NOT_TAKEN} and sum(found.values()) == MUTATIONS, found
    assert min(found[REFUSED], found[EQUAL]) > MUTATIONS // 20, found
