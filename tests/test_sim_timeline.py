"""Periods that are multiplied, against the same model with every step followed."""

import numpy as np
import pytest

from golden.networks import build
from hw.config import EngineConfig
from sim import array_timeline, vector_timeline
from sim.network import estimate_network
from sim.timeline import Timeline, repeat

NETWORKS = {"lenet4": 0.5, "lenet4 dense": None, "convnet5": 0.5, "convnet5 dense": None, "mlp3 dense": None}
"""Winner rates."""


def network_of(name: str):
    network, rate = build(name.split()[0]), NETWORKS[name]
    return network.with_winners({} if rate is None else rate)


def engines(count: int) -> list[EngineConfig]:
    """Engines of up to 32x32 PEs, and one on which weights arrive more slowly than they are used."""
    rng = np.random.default_rng(4)
    drawn = [EngineConfig(rows=int(rng.integers(1, 33)), columns=int(rng.integers(1, 33)),
                          act_buffer_bytes=int(rng.choice([16, 64])) << 10,
                          weight_buffer_bytes=int(rng.choice([32, 128])) << 10,
                          axi_data_bits=int(rng.choice([64, 128]))) for _ in range(count)]
    return [EngineConfig(rows=3, columns=19, act_buffer_bytes=16384), *drawn]


def every_step(time, count, step, **_):
    for _ in range(count):
        step()


@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_multiplied_period_is_that_of_every_step(name, monkeypatch):
    """To the cycle, in layers of the array."""
    network = network_of(name)
    configs = engines(80)
    found = [[one.predicted.cycles for one in estimate_network(network, config)] for config in configs]
    monkeypatch.setattr(array_timeline, "repeat", every_step)
    monkeypatch.setattr(vector_timeline, "repeat", every_step)
    for config, cycles in zip(configs, found, strict=True):
        assert cycles == [one.predicted.cycles for one in estimate_network(network, config)], config


class Paced:
    """A timeline whose steps take ``cycles`` one after the other, and then go on as the last one."""

    def __init__(self, cycles: list[float]):
        self.cycles, self.taken, self.time = cycles, 0, Timeline(0.0, 1024)

    def step(self):
        cycles = self.cycles[self.taken]
        self.taken += 1
        for name in ("issue", "data", "tap", "reading", "next_run"):
            setattr(self.time, name, getattr(self.time, name) + cycles)


@pytest.mark.parametrize("period", [[5.0], [5.0, 7.0], [5.0, 7.0, 6.0, 6.5, 9.0, 5.5]])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 20, 1001])
def test_periods_of_one_step_and_of_several(period, count):
    """Whole periods are skipped, so those steps that are taken go on in the period's order."""
    cycles = [90.0, 20.0] + period * 1000
    paced = Paced(cycles)
    repeat(paced.time, count, paced.step)
    assert paced.time.tap == pytest.approx(sum(cycles[:count]))
    assert paced.taken <= min(count, 4 + 4 * len(period))


def test_what_settles_into_no_period_is_followed_to_its_end():
    cycles = [float(number * number) for number in range(100)]
    paced = Paced(cycles)
    repeat(paced.time, 100, paced.step)
    assert paced.taken == 100 and paced.time.tap == sum(cycles)
