"""The walks over taps against nested loops in Python."""

from dataclasses import dataclass
from random import Random

import pytest

from hw.config import VECTOR_TAPS
from hw.taps import TapWalk

from .hw_helpers import StallRule, descriptor, simulate

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
    """One tap of each operand."""
    place = {"x": 0, "y": 0, "phase_x": 0, "phase_y": 0, "taps": 1}
    return ends_marked([place | {"offset": slab, "operand": 0}, place | {"offset": slab + distance, "operand": 1}])


def ends_marked(steps: list[dict[str, int]]) -> list[dict[str, int]]:
    return [step | {"first": n == 0, "last": n == len(steps) - 1} for n, step in enumerate(steps)]


def slab_run(geometry: Geometry, slab: int, channels: int, weights: int) -> dict[str, int]:
    """Slabs to walk, a tile of their own."""
    return {"offset": (slab + geometry.tap(0, 0)["offset"]) % (1 << 24), "channels": channels,
            "weights": weights if channels else 0, "first": 1, "last": 1, "tile": {}, "loses": 0}


def weighted(run: dict[str, int], steps: list[dict[str, int]], *, vector: bool) -> list[tuple[dict[str, int], int]]:
    """The steps with the bytes of weights that each of them reads."""
    return [(step, step["taps"] if vector and run["weights"] else run["weights"]) for step in steps]


async def check_band(ctx, walk: TapWalk, fields: dict[str, int], bands_runs: list, random: Random, *, vector: bool,
                     eager: bool = False) -> int:
    """Runs of a band, offered and walked with pauses unless ``eager``: every step and the weights told ahead of it.

    Returns the cycles from the first run to the last step.
    """
    ctx.set(walk.descriptor, descriptor(**fields))
    ctx.set(walk.vector, vector)
    await ctx.tick().repeat(2)
    runs = [run for run, _ in bands_runs]
    expected = [one for run, steps in bands_runs for one in weighted(run, steps, vector=vector)]
    rule, told, cycles = StallRule("o_step"), 0, 0
    while expected or ctx.get(walk.o_step.valid):
        offers = bool(runs) and (eager or random.random() < 0.7)
        if offers:
            ctx.set(walk.i_run.payload, runs[0])
        ctx.set(walk.i_run.valid, offers)
        ctx.set(walk.o_step.ready, ctx.get(walk.o_step.valid) and (eager or random.random() < 0.8))
        if ctx.get(walk.o_step.valid):
            step, weights = expected[0]
            found = {name: ctx.get(getattr(walk.o_step.p, name)) for name in FIELDS}
            wanted = step | ({"offset": step["offset"] % (1 << 24)} if "offset" in step else {})
            assert {name: found[name] for name in wanted} == wanted, len(expected)
            assert told == weights
        else:
            assert told == 0
        _, _, taken, valid, ready, payload, moves, next_weights = await ctx.tick().sample(
            walk.i_run.valid & walk.i_run.ready, walk.o_step.valid, walk.o_step.ready, walk.o_step.p.as_value(),
            walk.moves, walk.next_weights)
        assert moves == (ready or not valid)
        told = next_weights if moves else told
        if taken:
            runs.pop(0)
        if rule.check(valid, ready, payload):
            expected.pop(0)
        cycles += 1
    ctx.set(walk.i_run.valid, 0)
    assert not runs
    return cycles


@pytest.mark.parametrize("seed", range(6))
def test_convolution(seed):
    """Run after run, as they are offered."""
    walk, random = TapWalk(), Random(seed)

    async def bench(ctx):
        for _ in range(25):
            geometry, runs = random_geometry(random), []
            for _ in range(random.randint(1, 3)):
                slab, channels = random.randrange(1 << 20), random.choice((0, 1, 2, random.randint(1, 8)))
                runs.append((slab_run(geometry, slab, channels, random.randint(1, 64)),
                             convolution_steps(geometry, slab, channels)))
            await check_band(ctx, walk, geometry.fields(), runs, random, vector=False)

    simulate(walk, bench)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("lane_step", [1, 2, 3, 4])
@pytest.mark.parametrize("largest", [11, 255])
def test_vector(seed, lane_step, largest):
    """Every tap of a channel once, losers one step without any, windows up to the largest average.

    A row of taps is walked from one to its neighbour, whatever the stride.
    """
    walk, random = TapWalk(), Random(f"{seed} {lane_step} {largest}")

    async def bench(ctx):
        for _ in range(25 if largest == 11 else 6):
            geometry, runs = random_geometry(random, largest, split_columns=False), []
            weights = random.choice((0, min(VECTOR_TAPS, geometry.kernel[1])))
            for _ in range(random.randint(1, 3)):
                slab, empty = random.randrange(1 << 20), random.random() < 0.25
                steps = vector_steps(geometry, slab, empty=empty)
                assert empty or sum(step["taps"] for step in steps) == geometry.kernel[0] * geometry.kernel[1]
                assert empty or len(steps) == geometry.kernel[0] * -(-geometry.kernel[1] // VECTOR_TAPS)
                runs.append((slab_run(geometry, slab, 1 - empty, weights), steps))
            await check_band(ctx, walk, geometry.fields() | {"lane_step": lane_step}, runs, random, vector=True)

    simulate(walk, bench)


def test_addition():
    """Two steps, of one tap each."""
    walk, random = TapWalk(), Random(0)

    async def bench(ctx):
        for _ in range(40):
            pitch, plane = random.randint(1, 300), random.randint(1, 5000)
            geometry = Geometry(kernel=(1, 1), stride=(1, 1), padding=(0, 0), pitch=pitch, plane_bytes=plane,
                                slab_bytes=2 * plane)
            slab = random.randrange(1 << 20)
            await check_band(ctx, walk, geometry.fields() | {"add": 1, "step_y_wrap": plane},
                             [(slab_run(geometry, slab, 1, 0), addition_steps(slab, plane))], random, vector=True)

    simulate(walk, bench)


@pytest.mark.parametrize("vector", [False, True])
def test_a_step_a_cycle(vector):
    """No gap within a run or between runs, of which some are a single step."""
    walk, random = TapWalk(), Random(0)

    async def bench(ctx):
        for kernel in ((1, 1), (1, 3), (2, 1), (3, 5)):
            geometry = Geometry(kernel=kernel, stride=(1, 1), padding=(0, 0), pitch=20, plane_bytes=400, slab_bytes=400)
            runs = []
            for channels in (1, 0, 1, 2, 0, 0, 3):
                channels = min(channels, 1) if vector else channels
                steps = vector_steps(geometry, 0, empty=not channels) if vector else convolution_steps(
                    geometry, 0, channels)
                runs.append((slab_run(geometry, 0, channels, 0), steps))
            cycles = await check_band(ctx, walk, geometry.fields(), runs, random, vector=vector, eager=True)
            assert cycles == 1 + sum(len(steps) for _, steps in runs)

    simulate(walk, bench)
