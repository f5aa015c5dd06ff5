"""The walks over taps against nested loops in Python."""

from dataclasses import dataclass
from random import Random

import pytest

from hw.config import VECTOR_TAPS
from hw.taps import ConvolutionTaps, VectorTaps

from .hw_helpers import descriptor, simulate

FIELDS = ("offset", "x", "y", "phase_x", "phase_y", "taps", "operand", "first", "last")


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """A kernel over planes split by phases; strides of these, kernel and padding are (rows, columns)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    pitch: int
    plane_bytes: int
    slab_bytes: int

    def tap(self, row: int, col: int) -> dict[str, int]:
        """Where the tap of position 0 lies: its coordinates in the image, divided by the strides."""
        (y, phase_y), (x, phase_x) = (divmod(tap - pad, step) for tap, pad, step in zip(
            (row, col), self.padding, self.stride, strict=True))
        plane = phase_y * self.stride[1] + phase_x
        return {"offset": plane * self.plane_bytes + y * self.pitch + x, "x": x, "y": y, "phase_x": phase_x,
                "phase_y": phase_y}

    def fields(self) -> dict[str, int]:
        """The descriptor's, as their meanings say."""
        (rows, cols), (step_y, step_x), first = self.kernel, self.stride, self.tap(0, 0)
        return {
            "kernel_h": rows, "kernel_w": cols, "stride_y": step_y, "stride_x": step_x, "pitch": self.pitch,
            "plane_bytes": self.plane_bytes, "slab_bytes": self.slab_bytes, "phase_y": first["phase_y"],
            "phase_x": first["phase_x"], "tap_y": first["y"], "tap_x": first["x"],
            # To the next sub-plane, or from the last one to the first, a byte or a row further.
            "step_x": self.plane_bytes, "step_x_wrap": 1 - (step_x - 1) * self.plane_bytes,
            "step_y": step_x * self.plane_bytes,
            "step_y_wrap": self.pitch - (step_y - 1) * step_x * self.plane_bytes,
        }


def random_geometry(random: Random, largest: int = 11, *, split_columns: bool = True) -> Geometry:
    """Rows split by any stride; columns, too, unless they are interleaved, as the vector unit's are at any stride."""
    stride = random.randint(1, 4), random.randint(1, 4) if split_columns else 1
    kernel = tuple(random.choice((1, 2, 3, random.randint(1, largest))) for _ in range(2))
    padding = tuple(random.randrange(size) for size in kernel)
    if largest > 11:
        padding = tuple(min(pad, 100) for pad in padding)
    pitch, plane = random.randint(1, 300), random.randint(1, 5000)
    return Geometry(kernel=kernel, stride=stride, padding=padding, pitch=pitch, plane_bytes=plane,
                    slab_bytes=stride[0] * stride[1] * plane)


def convolution_steps(geometry: Geometry, slab: int, channels: int) -> list[dict[str, int]]:
    """Channel, row, column; one step of nothing where there is no channel."""
    steps = []
    for channel in range(channels):
        for row in range(geometry.kernel[0]):
            for col in range(geometry.kernel[1]):
                tap = geometry.tap(row, col)
                steps.append(tap | {"offset": slab + channel * geometry.slab_bytes + tap["offset"], "taps": 1,
                                    "operand": 0})
    return ends_marked(steps or [{"taps": 0, "operand": 0}])


def vector_steps(geometry: Geometry, slab: int, *, empty: bool) -> list[dict[str, int]]:
    """Row, then ``VECTOR_TAPS`` neighbouring columns at once."""
    steps = []
    for row in range(geometry.kernel[0]):
        for col in range(0, geometry.kernel[1], VECTOR_TAPS):
            tap = geometry.tap(row, col)
            steps.append(tap | {"offset": slab + tap["offset"], "operand": 0,
                                "taps": min(VECTOR_TAPS, geometry.kernel[1] - col)})
    return ends_marked([{"taps": 0, "operand": 0}] if empty else steps)


def addition_steps(slab: int, distance: int) -> list[dict[str, int]]:
    """One tap of each operand, losers' too: they are made zero elsewhere."""
    place = {"x": 0, "y": 0, "phase_x": 0, "phase_y": 0, "taps": 1}
    return ends_marked([place | {"offset": slab, "operand": 0}, place | {"offset": slab + distance, "operand": 1}])


def ends_marked(steps: list[dict[str, int]]) -> list[dict[str, int]]:
    return [step | {"first": n == 0, "last": n == len(steps) - 1} for n, step in enumerate(steps)]


async def describe(ctx, walk, fields: dict[str, int]) -> None:
    """Another band, when all steps of the one before have been issued."""
    await ctx.tick()
    ctx.set(walk.advance, 0)
    ctx.set(walk.descriptor, descriptor(**fields))


def load(ctx, walk, geometry: Geometry, slab: int) -> None:
    """A strobe, in this cycle."""
    ctx.set(walk.load, 1)
    ctx.set(walk.base, (slab + geometry.tap(0, 0)["offset"]) % (1 << 24))


async def check_steps(ctx, walk, steps: list[dict[str, int]], random: Random, **members: int) -> None:
    """Each stands until it is issued; the last is still in its cycle afterwards. The members are those of the walk."""
    await ctx.tick()
    for name, value in members.items():
        ctx.set(getattr(walk, name), value)
    ctx.set(walk.load, 0)
    ctx.set(walk.advance, 0)
    for number, step in enumerate(steps):
        while random.random() < 0.2:
            await ctx.tick()
        found = {name: ctx.get(getattr(walk.step, name)) for name in FIELDS}
        expected = step | ({"offset": step["offset"] % (1 << 24)} if "offset" in step else {})
        assert {name: found[name] for name in expected} == expected, number
        ctx.set(walk.advance, 1)
        if number < len(steps) - 1:
            await ctx.tick()
            ctx.set(walk.advance, 0)


@pytest.mark.parametrize("seed", range(6))
def test_convolution(seed):
    """The next walk is loaded with a tile's last step, as the scheduler does it."""
    walk, random = ConvolutionTaps(), Random(seed)

    async def bench(ctx):
        for _ in range(25):
            geometry = random_geometry(random)
            await describe(ctx, walk, geometry.fields())
            for _ in range(random.randint(1, 3)):
                slab, channels = random.randrange(1 << 20), random.choice((0, 1, 2, random.randint(1, 8)))
                ctx.set(walk.channels, channels)
                load(ctx, walk, geometry, slab)
                await check_steps(ctx, walk, convolution_steps(geometry, slab, channels), random)

    simulate(walk, bench)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("lane_step", [1, 2, 3, 4])
@pytest.mark.parametrize("largest", [11, 255])
def test_vector(seed, lane_step, largest):
    """Every tap of a channel once, losers one step without any, windows up to the largest average.

    A row of taps is walked from one to its neighbour, whatever the stride.
    """
    walk, random = VectorTaps(), Random(f"{seed} {lane_step} {largest}")

    async def bench(ctx):
        for _ in range(25 if largest == 11 else 6):
            geometry = random_geometry(random, largest, split_columns=False)
            await describe(ctx, walk, geometry.fields() | {"lane_step": lane_step})
            for _ in range(random.randint(1, 3)):
                slab, empty = random.randrange(1 << 20), random.random() < 0.25
                load(ctx, walk, geometry, slab)
                steps = vector_steps(geometry, slab, empty=empty)
                assert empty or sum(step["taps"] for step in steps) == geometry.kernel[0] * geometry.kernel[1]
                assert empty or len(steps) == geometry.kernel[0] * -(-geometry.kernel[1] // VECTOR_TAPS)
                await check_steps(ctx, walk, steps, random, empty=empty)

    simulate(walk, bench)


@pytest.mark.parametrize("empty", [0, 1])
def test_addition(empty):
    """Two steps, of a first operand that loses too."""
    walk, random = VectorTaps(), Random(empty)

    async def bench(ctx):
        for _ in range(40):
            pitch, plane = random.randint(1, 300), random.randint(1, 5000)
            geometry = Geometry(kernel=(1, 1), stride=(1, 1), padding=(0, 0), pitch=pitch, plane_bytes=plane,
                                slab_bytes=2 * plane)
            slab = random.randrange(1 << 20)
            await describe(ctx, walk, geometry.fields() | {"add": 1, "step_y_wrap": plane})
            load(ctx, walk, geometry, slab)
            await check_steps(ctx, walk, addition_steps(slab, plane), random, empty=empty)

    simulate(walk, bench)
