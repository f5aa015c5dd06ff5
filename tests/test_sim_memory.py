"""The fast memory alone: the cocotb tests of memory_bench.py on both widths."""

import subprocess
from pathlib import Path

import pytest
from cocotb_tools.check_results import get_results

from sim import verilator
from tests import memory_bench

PORTS = (
    "clk rst awid awaddr awlen awvalid awready wdata wstrb wlast wvalid wready bid bresp bvalid bready "
    "arid araddr arlen arvalid arready rid rdata rresp rlast rvalid rready"
)


@pytest.mark.parametrize("data_bits", [64, 128])
def test_fast_memory(data_bits, tmp_path):
    folder = Path(verilator.__file__).parent
    sources = {name: (folder / name).read_text() for name in ("fast_memory.sv", "fast_memory.cpp")}
    lines = [f'public_flat_rw -module "fast_memory" -var "{port}"' for port in PORTS.split()]
    sources["ports.vlt"] = "\n".join(["`verilator_config", *lines, ""])
    parameters = {
        "DATA_BITS": data_bits,
        "READ_LATENCY": memory_bench.READ_LATENCY,
        "WRITE_LATENCY": memory_bench.WRITE_LATENCY,
        "OUTSTANDING": memory_bench.OUTSTANDING,
    }
    executable = verilator.build(top="fast_memory", sources=sources, parameters=parameters)
    results = tmp_path / "results.xml"
    environment = verilator.simulation_environment(
        top="fast_memory", module="tests.memory_bench", seed=data_bits, results=results
    )
    run = subprocess.run([executable], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0 and get_results(results) == (5, 0), run.stdout + run.stderr
