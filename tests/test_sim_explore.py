"""Bounds against the analytical model, and the front against that of every engine followed."""

import json
from dataclasses import replace

import numpy as np
import pytest

from golden.network import QuantizedNetwork
from golden.networks import build
from hw.boards.resources import count_resources
from hw.config import EngineConfig
from hw.engine import Engine
from hw.plan import PlanError
from hw.technology import Technology
from sim.engine_space import Engines, engine_space, multiplier_count
from sim.explore import Point, bound_engines, choose, find_front, measured, thinned
from sim.network import estimate_network
from tests.every_operation import EVERY_OPERATION, with_stored_weights

BASE = EngineConfig()
KIB = 1024


def pairs(*sizes: int) -> list[tuple[int, int]]:
    return [(act, weight) for act in sizes for weight in sizes]


def usual_space(macs: int) -> Engines:
    """The engines that ``winnow explore`` tries."""
    return engine_space(BASE, macs, pairs(32 * KIB, 64 * KIB, 128 * KIB, 256 * KIB), [64, 128])[0]


def followed(network: QuantizedNetwork, config: EngineConfig) -> tuple[int, int] | None:
    """Cycles and bytes by the analytical model alone; None if the engine refuses the network."""
    try:
        layers = estimate_network(network, config)
    except PlanError:
        return None
    predictions = [one.predicted for one in layers]
    return (sum(one.cycles for one in predictions),
            sum(sum(one.bytes_read.values()) + sum(one.bytes_written.values()) for one in predictions))


@pytest.fixture(scope="module")
def stored_blocks(tmp_path_factory) -> QuantizedNetwork:
    """Every operation, with stored weights of which whole blocks are zero in the layer ``sparse``."""
    return with_stored_weights(tmp_path_factory.mktemp("network") / "blocks.json").with_winners(0.5)


@pytest.fixture(scope="module")
def networks(stored_blocks) -> dict[str, QuantizedNetwork]:
    return {
        "lenet4": build("lenet4"), "lenet4 dense": build("lenet4").with_winners({}),
        "mlp3": build("mlp3").with_winners(0.5), "convnet5": build("convnet5").with_winners(0.5),
        "blocks": stored_blocks,
        "every operation": QuantizedNetwork.load(EVERY_OPERATION).with_winners(0.25),
        "resnet18": build("resnet18").with_winners(0.5),
        "mobilenet": build("mobilenet_v1_1.0_224").with_winners(0.5),
    }


# Engines


@pytest.mark.parametrize("sizes", [{"rows": 1, "columns": 1}, {"rows": 5, "columns": 6},
                                   {"rows": 17, "columns": 2, "axi_data_bits": 64, "weight_bits": 9}])
def test_multipliers_are_those_of_the_elaborated_engine(sizes):
    config = EngineConfig(**sizes)
    counted = count_resources(Engine(config=config), Technology.ECP5).multipliers
    assert multiplier_count(config.rows, config.columns) == counted


def test_the_space_has_every_array_once_with_every_buffer_and_width():
    engines, refused = engine_space(BASE, 12, [(4096, 8192), (8192, 4096)], [64, 128])
    shapes = {(rows, columns) for rows in range(1, 13) for columns in range(1, 13) if rows * columns <= 12}
    expected = {(*shape, *buffers, axi) for shape in shapes for buffers in ((4096, 8192), (8192, 4096))
                for axi in (8, 16)}
    found = list(zip(engines.rows, engines.columns, engines.act_bytes, engines.weight_bytes, engines.axi_bytes,
                     strict=True))
    assert set(found) == expected and len(found) == len(expected) and refused == 0
    assert engine_space(BASE, 4096, [(4096, 4096)], [64])[0].rows.size == 64 * 64
    config = engines.config(7)
    assert (config.rows, config.columns, config.act_buffer_bytes, config.weight_buffer_bytes,
            config.axi_data_bits // 8) == found[7]


def test_sizes_that_no_engine_has_are_counted():
    # 160 bytes are whole multiples of 16 and 32 banks, and four times 32; not four times 64 columns' banks.
    engines, refused = engine_space(BASE, 128, [(4096, 160)], [128])
    expected = {(rows, columns) for rows in range(1, 65) for columns in range(1, 65)
                if rows * columns <= 128 and columns <= 32}
    assert set(zip(engines.rows.tolist(), engines.columns.tolist(), strict=True)) == expected
    everything = sum(rows * columns <= 128 for rows in range(1, 65) for columns in range(1, 65))
    assert refused == everything - len(expected)


# Bounds


@pytest.mark.parametrize("name, macs, count, median, quantile", [
    ("lenet4", 256, 150, 0.01, 0.03), ("lenet4 dense", 256, 150, 0.01, 0.05), ("resnet18", 256, 40, 0.01, 0.03),
    ("mobilenet", 256, 25, 0.02, 0.08)])
def test_bounds_are_close(name, macs, count, median, quantile, networks):
    """The deviations of docs/explore.md, on fewer engines."""
    engines = usual_space(macs)
    sample = engines.take(np.random.default_rng(5).choice(len(engines), count, replace=False))
    bounds = bound_engines(networks[name], sample)
    exact = np.array([followed(networks[name], sample.config(number)) for number in range(count)])
    assert (bounds.cycles <= exact[:, 0]).all() and (bounds.bytes <= exact[:, 1]).all()
    short = 1 - bounds.cycles / exact[:, 0]
    assert np.median(short) < median and np.quantile(short, 0.95) < quantile
    assert np.mean(bounds.bytes == exact[:, 1]) > 0.9


@pytest.mark.parametrize("name", ["lenet4", "blocks", "every operation"])
def test_bytes_are_exact_where_bands_have_whole_rows(name, networks):
    """Whichever outputs stay on chip: buffers around their sizes."""
    buffers = [(size * KIB, weight * KIB) for size in range(7, 25) for weight in (4, 8, 64)]
    engines, _ = engine_space(BASE, 256, buffers, [64, 128])
    sample = engines.take(np.random.default_rng(8).choice(len(engines), 80, replace=False))
    exact = [followed(networks[name], sample.config(number))[1] for number in range(80)]
    assert bound_engines(networks[name], sample).bytes.tolist() == exact


@pytest.mark.parametrize("name, count", [("lenet4", 80), ("lenet4 dense", 80), ("convnet5", 60), ("blocks", 50),
                                         ("every operation", 50), ("resnet18", 10), ("mobilenet", 10)])
def test_no_bound_is_above_the_model_whatever_the_sizes(name, count, networks):
    """Large arrays with buffers so small that layers are cut in every way, or refused."""
    network = networks[name]
    engines, _ = engine_space(BASE, 1024, pairs(KIB, 4 * KIB, 32 * KIB, 256 * KIB), [64, 128])
    sample = engines.take(np.random.default_rng(6).choice(len(engines), count, replace=False))
    bounds = bound_engines(network, sample)
    smaller = 0
    for number in range(count):
        config = sample.config(number)
        exact = followed(network, config)
        assert bounds.refused[number] == (exact is None), config
        if exact is None:
            continue
        assert bounds.cycles[number] <= exact[0] and bounds.bytes[number] <= exact[1], config
        enough = -(-max(int(bounds.weight_bytes[number]), KIB) // 64) * 64
        if enough < config.weight_buffer_bytes:
            smaller += 1
            assert followed(network, replace(config, weight_buffer_bytes=enough)) == exact, config
    assert smaller


def test_refused_engines(networks):
    engines, _ = engine_space(BASE, 64, pairs(512, KIB, 4 * KIB), [128])
    bounds = bound_engines(networks["convnet5"], engines)
    assert 0.1 < bounds.refused.mean() < 0.9
    for number in np.random.default_rng(3).choice(len(engines), 60, replace=False):
        assert bounds.refused[number] == (followed(networks["convnet5"], engines.config(number)) is None)


def test_a_network_that_no_engine_runs_is_refused_by_its_layer(tmp_path):
    # A window of 1,600 results does not fit the output ring of 1,024.
    text = {"name": "wide", "input": {"shape": [4, 48, 48]}, "layers": [
        {"name": "stem", "out_channels": 8, "kernel": 3, "padding": "same"},
        {"name": "widest", "op": "max_pool", "kernel": 40, "stride": 1}]}
    (tmp_path / "wide.json").write_text(json.dumps(text))
    engines, _ = engine_space(BASE, 4, [(4096, 4096)], [64])
    with pytest.raises(PlanError, match=r"^layer widest: "):
        bound_engines(QuantizedNetwork.load(tmp_path / "wide.json"), engines)


# The front


@pytest.mark.parametrize("name, macs, sizes", [("lenet4", 12, (2, 4, 8)), ("mlp3", 12, (1, 4, 16, 64))])
def test_the_front_is_that_of_all_engines_followed(name, macs, sizes, networks):
    """Spaces small enough to follow every engine of them, where figures lie so close that a bound must not be off."""
    network = networks[name]
    engines, _ = engine_space(BASE, macs, pairs(*(size * KIB for size in sizes)), [64, 128])
    figures = {}
    for number in range(len(engines)):
        config = engines.config(number)
        exact = followed(network, config)
        if exact is not None:
            figures[number] = *exact, int(engines.multipliers[number])
    every = np.array(list(figures.values()))
    expected = {tuple(one) for one in every.tolist()
                if not ((every <= one).all(1) & (every < one).any(1)).any()}
    front = find_front(network, engines, bound_engines(network, engines))
    assert len(engines) > 600 and len(expected) > 10
    assert {one.figures for one in front.points} == expected and len(front.points) == len(expected)
    assert front.refused == len(engines) - len(figures)
    assert front.followed < len(engines) / 3
    # Of equal figures the smallest buffers.
    for one in front.points:
        sizes = [engines.act_bytes[number] + engines.weight_bytes[number] for number, found in figures.items()
                 if found == one.figures]
        assert one.config.act_buffer_bytes + one.config.weight_buffer_bytes == min(sizes)


def test_a_point_is_the_estimate(networks):
    config = EngineConfig(rows=7, columns=16)
    layers = estimate_network(networks["lenet4"], config)
    found = measured(config, 99, layers)
    assert (found.cycles, found.bytes) == followed(networks["lenet4"], config) and found.multipliers == 99
    assert list(found.layer_cycles) == ["conv1", "conv2", "fc1", "fc2"]
    assert sum(found.layer_cycles.values()) == found.cycles
    assert found.utilization == pytest.approx(sum(one.products for one in layers) / (7 * 16) / found.cycles)


def point(cycles: int, moved: int, multipliers: int) -> Point:
    return Point(config=BASE, cycles=cycles, bytes=moved, multipliers=multipliers, utilization=1.0, layer_cycles={})


def test_the_chosen_point():
    front = [point(10, 90, 80), point(20, 30, 90), point(20, 40, 50), point(90, 30, 20), point(400, 200, 20)]
    assert [choose(front, by) for by in ("cycles", "bytes", "multipliers", "knee")] == [
        front[0], front[1], front[3], front[2]]
    assert choose([front[1], front[2]], "cycles") is front[1]


def test_a_thinned_front_stands_for_all_of_it():
    front = [point(100 + step, 1000 - step * step, 50) for step in range(30)]
    shown = thinned(front, 0.1, front[7])
    assert front[7] in shown and 1 < len(shown) < 15 and shown == sorted(shown, key=lambda one: one.cycles)
    for one in front:
        assert any(two.cycles <= 1.1 * one.cycles and two.bytes <= 1.1 * one.bytes for two in shown)
    assert thinned(front, 0.0, front[0]) == front


def test_progress_ends_at_all_engines(networks):
    engines, _ = engine_space(BASE, 6, [(32 * KIB, 32 * KIB)], [128])
    bounded, decided = [], []
    bounds = bound_engines(networks["lenet4"], engines, bounded.append)
    find_front(networks["lenet4"], engines, bounds, decided.append)
    assert bounded == [len(engines)] and decided == sorted(decided) and decided[-1] == len(engines)
