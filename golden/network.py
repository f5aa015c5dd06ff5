"""A quantized network: a directed graph of int8 layers, checked as a whole, each ranking its channels for the next."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

import numpy as np

from golden.checks import JobError, check, check_integer, check_integers, check_scale
from golden.job import Job
from golden.layers import MASK_ALIGNMENT, ConvLayer, LayerDescription, TensorSpec, activation_range, conv_layer
from golden.node import Node
from golden.random_weights import Spread, choose_output, draw_tensors, input_spread, seen_spread
from golden.ranking_rule import check_ranking
from golden.result import LayerResult
from golden.sparsity import zero_blocks
from golden.winner_rule import WinnerRule, winner_count

__all__ = ["ConvLayer", "Layer", "NetworkInput", "Node", "QuantizedNetwork", "WinnerRule", "read_rates"]

Layer = conv_layer
"""A convolution of given tensors."""


@dataclass(frozen=True, kw_only=True)
class NetworkInput:
    """The network's int8 input: real value = ``scale`` * (q - ``zero_point``), ``shape`` = (C, H, W)."""

    scale: float
    zero_point: int
    shape: tuple[int, int, int]

    def __post_init__(self):
        object.__setattr__(self, "scale", check_scale("input_scale", self.scale))
        object.__setattr__(self, "zero_point", check_integer("input_zero_point", self.zero_point, -128, 127))
        shape = check_integers("input_shape", self.shape, 3, 1, 2**31 - 1, "three positive integers (C, H, W)")
        object.__setattr__(self, "shape", shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedNetwork:
    """A graph of layers in topological order, checked as a whole: what a layer takes is what its inputs give.

    Parameters
    ----------
    name : of the network
    input : NetworkInput
    layers : descriptions (:mod:`golden.layers`), each naming its inputs; after construction a tuple of :class:`Node`
    metadata : any JSON object (accuracies, the command that made the network); ``winner_rates`` {layer: rate} are
        the rates that were measured for selections whose number of winners depends on the input
    seed : of the weights, where the layers have none

    Where a convolution has no tensors, or a layer no quantization, the network chooses them from shapes, winner rules
    and the seed (:mod:`golden.random_weights`); the weights are drawn layer by layer when first asked for.
    Building and asking for sizes touches no weights. Raises JobError, prefixed by the layer's name.
    """

    name: str
    input: NetworkInput
    layers: tuple[Node, ...]
    metadata: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self):
        put = object.__setattr__
        put(self, "seed", check_integer("seed", self.seed, 0, 2**63 - 1))
        layers = [item.layer if isinstance(item, Node) else item for item in self.layers]
        check(len(layers) >= 1, "layers", "at least one", len(layers))
        put(self, "layers", tuple(self._bound(layers)))

    def _bound(self, layers: Sequence[LayerDescription]) -> Iterator[Node]:
        """The nodes of ``layers``."""
        drawn = not all(layer.quantized for layer in layers)
        if drawn and any(getattr(layer, "tensors", None) is not None for layer in layers):
            for layer in layers:
                check(layer.quantized, f"layer {layer.name}: {'weight' if layer.op == 'conv' else 'output_scale'}",
                      "tensors and quantization in all layers or in none", "none here")
        tensors = {"input": TensorSpec(shape=self.input.shape, scale=self.input.scale,
                                       zero_point=self.input.zero_point)}
        spreads = {"input": input_spread(self.input.scale, self.input.zero_point)}
        before = "input"
        for layer in layers:
            try:
                check(layer.name not in tensors, "name", "one that no layer before has", repr(layer.name))
                inputs = layer.inputs or (before,)
                for name in inputs:
                    check(name in tensors, "inputs", "names of earlier layers, or input", repr(name))
                count = layer.arity or max(1, len(inputs))
                check(len(inputs) == count, "inputs", f"{count}", len(inputs))
                sources = tuple(tensors[name] for name in inputs)
                seen = [spreads[name] for name in inputs] if drawn else None
                node, spread = self._node(layer, inputs, sources, seen)
                layer.check_node(node)
            except JobError as error:
                raise JobError(f"layer {layer.name}: {error}") from None
            tensors[layer.name], before = node.output, layer.name
            if drawn:
                spreads[layer.name] = seen_spread(spread, node.output, node.ranking)
            yield node

    def _node(self, layer: LayerDescription, inputs: tuple[str, ...], sources: tuple[TensorSpec, ...],
              seen: list[Spread] | None) -> tuple[Node, Spread | None]:
        sizes = layer.sizes(sources)
        shape = layer.output_shape(sources, sizes)
        ranking = layer.ranking
        if isinstance(ranking, WinnerRule):
            ranking = ranking.ranking(shape[0], shape[1] * shape[2])
        check_ranking(ranking, shape[0])
        draw = spread = None
        if seen is not None:
            scale, zero_point, spread = choose_output(layer, sizes, sources, seen)
            if layer.op == "conv" and layer.tensors is None:
                draw = partial(draw_tensors, seed=self.seed, name=layer.name, sizes=sizes, source=sources[0],
                               seen=seen[0], deviation=spread.deviation, output_scale=scale)
        elif layer.keeps_quantization:
            scale, zero_point = sources[0].scale, sources[0].zero_point
        else:
            scale, zero_point = layer.output_scale, layer.output_zero_point
        if layer.output_scale is not None:  # Only an operation that keeps its input's quantization can differ.
            stated = layer.output_scale, layer.output_zero_point
            check(stated == (scale, zero_point), "output_scale",
                  f"that of the input, {scale} and {zero_point}, which a {layer.op} keeps",
                  f"{stated[0]} and {stated[1]}")
        low, high = activation_range(getattr(layer, "activation", "none"), scale, zero_point)
        masked = ranking is not None or (layer.op == "concat" and any(source.masked for source in sources))
        output = TensorSpec(shape=shape, scale=scale, zero_point=zero_point, masked=masked)
        return Node(layer=layer, inputs=inputs, sources=sources, sizes=sizes, output=output, ranking=ranking,
                    activation_min=low, activation_max=high, draw=draw), spread

    @property
    def weights_are_random(self) -> bool:
        """Whether the weights were drawn, not learnt; also of a file to which drawn weights were saved."""
        drawn = any(node.draw is not None for node in self.layers)
        return drawn or bool(self.metadata.get("weights_are_random", False))

    def layer(self, name: str) -> Node:
        """The layer of this name. Raises JobError."""
        for node in self.layers:
            if node.name == name:
                return node
        raise JobError(f"layer: expected one of {', '.join(node.name for node in self.layers)}, got {name!r}")

    def consumers(self, name: str) -> tuple[Node, ...]:
        """The layers that take the output of layer ``name``, in order."""
        return tuple(node for node in self.layers if name in node.inputs)

    def run(self, image: np.ndarray, dense: bool = False) -> list[tuple[Job | None, LayerResult]]:
        """Run an image int8 [C,H,W] through all layers; a ranked layer's winners are its consumers' channel mask.

        ``dense=True``: no masks and no ranking. Returns each layer's job and result; a concat has no job, its result
        has its inputs' winners side by side. Raises JobError.
        """
        from golden.reference import run  # torch, which descriptions do without

        shape = list(getattr(image, "shape", ()))
        check(shape == list(self.input.shape), "image", f"int8 {list(self.input.shape)}", shape)
        tensors: dict[str, tuple[np.ndarray, np.ndarray | None]] = {"input": (image, None)}
        results = []
        for node in self.layers:
            maps, masks = zip(*(tensors[name] for name in node.inputs), strict=True)
            if node.op == "concat":
                job, result = None, join(maps, masks, node.output.zero_point)
            else:
                job = node.job(*maps, masks=masks, ranked=not dense)
                result = run(job)
            results.append((job, result))
            masked = node.output.masked and not dense
            tensors[node.name] = result.output, result.winners if masked else None
        return results

    # Winners

    def ranked_with_profit(self) -> tuple[str, ...]:
        """The layers whose losers a convolution could skip: all with one among their consumers, also over a concat."""
        return tuple(node.name for node in self.layers if node.op != "concat" and self._feeds_conv(node.name))

    def _feeds_conv(self, name: str) -> bool:
        for node in self.consumers(name):
            if node.op == "conv":
                return True
            if node.op == "concat" and self._aligned(node, name) and self._feeds_conv(node.name):
                return True
        return False

    @staticmethod
    def _aligned(concat: Node, name: str) -> bool:
        """Whether a tensor begins where a ranked one may, wherever it stands in a concatenation."""
        ends = accumulate(shape[0] for shape in concat.input_shapes)
        return all(start % MASK_ALIGNMENT == 0 for source, start in zip(concat.inputs, (0, *ends), strict=False)
                   if source == name)

    def with_winners(self, rates: float | Mapping[str, float], *, score: str = "max", select: str = "topk") -> Self:
        """This network with winners at ``rates``: {layer: rate}, or one rate for all of :meth:`ranked_with_profit`.

        For ``select`` "energy" they are shares eps, for "threshold" least scores. Layers that are not named have no
        ranking. Drawn weights stay the same, their multipliers follow the winners. Raises JobError.
        """
        if not isinstance(rates, Mapping):
            rates = dict.fromkeys(self.ranked_with_profit(), rates)
        names = [node.name for node in self.layers]
        for name in rates:
            check(name in names, "winners", f"layers among {', '.join(names)}", repr(name))
        number = {"topk": "rate", "energy": "eps", "threshold": "value"}.get(select)
        layers = []
        for node in self.layers:
            rule = None
            if node.name in rates:
                try:
                    stated = {number: rates[node.name]} if number else {}
                    rule = WinnerRule(score=score, select=select, **stated)
                except JobError as error:
                    raise JobError(f"layer {node.name}: {error}") from None
            layers.append(replace(node.layer, ranking=rule))
        return replace(self, layers=tuple(layers))

    def without_winners(self) -> Self:
        """This network without any ranking."""
        return self.with_winners({})

    def winner_count(self, name: str, rates: Mapping[str, float] | None = None) -> int | None:
        """How many of a tensor's channels win ("input" or a layer's output); None where none is ranked.

        k of topk; for the other selections ``rates``, or those of the metadata. Raises JobError where a rate is
        unknown.
        """
        if name == "input":
            return None
        node = self.layer(name)
        if node.op == "concat" and node.output.masked:
            counts = [self.winner_count(source, rates) for source in node.inputs]
            return sum(shape[0] if count is None else count
                       for count, shape in zip(counts, node.input_shapes, strict=True))
        if node.ranking is None or node.ranking.select in ("all", "topk"):
            everyone = node.ranking is not None and node.ranking.select == "all"
            return node.output_shape[0] if everyone else node.ranking and node.ranking.value
        known = self.metadata.get("winner_rates", {}) if rates is None else rates
        check(name in known, f"layer {name}", "its winner rate in the network's metadata", "none")
        return winner_count(known[name], node.output_shape[0])

    def zero_blocks(self, columns: int) -> dict[str, np.ndarray]:
        """:func:`golden.sparsity.zero_blocks` of each convolution, by name. Draws the weights that are not there.

        Weights with a zero point have none: the engine leaves out weights that are stored as 0.
        """
        return {node.name: zero_blocks(node.weight, columns, groups=node.groups) & (node.tensors.weight_zero_point == 0)
                for node in self.layers if node.op == "conv"}

    # Files

    def save(self, path: str | Path) -> None:
        """Write the network, whole or not at all: NAME.json as text (docs/network.md), anything else as NETWORK.npz.

        The text of a network whose weights are its own names a file NAME.npz beside it, with the tensors.
        """
        from golden import network_npz, network_text

        (network_text if Path(path).suffix == ".json" else network_npz).save(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> "QuantizedNetwork":
        """Read what :meth:`save` wrote, or a text written by hand. Raises JobError."""
        from golden import network_npz, network_text

        return (network_text if Path(path).suffix == ".json" else network_npz).load(Path(path))


def join(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray | None], zero_point: int) -> LayerResult:
    """The result of a concat: outputs and winners side by side, scores the largest value above the zero point."""
    output = np.concatenate(maps)
    winners = np.concatenate([np.ones(len(map), np.uint8) if mask is None else mask
                              for map, mask in zip(maps, masks, strict=True)])
    scores = np.clip(output.max((1, 2)).astype(np.int64) - zero_point, 0, 255).astype(np.uint8)
    return LayerResult(output=output, scores=scores, winners=winners)


def read_rates(path: str | Path) -> dict[str, float]:
    """Measured winner rates, a JSON object {layer: rate}, or one that has it as ``rates``. Raises JobError."""
    try:
        rates = json.loads(Path(path).read_text())
    except (OSError, ValueError):
        rates = None
    if isinstance(rates, dict) and isinstance(rates.get("rates"), dict):
        rates = rates["rates"]
    fits = isinstance(rates, dict) and all(type(rate) in (int, float) and 0 < rate <= 1 for rate in rates.values())
    check(fits, str(path), "a JSON object of layers and their rates above 0, at most 1", "something else")
    return rates
