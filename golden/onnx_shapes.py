"""The operators of an ONNX QDQ model that change shapes and bounds, not values: reshaping, padding, activations."""

from dataclasses import replace

import numpy as np

from golden.checks import check
from golden.int8_builder import Clamp, LayerOutput
from golden.onnx_values import GraphReader, Pending, Value, size

_NHWC_TO_NCHW = (0, 3, 1, 2)


class ShapeReader(GraphReader):
    """Their handlers, each of which returns the value of the operator in work."""

    # Shapes

    def reshape(self) -> Value:
        value = self.input(0)
        check(isinstance(value, (LayerOutput, Pending)), "input", "a tensor that is computed", "a constant")
        if isinstance(value, LayerOutput) and any(value.edges):
            value = self.padded(value)
        return replace(value, shape=self._new_shape(value.shape))

    def _new_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        op, attributes = self.node.op, self.node.attributes
        if op == "Flatten":
            check(attributes.get("axis", 1) in (1, 1 - len(shape)), "axis", "1", attributes.get("axis"))
            return 1, size(shape)
        if op == "Squeeze":
            axes = self._axes(len(shape))
            check(all(shape[axis] == 1 for axis in axes) and 0 not in axes, "axes", "of one, not the batch", axes)
            return tuple(extent for axis, extent in enumerate(shape) if axis not in axes)
        stated = self.constant(1).ravel().tolist()
        found = [shape[axis] if extent == 0 and axis < len(shape) else extent for axis, extent in enumerate(stated)]
        rest = size([extent for extent in found if extent != -1])
        fits = rest > 0 and min(found, default=0) >= -1 and found.count(-1) <= 1
        check(fits, "shape", "sizes, at most one -1", stated)
        found = [size(shape) // rest if extent == -1 else extent for extent in found]
        check(size(found) == size(shape) and found[0] == 1, "shape", f"a batch of 1 and {size(shape)} values", stated)
        return tuple(found)

    def _axes(self, rank: int) -> list[int]:
        axes = self.constant(1).ravel().tolist() if self.has_input(1) else self.node.attributes.get("axes", ())
        check(len(axes) >= 1 and all(-rank <= axis < rank for axis in axes), "axes", "dimensions", axes)
        return [axis % rank for axis in axes]

    def transpose(self) -> Value:
        value, order = self.quantized(), self.node.attributes.get("perm")
        spec = self.builder.specs[value.layer]
        fits = order == _NHWC_TO_NCHW and value.layer == "input" and value.alone and not self.builder.layers
        check(fits, "perm", f"{list(_NHWC_TO_NCHW)} of the model's input", order)
        shape = tuple(value.shape[axis] for axis in order)
        self.builder.set_input(scale=spec.scale, zero_point=spec.zero_point, shape=shape[1:])
        return replace(value, shape=shape)

    def identity(self) -> Value:
        return self.input(0)

    def softmax(self) -> Value:
        value = self.quantized()
        return replace(value, host=(*value.host, "softmax"))

    def pad(self) -> Value:
        value, attributes = self.quantized(edges=True), self.node.attributes
        check(attributes.get("mode", "constant") == "constant", "mode", "constant", attributes.get("mode"))
        check(not self.has_input(3), "axes", "none", "some")
        check(not self.has_input(2) or not np.any(self.constant(2)), "constant_value", "0", "another")
        pads = tuple(self.constant(1).ravel().tolist()) if self.has_input(1) else attributes.get("pads", ())
        check(len(value.shape) == 4 and len(pads) == 8 and min(pads) >= 0 and max(pads) < 2**16, "pads",
              "eight sizes of at least 0", pads)
        batch, channels, rows, columns = ((pads[axis], pads[axis + 4]) for axis in range(4))
        check(batch == (0, 0), "pads", "none of the batch", batch)
        shape = tuple(extent + before + after for extent, (before, after) in zip(
            value.shape, (batch, channels, rows, columns), strict=True))
        edges = tuple(old + new for old, new in zip(value.edges, (*rows, *columns), strict=True))
        value = replace(value, shape=shape, edges=edges)
        return value if self.fuse and channels == (0, 0) else self.padded(value, *channels)

    def relu(self) -> Value:
        return self._bounded(0.0, None)

    def clip(self) -> Value:
        ends = []
        for position, name in ((1, "min"), (2, "max")):
            end = self.node.attributes.get(name)
            if self.has_input(position):
                stated = self.constant(position)
                check(stated.size == 1, name, "one number", stated.size)
                end = stated.item()
            ends.append(end if end is None or np.isfinite(end) else None)
        return self._bounded(*ends)

    def _bounded(self, low: float | None, high: float | None) -> Pending:
        """A value clamped to real bounds, either of which may be None."""
        value = self.input(0)
        if isinstance(value, Pending):
            lows, highs = ([one for one in ends if one is not None]
                           for ends in ((value.low, low), (value.high, high)))
            return replace(value, low=max(lows, default=None), high=min(highs, default=None), bias=None)
        value = self.quantized()

        def finish(name: str, scale: float, zero_point: int, clamp: Clamp) -> str:
            spec = self.builder.specs[value.layer]
            same = (spec.scale, spec.zero_point) == (scale, zero_point)
            if self.fuse and same and value.alone and self.builder.can_clamp(value.layer):
                return self.builder.clamped(value.layer, clamp)
            return self.rescaled(name, value.layer, scale, zero_point, clamp)

        return Pending(finish=finish, shape=value.shape, operator=self.node, low=low, high=high)
