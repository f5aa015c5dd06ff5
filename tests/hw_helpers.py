"""What the tests of hw/ share: Amaranth's simulator with random handshakes, descriptors, programs on a small engine."""

import gc
import warnings
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from random import Random

import numpy as np
from amaranth.sim import Simulator

from golden.job import LayerJob
from golden.reference import LayerResult
from hw.config import EngineConfig
from hw.descriptor import DESCRIPTOR_BYTES, FIELDS, LAYOUT, OP_CONVOLUTION, OP_VECTOR, pack, unpack
from hw.program import MemoryProgram, build_program
from sim.simulator import Program

PERIOD = 1e-6

SMALL = EngineConfig(rows=4, columns=4, act_buffer_bytes=4096, weight_buffer_bytes=4096, axi_data_bits=64,
                     max_channels=2048, output_ring_bytes=256, requantize_lanes=2, rank_lanes=16)
"""The engine that whole-engine tests run on: everything is tight, and it compiles in half a minute."""


def simulate(component, *benches: Callable[..., Awaitable], background: Iterable[Callable[..., Awaitable]] = (),
             cycles: int = 100_000) -> None:
    """Run the benches (``async def bench(ctx)``) side by side until all have returned, within ``cycles`` cycles.

    Those of ``background`` may run for ever.
    """
    simulator = Simulator(component)
    simulator.add_clock(PERIOD, if_exists=True)
    for bench in benches:
        simulator.add_testbench(bench)
    for bench in background:
        simulator.add_testbench(bench, background=True)

    async def watchdog(ctx):
        await ctx.delay(cycles * PERIOD)
        raise AssertionError(f"the benches have not ended after {cycles} cycles")

    simulator.add_testbench(watchdog, background=True)
    simulator.run()


async def send(ctx, stream, payloads: Iterable, random: Random | None = None, share: float = 1) -> None:
    """Send payloads, offered in a ``share`` of the cycles, each held until it is taken."""
    for payload in payloads:
        while random and random.random() >= share:
            await ctx.tick()
        ctx.set(stream.payload, payload)
        ctx.set(stream.valid, 1)
        await ctx.tick().until(stream.ready)
        ctx.set(stream.valid, 0)


async def receive(ctx, stream, count: int, random: Random | None = None, share: float = 1) -> list:
    """Take ``count`` payloads, ready in a ``share`` of the cycles, from a stream that keeps the rules.

    Valid must not wait for ready; once high, it and its payload must stay until the payload is taken.
    """
    taken, waiting = [], None
    ctx.set(stream.ready, 0)
    while not ctx.get(stream.valid):
        await ctx.tick()
    while len(taken) < count:
        ready = random is None or random.random() < share
        ctx.set(stream.ready, ready)
        _, _, valid, payload = await ctx.tick().sample(stream.valid, stream.payload)
        assert valid or waiting is None, "valid fell before its payload was taken"
        if valid:
            assert waiting is None or payload == waiting, "a payload changed while it waited"
            waiting = None if ready else payload
            if ready:
                taken.append(payload)
    ctx.set(stream.ready, 0)
    return taken


def refusal(component: type, **sizes: int) -> str:
    """The message with which a component refuses to be made in these sizes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Amaranth's, about the component that is not used
        try:
            component(**sizes)
            message = None
        except ValueError as error:
            message = str(error)
        gc.collect()
    assert message is not None, f"{component.__name__} accepted {sizes}"
    return message


class StallRule:
    """Asserts cycle by cycle that a valid/ready pair of plain ports keeps the rules of :func:`receive`."""

    def __init__(self, name: str):
        self.name, self.waiting = name, None

    def check(self, valid: int, ready: int, *payload: int) -> bool:
        """Note a cycle; whether something was transferred in it."""
        assert valid or self.waiting is None, f"{self.name}: valid fell before its payload was taken"
        assert self.waiting in (None, payload), f"{self.name}: the payload changed while it waited"
        self.waiting = payload if valid and not ready else None
        return bool(valid and ready)


def descriptor(**values: int):
    """A descriptor constant with these fields, zero elsewhere."""
    return LAYOUT.from_bits(int.from_bytes(pack({field.name: 0 for field in FIELDS} | values), "little"))


POSITIVE = (
    "in_channels", "in_rows", "in_cols", "in_row_pitch", "strip_rows", "last_strip_rows", "strips", "pitch",
    "lane_step", "stride_x", "stride_y", "load_phases", "weight_block", "weight_block_last", "pass_winners",
    "out_groups", "group_columns", "last_columns", "kernel_h", "kernel_w", "depth_multiplier", "tiles",
    "tile_positions", "last_rows", "out_rows", "out_cols", "out_cols_last", "out_strip_rows", "positions", "pool_h",
    "pool_w", "pool_stride_x", "chunk", "out_channels",
)
"""Fields that must not be 0."""


def highest(config: EngineConfig, vector: bool) -> dict[str, int]:
    """The largest values of the fields that an engine bounds."""
    tile = config.vector_lanes if vector else config.rows
    return {"stride_x": 4, "stride_y": 4, "lane_step": 4, "group_columns": config.columns,
            "last_columns": config.columns, "in_channels": config.max_channels, "chunk": config.axi_bytes,
            "mask_source": 2, "mask_source_2": 1, "tile_positions": tile, "last_rows": tile}


def is_malformed(fields: dict[str, int], config: EngineConfig) -> bool:
    """What the engine must refuse as a descriptor, independent of the hardware's check."""
    vector, of_memory = fields["op"] == OP_VECTOR, 0 < fields["mask_source"]
    channels = fields["first_channel"] + (fields["out_groups"] - 1) * fields["group_columns"] + fields["last_columns"]
    gathered = fields["select"] or fields["score_resume"] or not fields["score_final"]
    return bool(
        fields["op"] not in (OP_CONVOLUTION, OP_VECTOR) or any(fields[name] == 0 for name in POSITIVE)
        or any(fields[name] > high for name, high in highest(config, vector).items())
        or channels > fields["out_channels"] or (fields["out_channels"] > config.max_channels and gathered)
        or fields["in_channels"] <= fields["mask_skip"]
        or fields["load_phases"] > fields["stride_x"]
        or (fields["add"] and (not vector or fields["strips"] != 2 or fields["mask_source"] == 2
                              or fields["act_resident"]))
        or (fields["lists"] and (vector or not fields["act_dense"] or fields["strips"] != 1))
        or (fields["weights_ahead"] and (fields["lists"] or fields["add"] or of_memory))
        or fields["parameter_base"] % 16 or any(fields[name] % 2 for name in (
            "mask_base", "mask_base_2", "block_mask_base", "block_mask_group")))


def bytes_of(value: int, count: int) -> list[int]:
    """The lowest ``count`` bytes of an integer, the lowest first."""
    return list(value.to_bytes(max(count, (value.bit_length() + 7) // 8), "little")[:count])


def runs_of(mask: list[int]) -> list[tuple[int, int]]:
    """(start, length) of each run of ones."""
    edges = [n for n in range(len(mask) + 1) if (mask[n - 1] if n else 0) != (mask[n] if n < len(mask) else 0)]
    return [(start, end - start) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def program_of(memory: MemoryProgram, **changes) -> Program:
    """A simulator's program of a memory image; ``changes`` replace fields of it."""
    program = Program(image=memory.image, descriptors_address=memory.descriptors_address,
                      descriptor_count=memory.descriptor_count, window=memory.window, layers=len(memory.layers))
    return replace(program, **changes)


def build(job: LayerJob, config: EngineConfig = SMALL) -> tuple[MemoryProgram, Program]:
    """A job's image and its program."""
    memory = build_program([job], config)
    return memory, program_of(memory)


def descriptor_fields(program: Program, index: int = 0) -> dict[str, int]:
    """The fields of a program's descriptor."""
    start = program.descriptors_address + index * DESCRIPTOR_BYTES
    return unpack(bytes(program.image[start:start + DESCRIPTOR_BYTES]))


def edited(program: Program, index: int = 0, **values: int) -> Program:
    """The program with fields of one descriptor replaced."""
    image = np.array(program.image)
    start = program.descriptors_address + index * DESCRIPTOR_BYTES
    packed = pack(descriptor_fields(program, index) | values)
    image[start:start + DESCRIPTOR_BYTES] = np.frombuffer(packed, np.uint8)
    return replace(program, image=image)


def assert_same(result: LayerResult, expected: LayerResult, name: str = "") -> None:
    """Two results are equal bit for bit."""
    for field in ("output", "scores", "winners"):
        assert np.array_equal(getattr(result, field), getattr(expected, field)), f"{name}: {field} differs"


def issue_counter(component, memory) -> tuple[dict[str, int], Callable[..., Awaitable]]:
    """Bytes and beats that an AXI master says it has issued, and the bench that counts them while ``memory`` runs."""
    counted = {"bytes": 0, "beats": 0}

    async def counter(ctx):
        while memory.running:
            _, _, issued, size, beats = await ctx.tick().sample(
                component.issued, component.issued_bytes, component.issued_beats)
            counted["bytes"] += issued * size
            counted["beats"] += issued * beats

    return counted, counter
