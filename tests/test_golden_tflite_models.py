"""Published models: every byte that TFLite's reference kernels compute, on real images where there are any."""

import os
from pathlib import Path

import numpy as np
import pytest

from golden.import_tflite import import_tflite
from golden.inference import infer, largest
from golden.network import QuantizedNetwork
from golden.preprocess import quantize_pixels
from scripts.tflite_kernels import compare, interpreter

SHARED = Path(__file__).parents[2] / "shared"
MODELS = Path(os.environ.get("WINNOW_MODELS") or SHARED / "models")
DATA = Path(os.environ.get("WINNOW_DATA") or SHARED / "data")
NAMES = {"cfu_mnist_cnn_int8": "mnist", "mlperf_tiny_resnet8_cifar10_int8": "cifar10",
         "mlperf_tiny_dscnn_kws_int8": None, "mlperf_tiny_ad_int8": None, "mobilenet_v1_0.25_128_quant": None}
"""Of each model the data set that it classifies, if there is one."""
needs_models = pytest.mark.skipif(not all((MODELS / f"{name}.tflite").is_file() for name in NAMES),
                                  reason=f"no models in {MODELS}; WINNOW_MODELS names their folder")
needs_data = pytest.mark.skipif(not (DATA / "cifar10_jpeg.tar.xz").is_file(),
                                reason=f"no data sets in {DATA}; WINNOW_DATA names their folder")


def model_inputs(name: str, network: QuantizedNetwork, count: int) -> np.ndarray:
    """So many inputs int8 [N,C,H,W]: spread over the test images where there are any, else random."""
    if NAMES[name] is None or not (DATA / "cifar10_jpeg.tar.xz").is_file():
        return np.random.default_rng(0).integers(-128, 128, (count, *network.input.shape), np.int8)
    from golden.datasets import load

    images = load(NAMES[name], DATA).test.images
    return quantize_pixels(network, images[::len(images) // count][:count])


@needs_models
@pytest.mark.parametrize("name", NAMES)
def test_every_byte_is_that_of_tflite(name):
    """The output for 200 inputs; without fusing every tensor that an operator computes, for 10."""
    path = MODELS / f"{name}.tflite"
    network, layers = import_tflite(path), import_tflite(path, fuse=False)
    runner, inputs = interpreter(path.read_bytes(), keep_all=True), model_inputs(name, network, 200)
    found = compare(network, runner, inputs)
    assert found.inputs == 200 and found.bytes == 200 * network.layers[-1].output_shape[0]
    assert found.tensors == {network.layers[-1].name: 0}
    found = compare(layers, runner, inputs[:10], every_tensor=True)
    assert found.tensors == dict.fromkeys((node.name for node in layers.layers), 0)
    assert found.bytes == 10 * sum(np.prod(node.output_shape) for node in layers.layers)


@needs_models
@needs_data
@pytest.mark.parametrize("name, count, expected", [
    ("cfu_mnist_cnn_int8", 10000, 0.9905), ("mlperf_tiny_resnet8_cifar10_int8", 2000, 0.749)])
def test_accuracy_is_that_of_tflite_s_reference_kernels(name, count, expected):
    from golden.datasets import load

    network, data = import_tflite(MODELS / f"{name}.tflite"), load(NAMES[name], DATA).test
    outputs = infer(network, quantize_pixels(network, data.images[:count])).outputs
    assert (largest(outputs, 1)[:, 0] == data.labels[:count]).mean() == pytest.approx(expected, abs=1e-9)


@needs_models
def test_what_the_models_are():
    networks = {name: import_tflite(MODELS / f"{name}.tflite") for name in NAMES}
    macs = {name: sum(node.macs for node in network.layers) for name, network in networks.items()}
    assert macs["mlperf_tiny_resnet8_cifar10_int8"] == 12_501_632
    assert macs["mobilenet_v1_0.25_128_quant"] == 13_570_304
    assert [network.metadata.get("host") for network in networks.values()] == [
        None, "softmax", "softmax", None, "softmax"]
    # Rounded once where nothing else equals a product in float64, and weights that do not fit int8.
    once = [(name, node.name) for name, network in networks.items() for node in network.layers
            if node.op == "conv" and node.tensors.rounding == "once"]
    assert once == [("mlperf_tiny_ad_int8", "fc_9")]
    asymmetric = {name for name, network in networks.items() for node in network.layers
                  if node.op == "conv" and node.tensors.weight_zero_point}
    assert asymmetric == {"mobilenet_v1_0.25_128_quant"}


@needs_models
@pytest.mark.parametrize("name", NAMES)
def test_winners_on_every_model(name):
    """Losers are real zeros for all that read them; the winners are those of each input."""
    network = import_tflite(MODELS / f"{name}.tflite")
    ranked = network.with_winners(0.5)
    rules = [node for node in ranked.layers if node.ranking is not None]
    assert rules and all(node.ranking.value == max(1, round(node.output_shape[0] / 2)) for node in rules)
    inputs = np.random.default_rng(0).integers(-128, 128, (3, *network.input.shape), np.int8)
    found = infer(ranked, inputs)
    assert set(found.rates) == {node.name for node in rules}
    assert (found.outputs != infer(network, inputs).outputs).any()
    np.testing.assert_array_equal(infer(ranked, inputs, dense=True).outputs, infer(network, inputs).outputs)
    for image, output in zip(inputs, found.outputs, strict=True):
        np.testing.assert_array_equal(ranked.run(image)[-1][1].output, output)
