"""What all tests share: reproducible hypothesis, one torch thread a worker, simulators built once."""

import functools

import pytest
import torch
from hypothesis import settings

from sim.simulator import Simulator

torch.set_num_threads(1)
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")


@pytest.fixture(scope="session")
def simulator():
    """``simulator(config, memory="fast")``: the :class:`Simulator`, compiled at most once."""
    return functools.cache(Simulator)
