"""The unpacker against the documented plane layout, byte by byte."""

from random import Random

import pytest

from hw.unpacker import Unpacker

from .hw_helpers import bytes_of, descriptor, simulate


def beats_of(values: list[int], lane: int, axi_bytes: int, *, destination: int, start: int,
             strip_end: int) -> list[dict]:
    """Bytes of a segment whose first lies in ``lane``, as the reader delivers them; junk in the other lanes."""
    beats, at = [], 0
    while at < len(values) or not beats:
        part = values[at:at + axi_bytes - lane]
        data = Random(at).getrandbits(8 * axi_bytes)
        for n, value in enumerate(part, lane):
            data = data & ~(0xFF << 8 * n) | value << 8 * n
        beats.append({"kind": 3, "data": data, "first": lane, "count": len(part), "destination": destination + at,
                      "start": int(start and at == 0),
                      "strip_end": int(strip_end and at + len(part) == len(values))})
        at, lane = at + len(part), 0
    return beats


def unpack(fields: dict[str, int], beats: list[dict], axi_bytes: int, *, share: float = 1) -> tuple[dict, list, int]:
    """Bytes written by offset; what had been written at each ``strip_loaded``; cycles from first to last beat."""
    component, random = Unpacker(axi_bytes=axi_bytes), Random(str(fields))
    written, snapshots, times = {}, [], []
    fields = {"load_phases": fields["stride_x"]} | fields

    async def bench(ctx):
        stalled = 0
        ctx.set(component.descriptor, descriptor(**fields))
        await ctx.tick().repeat(3)
        queue, offered, idle = list(beats), False, 0
        for now in range(100_000):
            if not queue:
                idle += 1
                if idle == 30:
                    assert ctx.get(component.idle)
                    return
            offered = bool(queue) and (offered or random.random() < share)
            ctx.set(component.i_beat.valid, offered)
            if offered:
                ctx.set(component.i_beat.payload, queue[0])
            stall = random.random() >= share
            ctx.set(component.stall, stall)
            _, _, ready, enable, offset, data, first, count, loaded = await ctx.tick().sample(
                component.i_beat.ready, component.write_enable, component.write_offset, component.write_data,
                component.write_first, component.write_count, component.strip_loaded)
            if loaded:  # readable now: written in an earlier cycle
                snapshots.append(dict(written))
            assert not (enable and stalled), "a write in the cycle after a stall"
            stalled = stall
            if enable:
                for n, value in enumerate(bytes_of(data, first + count)[first:]):
                    assert offset + n not in written, f"offset {offset + n} written twice"
                    written[offset + n] = value
            if offered and ready:
                queue.pop(0)
                offered = False
                times.append(now)

    simulate(component, bench)
    return written, snapshots, times[-1] - times[0] + 1


def expected_bytes(plane: list[list[int]], fields: dict[str, int], destination: int) -> dict[int, int]:
    """Byte (y, x) lies in the sub-plane of its phases, at the row pitch; columns of later phases are left out."""
    sy, sx = fields["stride_y"], fields["stride_x"]
    return {destination + (y % sy * sx + x % sx) * fields["plane_bytes"] + y // sy * fields["pitch"] + x // sx: value
            for y, row in enumerate(plane) for x, value in enumerate(row) if x % sx < fields.get("load_phases", sx)}


@pytest.mark.parametrize("axi_bytes", [8, 16])
@pytest.mark.parametrize("stride_x", [1, 2, 3, 4])
@pytest.mark.parametrize("stride_y", [1, 2, 3, 4])
def test_strided_planes(axi_bytes, stride_y, stride_x):
    """Two channels, in rows or in one piece, of any width and alignment, of all phases of columns or the first ones."""
    random = Random(f"{axi_bytes} {stride_y} {stride_x}")
    for case in range(6):
        rows, cols = random.randint(1, 9), random.choice((1, 2, 3, random.randint(1, 40)))
        pitch = -(-cols // stride_x) + random.randrange(3)
        plane_bytes = -(-rows // stride_y) * pitch
        fields = {"stride_y": stride_y, "stride_x": stride_x, "pitch": pitch, "plane_bytes": plane_bytes,
                  "in_cols": cols}
        if case % 3 == 2:
            fields["load_phases"] = random.randint(1, stride_x)
        beats, expected = [], {}
        for channel in range(2):
            destination = 1000 + channel * stride_y * stride_x * plane_bytes
            plane = [random.choices(range(256), k=cols) for _ in range(rows)]
            expected |= expected_bytes(plane, fields, destination)
            pieces = plane if case % 2 else [[value for row in plane for value in row]]
            for n, piece in enumerate(pieces):
                beats += beats_of(piece, random.randrange(axi_bytes), axi_bytes, start=n == 0, destination=destination,
                                  strip_end=0)
        beats += beats_of([], 0, axi_bytes, destination=0, start=0, strip_end=1)
        written, snapshots, _ = unpack(fields, beats, axi_bytes, share=random.choice((0.5, 1)))
        assert written == expected
        assert snapshots == [expected]


@pytest.mark.parametrize("axi_bytes", [8, 16])
def test_strips(axi_bytes):
    """A strip of a channel goes on where the one before has ended; each is readable when it is announced."""
    random = Random(axi_bytes)
    cols, pitch, strip_rows, strips, channels, stride = 11, 7, 4, 3, 2, 2
    plane_bytes = strip_rows // stride * strips * pitch
    fields = {"stride_y": stride, "stride_x": stride, "pitch": pitch, "plane_bytes": plane_bytes, "in_cols": cols}
    beats, expected, after = [], {}, []
    for strip in range(strips):
        for channel in range(channels):
            destination = channel * stride * stride * plane_bytes + strip * strip_rows // stride * pitch
            plane = [random.choices(range(256), k=cols) for _ in range(strip_rows)]
            expected |= expected_bytes(plane, fields, destination)
            beats += beats_of([value for row in plane for value in row], random.randrange(axi_bytes), axi_bytes,
                              destination=destination, start=1, strip_end=0)
        beats += beats_of([], 0, axi_bytes, destination=0, start=0, strip_end=1)
        after.append(dict(expected))
    written, snapshots, _ = unpack(fields, beats, axi_bytes)
    assert written == expected and snapshots == after


@pytest.mark.parametrize("axi_bytes", [8, 16])
def test_copied_planes(axi_bytes):
    """A beat a cycle, to where it says."""
    random, beats, expected = Random(axi_bytes), [], {}
    for piece in range(20):
        values = random.choices(range(256), k=random.randint(1, 100))
        destination = 10_000 - 200 * piece
        beats += beats_of(values, random.randrange(axi_bytes), axi_bytes, destination=destination, start=1, strip_end=0)
        expected |= {destination + n: value for n, value in enumerate(values)}
    beats[-1]["strip_end"] = 1
    fields = {"act_copy": 1, "stride_y": 1, "stride_x": 1, "pitch": 9, "plane_bytes": 99, "in_cols": 9}
    written, snapshots, cycles = unpack(fields, beats, axi_bytes)
    assert written == expected and snapshots == [expected]
    assert cycles == len(beats)


@pytest.mark.parametrize("stride_x", [1, 2, 3, 4])
def test_throughput(stride_x):
    """One piece (the part of a beat that lies in one row) for each ``stride_x`` cycles."""
    cols, rows = 24, 5
    fields = {"stride_y": 1, "stride_x": stride_x, "pitch": cols, "plane_bytes": rows * cols, "in_cols": cols}
    beats = beats_of([1] * (rows * cols), 4, 8, destination=0, start=1, strip_end=1)
    pieces = rows * 4  # rows start in the middle of a beat: 4 + 8 + 8 + 4 bytes
    _, _, cycles = unpack(fields, beats, 8)
    assert cycles == pieces * stride_x - (stride_x - 1)  # counted from the first beat's end
