"""From an ONNX QDQ model to the int8 network of the engine."""

from pathlib import Path
from typing import Any

from golden.checks import check, naming
from golden.int8_builder import LayerOutput, needed
from golden.network import QuantizedNetwork
from golden.onnx_file import Model, read_model
from golden.onnx_operators import OPERATORS, Converter
from golden.preprocess import every_value


def import_onnx(path: str | Path, *, name: str | None = None, fuse: bool = True) -> QuantizedNetwork:
    """The network of a QDQ model: one whose operators take what DequantizeLinear gives, and give QuantizeLinear.

    ONNX defines such a model in floating point, Winnow computes the same in integers, with TFLite's rounding: an output
    may be one step off where a value lies between two. Values of uint8 tensors are 128 less. ``fuse``, layers' names
    and the metadata are as for :func:`golden.import_tflite.import_tflite`; ``tensors`` gives the layer of a quantized
    tensor by its name.

    Raises JobError, in one line that begins with the path, for a file that is damaged and for everything that has no
    form on the engine, with the operator's number and name.
    """
    path = Path(path)
    model = read_model(path)
    with naming(path):
        return _converted(model, name or path.stem, path.name, fuse)


def _converted(model: Model, name: str, file: str, fuse: bool) -> QuantizedNetwork:
    for node in model.nodes:
        check(node.op in OPERATORS, f"operator {node.number}", f"one of {', '.join(OPERATORS)}", node.op)
    converter = Converter(model, fuse=fuse)
    for node in needed(model.nodes, model.output):
        converter.read(node)
    value = converter.values.get(model.output)
    check(isinstance(value, LayerOutput), "output", "a quantized tensor, or one behind DequantizeLinear", "another")
    value = converter.padded(value) if any(value.edges) else value
    check(value.layer == next(reversed(converter.builder.layers), None), "output", "that of the last layer",
          value.layer)
    spec = converter.builder.specs["input"]
    metadata: dict[str, Any] = {
        "source": {"format": "onnx", "file": file}, "tensors": converter.tensors}
    if tuple(model.input_shape[1:]) not in (spec.shape, spec.shape[:1]):
        metadata["input_shape"] = [1, *model.input_shape[1:]]
    if value.host:
        metadata["host"] = ", ".join(value.host)
    if len(model.input_shape) == 4 and spec.shape[0] in (1, 3):
        metadata["preprocess"] = every_value(spec.scale, spec.zero_point, spec.shape[0]).text()
    return converter.builder.network(name, metadata, converter.places)
