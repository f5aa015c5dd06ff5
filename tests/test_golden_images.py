"""Pictures and arrays as inputs: decoded, cropped, resized, quantized, told apart by type and shape."""

import numpy as np
import pytest
from PIL import Image

from golden.checks import JobError
from golden.images import find_pictures, picture_shape, read_all, read_inputs
from golden.inference import Inference, infer, largest, real_values
from golden.layers import ConvLayer, MaxPoolLayer
from golden.network import NetworkInput, QuantizedNetwork
from golden.preprocess import every_value, quantize_pixels


def network(shape=(3, 4, 6), scale=1 / 255, zero_point=-128, **metadata) -> QuantizedNetwork:
    return QuantizedNetwork(name="net", input=NetworkInput(scale=scale, zero_point=zero_point, shape=shape),
                            layers=(MaxPoolLayer(name="pool", kernel=(1, 1)),), metadata=metadata)


def picture(path, size, mode="RGB") -> np.ndarray:
    """A picture of random pixels, and these pixels."""
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    Image.fromarray(pixels, mode).save(path)
    return pixels


def test_pictures_of_the_network_s_size_are_taken_as_they_are(tmp_path):
    pixels = picture(tmp_path / "a.png", (6, 4))
    found = read_inputs(network(), tmp_path / "a.png")
    np.testing.assert_array_equal(found, pixels.transpose(2, 0, 1)[None].astype(int) - 128)
    grey = picture(tmp_path / "b.png", (6, 4), "L")
    np.testing.assert_array_equal(read_inputs(network((1, 4, 6)), tmp_path / "b.png")[0, 0], grey.astype(int) - 128)
    found = read_inputs(network(), tmp_path / "b.png")
    assert (found == found[:, :1]).all()


def test_others_are_cropped_in_the_middle_and_resized(tmp_path):
    pixels = np.zeros((40, 120, 3), np.uint8)
    pixels[:, 30:90] = np.repeat(np.arange(6), 10)[None, :, None] * 40  # The middle, of the network's proportions.
    pixels[:, :30] = pixels[:, 90:] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    found = read_inputs(network(), tmp_path / "wide.png")[0].astype(int) + 128
    assert found.shape == (3, 4, 6)
    assert abs(found - 40 * np.arange(6)).max() < 16


def test_every_value_of_the_input_is_a_pixel():
    """Whatever its scale and zero point, exactly."""
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    for scale, zero_point in ((1.0, -128), (1 / 128, 0), (0.0186, -14), (1 / 255, -128), (3e-5, 127)):
        text = every_value(scale, zero_point, 1).text()
        found = quantize_pixels(network((1, 16, 16), scale, zero_point, preprocess=text), pixels)
        np.testing.assert_array_equal(found.ravel(), np.arange(256) - 128)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int8, np.uint8])
def test_arrays(kind, tmp_path):
    random = np.random.default_rng(1)
    values = random.integers(0, 128, (5, 3, 4, 6)).astype(kind)
    net, path = network(scale=0.5, zero_point=3), tmp_path / "a.npy"
    np.save(path, values)
    found = read_inputs(net, path)
    expected = {np.int8: values, np.uint8: np.rint(values / 255 / 0.5) + 3}.get(kind, np.rint(values / 0.5) + 3)
    np.testing.assert_array_equal(found, np.clip(expected, -128, 127))
    np.save(path, values[0])
    np.testing.assert_array_equal(read_inputs(net, path), found[:1])


def test_arrays_in_the_order_of_the_model(tmp_path):
    values, path = np.random.default_rng(1).integers(0, 256, (2, 4, 6, 3)).astype(np.uint8), tmp_path / "a.npy"
    np.save(path, values)
    expected = values.transpose(0, 3, 1, 2).astype(int) - 128
    net = network(input_shape=[1, 4, 6, 3], input_type="uint8", scale=0.01, zero_point=5)
    np.testing.assert_array_equal(read_inputs(net, path), expected)
    np.save(path, (values[0].astype(int) - 128).astype(np.int8))
    np.testing.assert_array_equal(read_inputs(net, path), expected[:1])
    np.save(path, values.reshape(2, 72))
    flat = network((72, 1, 1), input_shape=[1, 72], input_type="uint8")
    np.testing.assert_array_equal(read_inputs(flat, path), values.reshape(2, 72, 1, 1).astype(int) - 128)


@pytest.mark.parametrize("values, message", [
    (np.zeros((4, 6, 2), np.int8), r"input: expected \[4, 6, 3\] or \[3, 4, 6\], one or many, got \[4, 6, 2\]"),
    (np.zeros((4, 6, 3), np.int16), "expected floats, int8 or uint8, got int16"),
    (np.zeros((0, 4, 6, 3), np.int8), "input: expected at least one, got none")])
def test_refused_arrays(values, message, tmp_path):
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(JobError, match=f"^{tmp_path}/a.npy: {message}$"):
        read_inputs(network(input_shape=[1, 4, 6, 3]), tmp_path / "a.npy")


def test_refused_files(tmp_path):
    for name in ("a.png", "a.npy"):
        (tmp_path / name).write_bytes(b"nonsense")
        with pytest.raises(JobError, match=f"^{tmp_path}/{name}: expected .*, got something unreadable$"):
            read_inputs(network(), tmp_path / name)
    with pytest.raises(JobError, match="expected a picture, got no such file"):
        read_inputs(network(), tmp_path / "none.png")
    with pytest.raises(JobError, match=r"net: expected a network of pictures, .*, got an input of \[5, 4, 6\]"):
        picture_shape(network((5, 4, 6)))


def test_pixels_that_lie_flat():
    assert picture_shape(network((784, 1, 1))) == (1, 28, 28)
    assert picture_shape(network((784, 1, 1), input_shape=[1, 28, 28, 1])) == (1, 28, 28)
    with pytest.raises(JobError, match="expected an input of planes for colour pictures, got one that lies flat"):
        picture_shape(network((72, 1, 1), input_shape=[1, 4, 6, 3]))


def test_folders(tmp_path):
    for name in ("10/b.png", "10/a.png", "9/c.jpg", "none/x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.endswith("txt"):
            (tmp_path / name).write_text("")
        else:
            picture(tmp_path / name, (6, 4))
    paths, labels = find_pictures(tmp_path)
    assert [(path.name, label) for path, label in zip(paths, labels, strict=True)] == [
        ("a.png", 10), ("b.png", 10), ("c.jpg", 9)]
    (tmp_path / "9").rename(tmp_path / "cat")
    assert find_pictures(tmp_path)[1] == [0, 0, 1]
    assert find_pictures(tmp_path / "10") == (paths[:2], None)
    np.save(tmp_path / "10/z.npy", np.zeros((2, 3, 4, 6), np.int8))
    values, names = read_all(network(), find_pictures(tmp_path / "10")[0])
    assert (values.shape, names) == ((4, 3, 4, 6), ["a.png", "b.png", "z.npy[0]", "z.npy[1]"])
    with pytest.raises(JobError, match=r"expected a data set, or files \.png, .*, \.npy, got none"):
        find_pictures(tmp_path / "none")


def test_inference_in_parts_is_that_of_single_inputs():
    layers = (ConvLayer(name="a", out_channels=4, kernel=(3, 3), activation="relu"),
              ConvLayer(name="b", out_channels=5, kernel=(2, 4)))
    net = QuantizedNetwork(name="net", input=NetworkInput(scale=0.1, zero_point=0, shape=(3, 4, 6)), layers=layers)
    net = net.with_winners({"a": 0.5}, select="energy")
    inputs = np.random.default_rng(0).integers(-128, 128, (230, 3, 4, 6), np.int8)
    done = []
    found = infer(net, inputs, progress=done.append)
    assert isinstance(found, Inference) and done == [100, 200, 230]
    runs = [net.run(image) for image in inputs[::40]]
    np.testing.assert_array_equal(found.outputs[::40], [run[-1][1].output for run in runs])
    rate = np.mean([net.run(image)[0][1].winners.mean() for image in inputs])
    assert found.rates == {"a": pytest.approx(rate)}
    assert infer(net, inputs, dense=True).rates == {}


def test_largest_and_what_values_stand_for():
    outputs = np.array([[[[5]], [[9]], [[-3]], [[9]]]], np.int8)
    assert largest(outputs, 3).tolist() == [[1, 3, 0]]
    net = network(scale=0.5, zero_point=1)
    assert real_values(net, outputs).tolist() == [[2.0, 4.0, -2.0, 4.0]]
    found = real_values(network(scale=0.5, zero_point=1, host="softmax, dequantize"), outputs)
    assert found.sum() == pytest.approx(1) and found[0, 1] / found[0, 0] == pytest.approx(np.exp(2))
