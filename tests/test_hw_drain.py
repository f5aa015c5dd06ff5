"""The drain against sums, requantized and laid out in Python, cycle by cycle with a random world around it."""

import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random

import pytest

from hw.array import SystolicArray
from hw.buffer import BankedBuffer
from hw.config import EngineConfig
from hw.descriptor import OP_CONVOLUTION, OP_VECTOR
from hw.drain import Drain
from hw.requantize import Requantizer

from .hw_helpers import StallRule, descriptor, simulate
from .tflite_arithmetic import requantized, scaled_operand, wrapped

CONFIGS = {
    "wide": EngineConfig(rows=4, columns=8, requantize_lanes=2, vector_lanes=3, psum_tiles=4, axi_data_bits=64,
                         output_ring_bytes=64),
    "tall": EngineConfig(rows=7, columns=2, requantize_lanes=3, vector_lanes=6, psum_tiles=2, axi_data_bits=64,
                         output_ring_bytes=32),
    "one by one": EngineConfig(rows=1, columns=1, vector_lanes=1, psum_tiles=1, axi_data_bits=64,
                               output_ring_bytes=32),
    "a tile a cycle": EngineConfig(rows=4, columns=1, requantize_lanes=4, vector_lanes=4, psum_tiles=8,
                                   axi_data_bits=64, output_ring_bytes=32),
    "more vector lanes": EngineConfig(rows=2, columns=3, requantize_lanes=2, vector_lanes=6, psum_tiles=4,
                                      axi_data_bits=64, output_ring_bytes=64),
    "a part of the lanes": EngineConfig(rows=4, columns=2, requantize_lanes=3, vector_lanes=8, psum_tiles=2,
                                        axi_data_bits=64, output_ring_bytes=64),
}


VECTOR_LATENCY = 5
"""Cycles from a tile's last step to the sums of the vector unit, at the least."""
PAUSE = 8
"""Cycles between an addition and something else; a barrier takes longer."""


@dataclass(kw_only=True)
class Tile:
    """A tile as it enters: ``sums`` [column][position], of a vector tile one column; ``results`` of a complete one.

    ``place``: the fields of :class:`hw.run_stream.Tile`.
    """

    place: dict[str, bool]
    sums: list[list[int]]
    results: list[list[int]] | None
    vector: bool


@dataclass(kw_only=True)
class Band:
    """A descriptor, the tiles in order, and the constants of each group, records of (bias, multiplier, shift)."""

    fields: dict[str, int]
    tiles: list[Tile]
    constants: list[list[tuple[int, int, int]]] = field(default_factory=list)


def random_constants(random: Random, count: int, *, shared: bool) -> list[tuple[int, int, int]]:
    """For results that spread over int8, one of them or any at all."""
    records = [(random.randint(-10**6, 10**6), random.randint(2**30, 2**31 - 1), random.randint(-22, -12))
               if random.random() < 0.8 else
               (random.randint(-2**31, 2**31 - 1), random.randrange(2**31), random.randint(-31, 30))
               for _ in range(1 if shared else count)]
    return records * count if shared else records


def clamps(random: Random) -> dict[str, int]:
    low, high = sorted(random.choice((-128, 127, random.randint(-128, 127))) for _ in range(2))
    return {"result_zero_point": random.randint(-128, 127), "activation_min": low, "activation_max": high}


def random_sum(random: Random) -> int:
    return random.choice((random.randint(-2**24, 2**24), random.randint(-2**31, 2**31 - 1)))


def sizes(config: EngineConfig, random: Random, tile: int, most_tiles: int, groups: int) -> dict[str, int]:
    """The fields that say how much there is."""
    return {"tiles": random.randint(1, most_tiles), "tile_positions": tile, "last_rows": random.randint(1, tile),
            "out_groups": groups, "group_columns": random.randint(1, config.columns),
            "last_columns": random.randint(1, config.columns)}


def group_columns(fields: dict[str, int]) -> list[int]:
    """Columns of each group."""
    return [fields["group_columns"]] * (fields["out_groups"] - 1) + [fields["last_columns"]]


def place_of(fields: dict[str, int], group: int, tile: int, *, first_pass: bool = True, last_pass: bool = True,
             ends_part: bool = True) -> dict[str, bool]:
    """Where a tile stands; ``ends_part``: of the last pass, or channel, of its group."""
    last = tile == fields["tiles"] - 1
    return {"last": last, "first_pass": first_pass, "last_pass": last_pass,
            "last_group": group == fields["out_groups"] - 1, "ends_group": last and ends_part}


def convolution(config: EngineConfig, random: Random, *, passes: int = 1, bands: int = 1) -> list[Band]:
    """Group, pass, tile; ``bands`` descriptors of one group each, whose sums add up, as of chunks of channels."""
    most = config.psum_tiles if passes * bands > 1 else 6
    fields = {"op": OP_CONVOLUTION} | sizes(config, random, config.rows, most,
                                            random.randint(1, 3) if bands == 1 else 1) | clamps(random)
    positions = [config.rows] * (fields["tiles"] - 1) + [fields["last_rows"]]
    made, totals = [], None
    for number in range(bands):
        starts, ends = number == 0, number == bands - 1
        band = Band(fields=fields | {"sum_start": starts, "sum_end": ends}, tiles=[])
        made.append(band)
        for group, columns in enumerate(group_columns(fields)):
            constants = random_constants(random, columns, shared=False)
            if ends:
                band.constants.append(constants)
            if starts:
                totals = [[[0] * config.rows for _ in range(columns)] for _ in positions]
            for one_pass in range(passes):
                for tile, valid in enumerate(positions):
                    sums = [[random_sum(random) for _ in range(config.rows)] for _ in range(columns)]
                    totals[tile] = [[a + b for a, b in zip(*both, strict=True)]
                                    for both in zip(totals[tile], sums, strict=True)]
                    last = one_pass == passes - 1
                    results = None
                    if last and ends:
                        results = [[requantized(wrapped(total), *record, *limits(fields)) for total in column[:valid]]
                                   for column, record in zip(totals[tile], constants, strict=True)]
                    place = place_of(fields, group, tile, first_pass=one_pass == 0 and starts, last_pass=last,
                                     ends_part=last)
                    band.tiles.append(Tile(place=place, sums=sums, results=results, vector=False))
    return made


def vector(config: EngineConfig, random: Random, *, add: bool = False, tile: int = 0, **changes: int) -> list[Band]:
    """Group, channel, tile; of ``tile`` positions, or any number that there are lanes for."""
    shared = add or random.random() < 0.5
    fields = {"op": OP_VECTOR, "sum_start": 1, "sum_end": 1, "add": add, "parameter_shared": shared}
    tile = tile or random.choice((config.vector_lanes, random.randint(1, config.vector_lanes)))
    fields |= sizes(config, random, tile, 6, random.randint(1, 4)) | clamps(random) | changes
    scales = [(random.randrange(2**31), random.randint(0, 12)) for _ in range(2)]
    for number, (multiplier, shift) in enumerate(scales, 1):
        fields |= {f"add_multiplier_{number}": multiplier, f"add_shift_{number}": shift}
    band = Band(fields=fields, tiles=[])
    for group, columns in enumerate(group_columns(fields)):
        records = random_constants(random, columns, shared=shared)
        if add:
            records = [(0, random.randint(2**30, 2**31 - 1), random.randint(-20, -10))] * columns
        band.constants.append(records[:1] if shared else records)
        for column, record in enumerate(records):
            for number, valid in enumerate([tile] * (fields["tiles"] - 1) + [fields["last_rows"]]):
                if add:
                    pairs = [[random.randint(-255, 255) for _ in range(2)] for _ in range(config.vector_lanes)]
                    words = [(b & 0xFFFF) << 16 | a & 0xFFFF for a, b in pairs]
                    totals = [sum(scaled_operand(one, *scale) for one, scale in zip(pair, scales, strict=True))
                              for pair in pairs]
                else:
                    totals = words = [random_sum(random) for _ in range(config.vector_lanes)]
                results = [requantized(wrapped(total), *record, *limits(fields)) for total in totals[:valid]]
                place = place_of(fields, group, number, ends_part=column == columns - 1)
                band.tiles.append(Tile(place=place, sums=[words], results=[results], vector=True))
    return [band]


def limits(fields: dict[str, int]) -> tuple[int, int, int]:
    return fields["result_zero_point"], fields["activation_min"], fields["activation_max"]


def packed(values: list[int]) -> int:
    return sum((value & 0xFFFFFFFF) << 32 * n for n, value in enumerate(values))


class World:
    """What surrounds the drain: scheduler, array, vector unit, parameter store, output ring and write-back.

    ``eager``: everything is there as early as it may be, and room is given back at once. After :meth:`run`,
    ``begun``, ``written`` and ``drained`` have the cycles of last taps, of writes and of complete tiles. ``to_write``:
    (ring, offset, count) of each write that must come.
    """

    def __init__(self, config: EngineConfig, bands: list[Band], random: Random, *, eager: bool = False):
        self.config, self.bands, self.random, self.eager = config, bands, random, eager
        self.drain = Drain(config=config, array_latency=SystolicArray.LATENCY)
        self.now = 0
        self.to_take = deque(bands)  # by the drain
        self.to_offer = deque(band for band in bands if band.fields["sum_end"])  # to the write-back
        self.taken, self.adding, self.idle_for, self.free = 0, False, 0, True
        self.steps = deque((number, tile) for number, band in enumerate(bands) for tile in band.tiles)
        self.array = [0] * (config.rows * config.columns)
        self.changes: dict[int, list[tuple[int, int]]] = {}
        self.vector_tiles: deque[tuple[int, list[int]]] = deque()
        self.groups = deque(group for band in bands for group in band.constants)
        self.banks: deque[list[tuple[int, int, int]]] = deque()
        self.asked: deque[tuple[int, int, int] | None] = deque([None, None])
        self.ring: list[list[int | None]] = [[None] * config.output_ring_bytes for _ in range(config.columns)]
        self.expected = deque((band, tile) for band in bands for tile in band.tiles if tile.results is not None)
        self.to_write = deque(self.expected_writes())
        self.start, self.in_use, self.readable = 0, 0, 0
        self.begun, self.written, self.drained = [], [], []

    def expected_writes(self) -> Iterator[tuple[int, int, int]]:
        """Of each column up to its last result, as many at a time as there are lanes, no more than the tile has."""
        start, lanes = 0, self.config.requantize_lanes
        for band, tile in self.expected:
            size = band.fields["tile_positions"]
            for column, results in enumerate(tile.results):
                for first in range(0, len(results), lanes):
                    yield column, (start + first) % self.config.output_ring_bytes, min(lanes, size - first)
            start += size

    def chance(self, share: float) -> bool:
        return self.eager or self.random.random() < share

    def run(self) -> None:
        simulate(self.drain, self.bench, cycles=60_000)
        assert not self.expected and not self.to_take and not self.groups and not self.steps
        assert not self.to_offer and not self.banks and not self.to_write

    async def bench(self, ctx) -> None:
        rules = {name: StallRule(name) for name in ("o_descriptor",)}
        while self.expected or self.to_take or self.to_offer or not ctx.get(self.drain.idle):
            self.give_descriptors(ctx)
            self.issue(ctx)
            self.give_constants(ctx)
            freed = min(self.readable, self.random.randint(1, 9)) if self.chance(0.2) else 0
            freed = self.readable if self.eager else freed
            ctx.set(self.drain.positions_freed, freed)
            self.readable -= freed
            ready = self.chance(0.3)
            ctx.set(self.drain.o_descriptor.ready, ready)
            await self.cycle(ctx, rules["o_descriptor"])
            self.in_use -= freed
            self.now += 1

    def give_descriptors(self, ctx) -> None:
        """As soon as they are taken; before additions and behind them a pause, which a layer's barrier makes."""
        changes = bool(self.to_take) and bool(self.to_take[0].fields.get("add")) != self.adding
        self.idle_for = self.idle_for + 1 if ctx.get(self.drain.idle) else 0
        offered = bool(self.to_take) and not (changes and self.idle_for < PAUSE)
        ctx.set(self.drain.i_descriptor.valid, offered)
        if offered:
            ctx.set(self.drain.i_descriptor.payload, descriptor(**self.to_take[0].fields))

    def issue(self, ctx) -> None:
        """Last taps when they may come, and what they change: sums of PE (r, c) after latency + r + c cycles."""
        config, drain = self.config, self.drain
        ctx.set(drain.array_issued, 0)
        ctx.set(drain.vector_issued, 0)
        # A band's tiles come when the drain has its descriptor, or has just the one before.
        if self.steps and self.steps[0][0] <= self.taken:
            _, tile = self.steps[0]
            if tile.vector:
                if len(self.vector_tiles) < 8 and self.chance(0.3):
                    self.vector_tiles.append((self.now + VECTOR_LATENCY, tile.sums[0]))
                    self.steps.popleft()
                    ctx.set(drain.vector_issued, 1)
                    ctx.set(drain.tile, tile.place)
            elif self.free and self.chance(0.5):
                self.steps.popleft()
                self.begun.append(self.now)
                ctx.set(drain.array_issued, 1)
                ctx.set(drain.tile, tile.place)
                for (column, sums), row in itertools.product(enumerate(tile.sums), range(config.rows)):
                    due = self.now + Drain.FEED_LATENCY + SystolicArray.LATENCY + row + column
                    self.changes.setdefault(due, []).append((column * config.rows + row, sums[row]))
        changes = self.changes.pop(self.now, [])
        for index, value in changes:
            self.array[index] = value
        if changes:
            ctx.set(drain.sums, packed(self.array))
        complete = bool(self.vector_tiles) and self.vector_tiles[0][0] <= self.now
        ctx.set(drain.i_vector.valid, complete)
        if complete:
            ctx.set(drain.i_vector.payload, packed(self.vector_tiles[0][1]))

    def give_constants(self, ctx) -> None:
        """Those of ``column`` two cycles later, junk where there are none; at most two groups at a time."""
        bias, multiplier, shift = self.asked.popleft() or (self.random.getrandbits(31), self.random.getrandbits(31), 0)
        ctx.set(self.drain.parameters, {"bias": bias, "multiplier": multiplier, "shift": shift})
        loads = bool(self.groups) and len(self.banks) < 2 and self.chance(0.05)
        ctx.set(self.drain.parameters_loaded, loads)
        if loads:
            self.banks.append(self.groups.popleft())

    async def cycle(self, ctx, offered: StallRule) -> None:
        drain = self.drain
        _, _, take, offer, ready, fields, vector_taken, column, switch, done, self.free, enable, *place = (
            await ctx.tick().sample(
                drain.i_descriptor.valid & drain.i_descriptor.ready, drain.o_descriptor.valid,
                drain.o_descriptor.ready, drain.o_descriptor.p.as_value(), drain.i_vector.valid & drain.i_vector.ready,
                drain.column, drain.parameters_switch, drain.tile_drained, drain.next_array_free, drain.write_enable,
                drain.write_ring, drain.write_offset, drain.write_data, drain.write_count))
        if take:
            self.adding = bool(self.to_take.popleft().fields.get("add"))
            self.taken += 1
        if offered.check(offer, ready, fields):
            assert fields == descriptor(**self.to_offer.popleft().fields).as_bits()
        if vector_taken:
            self.vector_tiles.popleft()
        bank = self.banks[0] if self.banks else []
        self.asked.append(bank[column] if column < len(bank) else None)
        if switch:
            self.banks.popleft()
        if enable:
            self.write(*place)
        if done:
            self.check_tile()

    def write(self, ring: int, offset: int, word: int, count: int) -> None:
        """Into the ring, where nothing that is still in use may lie."""
        assert (ring, offset, count) == self.to_write.popleft()
        self.written.append(self.now)
        size = self.config.output_ring_bytes
        for n in range(count):
            value = word >> 8 * n & 0xFF
            distance = (offset + n - self.start) % size
            assert distance + self.in_use < size, "results that nobody has taken are overwritten"
            self.ring[ring][(offset + n) % size] = value - 256 * (value >> 7)

    def check_tile(self) -> None:
        """The tile that can be read now: the next one, whole and in its place."""
        self.drained.append(self.now)
        band, tile = self.expected.popleft()
        size, count = self.config.output_ring_bytes, band.fields["tile_positions"]
        for column, results in enumerate(tile.results):
            found = [self.ring[column][(self.start + n) % size] for n in range(len(results))]
            assert found == results
        self.start = (self.start + count) % size
        self.in_use += count
        assert self.in_use <= size
        self.readable += count


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("seed", range(4))
def test_random_bands(name, seed):
    """Convolutions in passes and chunks, vector bands and additions behind each other, with a world that dawdles."""
    config, random = CONFIGS[name], Random(f"{name} {seed}")
    kinds = [
        lambda: convolution(config, random), lambda: convolution(config, random, passes=random.randint(2, 4)),
        lambda: convolution(config, random, passes=random.randint(1, 2), bands=random.randint(2, 3)),
        lambda: vector(config, random), lambda: vector(config, random, add=True),
    ]
    order = [*kinds, *random.choices(kinds, k=3)]
    random.shuffle(order)
    World(config, [band for kind in order for band in kind()], random).run()


def make_convolution(config: EngineConfig, random: Random, **fields: int) -> Band:
    """A convolution of one pass with these fields, whose results do not matter."""
    band, = convolution(config, random)
    count = fields["out_groups"] * fields["tiles"]
    columns = fields["last_columns"]
    sums = [[1] * config.rows] * columns
    results = [[min(max(-128, 0), 127)] * fields["last_rows"]] * columns
    tiles = [Tile(place=place_of(fields, n // fields["tiles"], n % fields["tiles"]), sums=sums, results=results,
                  vector=False) for n in range(count)]
    fixed = {"result_zero_point": 0, "activation_min": -128, "activation_max": 127}
    return Band(fields=band.fields | fields | fixed, tiles=tiles,
                constants=[[(0, 0, 0)] * columns] * fields["out_groups"])


@pytest.mark.parametrize("name", CONFIGS)
def test_the_time_of_a_tile(name):
    """The first result comes ``start_delay`` cycles and the pipeline's stages after the last tap; tiles follow without
    a gap, where draining takes longer than the sums of the next."""
    config = replace(CONFIGS[name], output_ring_bytes=1024)
    band = make_convolution(config, Random(0), tiles=5, last_rows=config.rows, tile_positions=config.rows, out_groups=2,
                            group_columns=config.columns, last_columns=config.columns)
    world = World(config, [band], Random(0), eager=True)
    world.run()
    latency = world.drain.start_delay + Drain.PICK + Requantizer.LATENCY
    assert world.drain.start_delay == 5 + 3 + config.rows - 1
    assert world.written[0] == world.begun[0] + latency
    drain_cycles = config.columns * config.drain_chunks
    period = max(drain_cycles, world.drain.start_delay)
    assert world.drained == [world.begun[0] + latency + drain_cycles - 1 + BankedBuffer.WRITE_LATENCY + n * period
                             for n in range(10)]
    assert len(world.written) == 10 * drain_cycles


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("left_out", [0, 1, 2, 5])
def test_the_time_of_a_vector_tile(name, add, left_out):
    """One behind the other without a gap, across channels and groups, as long as there are constants.

    A tile takes the time of its own positions, however many lanes there are.
    """
    config, random = replace(CONFIGS[name], output_ring_bytes=1024), Random(0)
    size = max(1, config.vector_lanes - left_out)
    band, = vector(config, random, add=add, tile=size, tiles=4, last_rows=size, out_groups=2)
    world = World(config, [band], random, eager=True)
    world.run()
    period = -(-size // config.requantize_lanes)
    assert world.drained == [world.drained[0] + n * period for n in range(len(band.tiles))]
    assert world.written == list(range(world.written[0], world.written[0] + len(band.tiles) * period))
