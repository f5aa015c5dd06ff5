"""Multiplications of a float network per image, layer by layer: all of them, and those of winners alone."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from golden.checks import JobError, check
from golden.dasnet.winners import as_baseline, submodules

_ELEMENTWISE = {"relu", "relu_", "relu6", "relu6_", "hardtanh", "hardtanh_", "leaky_relu", "leaky_relu_", "hardswish",
                "hardswish_", "silu", "silu_", "gelu", "tanh", "dropout", "feature_dropout", "clone", "contiguous",
                "to", "detach"}
"""They leave each channel where it is and a channel of zeros zero, as those of the next two sets do."""
_WINDOWS = {"max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d"}
_SHAPES = {"view", "reshape", "flatten"}
_ALONG = {"mean", "amax", "select", "slice", "squeeze"}
"""So do these along other dimensions than the channels'."""
_OTHER_PRODUCTS = {"conv1d", "conv3d", "convolution", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
                   "matmul", "mm", "addmm", "bmm", "baddbmm", "einsum", "bilinear", "scaled_dot_product_attention"}


class LayerMacs(NamedTuple):
    """Multiplications of one layer for one image.

    ``path``: of the module that computes it; ``dense``: all channels, products with padding included; ``winners``: of
    the channels that win, in the mean; ``masked``: it reads a tensor whose winners are known, and skips the losers.
    ``zeros``: those of ``dense`` whose weight is zero, ``winner_zeros``: those of ``winners``.
    """

    path: str
    dense: int
    winners: float
    masked: bool
    zeros: int = 0
    winner_zeros: float = 0.0


def count(network: nn.Module, example: Tensor, winners: Mapping[str, float | Tensor]) -> list[LayerMacs]:
    """The multiplications of every convolution and linear layer of ``network``, in the order in which they run.

    Parameters
    ----------
    network : of any control flow; it runs once, in evaluation mode and without winners
    example : an input [N,...]; counts are of one image
    winners : for each ranked submodule the mean rate of its winners, above 0 and at most 1, or their mean number, above
        1, or how often each of its channels wins, float [C] in 0..1, which tells how many of a layer's zero weights
        are those of winners; {} where nothing is ranked

    A layer multiplies winners only where its input is a ranked submodule's output, or comes from it through operations
    that keep channels apart and zeros zero: activations without an offset, pooling, means over the map, dropout,
    flattening, and concatenation, which adds winners up. Behind anything else all channels count, so behind batch
    normalization, and behind a sum: which channels of it are zero is not known, unless the sum is itself ranked.
    Depthwise and grouped convolutions multiply winners only, too. Raises JobError for unknown submodules, rates that
    cannot be, and for products of other operations, naming the module.
    """
    found = submodules(network, winners)
    for name, rate in winners.items():
        if isinstance(rate, Tensor):
            fits = rate.ndim == 1 and bool(((rate >= 0) & (rate <= 1)).all())
            check(fits, f"layer {name}", "how often each channel wins, [C] in 0..1", f"{list(rate.shape)}")
            continue
        valid = isinstance(rate, (int, float)) and not isinstance(rate, bool) and rate > 0 and math.isfinite(rate)
        check(valid, f"layer {name}", "a winner rate or a number of winners, above 0", repr(rate))
    counter = _Counter()
    hooks = []
    for name, module in network.named_modules():
        hooks += [module.register_forward_pre_hook(lambda _, __, name=name: counter.paths.append(name)),
                  module.register_forward_hook(lambda _, __, ___: counter.leave())]
    hooks += [module.register_forward_hook(lambda _, __, output, name=name: counter.rank(name, winners[name], output))
              for name, module in found.items()]
    try:
        with as_baseline(network), torch.inference_mode(), counter:
            network(example)
    finally:
        for hook in hooks:
            hook.remove()
    return counter.layers


def total(layers: Sequence[LayerMacs]) -> tuple[int, float]:
    """(dense, winners) of all ``layers``."""
    return sum(layer.dense for layer in layers), sum(layer.winners for layer in layers)


def reduction(layers: Sequence[LayerMacs]) -> float:
    """The fraction of multiplications that winners-take-all saves: Table II's "MAC # reduction"."""
    dense, winners = total(layers)
    return 1 - winners / dense


def without_zeros(layers: Sequence[LayerMacs]) -> tuple[int, float]:
    """:func:`total` of the multiplications by weights that are not zero."""
    return (sum(layer.dense - layer.zeros for layer in layers),
            sum(layer.winners - layer.winner_zeros for layer in layers))


class _Counter(TorchDispatchMode):
    """Sees each operation as it runs, and keeps for tensors how often each of their channels wins, float64 [C]."""

    def __init__(self):
        super().__init__()
        self.layers: list[LayerMacs] = []
        self.paths: list[str] = []
        self.shares = WeakTensorKeyDictionary()

    def leave(self) -> None:
        self.paths.pop()

    def rank(self, name: str, rate: float | Tensor, output: Any) -> None:
        fits = isinstance(output, Tensor) and output.ndim in (2, 4)
        check(fits, f"layer {name}", "an output [N,C] or [N,C,H,W]", list(getattr(output, "shape", ())))
        channels = output.shape[1]
        if isinstance(rate, Tensor):
            check(len(rate) == channels, f"layer {name}", f"how often each of {channels} channels wins", len(rate))
            self.shares[output] = rate.double()
            return
        check(rate <= channels, f"layer {name}", f"at most {channels} winners", rate)
        self.shares[output] = torch.full((channels,), rate if rate <= 1 else rate / channels, dtype=torch.float64)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        output = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ("conv2d", "linear"):
            self.multiply(args[0], args[1], output)
        elif name in _OTHER_PRODUCTS:
            raise JobError(f"layer {self.paths[-1]}: expected products of conv2d and linear, got {name}")
        share = self.share(name, args, kwargs or {}, output)
        if isinstance(output, Tensor):  # Also one that has been changed in place.
            self.shares.pop(output, None)
            if share is not None:
                self.shares[output] = share
        return output

    def multiply(self, source: Tensor, weight: Tensor, output: Tensor) -> None:
        """A weight [O,C/groups,...] multiplies all inputs of each of its output's values."""
        dense = output[0].numel() * weight[0].numel()
        share = self.shares.get(source)
        times = output[0].numel() // len(weight)
        absent = (weight == 0).flatten(2).sum(2) if weight.ndim > 2 else (weight == 0).long()
        zeros = times * int(absent.sum())
        if share is None:
            self.layers.append(LayerMacs(self.paths[-1], dense, dense, False, zeros, float(zeros)))
            return
        rate = share.mean().item()
        if source.ndim == 2 or weight.ndim > 2:  # Else the layer's inputs lie along another dimension than channels.
            absent = absent.reshape(len(share) // weight.shape[1], -1, weight.shape[1]).sum(1).flatten()
            winner_zeros = times * (absent * share).sum().item()
        else:
            winner_zeros = zeros * rate
        self.layers.append(LayerMacs(self.paths[-1], dense, dense * rate, True, zeros, winner_zeros))

    def share(self, name: str, args: tuple, kwargs: dict, output: Any) -> Tensor | None:
        """How often each channel of an operation's output wins; None where it is not known."""
        if name == "cat":
            return self._joined(args[0], *args[1:], **kwargs)
        source = args[0] if args else None
        share = self.shares.get(source) if isinstance(source, Tensor) else None
        if share is None or not isinstance(output, Tensor):
            return None
        same = output.ndim >= 2 and output.shape[0] == source.shape[0]
        if name in _ELEMENTWISE | _WINDOWS:
            return share
        if name in _SHAPES:  # [N,C,H,W] to [N,C*H*W]: neurons of one channel lie side by side.
            fits = same and output.shape[1] % source.shape[1] == 0
            return share.repeat_interleave(output.shape[1] // source.shape[1]) if fits else None
        if name in _ALONG and len(args) > 1:
            axes = args[1] if isinstance(args[1], (list, tuple)) else [args[1]]
            apart = bool(axes) and all(axis % source.ndim > 1 for axis in axes)
            return share if same and apart else None
        return None

    def _joined(self, tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
        shares = [self.shares.get(tensor) for tensor in tensors]
        if dim % tensors[0].ndim != 1 or all(share is None for share in shares):
            return None
        return torch.cat([torch.ones(tensor.shape[1], dtype=torch.float64) if share is None else share
                          for share, tensor in zip(shares, tensors, strict=True)])
