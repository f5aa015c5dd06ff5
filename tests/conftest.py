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


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache of data sets of the test's own, the folder in which they lie, and no data folder."""
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WINNOW_DATA", raising=False)
    return tmp_path / "cache" / "datasets"


@pytest.fixture
def folder(tmp_path):
    """An empty folder for a data set's files."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data"
