"""From a .tflite file to the int8 network of the engine, which gives TFLite's own answer."""

from pathlib import Path
from typing import Any

from golden.checks import check, naming
from golden.int8_builder import needed
from golden.network import QuantizedNetwork
from golden.preprocess import every_value
from golden.tflite_file import Model, read_model
from golden.tflite_operators import OPERATORS, Converter

_IMAGE_CHANNELS = (1, 3)


def import_tflite(path: str | Path, *, name: str | None = None, fuse: bool = True) -> QuantizedNetwork:
    """The network of a quantized model, int8 or uint8: its layers' outputs equal those of TFLite's reference kernels.

    Values of uint8 models are 128 less. ``fuse``: activations, max-pools and pads are a part of the convolution that
    they belong to; without it every tensor of the model that an operator computes is some layer's output.

    Layers are called after their operator and its number, ``conv_0``. The metadata say more:

    - ``source``: the file's name and format
    - ``tensors`` {number of the tensor: layer}: whose outputs are which tensors of the model
    - ``input_type``, ``output_type``: int8, uint8 or float32, as the model's; ``input_shape`` as the model has it
    - ``host``: operators behind the last layer that are left to the host
    - ``preprocess``, where the input may be an image: pixels 0..255 are the 256 values of the input

    Raises JobError, in one line that begins with the path, for a file that is damaged and for everything that has no
    exact form on the engine, with the operator's number and name.
    """
    path = Path(path)
    model = read_model(path)
    with naming(path):
        return _converted(model, name or path.stem, path.name, fuse)


def _converted(model: Model, name: str, file: str, fuse: bool) -> QuantizedNetwork:
    for operator in model.operators:
        check(operator.code in OPERATORS, f"operator {operator.number}", f"one of {', '.join(OPERATORS)}",
              operator.code)
    for kind, numbers in (("inputs", model.inputs), ("outputs", model.outputs)):
        check(len(numbers) == 1, kind, "1", len(numbers))
    source, output = (model.tensors[numbers[0]] for numbers in (model.inputs, model.outputs))
    converter = Converter(model, fuse=fuse)
    converter.set_input(source.number)
    for operator in needed(model.operators, output.number):
        converter.read(operator)
    check(output.number in converter.values, "output", "a tensor that an operator computes", output.number)
    value = converter.finish(output.number)
    check(value.layer == list(converter.builder.layers)[-1], "output", "that of the last layer", value.layer)
    metadata: dict[str, Any] = {
        "source": {"format": "tflite", "file": file},
        "tensors": {str(number): layer for number, layer in sorted(converter.tensors.items())},
        "input_type": source.type.lower(), "input_shape": list(source.shape), "output_type": output.type.lower()}
    if value.host:
        metadata["host"] = ", ".join(value.host)
    spec = converter.builder.specs["input"]
    if len(source.shape) == 4 and source.shape[3] in _IMAGE_CHANNELS:
        metadata["preprocess"] = every_value(spec.scale, spec.zero_point, source.shape[3]).text()
    return converter.builder.network(name, metadata, converter.places)
