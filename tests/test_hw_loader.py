"""The segment walker, winners' runs to segments, and the loader, descriptors to what is read, against Python."""

from collections import deque
from random import Random

import pytest
from amaranth.hdl import ResetInserter, Signal

from hw.descriptor import DESCRIPTOR_BYTES, FIELDS, OP_CONVOLUTION, OP_VECTOR, MaskSource, pack
from hw.loader import PARAMETER_BANKS, Loader, SegmentWalker
from hw.reader import Kind

from .hw_helpers import POSITIVE, SMALL, descriptor, highest, is_malformed, receive, runs_of, send, simulate


def expected_segments(job: dict[str, int], fields: dict[str, int], mask: list[int]) -> list[tuple]:
    """(kind, address, bytes, destination, start, strip_end) in order; weights' destinations do not matter."""
    runs, segments, destination = runs_of(mask), [], job["destination"]
    if job["weights"]:
        return [(Kind.WEIGHTS, job["base"] + start * job["stride"], length * job["stride"]) for start, length in runs]
    for start, length in runs:
        if fields["act_dense"]:
            destination = job["destination"] + start * fields["slab_bytes"]
        if fields["act_merge"]:
            size = length * job["stride"]
            segments.append((Kind.ACTIVATIONS, job["base"] + start * job["stride"], size, destination, 1, 0))
            destination += size
            continue
        for channel in range(start, start + length):
            address = job["base"] + channel * fields["in_plane"]
            if fields["act_contiguous"]:
                segments.append((Kind.ACTIVATIONS, address, job["strip_load"], destination, 1, 0))
            else:
                segments += [(Kind.ACTIVATIONS, address + row * fields["in_row_pitch"], fields["in_cols"], destination,
                              int(row == 0), 0) for row in range(job["strip_rows"])]
            destination += fields["slab_bytes"]
    return [*segments, (Kind.ACTIVATIONS, None, 0, None, None, 1)]


@pytest.mark.parametrize("mode", ["weights", "merge", "contiguous", "rows"])
@pytest.mark.parametrize("dense", [0, 1])
@pytest.mark.parametrize("share", [1, 0.3])
def test_segments(mode, dense, share):
    """Several walks over the same list, of any mask; every byte of the winners, and no other, in order.

    Slabs lie by winner, or by channel (dense).
    """
    walker, random = SegmentWalker(), Random(f"{mode} {dense} {share}")
    runs: list = []

    async def jobs(ctx):
        for _ in range(12):
            rate = random.choice((0, 0.2, 0.5, 0.9, 1))
            mask = [int(random.random() < rate) for _ in range(random.randint(1, 40))]
            plane = random.randint(20, 5000)
            fields = {"act_dense": dense, "act_merge": mode == "merge", "act_contiguous": mode == "contiguous",
                      "in_plane": plane, "in_row_pitch": random.randint(1, 60), "in_cols": random.randint(1, 60),
                      "slab_bytes": random.randint(1, 3000)}
            job = {"weights": mode == "weights", "base": random.randrange(1 << 30),
                   "destination": random.randrange(1 << 16),
                       "stride": plane, "strip_load": random.randint(1, 2000), "strip_rows": random.randint(1, 5)}
            runs[:] = runs_of(mask)
            ctx.set(walker.descriptor, descriptor(**fields))
            wanted = expected_segments(job, fields, mask)
            found.clear()
            count[0] = len(wanted)
            await send(ctx, walker.i_job, [job])
            while count[0]:
                await ctx.tick()
            for segment, want in zip(found, wanted, strict=True):
                parts = (segment.kind, segment.address, segment.bytes, segment.destination, segment.start,
                         segment.strip_end)
                assert all(part == one for part, one in zip(parts, want, strict=False) if one is not None)
                assert not job["weights"] or not segment.strip_end
            await ctx.tick().repeat(3)
            assert not ctx.get(walker.o_segment.valid)

    async def taker(ctx):
        while True:
            if count[0]:
                found.extend(await receive(ctx, walker.o_segment, count[0], random, share))
                count[0] = 0
            await ctx.tick()

    async def winner_list(ctx):
        """A list's walk as the winner list does it: a rewind, then the runs, one of them waiting at a time."""
        at = 0
        while True:
            left = runs[at:]
            offered = bool(left) and random.random() < 0.8
            ctx.set(walker.i_run.valid, offered)
            ctx.set(walker.exhausted, not left)
            if offered:
                ctx.set(walker.i_run.payload, {"start": left[0][0], "length": left[0][1]})
            _, _, rewind, ready = await ctx.tick().sample(walker.rewind, walker.i_run.ready)
            at = 0 if rewind else at + (offered and ready)

    count, found = [0], []
    simulate(walker, jobs, background=[taker, winner_list])


def test_a_segment_a_cycle():
    walker = SegmentWalker()

    async def bench(ctx):
        ctx.set(walker.descriptor, descriptor(act_contiguous=1, in_plane=64, slab_bytes=64))
        ctx.set(walker.o_segment.ready, 1)
        ctx.set(walker.i_job.payload, {"weights": 0, "base": 0, "destination": 0, "stride": 64, "strip_load": 64,
                                       "strip_rows": 8})
        ctx.set(walker.i_job.valid, 1)
        ctx.set(walker.i_run.valid, 1)
        ctx.set(walker.i_run.payload, {"start": 0, "length": 1})
        times = []
        for now in range(60):
            _, _, valid = await ctx.tick().sample(walker.o_segment.valid)
            if valid:
                times.append(now)
        assert times == list(range(times[0], 60)) and times[0] <= 4

    simulate(walker, bench)


def random_fields(random: Random) -> dict[str, int]:
    """A descriptor that the loader must take; what it does not look at is zero or one."""
    kind = random.choice(("convolution", "convolution", "lists", "vector", "pool", "addition"))
    columns, groups = SMALL.columns, random.randint(1, 4)
    fields = {field.name: 0 for field in FIELDS} | dict.fromkeys(POSITIVE, 1) | {
        "op": OP_CONVOLUTION if kind in ("convolution", "lists") else OP_VECTOR, "barrier": random.random() < 0.3,
        "act_prefetch": random.randrange(2), "in_channels": random.randint(30, 200), "mask_skip": random.randrange(16),
        "mask_source": random.randrange(3), "mask_base": 2 * random.randrange(1 << 20), "sum_end": 1, "score_final": 1,
        "in_base": random.randrange(1 << 32), "in_plane": random.randrange(1 << 16), "strips": random.randint(1, 4),
        "strip_rows": random.randint(1, 9), "last_strip_rows": random.randint(1, 9),
        "strip_load": random.randrange(1 << 16), "last_strip_load": random.randrange(1 << 16),
        "strip_pitch": random.randrange(1 << 32), "strip_bytes": random.randrange(1 << 16),
        "act_base": random.randrange(1 << 16), "weight_base": random.randrange(1 << 32),
        "weight_group": random.randrange(1 << 32), "weight_block": random.randint(1, 500),
        "weight_block_last": random.randint(1, 500), "parameter_base": 16 * random.randrange(1 << 20),
        "out_groups": groups, "group_columns": random.randint(1, columns), "last_columns": random.randint(1, columns),
        "out_channels": 1000, "depth_multiplier": 1,
    }
    if kind == "convolution":
        fields |= {"sum_end": random.randrange(2), "weight_reuse": random.random() < 0.2,
                   "act_resident": random.random() < 0.2}
    if kind == "lists":
        fields |= {"lists": 1, "act_dense": 1, "strips": 1, "list_once": random.randrange(2),
                   "block_mask_base": 2 * random.randrange(1 << 20), "block_mask_group": 2 * random.randrange(100),
                   "act_resident": random.random() < 0.5}
    if kind == "pool":
        fields |= {"unit_weight": 64, "parameter_shared": 1}
    if kind == "addition":
        fields |= {"add": 1, "strips": 2, "parameter_shared": 1, "mask_source": random.randrange(2),
                   "mask_source_2": random.randrange(2), "mask_base_2": 2 * random.randrange(1 << 20)}
    if fields["act_resident"] and fields["mask_source"] == MaskSource.KEEP:
        fields["mask_source"] = MaskSource.ALL
    if not fields["lists"] and not fields["add"] and fields["mask_source"] == MaskSource.ALL:
        fields |= {"weights_ahead": random.randrange(2)}
    assert not is_malformed(fields, SMALL)
    return fields


def expected_events(fields: dict[str, int], *, ahead: bool) -> list[tuple]:
    """What is asked for, in order. ``ahead``: before everything else is in memory, where that may be."""
    vector, resident = fields["op"] == OP_VECTOR, fields["act_resident"]
    mask_bytes = (fields["in_channels"] + 7) // 8

    def build(source: int, base: int, **flags: int) -> list[tuple]:
        mask = [("segment", Kind.MASK, base, mask_bytes)] if source == MaskSource.MEMORY else []
        return [("build", source == MaskSource.ALL, flags.get("operand", 0), flags.get("blocks", 0)), *mask]

    def strip(number: int) -> tuple:
        last = number == fields["strips"] - 1
        load, rows = (("last_strip_load", "last_strip_rows") if last else ("strip_load", "strip_rows"))
        return ("strip", (fields["in_base"] + number * fields["strip_pitch"]) % (1 << 32),
                (fields["act_base"] + number * fields["strip_bytes"]) % (1 << 24), fields["in_plane"], fields[load],
                fields[rows])

    def group(number: int) -> list[tuple]:
        last, events = number == fields["out_groups"] - 1, []
        if fields["lists"] and not fields["list_once"]:
            events += build(MaskSource.MEMORY, fields["block_mask_base"] + number * fields["block_mask_group"],
                            blocks=1)
        if fields["sum_end"]:
            columns = fields["last_columns" if last else "group_columns"]
            base = fields["parameter_base"]
            if fields["parameter_shared"]:
                columns = 1
            else:
                base += 16 * number * fields["group_columns"]
            events.append(("segment", Kind.PARAMETERS, base, 16 * columns))
        reads = not fields["weight_reuse"]
        if vector:
            reads = number == 0 and not fields["unit_weight"] and not fields["add"]
        if reads:
            events.append(("weights", (fields["weight_base"] + number * fields["weight_group"]) % (1 << 32),
                           fields["weight_block_last" if last else "weight_block"]))
        return events

    events = [] if fields["mask_source"] == MaskSource.KEEP else build(fields["mask_source"], fields["mask_base"])
    strips = [] if resident else [strip(number) for number in range(fields["strips"])]
    first = strips[:1]
    if fields["add"]:
        first += build(fields["mask_source_2"], fields["mask_base_2"], operand=1)
    if ahead:
        first, strips = [], [None, *strips]
    return [*events, *first, *group(0), *strips[1:],
            *(event for number in range(1, fields["out_groups"]) for event in group(number))]


class Machine:
    """What surrounds the loader, in random time, and what the loader has asked of it.

    ``events``: the strobes and walks of :func:`expected_events`, descriptors fetched among them. ``aheads``: of which
    descriptors something was read before everything else was in memory.
    """

    def __init__(self, loader: Loader, program: list[dict[str, int]], random: Random):
        self.loader, self.program, self.random = loader, program, random
        self.base = 16 * random.randrange(1 << 20)
        self.events: list[tuple] = []
        self.aheads: set[int] = set()
        self.words: deque[int] = deque()
        self.fetched = self.offered = 0
        self.slots = []
        self.banks, self.list_wait, self.in_work, self.results = PARAMETER_BANKS, 0, False, False

    async def run(self, ctx) -> None:
        loader = self.loader
        ctx.set(loader.program_address, self.base)
        ctx.set(loader.program_length, len(self.program))
        ctx.set(loader.start, 1)
        await ctx.tick()
        ctx.set(loader.start, 0)
        while not ctx.get(loader.finished) and not ctx.get(loader.invalid):
            await self.cycle(ctx)

    async def cycle(self, ctx) -> None:
        loader, random = self.loader, self.random
        frees = self.banks < PARAMETER_BANKS and random.random() < 0.1
        word_comes = bool(self.words) and random.random() < 0.8
        for name, value in {
                "scheduler_idle": not self.in_work, "quiet": not self.in_work and not self.results,
                "parameters_freed": frees, "list_free": random.random() < 0.2, "list_done": self.list_wait == 0,
                "list_winners": random.randrange(1 << 16), "word_valid": word_comes,
                "word": self.words[0] if self.words else 0}.items():
            ctx.set(getattr(loader, name), value)
        ctx.set(loader.o_segment.ready, random.random() < 0.5)
        # A walk ends when the list that it takes is complete.
        ctx.set(loader.o_job.ready, self.list_wait == 0 and random.random() < 0.2)
        ctx.set(loader.o_descriptor.ready, not self.in_work and random.random() < 0.3)
        self.check_build(ctx)
        self.check_offer(ctx)
        self.take(ctx)
        await ctx.tick()
        self.banks += frees
        if word_comes:
            self.words.popleft()
        self.list_wait -= self.list_wait > 0
        if self.in_work and random.random() < 0.02:
            self.in_work, self.results = False, True
        elif random.random() < 0.05:
            self.results = False

    def check_build(self, ctx) -> None:
        """A new list, only when the one before is complete; the loader says what for."""
        loader = self.loader
        if ctx.get(loader.build):
            assert self.list_wait == 0
            every, fields = ctx.get(loader.build_all), self.program[self.fetched - 1]
            assert ctx.get(loader.capture) == (ctx.get(loader.blocks) or fields["list_once"])
            self.events.append(("build", every, ctx.get(loader.operand), ctx.get(loader.blocks)))
            self.list_wait = 3 if every else -1
        if ctx.get(loader.ahead):
            self.aheads.add(self.fetched - 1)

    def check_offer(self, ctx) -> None:
        loader = self.loader
        offer = loader.o_descriptor
        if ctx.get(offer.valid):
            assert self.offered == self.fetched - 1 and ctx.get(loader.list_done)
            assert ctx.get(loader.winners) == ctx.get(loader.list_winners)
            assert ctx.get(offer.p.as_value()) == int.from_bytes(pack(self.program[self.offered]), "little")
            if ctx.get(offer.ready):
                self.slots.append(ctx.get(loader.slot))
                self.offered, self.in_work = self.offered + 1, True

    def take(self, ctx) -> None:
        """A segment or a walk that is asked for and granted in this cycle."""
        segment, job = self.loader.o_segment, self.loader.o_job
        assert not (ctx.get(segment.valid) and ctx.get(job.valid))
        if ctx.get(segment.valid) and ctx.get(segment.ready):
            kind, address, size = (ctx.get(getattr(segment.p, name)) for name in ("kind", "address", "bytes"))
            if kind == Kind.DESCRIPTOR:
                assert (address, size) == (self.base + self.fetched * DESCRIPTOR_BYTES, DESCRIPTOR_BYTES)
                packed = pack(self.program[self.fetched])
                self.words += [int.from_bytes(packed[n:n + SMALL.axi_bytes], "little")
                               for n in range(0, DESCRIPTOR_BYTES, SMALL.axi_bytes)]
                self.fetched += 1
                return
            self.events.append(("segment", kind, address, size))
            if kind == Kind.PARAMETERS:
                assert self.banks and ctx.get(segment.p.start) and ctx.get(segment.p.strip_end)
                self.banks -= 1
            if kind == Kind.MASK:
                self.list_wait = self.random.randint(3, 40)
        if ctx.get(job.valid):
            if not ctx.get(job.p.weights) and self.offered < self.fetched:
                self.check_time(ctx)
            if ctx.get(job.ready):
                names = ("base", "stride") if ctx.get(job.p.weights) else (
                    "base", "destination", "stride", "strip_load", "strip_rows")
                self.events.append(("weights" if ctx.get(job.p.weights) else "strip",
                                    *(ctx.get(getattr(job.p, name)) for name in names)))

    def check_time(self, ctx) -> None:
        """Activations are read when those before them may be overwritten, and have been written."""
        fields = self.program[self.fetched - 1]
        assert not fields["barrier"] or not (self.in_work or self.results)
        assert fields["act_prefetch"] or not self.in_work


@pytest.mark.parametrize("seed", range(8))
def test_programs(seed):
    """Everything that a descriptor needs is asked for once, in the order of use, and not before it may be."""
    loader, random = Loader(config=SMALL), Random(seed)
    program = [random_fields(random) for _ in range(12)]
    program[0] |= {"mask_source": MaskSource.ALL}
    machine = Machine(loader, program, random)

    async def bench(ctx):
        await machine.run(ctx)
        assert ctx.get(loader.finished) and not ctx.get(loader.invalid)

    simulate(loader, bench)
    expected = [event for n, fields in enumerate(program)
                for event in expected_events(fields, ahead=n in machine.aheads)]
    assert machine.events == expected
    assert machine.offered == len(program)
    # Which flags are whose changes with every list.
    changes = [fields["mask_source"] != MaskSource.KEEP for fields in program]
    assert machine.slots == [sum(changes[:n + 1]) % 2 for n in range(len(program))]


def test_reading_ahead_occurs():
    """The programs above read weights ahead, and do not where they need not wait."""
    aheads = may = 0
    for seed in range(4):
        loader, random = Loader(config=SMALL), Random(f"ahead {seed}")
        program = [random_fields(random) | {"barrier": 1, "act_prefetch": 0} for _ in range(12)]
        machine = Machine(loader, program, random)
        simulate(loader, machine.run)
        aheads += len(machine.aheads)
        may += sum(fields["weights_ahead"] for fields in program)
        assert all(program[n]["weights_ahead"] for n in machine.aheads)
    assert 0 < aheads <= may


def malformed_cases() -> list[dict[str, int]]:
    """Changes of a valid descriptor, one check each."""
    widths = {field.name: field.bits for field in FIELDS}
    cases = [{name: 0} for name in POSITIVE]
    for vector in (False, True):
        op = {"op": OP_VECTOR if vector else OP_CONVOLUTION}
        cases += [op | {name: high + 1} for name, high in highest(SMALL, vector).items()
                  if high + 1 < 1 << widths[name]]
        cases += [op | {name: high} for name, high in highest(SMALL, vector).items()]
    cases += [{"op": op} for op in (0, OP_CONVOLUTION ^ 1, OP_VECTOR ^ 1, 255)]
    cases += [{"first_channel": 990 + n} for n in range(12)] + [{"first_channel": 65535}]
    cases += [{"out_channels": 60000, "score_final": 1}, {"out_channels": 60000, "score_final": 0},
              {"out_channels": 60000, "score_resume": 1}, {"out_channels": 60000, "select": 1},
              {"out_channels": SMALL.max_channels, "select": 1}]
    cases += [{"mask_skip": n, "in_channels": 5} for n in range(16)]
    cases += [{"load_phases": n, "stride_x": stride} for n in range(8) for stride in (1, 3, 4)]
    cases += [{"op": op, "lane_step": n} for op in (OP_CONVOLUTION, OP_VECTOR) for n in range(8)]
    cases += [{"op": OP_VECTOR, "add": 1, "strips": 2, "mask_source": source, "act_resident": resident}
              for source in range(3) for resident in range(2)]
    cases += [{"add": 1, "strips": 2}, {"op": OP_VECTOR, "add": 1, "strips": 1}]
    cases += [{"lists": 1, "act_dense": dense, "strips": strips, "op": op} for dense in range(2) for strips in (1, 2)
              for op in (OP_CONVOLUTION, OP_VECTOR)]
    cases += [{"weights_ahead": 1} | one for one in (
        {}, {"mask_source": 1}, {"mask_source": 2}, {"lists": 1, "act_dense": 1, "strips": 1},
        {"op": OP_VECTOR, "add": 1, "strips": 2})]
    for name, step in (("mask_base", 2), ("mask_base_2", 2), ("block_mask_base", 2), ("block_mask_group", 2),
                       ("parameter_base", 16)):
        cases += [{name: step + 1 << bit} for bit in range(5)] + [{name: 1 << bit} for bit in range(6)]
    return cases


def test_malformed_descriptors_are_refused():
    """And nothing else: every check from both sides, a new program each time."""
    random = Random(0)
    valid = {field.name: 0 for field in FIELDS} | dict.fromkeys(POSITIVE, 1) | {
        "op": OP_CONVOLUTION, "sum_end": 1, "score_final": 1, "in_channels": 40, "out_channels": 1000,
        "weight_reuse": 1}
    refused = taken = 0
    loader, reset = Loader(config=SMALL), Signal()

    async def bench(ctx):
        nonlocal refused, taken
        for case in malformed_cases():
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
            machine, malformed = Machine(loader, [valid | case], random), is_malformed(valid | case, SMALL)
            await machine.run(ctx)
            assert ctx.get(loader.invalid) == malformed, case
            assert machine.offered == (not malformed) and (not malformed or machine.events == [])
            refused, taken = refused + malformed, taken + (not malformed)

    simulate(ResetInserter(reset)(loader), bench)
    assert min(refused, taken) > 20


@pytest.mark.parametrize("offset", [1, 4, 8, 16])
def test_programs_lie_on_a_grid(offset):
    loader, random = Loader(config=SMALL), Random(0)
    machine = Machine(loader, [random_fields(random)], random)
    machine.base += offset

    async def bench(ctx):
        await machine.run(ctx)
        assert ctx.get(loader.invalid) == (offset % 16 != 0)

    simulate(loader, bench)
