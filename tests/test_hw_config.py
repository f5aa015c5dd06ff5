"""Sizes of an engine: what is refused, and what follows from what is accepted."""

import re
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.config import ConfigError, EngineConfig, ceil_div, ceil_power_of_two


@pytest.mark.parametrize(("field", "value", "expected"), [
    ("rows", 0, "1..64"), ("rows", 65, "1..64"), ("columns", 0, "1..64"), ("columns", 65, "1..64"),
    ("axi_data_bits", 16, "32, 64 or 128"), ("axi_data_bits", 256, "32, 64 or 128"),
    ("requantize_lanes", 0, "at least 1"), ("vector_lanes", 0, "1..62"), ("vector_lanes", -1, "1..62"),
    ("psum_tiles", 0, "a power of two, 1..1024"), ("psum_tiles", 12, "a power of two, 1..1024"),
    ("psum_tiles", 2048, "a power of two, 1..1024"), ("max_channels", 0, "1..65535"),
    ("max_channels", 65536, "1..65535"),
    ("act_buffer_bytes", 96, "a multiple of 32 from 128 to 8388608"),
    ("act_buffer_bytes", 1008, "a multiple of 32 from 128 to 8388608"),
    ("weight_buffer_bytes", 1 << 24, "a multiple of 16 from 64 to 8388608"),
    ("output_ring_bytes", 1000, "a power of two from 64 to 65536"),
    ("output_ring_bytes", 32, "a power of two from 64 to 65536"),
    ("output_ring_bytes", 1 << 17, "a power of two from 64 to 65536"),
    ("rank_lanes", 12, "8, 16, 32 or 64"), ("outstanding_reads", 1, "2..256"),
    ("profile_layers", 3, "a power of two, 1..256"), ("profile_layers", 512, "a power of two, 1..256"),
])
def test_sizes_that_cannot_be_built(field, value, expected):
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{field}: expected {expected}, got {value}')}$"):
        EngineConfig(**{field: value})


@pytest.mark.parametrize("value", [16.0, "16", True, None])
def test_sizes_are_integers(value):
    with pytest.raises(ConfigError, match=f"^rows: expected an integer, got {re.escape(repr(value))}$"):
        EngineConfig(rows=value)


def test_a_config_does_not_change():
    with pytest.raises(FrozenInstanceError):
        EngineConfig().rows = 8


@pytest.mark.parametrize("lanes", [63, 192, 200])
def test_more_vector_lanes_than_a_read_has_bytes(lanes):
    with pytest.raises(ConfigError, match=rf"^vector_lanes: expected 1..62, got {lanes}$"):
        EngineConfig(rows=64, requantize_lanes=64, vector_lanes=lanes)


def test_three_vector_lanes_for_each_requantization_lane():
    assert EngineConfig(rows=64, requantize_lanes=20, vector_lanes=62).vector_lanes == 60
    assert EngineConfig(rows=64, requantize_lanes=21, vector_lanes=62).vector_lanes == 62


def test_default_sizes():
    config = EngineConfig()
    assert (config.vector_lanes, config.act_banks, config.vector_chunks) == (24, 32, 3)
    assert [config.vector_positions(step) for step in (1, 2, 3, 4)] == [24, 15, 10, 8]


@given(rows=st.integers(1, 64), columns=st.integers(1, 64), lanes=st.integers(1, 64), bits=st.sampled_from((64, 128)),
       vector_lanes=st.integers(1, 62))
def test_derived_sizes(rows, columns, lanes, bits, vector_lanes):
    config = EngineConfig(rows=rows, columns=columns, requantize_lanes=lanes, axi_data_bits=bits,
                          vector_lanes=vector_lanes, output_ring_bytes=4096)
    assert config.axi_bytes == bits // 8
    lanes = min(lanes, rows)
    assert config.requantize_lanes == lanes
    vector_lanes = min(vector_lanes, 3 * lanes)
    assert config.vector_lanes == vector_lanes
    # A read of the activation buffer serves a row vector, or three neighbouring taps of the vector unit's lanes.
    for banks, least in ((config.act_banks, max(rows, vector_lanes + 2)), (config.weight_banks, columns),
                         (config.output_banks, lanes)):
        assert banks >= max(least, config.axi_bytes) and banks.bit_count() == 1
        assert banks // 2 < max(least, config.axi_bytes)
    for step in (1, 2, 3, 4):
        served = [lane for lane in range(vector_lanes) if {lane * step + tap for tap in range(3)}
                  <= set(range(config.act_banks))]
        assert config.vector_positions(step) == len(served) >= 1
    assert config.vector_positions(1) == vector_lanes
    assert (config.drain_chunks - 1) * lanes < rows <= config.drain_chunks * lanes
    assert (config.vector_chunks - 1) * lanes < vector_lanes <= config.vector_chunks * lanes
    assert config.vector_chunks <= 3
    assert config.weight_read_bytes == max(columns, 3) <= config.weight_banks
    assert config.position_lanes == max(rows, vector_lanes)


@given(a=st.integers(0, 1 << 40), b=st.integers(1, 1 << 20))
def test_ceil_div(a, b):
    assert (ceil_div(a, b) - 1) * b < a <= ceil_div(a, b) * b


@given(st.integers(1, 1 << 40))
def test_ceil_power_of_two(value):
    power = ceil_power_of_two(value)
    assert power.bit_count() == 1 and power // 2 < value <= power
