"""Registers, program control and counters against their contracts."""

from random import Random

import pytest

from hw.control import AHEAD, RESET_CYCLES, WATCHDOG_CYCLES, Control, Counters, Registers
from hw.registers import COUNTERS, IDENTITY_VALUE, PROFILE_WORDS, Error, Register

from .hw_helpers import StallRule, simulate

WRITABLE = (Register.PROGRAM_ADDRESS, Register.PROGRAM_LENGTH, Register.WINDOW_BASE, Register.WINDOW_LIMIT)


async def write(ctx, component, address: int, value: int, random: Random) -> tuple[int, int]:
    """An AXI4-Lite write with random delays of each channel; the number of start and clear strobes seen."""
    starts = clears = 0
    pending = {"aw": address, "w": value}
    rule, answered = StallRule("B"), False
    while pending or not answered:
        for channel in pending:
            if not ctx.get(getattr(component, f"{channel}valid")) and random.random() < 0.5:
                ctx.set(getattr(component, f"{channel}valid"), 1)
                ctx.set(component.awaddr if channel == "aw" else component.wdata, pending[channel])
        b_ready = random.random() < 0.5
        ctx.set(component.bready, b_ready)
        _, _, aw, w, b, start, clear, aw_valid, w_valid = await ctx.tick().sample(
            component.awready, component.wready, component.bvalid, component.start, component.clear,
            component.awvalid, component.wvalid)
        assert not b or not pending, "an answer before the write was taken"
        starts, clears, answered = starts + start, clears + clear, rule.check(b, b_ready)
        for channel, taken in (("aw", aw and aw_valid), ("w", w and w_valid)):
            if taken:
                del pending[channel]
                ctx.set(getattr(component, f"{channel}valid"), 0)
    return starts, clears


async def read(ctx, component, address: int, random: Random) -> int:
    """An AXI4-Lite read with random delays; the answer comes six cycles after the address was taken."""
    while random.random() < 0.5:
        await ctx.tick()
    ctx.set(component.araddr, address)
    ctx.set(component.arvalid, 1)
    await ctx.tick().until(component.arready)
    ctx.set(component.arvalid, 0)
    ctx.set(component.araddr, random.getrandbits(16))
    for _ in range(5):
        assert not ctx.get(component.rvalid)
        await ctx.tick()
    rule = StallRule("R")
    while True:
        r_ready = random.random() < 0.5
        ctx.set(component.rready, r_ready)
        _, _, valid, data = await ctx.tick().sample(component.rvalid, component.rdata)
        assert valid
        if rule.check(valid, r_ready, data):
            return data


def test_registers():
    component, random = Registers(index_bits=11), Random(0)
    values = dict.fromkeys(WRITABLE, 0)

    async def answer(ctx):
        """The counters' side: a word that names its index, three cycles later."""
        before = [0, 0]
        while True:
            _, _, index, profile = await ctx.tick().sample(component.read_index, component.read_profile)
            ctx.set(component.read_value, before.pop(0))
            before.append(profile << 31 | index)

    def expected(address: int) -> int:
        if address == Register.IDENTITY:
            return IDENTITY_VALUE
        if address == Register.STATUS:
            return 0xABCD1234
        if Register.COUNTERS <= address < Register.COUNTERS + 4 * len(COUNTERS):
            return (address - Register.COUNTERS) // 4
        if Register.PROFILE <= address < Register.PROFILE + 4 * 2048:
            return 1 << 31 | (address - Register.PROFILE) // 4
        return values.get(address, 0)

    async def bench(ctx):
        ctx.set(component.status, 0xABCD1234)
        edges = [Register.COUNTERS + 4 * len(COUNTERS), Register.PROFILE - 4, Register.PROFILE + 4 * 2048, 0xFFFC]
        for _ in range(300):
            address = random.choice((*Register, *WRITABLE, 0x1C, 0x3C, random.randrange(0x40, 0x4000, 4), *edges))
            value = random.getrandbits(32)
            if random.random() < 0.5:
                strobes = await write(ctx, component, address, value, random)
                control = address == Register.CONTROL
                assert strobes == (control and value & 1, control and value >> 1 & 1)
                if address in values:
                    values[address] = value
            assert await read(ctx, component, address, random) == expected(address), hex(address)
            ports = (component.program_address, component.program_length, component.window_base, component.window_limit)
            assert [ctx.get(port) for port in ports] == list(values.values())

    simulate(component, bench, background=[answer])


def test_one_access_at_a_time():
    """With everything offered all the time, each write has its own answer, and each read its own data."""
    component, random = Registers(index_bits=11), Random(1)

    async def bench(ctx):
        for name in ("awvalid", "wvalid", "arvalid"):
            ctx.set(getattr(component, name), 1)
        ctx.set(component.awaddr, Register.WINDOW_BASE)
        writes = answers = 0
        asked, answer_rule, data_rule = [], StallRule("B"), StallRule("R")
        for now in range(400):
            value = 1000 + now
            ctx.set(component.wdata, value)
            ctx.set(component.araddr, random.choice((Register.IDENTITY, Register.WINDOW_LIMIT)))
            b_ready, r_ready = random.random() < 0.4, random.random() < 0.4
            ctx.set(component.bready, b_ready)
            ctx.set(component.rready, r_ready)
            _, _, address, aw, w, ar, b, r, data = await ctx.tick().sample(
                component.araddr, component.awready, component.wready, component.arready, component.bvalid,
                component.rvalid, component.rdata)
            assert aw == w
            answers += answer_rule.check(b, b_ready)
            writes += aw
            assert writes - answers in (0, 1)
            if data_rule.check(r, r_ready, data):
                assert data == (IDENTITY_VALUE if asked.pop(0) == Register.IDENTITY else 0)
            asked += [address] * ar
            assert len(asked) <= 1
            if aw:
                assert ctx.get(component.window_base) == value
        assert writes > 100

    simulate(component, bench)


class Program:
    """A :class:`Control` under test: what it does to a program that runs into ``causes`` (inputs set high)."""

    def __init__(self):
        self.component = Control()

    async def settle(self, ctx, *, start_at: int | None = None) -> None:
        """Behind its own reset: the core is reset, too. ``start_at``: a start in this cycle is kept."""
        component, resets = self.component, [1]
        assert ctx.get(component.core_reset)
        for cycle in range(RESET_CYCLES):
            ctx.set(component.start, cycle == start_at)
            await ctx.tick()
            assert ctx.get(component.status) == (start_at is not None and start_at <= cycle)
            assert not ctx.get(component.running) and not ctx.get(component.core_start)
            resets.append(ctx.get(component.core_reset))
        ctx.set(component.start, 0)
        assert resets == [1] * (RESET_CYCLES // 2 + 1) + [0] * (RESET_CYCLES // 2)
        if start_at is not None:
            await ctx.tick()
            assert ctx.get(component.core_start) and ctx.get(component.running) and ctx.get(component.status) == 1

    async def start(self, ctx) -> None:
        component = self.component
        ctx.set(component.start, 1)
        assert not ctx.get(component.running)
        await ctx.tick()
        ctx.set(component.start, 0)
        assert ctx.get(component.core_start) and not ctx.get(component.core_reset) and ctx.get(component.running)
        assert not ctx.get(component.irq) and ctx.get(component.status) == 1
        await ctx.tick()
        assert not ctx.get(component.core_start)

    async def reset(self, ctx, error: int) -> None:
        """Behind its end: long enough for every block to be reset, and to have left the reset before the interrupt."""
        component, resets = self.component, []
        for _ in range(RESET_CYCLES):
            assert not ctx.get(component.running) and not ctx.get(component.irq) and ctx.get(component.abort)
            assert ctx.get(component.status) & 3 == 1 and not ctx.get(component.core_start)
            await ctx.tick()
            resets.append(ctx.get(component.core_reset))
        assert resets == [1] * (RESET_CYCLES // 2) + [0] * (RESET_CYCLES // 2)
        assert ctx.get(component.irq) and not ctx.get(component.abort)
        assert ctx.get(component.status) == (2 | 4 | error << 8 if error else 2)


@pytest.mark.parametrize("cycle", [0, 5, RESET_CYCLES - 1])
def test_a_start_during_the_reset_is_kept(cycle):
    program = Program()

    async def bench(ctx):
        await program.settle(ctx, start_at=cycle)
        await ctx.tick().repeat(5)
        ctx.set(program.component.finished, 1)
        await ctx.tick()
        ctx.set(program.component.finished, 0)
        await program.reset(ctx, 0)

    simulate(program.component, bench)


def test_a_program_that_finishes():
    program = Program()
    component = program.component

    async def bench(ctx):
        ctx.set(component.axi_idle, 1)
        await program.settle(ctx)
        for _ in range(4):
            await program.start(ctx)
            for _ in range(10):
                ctx.set(component.start, 1)  # while one runs, this does nothing
                await ctx.tick()
                assert ctx.get(component.status) == 1 and not ctx.get(component.core_reset)
            ctx.set(component.start, 0)
            ctx.set(component.finished, 1)
            await ctx.tick()
            ctx.set(component.finished, 0)
            await program.reset(ctx, 0)
            await ctx.tick().repeat(3)
            assert ctx.get(component.irq)
            ctx.set(component.clear, 1)
            await ctx.tick()
            ctx.set(component.clear, 0)
            assert ctx.get(component.status) == 0 and not ctx.get(component.irq)

    simulate(component, bench)


@pytest.mark.parametrize(("cause", "code"), [
    ("invalid", Error.DESCRIPTOR), ("outside", Error.WINDOW), ("read_failed", Error.READ),
    ("write_failed", Error.WRITE)])
@pytest.mark.parametrize("finishing", [0, 1])
def test_a_program_that_fails(cause, code, finishing):
    """Nothing new is issued, the interrupt comes when nothing is outstanding, and the engine is left reset."""
    program = Program()
    component = program.component

    async def bench(ctx):
        await program.settle(ctx)
        for _ in range(2):
            await program.start(ctx)
            ctx.set(getattr(component, cause), 1)
            ctx.set(component.finished, finishing)
            await ctx.tick()
            for _ in range(20):
                assert ctx.get(component.abort) and not ctx.get(component.irq) and ctx.get(component.running)
                assert not ctx.get(component.core_reset)
                await ctx.tick()
            # Idle twice is not enough: what the reader issued before it heard of the abort is not known of yet.
            for idle in (1, 1, 0, 1, 1, 1):
                assert ctx.get(component.running) and not ctx.get(component.core_reset)
                ctx.set(component.axi_idle, idle)
                await ctx.tick()
            ctx.set(getattr(component, cause), 0)
            ctx.set(component.finished, 0)
            ctx.set(component.axi_idle, 0)
            await program.reset(ctx, code)
            ctx.set(component.clear, 1)
            await ctx.tick()
            ctx.set(component.clear, 0)
            assert ctx.get(component.status) == 4 | code << 8  # the error stays until the next start

    simulate(component, bench)


def test_a_program_without_progress():
    program = Program()
    component = program.component

    async def bench(ctx):
        await program.settle(ctx)
        await program.start(ctx)
        ctx.set(component.axi_idle, 1)
        for name, quiet in (("progress", 0), ("axi_idle", 1)):
            await ctx.tick().repeat(WATCHDOG_CYCLES - 20)
            ctx.set(getattr(component, name), 1 - quiet)
            await ctx.tick()
            ctx.set(getattr(component, name), quiet)
        waited = 0
        while not ctx.get(component.irq):
            await ctx.tick()
            waited += 1
        assert WATCHDOG_CYCLES <= waited - RESET_CYCLES <= WATCHDOG_CYCLES + 4
        assert ctx.get(component.status) == 2 | 4 | Error.TIMEOUT << 8

    simulate(component, bench)


@pytest.mark.parametrize("layers", [1, 4])
def test_counters_and_profile(layers):
    component, random = Counters(layers=layers), Random(layers)
    counts = [0] * len(COUNTERS)
    records = {}

    async def add(ctx, amounts: list[int], **strobes: int) -> None:
        for name, value in strobes.items():
            ctx.set(getattr(component, name), value)
        ctx.set(component.increments, sum(amount << 16 * n for n, amount in enumerate(amounts)))
        await ctx.tick()
        for name in strobes:
            ctx.set(getattr(component, name), 0)
        counts[:] = [count + amount for count, amount in zip(counts, amounts, strict=True)]
        ctx.set(component.increments, 0)

    async def value_of(ctx, index: int, profile: int) -> int:
        ctx.set(component.index, index)
        ctx.set(component.profile, profile)
        await ctx.tick()
        ctx.set(component.index, 0)
        ctx.set(component.profile, not profile)
        await ctx.tick().repeat(2)
        return ctx.get(component.value)

    async def bench(ctx):
        for _ in range(2):
            await add(ctx, [5] * len(COUNTERS), clear=1)
            counts[:] = [0] * len(COUNTERS)
            for layer in range(layers + 1):
                for _ in range(30):
                    await add(ctx, [random.choice((0, 1, 65535, random.randrange(65536))) for _ in COUNTERS])
                await add(ctx, [1] * len(COUNTERS), layer_done=1)
                records[layer % layers] = list(counts)
                recording = 0
                while ctx.get(component.recording):
                    await ctx.tick()
                    recording += 1
                assert recording == 8  # then the next layer may load
                for _ in range(len(COUNTERS) - 8 + 2):
                    await add(ctx, [0] * len(COUNTERS))
            for n, count in enumerate(counts):
                assert await value_of(ctx, n, 0) == count % 2**32
            for layer, record in records.items():
                for n, count in enumerate(record):
                    assert await value_of(ctx, layer * PROFILE_WORDS + n, 1) == count % 2**32

    simulate(component, bench)


def test_counters_of_what_is_read_ahead():
    """Bytes and beats that are read for a layer before it begins count when it does; the others at once."""
    component, random = Counters(layers=2), Random(0)

    async def values(ctx) -> list[int]:
        found = []
        for index in range(len(COUNTERS)):
            ctx.set(component.index, index)
            await ctx.tick().repeat(3)
            found.append(ctx.get(component.value))
        return found

    async def bench(ctx):
        counts, waiting = [0] * len(COUNTERS), [0] * len(COUNTERS)
        for _ in range(6):
            for ahead in (0, 1):
                ctx.set(component.ahead, ahead)
                for _ in range(random.randint(1, 20)):
                    amounts = [random.randrange(100) for _ in COUNTERS]
                    ctx.set(component.increments, sum(amount << 16 * n for n, amount in enumerate(amounts)))
                    for n, amount in enumerate(amounts):
                        (waiting if ahead and COUNTERS[n] in AHEAD else counts)[n] += amount
                    await ctx.tick()
                ctx.set(component.increments, 0)
                await ctx.tick()
                if ahead:
                    assert await values(ctx) == counts
                    ctx.set(component.ahead, 0)
                    await ctx.tick()
                    counts = [sum(both) for both in zip(counts, waiting, strict=True)]
                    waiting = [0] * len(COUNTERS)
                assert await values(ctx) == counts
        ctx.set(component.ahead, 1)
        ctx.set(component.increments, (1 << 16 * len(COUNTERS)) - 1)
        ctx.set(component.clear, 1)
        await ctx.tick()
        for name in ("ahead", "increments", "clear"):
            ctx.set(getattr(component, name), 0)
        await ctx.tick()
        assert await values(ctx) == [0] * len(COUNTERS)

    assert {"read_weights", "read_parameters", "read_beats"} == set(AHEAD)
    simulate(component, bench)
