"""Winners-take-all dropout (DASNet, Algorithm 1): per input, only the top-ranking channels reach the next layer."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from golden.checks import JobError, check, check_scale
from golden.ranking_rule import check_ranking
from golden.winner_rule import WinnerRule


class WinnersTakeAll(nn.Module):
    """Pass the winning channels of each input and set the others to zero; no parameters, no buffers.

    Scores are those of :func:`channel_scores`, winners those of :func:`mask`, so that a float network chooses as the
    engine does on its int8 form, but for the rounding of scores to 8 bits. The mask is a constant of the backward
    pass: gradients flow through winners only. While :attr:`dense` is true the input passes unchanged.

    Parameters
    ----------
    rule : WinnerRule
    scale : of the layer's int8 output, the real value of one step of a threshold's ``value``; others need none

    Shape: float [N,C,H,W] or [N,C], the output like the input. Raises JobError.
    """

    def __init__(self, rule: WinnerRule, *, scale: float = 1.0):
        super().__init__()
        check(isinstance(rule, WinnerRule), "rule", "a WinnerRule", type(rule).__name__)
        self.rule = rule
        self.scale = check_scale("scale", scale)
        self.dense = False
        self.statistics: WinnerStatistics | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.dense:
            return x
        winners = mask(channel_scores(x, self.rule) / self.scale, self.rule)
        if self.statistics is not None:
            self.statistics.add(winners)
        return x * winners.reshape(winners.shape + (1,) * (x.ndim - 2))

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.rule.text().items())


# Scores and selection


def channel_scores(x: Tensor, rule: WinnerRule) -> Tensor:
    """Score the channels of maps [N,C,H,W] or neurons [N,C]; returns [N,C], apart from the graph of gradients.

    max: the largest value (Eq. 4); absmax: the largest magnitude; mean: the mean value (Eq. 3), times the pixels and
    the stated ``score_multiplier`` where there is one. Of a neuron all are its value, or magnitude. As on the engine,
    a score is never below 0. Raises JobError.
    """
    fits = isinstance(x, Tensor) and x.ndim in (2, 4) and x.is_floating_point()
    got = f"{x.dtype} {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
    check(fits, "output", "float [N,C,H,W] or [N,C]", got)
    scores = x.detach()
    if rule.score == "absmax":
        scores = scores.abs()
    if x.ndim == 4:
        scores = scores.mean((2, 3)) if rule.score == "mean" else _largest(scores)
    if rule.score == "mean" and rule.score_multiplier is not None:
        scores = scores * (x[0, 0].numel() * rule.score_multiplier * 2.0 ** (rule.score_shift - 31))
    return scores.clamp(min=0)


def _largest(maps: Tensor) -> Tensor:
    """The largest value of each map. Of channels that lie side by side ``amax`` takes 10 times as long as pooling."""
    if maps.is_contiguous(memory_format=torch.channels_last):
        return functional.max_pool2d(maps, maps.shape[2:]).flatten(1)
    return maps.amax((2, 3))


def mask(scores: Tensor, rule: WinnerRule) -> Tensor:
    """The winners among scores [N,C] that are not negative: bool [N,C]. Of equal scores the lower index ranks first.

    topk: the highest k; energy: the fewest whose summed ``score ** power`` has the share eps of the whole (Eq. 2), at
    least one; threshold: all of at least ``value``, possibly none; all. Where scores are integers the result equals
    :func:`golden.ranking.select_winners`. Raises JobError for more winners than channels.
    """
    channels = scores.shape[1]
    ranking = rule.ranking(channels, 1)
    check_ranking(ranking, channels)
    if ranking.select == "all":
        return torch.ones_like(scores, dtype=torch.bool)
    if ranking.select == "threshold":
        return scores >= ranking.value
    if ranking.select == "topk":
        return _highest(scores, ranking.value)
    ordered, order = scores.sort(dim=1, descending=True, stable=True)
    energy = ordered.double().pow(ranking.energy_power).cumsum(1)
    too_few = (65536 * energy < ranking.eps16 * energy[:, -1:]).sum(1, keepdim=True)
    first = torch.arange(channels, device=scores.device) <= too_few
    return torch.zeros_like(first).scatter_(1, order, first)


def _highest(scores: Tensor, count: int) -> Tensor:
    """The ``count`` highest of each row, without sorting it: all above the least of them, and its first equals."""
    least = scores.topk(count, dim=1, sorted=False).values.amin(1, keepdim=True)
    above, equal = scores > least, scores == least
    room = count - above.sum(1, keepdim=True)
    return above | (equal & (equal.cumsum(1, dtype=torch.int32) <= room))


# In a network, by the names of its submodules


@dataclass(eq=False)
class _Hook:
    """What stands behind a submodule. An object and no closure: a copy of the network has winners of its own."""

    name: str
    winners: WinnersTakeAll

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        try:
            return self.winners(output)
        except JobError as error:
            raise JobError(f"layer {self.name}: {error}") from None


def submodules(network: nn.Module, names: Iterable[str]) -> dict[str, nn.Module]:
    """The submodules of these names. Raises JobError for an unknown one, listing those that there are."""
    known = {name: module for name, module in network.named_modules() if name}
    names = list(names)
    for name in names:
        check(name in known, "layer", f"one of {', '.join(known)}", repr(name))
    return {name: known[name] for name in names}


def attach(network: nn.Module, rules: Mapping[str, WinnerRule]) -> dict[str, WinnersTakeAll]:
    """Put a :class:`WinnersTakeAll` behind each submodule that ``rules`` names; returns them by name.

    It acts on the submodule's output whenever that is computed. The network's modules, parameters and ``state_dict``
    stay as they are. A submodule that has one already gets the new one in its place. Raises JobError before any change
    for an unknown name, listing those that there are.
    """
    found = submodules(network, rules)
    for name, rule in rules.items():
        check(isinstance(rule, WinnerRule), f"layer {name}", "a WinnerRule", type(rule).__name__)
    for name, module in found.items():
        _remove(module)
        module.register_forward_hook(_Hook(name, WinnersTakeAll(rules[name])))
    everyone = attached(network)
    return {name: everyone[name] for name in rules}


def detach(network: nn.Module) -> None:
    """Undo :func:`attach` everywhere in ``network``."""
    for module in network.modules():
        _remove(module)


def attached(network: nn.Module) -> dict[str, WinnersTakeAll]:
    """What :func:`attach` has put behind submodules of ``network``, by their names, in the network's order."""
    return {name: hook.winners for name, module in network.named_modules() for _, hook in _hooks(module)}


def everywhere(network: nn.Module) -> dict[str, WinnersTakeAll]:
    """:func:`attached`, and every :class:`WinnersTakeAll` that is itself a submodule, by its own name."""
    own = {name: module for name, module in network.named_modules() if isinstance(module, WinnersTakeAll)}
    return own | attached(network)


def set_dense(network: nn.Module, dense: bool) -> None:
    """Switch the selection off (``dense``) or on, :func:`everywhere` in ``network``."""
    for module in everywhere(network).values():
        module.dense = dense


@contextmanager
def as_baseline(network: nn.Module) -> Iterator[None]:
    """Inside, ``network`` is in evaluation mode and takes no winners; afterwards each module is as it was."""
    training = {module: module.training for module in network.modules()}
    dense = {module: module.dense for module in everywhere(network).values()}
    network.eval()
    set_dense(network, True)
    try:
        yield
    finally:
        for module, was in training.items():
            module.training = was
        for module, was in dense.items():
            module.dense = was


@contextmanager
def gradually(network: nn.Module) -> Iterator[Callable[[float], None]]:
    """Inside, fixed winner rates can be on their way from 1 to what they are; afterwards all rules are as they were.

    Yields the function that says how far they have come: at 0 all channels win, at 1 the rules hold, evenly between.
    Rules that state no rate hold all the time.
    """
    rules = {module: module.rule for module in everywhere(network).values()}

    def come(way: float) -> None:
        check(0 <= way <= 1, "way", "a number in 0..1", way)
        for module, rule in rules.items():
            fixed = rule.rate is None or way == 1
            module.rule = rule if fixed else replace(rule, rate=1 - way * (1 - rule.rate))

    try:
        yield come
    finally:
        for module, rule in rules.items():
            module.rule = rule


def _hooks(module: nn.Module) -> list[tuple[int, _Hook]]:
    # Kept where torch keeps them, so that copies and pickles of a network need no list beside it.
    return [(key, hook) for key, hook in module._forward_hooks.items() if isinstance(hook, _Hook)]


def _remove(module: nn.Module) -> None:
    for key, _ in _hooks(module):
        del module._forward_hooks[key]


# Statistics


@dataclass(eq=False)
class WinnerStatistics:
    """What a layer's selections were, image by image: ``counts`` winners of each, ``wins`` of each channel."""

    _counts: list[Tensor] = field(default_factory=list)
    wins: Tensor | None = None

    def add(self, winners: Tensor) -> None:
        """Count the winners bool [N,C] of further images."""
        self._counts.append(winners.sum(1).cpu())
        wins = winners.sum(0).cpu()
        self.wins = wins if self.wins is None else self.wins + wins

    @property
    def counts(self) -> Tensor:
        """int64 [images]: the number of winners of each, in order. Raises JobError where no image has been seen."""
        check(bool(self._counts), "statistics", "at least one image", "none")
        return torch.cat(self._counts)

    @property
    def rate(self) -> float:
        """The mean winner rate (Eq. 1)."""
        return self.counts.double().mean().item() / len(self.wins)

    @property
    def frequency(self) -> Tensor:
        """float64 [C]: the fraction of images in which each channel wins."""
        images = len(self.counts)
        return self.wins.double() / images


@contextmanager
def record(network: nn.Module) -> Iterator[dict[str, WinnerStatistics]]:
    """Inside, each selection is counted; yields the statistics by layer, complete when the images have been run.

    Nothing is counted where the selection is off.
    """
    modules = everywhere(network)
    before = {name: module.statistics for name, module in modules.items()}
    for module in modules.values():
        module.statistics = WinnerStatistics()
    try:
        yield {name: module.statistics for name, module in modules.items()}
    finally:
        for name, module in modules.items():
            module.statistics = before[name]
