"""From layer jobs to a memory image the engine runs, and from the image it leaves back to tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from golden.job import AddJob, Job, LayerJob
from golden.result import LayerResult

from .band import LayerShape
from .config import EngineConfig, ceil_div
from .descriptor import DESCRIPTOR_BYTES, Select
from .jobs import job_constants, job_shape, ranking_fields
from .lowering import Addresses, Ranking, lower_layer
from .packing import align, pack_mask, unpack_mask
from .plan import Plan, PlanError, make_plan, resident_plan
from .winner_list import CHUNK

PROGRAM_BASE = 0x1000
"""Address of the first descriptor; nothing lies below, so that a stray access to address 0 is an error."""
UNTOUCHED = 0xA5
"""What memory holds that nothing has been stored in."""
STORED = -1
"""Source of an input that is stored with the program."""


@dataclass(frozen=True, kw_only=True)
class PlacedLayer:
    """One layer of a program: its plan, rule and addresses.

    ``blocks``: those of :func:`hw.packing.used_blocks`, None where every block is read.
    """

    plan: Plan
    ranking: Ranking
    addresses: Addresses
    blocks: np.ndarray | None
    descriptors: int

    @property
    def in_memory(self) -> bool:
        """The output is in memory after the run; else it stayed on chip, and ``result`` has no such bytes."""
        return self.addresses.chip_output is None or self.addresses.keeps_output

    def result(self, image: np.ndarray) -> LayerResult:
        """Output, scores and winners of the layer from the memory (uint8) after the run."""
        out_channels, (rows, cols) = self.plan.layer.out_channels, self.plan.layer.out_extent

        def part(address, size):
            return image[address:address + size].copy()

        winners = (unpack_mask(part(self.addresses.winners, -(-out_channels // 8)), out_channels)
                   if self.ranking.select != Select.ALL else np.ones(out_channels, np.uint8))
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


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a tensor lies: its address and that of its mask, None where every channel takes part."""

    output: int
    mask: int | None


def job_inputs(job: Job) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """The inputs of a job, each with its channel mask (None: every channel takes part)."""
    if isinstance(job, AddJob):
        return [(job.input_1, job.channel_mask_1), (job.input_2, job.channel_mask_2)]
    return [(job.input, job.channel_mask)]


def build_program(jobs: Sequence[Job | None], config: EngineConfig, *, dense: bool = False,
                  sources: Sequence[Sequence[int]] | None = None, chaining: bool = True,
                  keep_outputs: bool = False) -> MemoryProgram:
    """Lay out layers as one program.

    ``jobs``: layers in order; None is a concatenation of its sources along the channels, which is only addresses.
    ``sources``: for every layer the one that each of its inputs comes from, with its winners as the mask, or
    ``STORED``: the job's own array and mask; for any other input these only give the shape. Unless given, the jobs are
    a chain. ``dense``: nothing is ranked or skipped. ``chaining``: an output that only the next layer reads stays on
    chip where both fit, and is in memory only if ``keep_outputs``. The planes of certain losers are not written where
    all layers that read them are convolutions, which read winners only. Memory that no input fills starts out as
    ``UNTOUCHED``, so a byte that is never written is seen.

    Raises :class:`hw.plan.PlanError` for a layer that the engine cannot run.
    """
    if sources is None:
        sources = [(STORED,) * len(job_inputs(job)) if index == 0 else (index - 1,) for index, job in enumerate(jobs)]
    rules = [Ranking() if dense or job is None else ranking_fields(job.ranking) for job in jobs]
    shapes = [None if job is None else replace(
        job_shape(job, config, _most_winners(job, origin, rules, dense)),
        judged=_is_judged(index, jobs, sources, rules))
        for index, (job, origin) in enumerate(zip(jobs, sources, strict=True))]
    masked = [any(origin != STORED and rules[origin].select != Select.ALL for origin in origins)
              for origins in sources]
    plans, chip_outputs = plan_program(shapes, sources, masked, config, chaining=chaining)

    image = _Image(PROGRAM_BASE)
    counts = [0 if plan is None else plan.descriptor_count for plan in plans]
    program_address = image.reserve(DESCRIPTOR_BYTES * sum(counts))
    places = _Places(jobs, sources, rules, image)
    layers, program = [], b""
    for index, (job, plan, rule, origins) in enumerate(zip(jobs, plans, rules, sources, strict=True)):
        if job is None:
            continue
        inputs, masks = [], []
        for (tensor, mask), origin in zip(job_inputs(job), origins, strict=True):
            place = (places.of(origin) if origin != STORED else _Place(
                output=image.store(tensor), mask=None if mask is None or dense else image.store(pack_mask(mask))))
            inputs.append(place.output)
            masks.append(place.mask)
        constants = job_constants(job, plan, config)
        own = places.of(index)
        addresses = Addresses(
            inputs=tuple(inputs), masks=tuple(masks),
            weights=None if constants.weights is None else image.store(constants.weights),
            block_masks=None if constants.block_masks is None else image.store(constants.block_masks),
            parameters=image.store(constants.parameters), output=own.output, winners=own.mask or 0,
            scores=image.reserve(job.output_shape[0]), chip_output=chip_outputs.get(index), keeps_output=keep_outputs,
            chip_input=chip_outputs[origins[0]] if plan.shape.resident else None)
        program += lower_layer(plan, addresses, rule, constants.arithmetic)
        layers.append(PlacedLayer(plan=plan, ranking=rule, addresses=addresses, blocks=constants.blocks,
                                  descriptors=counts[index]))
    image.put(program_address, np.frombuffer(program, np.uint8))
    memory = image.bytes()
    return MemoryProgram(image=memory, descriptors_address=program_address, descriptor_count=sum(counts),
                         window=(PROGRAM_BASE, memory.size), layers=tuple(layers))


def plan_program(shapes: Sequence[LayerShape | None], sources: Sequence[Sequence[int]], masked: Sequence[bool],
                 config: EngineConfig, *, chaining: bool = True) -> tuple[list[Plan | None], dict[int, int]]:
    """The plans of a program's layers, and for each output that stays on chip its offset in the activation buffer.

    ``shapes``: None for a concatenation. ``masked``: whether an input has a mask. An output stays on chip if the next
    layer alone reads it and can find it there, and if the layer itself then needs no more bands than otherwise. Outputs
    lie at the buffer's end and at its start in turn.
    """
    plans: list[Plan | None] = []
    chip: dict[int, int] = {}
    for index, shape in enumerate(shapes):
        if shape is None:
            plans.append(None)
            continue
        resident = index - 1 in chip
        plan = resident_plan(shape, config, masked=masked[index]) if resident else make_plan(shape, config)
        readers = [number for number, parts in enumerate(sources) if index in parts]
        rows, cols = shape.out_extent
        size = shape.out_channels * rows * cols
        following = shapes[index + 1] if chaining and readers == [index + 1] else None
        if following is not None and len(sources[index + 1]) == 1 and resident_plan(
                following, config, masked=masked[index + 1]):
            if resident:
                start, taken = chip[index - 1], shape.channels * shape.height * shape.width
                if size <= (start if start else config.act_buffer_bytes - taken):
                    chip[index] = 0 if start else config.act_buffer_bytes - size
            elif size < config.act_buffer_bytes:
                try:
                    narrow = make_plan(shape, config, act_bytes=config.act_buffer_bytes - size)
                except PlanError:
                    narrow = None
                if narrow and narrow.descriptor_count <= plan.descriptor_count:
                    plan = narrow
                    chip[index] = config.act_buffer_bytes - size
        if index in chip:
            shape = replace(shape, stays_on_chip=True)
            plan = (resident_plan(shape, config, masked=masked[index]) if resident
                    else make_plan(shape, config, act_bytes=plan.act_bytes))
        plans.append(plan)
    return plans, chip


class _Image:
    """Memory that is given out piece by piece."""

    def __init__(self, base: int):
        self.cursor = base
        self.pieces: list[tuple[int, np.ndarray]] = []

    def reserve(self, size: int) -> int:
        """The address of so many bytes."""
        address = self.cursor
        self.cursor = align(address + size)
        return address

    def put(self, address: int, raw: np.ndarray):
        """Fill bytes that have been given out."""
        self.pieces.append((address, raw))

    def store(self, array: np.ndarray) -> int:
        """The address of an array's bytes."""
        raw = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
        address = self.reserve(raw.size)
        self.put(address, raw)
        return address

    def bytes(self) -> np.ndarray:
        """All of it from address 0; what has not been filled is ``UNTOUCHED``."""
        memory = np.full(align(self.cursor), UNTOUCHED, np.uint8)
        for address, raw in self.pieces:
            memory[address:address + raw.size] = raw
        return memory


class _Places:
    """Where every layer's output lies; parts of a concatenation lie in it.

    Raises :class:`hw.plan.PlanError` for a layer that is part of two concatenations, or where masks cannot be joined.
    """

    def __init__(self, jobs, sources, rules, image: _Image):
        self.jobs, self.sources, self.rules, self.image = jobs, sources, rules, image
        self.shapes, self.ranked = [], []
        self.whole: dict[int, tuple[int, int]] = {}
        """Of a part: the concatenation, and its first channel there."""
        for index, (job, origins) in enumerate(zip(jobs, sources, strict=True)):
            if job is not None:
                self.shapes.append(job.output_shape)
                self.ranked.append(rules[index].select != Select.ALL)
                continue
            channel = 0
            for origin in origins:
                if origin == STORED or origin in self.whole:
                    raise PlanError(f"concatenation {index}: expected layers that are part of no other, got "
                                    f"{'the network input' if origin == STORED else origin} again")
                if self.ranked[origin] and channel % CHUNK:
                    raise PlanError(f"concatenation {index}: expected ranked inputs from multiples of {CHUNK} channels "
                                    f"on, got {channel}")
                self.whole[origin] = index, channel
                channel += self.shapes[origin][0]
            self.shapes.append((channel, *self.shapes[origins[0]][1:]))
            self.ranked.append(any(self.ranked[origin] for origin in origins))
        self.found: dict[int, _Place] = {}

    def of(self, index: int) -> _Place:
        """The place of a layer's output, given out when first asked for."""
        if index not in self.found:
            channels, rows, cols = self.shapes[index]
            if index in self.whole:
                whole, channel = self.whole[index]
                outer = self.of(whole)
                mask = outer.mask + channel // 8 if self.ranked[index] else None
                self.found[index] = _Place(output=outer.output + channel * rows * cols, mask=mask)
            else:
                output, mask = self.image.reserve(channels * rows * cols), None
                if self.ranked[index]:
                    # Parts that are not ranked take part.
                    mask = (self.image.store(np.full(ceil_div(channels, 8), 255, np.uint8))
                            if self.jobs[index] is None else self.image.reserve(ceil_div(channels, 8)))
                self.found[index] = _Place(output=output, mask=mask)
        return self.found[index]


def _is_judged(index: int, jobs, sources, rules) -> bool:
    """A layer whose losers' planes nothing reads: its consumers are convolutions, which read winners only."""
    consumers = [number for number, origins in enumerate(sources) if index in origins]
    return (rules[index].select in (Select.TOPK, Select.THRESHOLD) and bool(consumers)
            and all(isinstance(jobs[number], LayerJob) for number in consumers))


def _most_winners(job: Job, origins: Sequence[int], rules: Sequence[Ranking], dense: bool) -> int | None:
    """Most input channels that can win, where that is known beforehand."""
    origin = origins[0]
    if dense or job is None or isinstance(job, AddJob):
        return None
    if origin == STORED:
        return None if job.channel_mask is None else int(job.channel_mask.sum())
    return rules[origin].value if rules[origin].select == Select.TOPK else None
