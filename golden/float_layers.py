"""A float network in the shape of the int8 one that it becomes: the same layers, with float weights, run on images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from golden.layers import LayerDescription

Padding = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class FloatLayer:
    """A layer with all its inputs named; a convolution with ``weight`` float [O,C/groups,KH,KW] and ``bias`` [O].

    ``exact``: a convolution whose weights are 0 and 1, a selection of pixels and channels without arithmetic. Its
    output has its input's quantization.
    """

    description: LayerDescription
    weight: Tensor | None = None
    bias: Tensor | None = None
    exact: bool = False

    @property
    def name(self) -> str:
        return self.description.name

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of its inputs."""
        return self.description.inputs

    @property
    def keeps_quantization(self) -> bool:
        """Whether the output has the scale and zero point of its inputs."""
        return self.exact or self.description.keeps_quantization

    @torch.no_grad()
    def __call__(self, *maps: Tensor) -> Tensor:
        """The output float [N,O,OH,OW] for the inputs float [N,C,H,W]."""
        layer = self.description
        if layer.op == "concat":
            return torch.cat(maps, 1)
        if layer.op == "conv":
            output = functional.conv2d(functional.pad(maps[0], _edges(layer.padding)), self.weight, self.bias,
                                       stride=layer.stride, groups=layer.groups)
            output = _activate(output, layer.activation)
            return output if layer.pool is None else _largest(output, layer.pool[:2], layer.pool[2:],
                                                              layer.pool_padding)
        if layer.op == "add":
            output = maps[0] + maps[1]
        elif layer.op == "mean":
            output = maps[0].mean((2, 3), keepdim=True)
        else:
            pool = _largest if layer.op == "max_pool" else _average
            output = pool(maps[0], layer.kernel, layer.stride, layer.padding)
        return _activate(output, layer.activation)


@dataclass(frozen=True, kw_only=True, eq=False)
class FloatNetwork:
    """Float layers in an order in which each takes what layers before it, or "input", give.

    ``input_shape`` is (C, H, W). ``ends`` gives for each submodule of the module that it comes from, by its path, the
    layers whose outputs its calls returned: None where that is no layer's output as a whole, or other operators take
    that output, too. ``inside`` gives the layer that it belongs to, where there is one. ``host`` is the operator behind
    the last layer that is left to the host.
    """

    input_shape: tuple[int, int, int]
    layers: tuple[FloatLayer, ...]
    ends: dict[str, tuple[str | None, ...]] = field(default_factory=dict)
    inside: dict[str, str] = field(default_factory=dict)
    host: str | None = None

    def run(self, images: Tensor, winners: Mapping[str, nn.Module] | None = None) -> Iterator[tuple[str, Tensor]]:
        """The name and output float [N,O,OH,OW] of "input" and of each layer for ``images`` float [N,C,H,W].

        ``winners`` gives by layer what selects the winners of its output: the layers behind see what it returns.
        Nothing is kept of a tensor that no later layer takes.
        """
        last = {name: number for number, layer in enumerate(self.layers) for name in layer.inputs}
        tensors = {"input": images}
        yield "input", images
        for number, layer in enumerate(self.layers):
            output = layer(*(tensors[name] for name in layer.inputs))
            yield layer.name, output
            tensors[layer.name] = output if layer.name not in (winners or {}) else winners[layer.name](output)
            tensors = {name: tensor for name, tensor in tensors.items() if last.get(name, -1) > number}


def _activate(x: Tensor, activation: str) -> Tensor:
    return x if activation == "none" else x.clamp(min=0, max=6 if activation == "relu6" else None)


def _edges(padding: Padding) -> tuple[int, ...]:
    """(top, bottom, left, right) in the order of functional.pad."""
    return *padding[2:], *padding[:2]


def _largest(x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Padding) -> Tensor:
    return functional.max_pool2d(functional.pad(x, _edges(padding), value=-torch.inf), kernel, stride)


def _average(x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Padding) -> Tensor:
    """The mean of each window's pixels inside the map."""
    def sums(map: Tensor) -> Tensor:
        return functional.avg_pool2d(functional.pad(map, _edges(padding)), kernel, stride, divisor_override=1)

    return sums(x) / sums(x.new_ones(1, *x.shape[1:]))
