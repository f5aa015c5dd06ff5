"""The descriptor: software's packing and the hardware's layout are the same bits."""

import re
from random import Random

import pytest
from amaranth.hdl import Const, Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.descriptor import DESCRIPTOR_BYTES, FIELDS, LAYOUT, DescriptorError, pack, unpack

from .hw_helpers import simulate


def limits(field) -> tuple[int, int]:
    """Smallest and largest value of a field."""
    return (-(1 << field.bits - 1), (1 << field.bits - 1) - 1) if field.signed else (0, (1 << field.bits) - 1)


def random_values(random: Random) -> dict[str, int]:
    """Any value for every field, often an extreme one."""
    return {field.name: random.choice((*limits(field), random.randint(*limits(field)))) for field in FIELDS}


class FieldPort(wiring.Component):
    """A descriptor's bytes in, its fields out, one behind the other in 64 bits each."""

    def __init__(self):
        super().__init__({"packed": In(8 * DESCRIPTOR_BYTES), "fields": Out(data.ArrayLayout(64, len(FIELDS)))})

    def elaborate(self, platform):
        m = Module()
        view = data.View(LAYOUT, self.packed)
        m.d.comb += [self.fields[n].eq(view[field.name]) for n, field in enumerate(FIELDS)]
        return m


def test_round_trip():
    random = Random(1)
    for _ in range(200):
        values = random_values(random)
        packed = pack(values)
        assert len(packed) == DESCRIPTOR_BYTES
        assert unpack(packed) == values


def test_software_packs_what_the_layout_says():
    random = Random(2)
    for _ in range(50):
        values = random_values(random)
        assert int.from_bytes(pack(values), "little") == Const.cast(LAYOUT.const(values)).value


def test_hardware_reads_what_software_packs():
    component = FieldPort()

    async def bench(ctx):
        random = Random(3)
        for _ in range(20):
            values = random_values(random)
            ctx.set(component.packed, int.from_bytes(pack(values), "little"))
            for n, field in enumerate(FIELDS):
                assert ctx.get(component.fields[n]) == values[field.name] % (1 << 64), field.name

    simulate(component, bench)


def test_no_field_straddles_a_word_or_overlaps_another():
    used = 0
    for field in FIELDS:
        offset = LAYOUT[field.name].offset
        assert offset // 32 == (offset + field.bits - 1) // 32, field.name
        bits = ((1 << field.bits) - 1) << offset
        assert used & bits == 0, field.name
        used |= bits
    assert used >> 8 * DESCRIPTOR_BYTES == 0
    assert len({field.name for field in FIELDS}) == len(FIELDS)
    assert DESCRIPTOR_BYTES % 16 == 0


def test_values_that_do_not_fit():
    values = {field.name: 0 for field in FIELDS}
    for field in FIELDS:
        low, high = limits(field)
        for value in (low - 1, high + 1):
            message = f"{field.name}: expected {low}..{high}, got {value}"
            with pytest.raises(DescriptorError, match=f"^{re.escape(message)}$"):
                pack(values | {field.name: value})
    with pytest.raises(DescriptorError, match=r"^colour: not a field of the descriptor$"):
        pack(values | {"colour": 1})
    del values["op"]
    with pytest.raises(DescriptorError, match=r"^op: missing$"):
        pack(values)
