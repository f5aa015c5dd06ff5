"""A network on the engine: its layers run by the golden model one by one, as programs, and as the model's questions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hw.band import LayerShape
from hw.config import ConfigError, EngineConfig, ceil_power_of_two
from hw.descriptor import Select
from hw.jobs import job_shape, ranking_fields
from hw.lowering import Ranking
from hw.packing import used_blocks
from hw.plan import PlanError
from hw.registers import COUNTERS

from .estimate import Estimate, LayerQuestion, estimate_layers

if TYPE_CHECKING:
    from golden.job import Job
    from golden.network import QuantizedNetwork
    from golden.node import Node
    from golden.result import LayerResult

    from .execute import Chain
    from .report import Measure

STORED = -1
"""The source of a layer that takes the network's input (:data:`hw.program.STORED`)."""


def layer_sources(network: "QuantizedNetwork") -> list[tuple[int, ...]]:
    """For each layer the numbers of those that its inputs come from."""
    numbers = {"input": STORED} | {node.name: number for number, node in enumerate(network.layers)}
    return [tuple(numbers[name] for name in node.inputs) for node in network.layers]


# As the golden model runs it


@dataclass(frozen=True, kw_only=True, eq=False)
class GoldenLayer:
    """A layer that the golden model has run: ``job`` is None for a concat."""

    node: "Node"
    job: "Job | None"
    result: "LayerResult"


def golden_layers(network: "QuantizedNetwork", image: np.ndarray, *, dense: bool = False) -> Iterator[GoldenLayer]:
    """What :meth:`golden.network.QuantizedNetwork.run` computes, layer by layer as it is asked for.

    Nothing is kept of a tensor that no later layer takes, so whoever iterates decides how much memory a run needs.
    """
    from golden.network import join
    from golden.reference import run

    last = {name: number for number, node in enumerate(network.layers) for name in node.inputs}
    tensors: dict[str, tuple[np.ndarray, np.ndarray | None]] = {"input": (image, None)}
    for number, node in enumerate(network.layers):
        maps, masks = zip(*(tensors[name] for name in node.inputs), strict=True)
        job = None if node.op == "concat" else node.job(*maps, masks=masks, ranked=not dense)
        result = join(maps, masks, node.output.zero_point) if job is None else run(job)
        tensors[node.name] = result.output, result.winners if node.output.masked and not dense else None
        tensors = {name: tensor for name, tensor in tensors.items() if last.get(name, -1) > number}
        yield GoldenLayer(node=node, job=job, result=result)


def network_chain(network: "QuantizedNetwork", layers: Sequence[GoldenLayer], config: EngineConfig, *,
                  dense: bool = False, keep_outputs: bool = False) -> "Chain":
    """All layers of a network as one program; ``keep_outputs`` as of :class:`sim.execute.Chain`.

    Raises :class:`hw.plan.PlanError`.
    """
    from .execute import Chain

    return Chain(names=[layer.node.name for layer in layers], jobs=[layer.job for layer in layers],
                 expected=[layer.result for layer in layers], sources=layer_sources(network), config=config,
                 dense=dense, keep_outputs=keep_outputs)


def layer_chain(layer: GoldenLayer, config: EngineConfig, *, dense: bool = False) -> "Chain":
    """One layer alone, on the golden model's inputs and masks. Raises :class:`hw.plan.PlanError`."""
    from .execute import Chain

    return Chain(names=[layer.node.name], jobs=[layer.job], expected=[layer.result], config=config, dense=dense)


def engine_for(network: "QuantizedNetwork", config: EngineConfig) -> EngineConfig:
    """The engine with multipliers for 9-bit weights, where weights of the network have a zero point."""
    asymmetric = any(node.op == "conv" and node.draw is None and node.tensors.weight_zero_point
                     for node in network.layers)
    return replace(config, weight_bits=9) if asymmetric else config


def recording(config: EngineConfig, layers: int) -> EngineConfig:
    """The engine with room for the counters of so many layers; the same engine if it has it.

    Raises :class:`hw.config.ConfigError` for more than an engine can have.
    """
    if layers <= config.profile_layers:
        return config
    try:
        return replace(config, profile_layers=ceil_power_of_two(layers))
    except ConfigError:
        raise ConfigError(f"profile_layers: the engine cannot record {layers} layers of one program; "
                          "single layers can be run alone") from None


# As the analytical model sees it


def layer_shape(node: "Node", config: EngineConfig, *, winners: int | None = None) -> LayerShape | None:
    """A layer's sizes, as :func:`hw.jobs.job_shape` has them; None for a concat. Draws no weights.

    ``winners``: most input channels that can win, None for all.
    """
    if node.op == "concat":
        return None
    if node.op != "conv" or node.draw is None:
        maps = [np.zeros(shape, np.int8) for shape in node.input_shapes]
        return job_shape(node.job(*maps), config, winners)
    # Weights that are drawn have no blocks of zeros worth leaving out.
    channels, height, width = node.input_shapes[0]
    depthwise = node.groups == channels > 1
    return LayerShape(
        channels=channels, height=height, width=width, out_channels=node.output_shape[0], kernel=node.kernel,
        stride=node.stride, padding=node.padding, pool=node.pool or (1, 1, 1, 1), pool_padding=node.pool_padding,
        groups=1 if depthwise else node.groups, vector=depthwise, winners=None if depthwise else winners)


def network_shapes(network: "QuantizedNetwork", config: EngineConfig, *,
                   dense: bool = False) -> list[LayerShape | None]:
    """The shapes from which :func:`hw.program.build_program` plans a network's layers."""
    rules = {"input": Ranking()} | {node.name: Ranking() if dense else ranking_fields(node.ranking)
                                    for node in network.layers}
    shapes = []
    for node in network.layers:
        source = rules[node.inputs[0]]
        shape = layer_shape(node, config, winners=source.value if source.select == Select.TOPK else None)
        consumers = network.consumers(node.name)
        judged = (rules[node.name].select in (Select.TOPK, Select.THRESHOLD) and bool(consumers)
                  and all(consumer.op == "conv" for consumer in consumers))
        shapes.append(shape and replace(shape, judged=judged))
    return shapes


def network_questions(network: "QuantizedNetwork", config: EngineConfig, *, dense: bool = False,
                      results: "Mapping[str, LayerResult] | None" = None) -> list[LayerQuestion | None]:
    """Every layer as a question for the analytical model; None for concats, which cost nothing.

    Winners and scores are those of ``results`` {layer: result} where an image has been run, otherwise there are as many
    winners as the network says. Raises JobError where their number is not known.
    """
    winners = {"input": None}
    questions: list[LayerQuestion | None] = []
    for node, shape in zip(network.layers, network_shapes(network, config, dense=dense), strict=True):
        winners[node.name] = scores = None
        if node.output.masked and not dense:
            winners[node.name] = results[node.name].winners if results else network.winner_count(node.name)
            scores = results[node.name].scores if results else winners[node.name]
        questions.append(shape and LayerQuestion(
            name=node.name, shape=shape, winners=tuple(winners[name] for name in node.inputs), scores=scores,
            ranking=Ranking() if dense else ranking_fields(node.ranking),
            blocks=used_blocks(node.weight, config.columns, node.groups) if shape.blocks else None))
    return questions


def estimate_network(network: "QuantizedNetwork", config: EngineConfig, *, dense: bool = False,
                     results: "Mapping[str, LayerResult] | None" = None) -> list[Estimate]:
    """Every layer but concats by the analytical model, as parts of one program; ``results`` as for the questions.

    Raises PlanError, naming the layer that the engine cannot run, and JobError.
    """
    return estimate_questions(network, network_questions(network, config, dense=dense, results=results), config)


def estimate_questions(network: "QuantizedNetwork", questions: Sequence[LayerQuestion | None],
                       config: EngineConfig) -> list[Estimate]:
    """The same for these questions, one for each layer of ``network``, None for a concat."""
    from hw.program import plan_program

    masked = [question is not None and any(one is not None for one in question.winners) for question in questions]
    shapes = [question and question.shape for question in questions]
    try:
        plans, chip = plan_program(shapes, layer_sources(network), masked, config)
    except PlanError:
        for question in filter(None, questions):
            estimate_layers([question], config)  # the layer that cannot be run names itself
        raise
    run = [number for number, question in enumerate(questions) if question is not None]
    return estimate_layers([questions[number] for number in run], config, [plans[number] for number in run],
                           {place for place, number in enumerate(run) if number in chip})


def sample_layers(network: "QuantizedNetwork", config: EngineConfig, count: int, seed: int) -> list[str]:
    """``count`` layers (all if there are fewer), in the network's order, drawn evenly over the predicted cycles.

    Dense cycles lie on a line layer by layer; each of ``count`` equal parts of it has a point, at random, that picks
    the layer in which it lies. Where that has been picked already, another one is drawn, by cycles too.
    """
    layers = estimate_network(network, config, dense=True)
    ends = np.cumsum([one.predicted.cycles for one in layers], dtype=float)
    rng = np.random.default_rng(seed)
    count = min(count, len(layers))
    points = (np.arange(count) + rng.random(count)) * ends[-1] / count
    chosen = set(np.searchsorted(ends, points, side="right").tolist())
    rest = [number for number in range(len(layers)) if number not in chosen]
    cycles = np.array([layers[number].predicted.cycles for number in rest], float)
    if len(chosen) < count:
        chosen |= set(rng.choice(rest, count - len(chosen), replace=False, p=cycles / cycles.sum()).tolist())
    return [layers[number].name for number in sorted(chosen)]


def predicted_measure(one: Estimate, config: EngineConfig) -> "Measure":
    """A layer that has not been simulated, as the model sees it; "(model)" follows its name."""
    from .report import Measure

    return Measure(
        name=f"{one.name} (model)", skips=one.array, rows=config.rows, cols=config.columns, channels=one.channels,
        winners=one.winners, cycles=one.predicted.cycles, array_active_cycles=0,
        stall_cycles={name.removeprefix("stall_"): 0 for name in COUNTERS if name.startswith("stall_")},
        bytes_read=one.predicted.bytes_read, bytes_written=one.predicted.bytes_written,
        ideal_cycles=one.ideal_cycles, predicted=one.predicted,
        bit_exact=True)
