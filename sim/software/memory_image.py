"""The memory of the core for one kernel of one layer job: program, layer, tensors as the kernels want them."""

import re
from dataclasses import dataclass

import numpy as np

from golden.job import AddJob, Job, LayerJob, PoolJob
from golden.ranking_rule import SCORES, SELECTS
from golden.result import LayerResult

from .band import Band, conv_rows
from .compiler import KERNELS, LAYER_ADDRESS
from .ways import BLOCK, DENSE, RANK, operation

ALIGNMENT = 32
"""Bytes: a line of the cache."""


def _fields() -> tuple[str, ...]:
    """The members of the struct layer, four bytes each, in order."""
    text = re.sub(r"/\*.*?\*/", "", (KERNELS / "layer.h").read_text(), flags=re.DOTALL)
    body = re.search(r"struct layer \{(.*?)\n\};", text, re.DOTALL).group(1)
    return tuple(re.findall(r"(\w+);", body))


FIELDS = _fields()


@dataclass(frozen=True, kw_only=True)
class MemoryImage:
    """``data``: the memory from address 0, where the program starts. ``first``, ``last``: addresses of the result's
    bytes, and behind them: the output [O,OH,OW] of a kernel in the order [OH,OW,O], or scores and winners, uint8 [O]
    each, of the ranking."""

    data: np.ndarray
    first: int
    last: int


class _Memory:
    """Tensors one behind the other from the layer on, and the layer's fields."""

    def __init__(self):
        self.end = LAYER_ADDRESS + -(-4 * len(FIELDS) // ALIGNMENT) * ALIGNMENT
        self.fields = dict.fromkeys(FIELDS, 0)
        self.parts: list[tuple[int, np.ndarray]] = []

    def reserve(self, name: str, size: int) -> int:
        """So many bytes, at the address that the field says; a block more, that a kernel may read beyond."""
        address = self.fields[name] = self.end
        self.end += -(-(size + BLOCK) // ALIGNMENT) * ALIGNMENT
        return address

    def put(self, name: str, values: np.ndarray) -> int:
        """The same, filled."""
        data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.parts.append((self.reserve(name, len(data)), data))
        return self.fields[name]

    def set(self, **values: int) -> None:
        """Fields that are numbers."""
        assert values.keys() <= self.fields.keys(), values
        self.fields |= values

    def data(self, program: bytes) -> np.ndarray:
        """All of it."""
        data = np.zeros(self.end, np.uint8)
        data[: len(program)] = np.frombuffer(program, np.uint8)
        for address, part in self.parts:
            data[address : address + len(part)] = part
        words = np.array(list(self.fields.values()), np.int64).astype(np.uint32)
        data[LAYER_ADDRESS : LAYER_ADDRESS + words.nbytes] = words.view(np.uint8)
        return data


def memory_image(job: Job, way: str, program: bytes, result: LayerResult, band: Band) -> MemoryImage:
    """The memory in which ``program``, the kernel for one way, computes a band of ``job``, or ranks it.

    ``way``: one of :data:`sim.software.ways.DENSE`, for which losers are zeros that take part, of
    :data:`sim.software.ways.SPARSE`, or :data:`sim.software.ways.RANK`, which takes the ``result``'s output.
    """
    memory = _Memory()
    kind, (channels, height, width) = operation(job), job.output_shape
    begin, end = (band.begin, band.end) if way == RANK else conv_rows(job, band)
    memory.set(out_channels=channels, out_columns=width, output_zero_point=job.output_zero_point,
               activation_min=job.activation_min, activation_max=job.activation_max, row_begin=begin, row_end=end,
               pool_begin=band.begin, pool_end=band.end, block_step=band.block_step)
    if way == RANK:
        _put_ranking(memory, job, result)
        first = memory.reserve("scores", 2 * channels)
        memory.set(winners=first + channels)
        last = first + 2 * channels
        memory.reserve("scratch", 4 * max(256, 2 * channels))
    else:
        _put_input(memory, job, way)
        if isinstance(job, AddJob):
            memory.set(**{name: getattr(job, field) for name, field in {
                "input_2_zero_point": "input_2_zero_point", "input_multiplier": "input_1_multiplier",
                "input_shift": "input_1_shift", "input_2_multiplier": "input_2_multiplier",
                "input_2_shift": "input_2_shift", "multiplier": "output_multiplier", "shift": "output_shift"}.items()})
        elif isinstance(job, PoolJob):
            _set_window(memory, job.kernel, job.stride, job.padding, (height, width))
            memory.set(multiplier=job.multiplier, shift=job.shift, ties_up=int(job.ties == "up"))
        else:
            _put_convolution(memory, job, kind, way)
        first = memory.reserve("output", channels * height * width)
        last = first + channels * height * width
        memory.reserve("scratch", _scratch_bytes(job, way))
    return MemoryImage(data=memory.data(program), first=first, last=last)


def _put_ranking(memory: _Memory, job: Job, result: LayerResult) -> None:
    rule = job.ranking
    # layer.h numbers scores and selections in the order of the rule's names.
    memory.set(score=SCORES.index(rule.score), select=SELECTS.index(rule.select), energy_power=rule.energy_power,
               score_multiplier=rule.score_multiplier, score_shift=rule.score_shift,
               select_value=rule.eps16 if rule.select == "energy" else int(rule.value))
    memory.put("output", result.output.transpose(1, 2, 0))


def _put_input(memory: _Memory, job: Job, way: str) -> None:
    """The maps, whose losers are zeros for a dense kernel, and the masks for a sparse one."""
    if isinstance(job, AddJob):
        inputs = [("input", job.input_1, job.input_1_zero_point, "mask", job.channel_mask_1),
                  ("input_2", job.input_2, job.input_2_zero_point, "mask_2", job.channel_mask_2)]
    else:
        inputs = [("input", job.input, job.input_zero_point, "mask", job.channel_mask)]
    channels, height, width = inputs[0][1].shape
    memory.set(channels=channels, height=height, width=width, input_zero_point=inputs[0][2])
    for name, map, zero_point, mask_name, mask in inputs:
        wins = np.ones(channels, np.uint8) if mask is None else mask
        if way in DENSE:
            map = np.where(wins[:, None, None] == 1, map, np.int8(zero_point))
        memory.put(name, map.transpose(1, 2, 0))
        memory.put(mask_name, wins)


def _set_window(memory: _Memory, kernel, stride, padding, extent) -> None:
    memory.set(kernel_height=kernel[0], kernel_width=kernel[1], stride_y=stride[0], stride_x=stride[1],
               padding_top=padding[0], padding_left=padding[2], rows=extent[0], columns=extent[1])


def _put_convolution(memory: _Memory, job: LayerJob, kind: str, way: str) -> None:
    _set_window(memory, job.weight.shape[2:], job.stride, job.padding, job.conv_shape[1:])
    memory.set(groups=job.groups, weight_zero_point=job.weight_zero_point, once=int(job.rounding == "once"))
    if job.pool is not None:
        height, width, stride_y, stride_x = job.pool
        memory.set(pool_height=height, pool_width=width, pool_stride_y=stride_y, pool_stride_x=stride_x,
                   pool_top=job.pool_padding[0], pool_left=job.pool_padding[2])
    weights = job.weight.transpose(0, 2, 3, 1)
    if way != "naive":
        # A depthwise layer's blocks are of its channels, other layers' of the output channels of a group.
        groups = 1 if kind == "depthwise" else job.groups
        weights = _blocks(weights.reshape(groups, -1, *weights.shape[1:]))
    memory.put("weights", weights)
    for field, values in (("bias", job.bias), ("multipliers", job.multiplier), ("shifts", job.shift)):
        memory.put(field, values)


def _blocks(weights: np.ndarray) -> np.ndarray:
    """[groups][output channels][...] to [groups][blocks][...][4], filled up with zeros."""
    groups, outputs, *rest = weights.shape
    filled = np.zeros((groups, -(-outputs // BLOCK) * BLOCK, *rest), np.int8)
    filled[:, :outputs] = weights
    return np.moveaxis(filled.reshape(groups, -1, BLOCK, *rest), 2, -1)


def _scratch_bytes(job: Job, way: str) -> int:
    """What a kernel may use beside its tensors."""
    if isinstance(job, AddJob):
        return 4 * (2 * 256 + len(job.input_1))
    size = 4 * (len(job.input) + 2)
    if isinstance(job, LayerJob):
        size += 4 * (max(job.groups, len(job.input)) + 8)
        if job.pool is not None:
            size += int(np.prod(job.conv_shape)) + BLOCK
        if way == "packed":
            blocks = job.groups * -(-len(job.weight) // job.groups // BLOCK)
            size += job.input.size + BLOCK + blocks * BLOCK * job.weight[0].size
    return size
