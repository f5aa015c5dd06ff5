"""From layer jobs to a memory image the engine runs, and from the image it leaves back to tensors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from golden.job import LayerJob
from golden.job import Ranking as RankingRule
from golden.reference import LayerResult

from .config import EngineConfig
from .descriptor import DESCRIPTOR_BYTES
from .lowering import (
    SCORES,
    SELECTS,
    Addresses,
    Ranking,
    align,
    lower_layer,
    pack_mask,
    pack_parameters,
    pack_weights,
    unpack_mask,
)
from .plan import LayerShape, Plan, PlanError, make_plan

PROGRAM_BASE = 0x1000
"""Address of the first descriptor; nothing lies below, so that a stray access to address 0 is an error."""


def layer_shape(job: LayerJob, winners: int | None = None) -> LayerShape:
    """The sizes of a job. ``winners``: most input channels that can win, None for all."""
    channels, height, width = job.input.shape
    out_channels, _, kernel_h, kernel_w = job.weight.shape
    if job.groups != 1:
        raise PlanError(f"groups: expected 1, got {job.groups}")
    return LayerShape(channels=channels, height=height, width=width, out_channels=out_channels,
                      kernel=(kernel_h, kernel_w), stride=tuple(job.stride), padding=tuple(job.padding),
                      pool=tuple(job.pool or (1, 1, 1, 1)), winners=winners)


def ranking_fields(rule: RankingRule | None) -> Ranking:
    """A job's ranking in the descriptor's terms; none is the maximum of every channel, and all of them win."""
    if rule is None:
        return Ranking()
    value = {"all": 0, "topk": rule.value, "energy": rule.eps16, "threshold": rule.value}[rule.select]
    return Ranking(score=SCORES[rule.score], select=SELECTS[rule.select], value=int(value),
                   energy_square=rule.energy_power == 2, multiplier=rule.score_multiplier, shift=rule.score_shift)


@dataclass(frozen=True, kw_only=True)
class PlacedLayer:
    """One layer of a program: its plan, rule and addresses."""

    plan: Plan
    ranking: Ranking
    addresses: Addresses
    descriptors: int

    def result(self, image: np.ndarray) -> LayerResult:
        """Output, scores and winners of the layer from the memory (uint8) after the run."""
        out_channels, (rows, cols) = self.plan.shape.out_channels, self.plan.shape.out_extent

        def part(address, size):
            return image[address:address + size].copy()

        winners = (unpack_mask(part(self.addresses.winners, -(-out_channels // 8)), out_channels)
                   if self.ranking.select != SELECTS["all"] else np.ones(out_channels, np.uint8))
        return LayerResult(
            output=part(self.addresses.output, out_channels * rows * cols).view(np.int8).reshape(
                out_channels, rows, cols),
            scores=part(self.addresses.scores, out_channels), winners=winners)


@dataclass(frozen=True, kw_only=True)
class MemoryProgram:
    """A program in memory: the image from address 0, where it starts, and what the engine may touch."""

    image: np.ndarray
    descriptors_address: int
    descriptor_count: int
    window: tuple[int, int]
    layers: tuple[PlacedLayer, ...]

    def results(self, image: np.ndarray) -> list[LayerResult]:
        """Every layer's result from the memory after the run."""
        return [layer.result(image) for layer in self.layers]


def build_program(jobs: Sequence[LayerJob], config: EngineConfig, *, dense: bool = False) -> MemoryProgram:
    """Lay out a chain of layers as one program.

    The first job's input and mask are stored; those of every later job are the output and the winners of the job
    before it (its own arrays only give the shape). ``dense``: nothing is ranked or skipped. Outputs start out as
    bytes that differ from any correct result's complement, so a byte that is never written is seen.

    Raises :class:`hw.plan.PlanError` for a layer that the engine cannot run.
    """
    plans, rules = [], []
    for index, job in enumerate(jobs):
        rules.append(Ranking() if dense else ranking_fields(job.ranking))
        winners = None
        if not dense and index == 0 and job.channel_mask is not None:
            winners = int(job.channel_mask.sum())
        elif index and rules[index - 1].select == SELECTS["topk"]:
            winners = rules[index - 1].value
        plans.append(make_plan(layer_shape(job, winners), config))

    pieces: list[tuple[int, np.ndarray]] = []
    cursor = PROGRAM_BASE
    counts = [plan.descriptor_count for plan in plans]

    def reserve(size: int) -> int:
        nonlocal cursor
        address = cursor
        cursor = align(cursor + size)
        return address

    def store(array: np.ndarray) -> int:
        raw = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
        address = reserve(raw.size)
        pieces.append((address, raw))
        return address

    program_address = reserve(DESCRIPTOR_BYTES * sum(counts))
    first = jobs[0]
    source = store(first.input)
    mask = store(pack_mask(first.channel_mask)) if first.channel_mask is not None and not dense else None
    layers, program = [], b""
    for job, plan, rule, count in zip(jobs, plans, rules, counts, strict=True):
        out_channels = job.weight.shape[0]
        rows, cols = plan.shape.out_extent
        addresses = Addresses(
            input=source, mask=mask, weights=store(pack_weights(job.weight, config.columns)),
            parameters=store(pack_parameters(job.bias, job.multiplier, job.shift)),
            output=reserve(out_channels * rows * cols), scores=reserve(out_channels),
            winners=reserve(-(-out_channels // 8)))
        program += lower_layer(
            plan, addresses, rule, input_zero_point=job.input_zero_point, output_zero_point=job.output_zero_point,
            activation_min=job.activation_min, activation_max=job.activation_max)
        layers.append(PlacedLayer(plan=plan, ranking=rule, addresses=addresses, descriptors=count))
        source = addresses.output
        mask = addresses.winners if rule.select != SELECTS["all"] else None
    pieces.append((program_address, np.frombuffer(program, np.uint8)))
    image = np.full(align(cursor), 0xA5, np.uint8)
    for address, raw in pieces:
        image[address:address + raw.size] = raw
    return MemoryProgram(image=image, descriptors_address=program_address, descriptor_count=sum(counts),
                         window=(PROGRAM_BASE, image.size), layers=tuple(layers))
