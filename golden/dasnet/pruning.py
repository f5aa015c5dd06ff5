"""Pruning of weights beside winners-take-all (DASNet section IV-E): single ones, or blocks that the engine skips."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from golden.checks import check, check_integer
from golden.dasnet.winners import submodules
from golden.torch_operators import read_network

Layer = nn.Conv2d | nn.Linear


class Sparsity(NamedTuple):
    """Of a layer's ``weights`` how many are ``zeros``."""

    weights: int
    zeros: int

    @property
    def kept(self) -> float:
        """The fraction of weights that are not zero: Table III's "Weights %"."""
        return 1 - self.zeros / self.weights


class Pruning:
    """Masks of a network's weights, held through fine-tuning.

    Weights outside their mask are set to zero at once, and again by each :meth:`apply`: call it after each step of the
    optimizer, or let :meth:`follow` do so. Gradients, momentum and weight decay go on as ever, without effect on them.

    Parameters
    ----------
    network : holds the layers
    masks : {path of a Conv2d or Linear: bool, of the shape of its weight, true where it is kept}, as
        :func:`magnitude_masks` and :func:`block_masks` choose them; plain tensors that a checkpoint can hold

    Raises JobError.
    """

    def __init__(self, network: nn.Module, masks: Mapping[str, Tensor]):
        layers = _layers(network, masks)
        for path, mask in masks.items():
            shape = list(layers[path].weight.shape)
            fits = isinstance(mask, Tensor) and mask.dtype == torch.bool and list(mask.shape) == shape
            got = f"{mask.dtype} {list(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
            check(fits, f"layer {path}", f"a mask bool {shape}", got)
        self.masks = dict(masks)
        self._layers = layers
        self.apply()

    @torch.no_grad()
    def apply(self) -> None:
        """Set the weights outside the masks to zero."""
        for path, mask in self.masks.items():
            weight = self._layers[path].weight
            weight.masked_fill_(~mask.to(weight.device), 0)

    def follow(self, optimizer: torch.optim.Optimizer) -> torch.utils.hooks.RemovableHandle:
        """:meth:`apply` after each step of ``optimizer``, until ``remove()`` of what is returned."""
        return optimizer.register_step_post_hook(lambda *_: self.apply())


def prune(network: nn.Module, example: Tensor, *, magnitudes: Mapping[str, float], blocks: Mapping[str, float],
          columns: int) -> Pruning:
    """Prune ``network`` in place: first :func:`block_masks`, then :func:`magnitude_masks`, by fractions of each layer.

    A layer of both has the ``magnitudes`` of its weights left out in all, those of its blocks included. ``example``:
    an input float [N,...], by which the maps of Linear layers are known. Weights that are zero already stay so.
    Raises JobError.
    """
    for name, fractions in (("blocks", blocks), ("magnitudes", magnitudes)):
        for path in fractions:
            known = prunable(network)
            check(path in known, name, f"layers among {', '.join(known)}", repr(path))
    taps = linear_taps(network, example)
    taps = {path: taps[path] for path in blocks if path in taps}
    Pruning(network, block_masks(network, blocks, columns=columns, taps=taps))
    Pruning(network, magnitude_masks(network, magnitudes))
    return Pruning(network, zero_masks(network))


def prunable(network: nn.Module) -> dict[str, Layer]:
    """Every Conv2d and Linear of ``network`` by its path, in order."""
    return {path: layer for path, layer in network.named_modules() if isinstance(layer, Layer)}


def linear_taps(network: nn.Module, example: Tensor) -> dict[str, int]:
    """For each Linear of ``network`` the pixels of the map that it takes flattened, 1 where it takes neurons."""
    found = read_network(network, example)
    kernels = {layer.name: layer.weight.shape[2:] for layer in found.layers if layer.weight is not None}
    return {path: kernels[found.inside[path]].numel() for path, layer in prunable(network).items()
            if isinstance(layer, nn.Linear)}


def zero_masks(network: nn.Module) -> dict[str, Tensor]:
    """Masks of the layers of ``network`` that have zero weights, which leave these out."""
    masks = {path: layer.weight.detach() != 0 for path, layer in prunable(network).items()}
    return {path: mask for path, mask in masks.items() if not mask.all()}


def magnitude_masks(network: nn.Module, fractions: Mapping[str, float]) -> dict[str, Tensor]:
    """For each layer that ``fractions`` names, masks that leave out this fraction of its weights, the smallest ones.

    ``round(fraction * weights)`` are left out; of equal magnitudes the first in memory. Bool masks of the weights'
    shapes. Raises JobError for unknown layers and fractions outside 0..1.
    """
    layers = _layers(network, fractions)
    return {path: _largest(layer.weight.detach().abs(), fractions[path]) for path, layer in layers.items()}


def block_masks(network: nn.Module, fractions: Mapping[str, float], *, columns: int,
                taps: Mapping[str, int] | None = None) -> dict[str, Tensor]:
    """For each layer that ``fractions`` names, masks that leave out this fraction of its blocks.

    A block holds all taps of one input channel for ``columns`` consecutive output channels of a group, fewer in its
    last block, as :func:`golden.sparsity.zero_blocks` has them: the engine with so many columns skips those that are
    zero. Left out are the ``round(fraction * blocks)`` of least L2 norm, of equal ones the first. ``taps``: pixels of
    the map that a Linear layer takes flattened; 1 where nothing is stated. Raises JobError.
    """
    columns = check_integer("columns", columns, 1, 2**31 - 1)
    layers, masks = _layers(network, fractions), {}
    for path in taps or {}:
        check(path in layers, "taps", f"layers among {', '.join(layers)}", repr(path))
    for path, layer in layers.items():
        norms = block_norms(layer, columns, taps=(taps or {}).get(path, 1), name=path)
        kept = _largest(norms, fractions[path])
        masks[path] = _spread(kept, layer, columns)
    return masks


def block_norms(layer: Layer, columns: int, *, taps: int = 1, name: str = "layer") -> Tensor:
    """The L2 norms of a layer's blocks, float64 [output groups, C/groups]; arguments as of :func:`block_masks`."""
    weight = layer.weight.detach().double()
    if isinstance(layer, nn.Linear):
        taps = check_integer(f"layer {name}: taps", taps, 1, 2**31 - 1)
        fits = layer.in_features % taps == 0
        check(fits, f"layer {name}: taps", f"a divisor of {layer.in_features} inputs", taps)
        weight = weight.reshape(len(weight), -1, taps)
    else:
        check(taps == 1, f"layer {name}: taps", "none for a Conv2d, whose kernel says them", taps)
    squares = weight.flatten(2).square().sum(2).reshape(_groups(layer), -1, weight.shape[1])
    squares = functional.pad(squares, (0, 0, 0, -squares.shape[1] % columns))
    return squares.reshape(-1, columns, squares.shape[2]).sum(1).sqrt()


def sparsity(network: nn.Module) -> dict[str, Sparsity]:
    """The weights of each Conv2d and Linear of ``network`` by its path, in order, and how many of them are zero."""
    return {path: Sparsity(layer.weight.numel(), int((layer.weight == 0).sum()))
            for path, layer in prunable(network).items()}


def _spread(blocks: Tensor, layer: Layer, columns: int) -> Tensor:
    """A value a block [output groups, C/groups] as one a weight, of the weight's shape."""
    groups, weight = _groups(layer), layer.weight
    width = len(weight) // groups
    rows = blocks.reshape(groups, -1, blocks.shape[1]).repeat_interleave(columns, 1)[:, :width].flatten(0, 1)
    rows = rows[..., None].expand(*rows.shape, weight.numel() // rows.numel())
    return rows.reshape(weight.shape).clone()


def _groups(layer: Layer) -> int:
    return layer.groups if isinstance(layer, nn.Conv2d) else 1


def _largest(values: Tensor, fraction: float) -> Tensor:
    """Bool, of the shape of ``values``: false for the smallest ``fraction`` of them."""
    order = values.flatten().sort(stable=True).indices
    kept = torch.ones_like(order, dtype=torch.bool)
    kept[order[: round(fraction * len(order))]] = False
    return kept.reshape(values.shape)


def _layers(network: nn.Module, named: Mapping[str, Tensor | float]) -> dict[str, Layer]:
    layers = submodules(network, named)
    for path, value in named.items():
        check(isinstance(layers[path], Layer), f"layer {path}", "a Conv2d or Linear", type(layers[path]).__name__)
        if not isinstance(value, Tensor):
            valid = isinstance(value, (int, float)) and 0 <= value <= 1
            check(valid, f"layer {path}", "a fraction in 0..1", repr(value))
    return layers
