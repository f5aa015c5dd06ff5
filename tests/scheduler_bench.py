"""The world of the scheduler's tests, and bands with the steps that they must give, from loops in Python."""

from collections import deque
from dataclasses import dataclass, field
from functools import cached_property
from random import Random

from hw.band import LayerShape
from hw.config import VECTOR_TAPS, EngineConfig
from hw.descriptor import OP_VECTOR, unpack
from hw.lowering import Addresses, Arithmetic, Ranking, lower_layer
from hw.plan import make_plan
from hw.scheduler import Scheduler

from .hw_helpers import StallRule, descriptor, runs_of, simulate

ACT_BASE = 64
Pixel = tuple[int, int, int, int]
"""Slab, operand, row and column in the image."""


@dataclass(kw_only=True)
class Step:
    """What a step must be. ``pixels`` [tap][lane], None where nothing is read; ``weights``: (place, bytes)."""

    first: bool
    last: bool
    operand: int
    taps: int
    first_pass: bool
    last_pass: bool
    last_tile: bool
    last_group: bool
    ends_group: bool
    pixels: list[list[Pixel | None]]
    weights: tuple[int, int]
    rows: int


@dataclass(kw_only=True)
class Band:
    """A descriptor with everything that belongs to it. ``masks``: a bit a channel, of each operand."""

    shape: LayerShape
    fields: dict[str, int]
    masks: list[list[int]]
    steps: list[Step]
    weight_bytes: int
    lists: list[list[tuple[int, int]]] = field(default_factory=list)
    reused: bool = False

    @cached_property
    def places(self) -> dict[int, tuple[int, int, int]]:
        """Offset in a channel's slab to the (operand, row, column) that lies there."""
        fields, (rows, cols) = self.fields, loaded(self.shape, self.fields)
        sy, sx, plane, pitch = (fields[name] for name in ("stride_y", "stride_x", "plane_bytes", "pitch"))
        return {operand * plane + (y % sy * sx + x % sx) * plane + y // sy * pitch + x // sx: (operand, row, col)
                for operand in range(self.shape.operands) for y, row in enumerate(rows) for x, col in enumerate(cols)}


def band_fields(shape: LayerShape, config: EngineConfig, **changes: int) -> dict[str, int]:
    """The fields of a layer of one band."""
    addresses = Addresses(inputs=(0,) * shape.operands, masks=(None,) * shape.operands, weights=0, block_masks=0,
                          parameters=0, output=0, scores=0, winners=0)
    arithmetic = Arithmetic(input_zero_points=(0,), output_zero_point=0, result_zero_point=0, activation_min=-128,
                            activation_max=127)
    plan = make_plan(shape, config)
    assert plan.descriptor_count == 1
    fields = unpack(lower_layer(plan, addresses, Ranking(), arithmetic))
    return fields | {"act_base": ACT_BASE} | changes


def loaded(shape: LayerShape, fields: dict[str, int]) -> tuple[range, range]:
    """Rows and columns of the image that are read: of a kernel of one row only those that it does not pass over."""
    (row, col), step = divmod(fields["in_base"], shape.width), fields["in_row_pitch"] // shape.width
    rows = fields["in_rows"] // shape.operands
    return range(row, row + rows * step, step), range(col, col + fields["in_cols"])


def tile_pixels(shape: LayerShape, fields: dict[str, int], tile: int, lanes: int, slab: int, operand: int,
                row: int, cols: list[int]) -> list[list[Pixel | None]]:
    """What the taps (``row``, each of ``cols``) of a tile's positions read."""
    pixels, (there_y, there_x) = [[None] * lanes for _ in range(VECTOR_TAPS)], loaded(shape, fields)
    for lane in range(lanes):
        y, x = divmod(tile * fields["tile_positions"] + lane, fields["out_pitch"])
        y = y * shape.stride[0] + row - shape.padding[0]
        for tap, col in enumerate(cols):
            left = x * shape.stride[1] + col - shape.padding[2]
            if y in there_y and left in there_x:
                pixels[tap][lane] = slab, operand, y, left
    return pixels


def rows_needed(shape: LayerShape, fields: dict[str, int], tile: int) -> int:
    """Rows on chip up to the last one that a tile's positions read."""
    y = ((tile + 1) * fields["tile_positions"] - 1) // fields["out_pitch"]
    last = y * shape.stride[0] + shape.kernel[0] - 1 - shape.padding[0]
    return sum(row <= last for row in loaded(shape, fields)[0])


def marked(steps: list[dict]) -> list[dict]:
    return [step | {"first": n == 0, "last": n == len(steps) - 1} for n, step in enumerate(steps)]


def convolution(shape: LayerShape, config: EngineConfig, random: Random, *, rate: float, size: int = 65535,
                lists: str = "", **changes: int) -> Band:
    """Group, pass, tile, winner, tap; weights of a pass lie behind each other, those of a tile are read again."""
    mask = [int(random.random() < rate) for _ in range(shape.channels)]
    fields = band_fields(shape, config, pass_winners=size, **changes)
    skip = random.randrange(16) if lists else 0
    group_lists, taps = [], [(y, x) for y in range(shape.kernel[0]) for x in range(shape.kernel[1])]
    if lists:
        fields |= {"lists": 1, "act_dense": 1, "list_once": lists == "once"}
        if lists == "once":
            group_lists = [runs_of(mask)]
        else:
            group_lists = [runs_of([bit * int(random.random() < 0.6) for bit in mask])
                           for _ in range(fields["out_groups"])]
    steps, place, nothing = [], 0, [[None] * config.rows for _ in range(VECTOR_TAPS)]
    for group in range(fields["out_groups"]):
        columns = fields["last_columns" if group == fields["out_groups"] - 1 else "group_columns"]
        # Slabs lie by winner, or by channel where there are lists.
        slabs = list(range(sum(mask)))
        if lists:
            slabs = [c for start, length in group_lists[group % len(group_lists)] for c in range(start, start + length)]
        starts = list(range(0, len(slabs), size)) or [0]
        for start in starts:
            of_pass = slabs[start:start + size]
            for tile in range(fields["tiles"]):
                last_tile, last_pass = tile == fields["tiles"] - 1, start == starts[-1]
                common = {"operand": 0, "first_pass": start == 0, "last_pass": last_pass, "last_tile": last_tile,
                          "last_group": group == fields["out_groups"] - 1, "ends_group": last_tile and last_pass,
                          "rows": rows_needed(shape, fields, tile)}
                walk = [common | {"taps": 1, "pixels": tile_pixels(shape, fields, tile, config.rows, slab, 0, y, [x]),
                                  "weights": (place + n * columns, columns)}
                        for n, (slab, (y, x)) in enumerate((slab, tap) for slab in of_pass for tap in taps)]
                steps += marked(walk or [common | {"taps": 0, "pixels": nothing, "weights": (place, 0)}])
            place += len(of_pass) * len(taps) * columns
    return Band(shape=shape, fields=fields | {"mask_skip": skip}, masks=[[0] * skip + mask],
                steps=[Step(**one) for one in steps], weight_bytes=place, lists=group_lists)


def vector(shape: LayerShape, config: EngineConfig, random: Random, *, rate: float, **changes: int) -> Band:
    """Group, channel, tile, row of taps, three taps at once; a loser is one step of nothing."""
    skip = random.randrange(16)
    masks = [[int(random.random() < rate) for _ in range(shape.channels)] for _ in range(shape.operands)]
    fields = band_fields(shape, config, mask_skip=skip, **changes)
    lanes, cols = fields["tile_positions"], list(range(shape.kernel[1]))
    pieces = [(row, cols[first:first + VECTOR_TAPS]) for row in range(shape.kernel[0])
              for first in range(0, len(cols), VECTOR_TAPS)]
    steps, place, nothing = [], 0, [[None] * lanes for _ in range(VECTOR_TAPS)]
    for output in range(shape.out_channels):
        slab = output // shape.depth_multiplier
        reads = shape.weighted * masks[0][slab] if shape.operands == 1 else 0
        for tile in range(fields["tiles"]):
            last_tile, group = tile == fields["tiles"] - 1, output // fields["group_columns"]
            ends_group = (output + 1) % fields["group_columns"] == 0 or output == shape.out_channels - 1
            common = {"first_pass": True, "last_pass": True, "last_tile": last_tile,
                      "last_group": group == fields["out_groups"] - 1, "ends_group": last_tile and ends_group}
            if shape.operands == 2:
                walk = [common | {"taps": 1, "operand": operand, "weights": (place, 0), "rows": 2 * shape.height,
                                  "pixels": tile_pixels(shape, fields, tile, lanes, slab, operand, 0, [0])
                                  if masks[operand][slab] else nothing} for operand in range(2)]
            elif not masks[0][slab]:
                walk = [common | {"taps": 0, "operand": 0, "pixels": nothing, "weights": (place, 0)}]
            else:
                walk, at = [], place
                for row, piece in pieces:
                    walk.append(common | {
                        "taps": len(piece), "operand": 0, "weights": (at, len(piece) * reads),
                        "pixels": tile_pixels(shape, fields, tile, lanes, slab, 0, row, piece)})
                    at += len(piece) * reads
            steps += marked([{"rows": rows_needed(shape, fields, tile)} | one for one in walk])
        place += shape.taps * reads
    return Band(shape=shape, fields=fields, masks=[[0] * skip + mask for mask in masks],
                steps=[Step(**one) for one in steps], weight_bytes=place)


class World:
    """What surrounds the scheduler: rows, weights and lists that arrive, flags, a drain that is busy at times.

    After :meth:`run` ``issued`` has the cycle of every step.
    """

    def __init__(self, config: EngineConfig, bands: list[Band], random: Random, *, eager: bool = False):
        self.config, self.bands, self.random, self.eager = config, bands, random, eager
        self.scheduler = Scheduler(config=config)
        self.issued: list[int] = []
        self.expected_inside: deque[tuple[int, list]] = deque()
        self.now = self.strips = self.taken = self.arrived = self.freed = 0
        self.free = True

    def chance(self, share: float) -> bool:
        return self.eager or self.random.random() < share

    def run(self) -> None:
        simulate(self.scheduler, self.bench, background=[self.give_lists, self.answer_flags, self.take_descriptors])

    async def bench(self, ctx) -> None:
        scheduler, base = self.scheduler, 0
        self.to_load = sum(0 if band.reused else band.weight_bytes for band in self.bands)
        for number, band in enumerate(self.bands):
            ctx.set(scheduler.i_descriptor.payload, descriptor(**band.fields))
            ctx.set(scheduler.winners, sum(band.masks[0]))
            ctx.set(scheduler.slot, number % 2)
            ctx.set(scheduler.i_descriptor.valid, 1)
            while not ctx.get(scheduler.i_descriptor.ready):
                await self.cycle(ctx, None, 0)
            await self.cycle(ctx, None, 0)
            ctx.set(scheduler.i_descriptor.valid, 0)
            self.strips = 0
            steps = list(band.steps)
            while not ctx.get(scheduler.idle):
                await self.cycle(ctx, band, base, steps)
            assert not steps
            if not band.fields["weight_keep"]:
                base += band.weight_bytes
                assert self.freed == base
        assert self.arrived == base

    async def cycle(self, ctx, band: Band | None, base: int, steps: list[Step] = ()) -> None:
        scheduler, config = self.scheduler, self.config
        loads = band is not None and self.strips < band.fields["strips"] and not band.fields["act_resident"] \
            and self.chance(0.1)
        ctx.set(scheduler.strip_loaded, loads)
        room = min(config.weight_buffer_bytes - (self.arrived - self.freed), self.to_load)
        amount = min(room, config.axi_bytes if self.eager else self.random.choice((0, self.random.randint(0, 5))))
        ctx.set(scheduler.weights_loaded, amount)
        free = self.chance(0.8)
        ctx.set(scheduler.next_array_free, free)
        ctx.set(scheduler.next_vector_free, free)
        _, _, issue, active, freed, inside, array_issued, vector_issued, *rest = await ctx.tick().sample(
            scheduler.issue, ~scheduler.idle, scheduler.weights_freed, scheduler.lane_inside, scheduler.array_issued,
            scheduler.vector_issued, scheduler.waits_activations, scheduler.waits_weights, scheduler.waits_drain,
            scheduler.vector, scheduler.first, scheduler.last, scheduler.operand, scheduler.taps, scheduler.tile,
            scheduler.act_offset, scheduler.weight_offset)
        assert sum(rest[:3]) == (active and not issue), "exactly one reason not to issue"
        self.check_inside(inside)
        vector, _, last = rest[3:6]
        assert (array_issued, vector_issued) == (issue and last and not vector, issue and last and vector)
        if issue:
            self.issued.append(self.now)
            self.check(band, base, steps.pop(0), self.free, *rest[3:])
        self.now += 1
        self.free = free
        self.strips += loads
        self.arrived, self.to_load, self.freed = self.arrived + amount, self.to_load - amount, self.freed + freed

    def check(
            self, band, base, step, free, vector, first, last, operand, taps, tile, act_offset, weight_offset) -> None:
        """One step is what it must be, at a time when it may be; which lanes are inside is told two cycles later."""
        fields = band.fields
        assert (first, last, operand, taps) == (step.first, step.last, step.operand, step.taps)
        assert vector == (fields["op"] == OP_VECTOR)
        if step.last:
            assert (tile.first_pass, tile.last_pass) == (step.first_pass, step.last_pass)
            assert (tile.last, tile.last_group, tile.ends_group) == (step.last_tile, step.last_group, step.ends_group)
        place, size = step.weights
        if size:
            assert weight_offset == (base + place) % self.config.weight_buffer_bytes
            assert base + place + size <= self.arrived, "a step before its weights"
        assert free or not last, "the last step of a tile, before its sums may come"
        if not fields["act_resident"]:
            there = min(self.strips * fields["strip_rows"], fields["in_rows"])
            assert step.rows <= there, "a tile before its rows"
        self.expected_inside.append((self.now + 2, step.pixels))
        for tap, of_tap in enumerate(step.pixels):
            for lane, pixel in enumerate(of_tap):
                if pixel is not None:
                    slab, *rest = pixel
                    offset = act_offset + lane * fields["lane_step"] + tap
                    offset -= fields["act_base"] + slab * fields["slab_bytes"]
                    assert band.places[offset] == tuple(rest)

    def check_inside(self, inside: int) -> None:
        """The lanes of the step issued two cycles before."""
        if not self.expected_inside or self.expected_inside[0][0] != self.now:
            return
        _, pixels = self.expected_inside.popleft()
        for tap, of_tap in enumerate(pixels):
            for lane, pixel in enumerate(of_tap):
                bit = inside >> tap * self.config.position_lanes + lane & 1
                assert bit == (pixel is not None), (tap, lane)

    async def give_lists(self, ctx) -> None:
        scheduler = self.scheduler
        for runs in [one for band in self.bands for one in band.lists]:
            while not (ctx.get(scheduler.list_free) and self.chance(0.3)):
                await ctx.tick()
            for start, length in runs:
                ctx.set(scheduler.run_valid, 1)
                ctx.set(scheduler.run, {"start": start, "length": length})
                await ctx.tick()
                ctx.set(scheduler.run_valid, 0)
            ctx.set(scheduler.list_done, 1)
            await ctx.tick()
            ctx.set(scheduler.list_done, 0)
        while True:
            await ctx.tick()

    async def answer_flags(self, ctx) -> None:
        scheduler = self.scheduler
        slots: dict[int, Band] = {}
        later = [0, 0]
        while True:
            _, _, take, slot, ask, channel, flag_slot = await ctx.tick().sample(
                scheduler.i_descriptor.valid & scheduler.i_descriptor.ready, scheduler.slot, scheduler.ask,
                scheduler.flag_channel, scheduler.flag_slot)
            if take:
                slots[slot] = self.bands[self.taken]
                self.taken += 1
            masks = slots[flag_slot].masks if flag_slot in slots else []
            if ask:
                ctx.set(scheduler.flags, later.pop(0))
                later.append(sum((channel < len(mask) and mask[channel]) << n for n, mask in enumerate(masks)))

    async def take_descriptors(self, ctx) -> None:
        scheduler, rule = self.scheduler, StallRule("o_descriptor")
        expected = [descriptor(**band.fields).as_bits() for band in self.bands]
        while True:
            ready = self.chance(0.2)
            ctx.set(scheduler.o_descriptor.ready, ready)
            _, _, valid, fields = await ctx.tick().sample(
                scheduler.o_descriptor.valid, scheduler.o_descriptor.p.as_value())
            if rule.check(valid, ready, fields):
                assert fields == expected.pop(0)
