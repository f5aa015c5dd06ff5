"""Inputs through a network in RTL, each as one program, every layer compared with the golden model."""

from typing import TYPE_CHECKING, Any

from scripts.layer_costs import LayerCost, measured_costs
from scripts.options import open_simulator, progress_bar

if TYPE_CHECKING:
    import numpy as np

    from golden.network import QuantizedNetwork
    from hw.config import EngineConfig


def run_rtl(network: "QuantizedNetwork", inputs: "np.ndarray", config: "EngineConfig", *, memory: str, seed: int,
            dense: bool, keep_outputs: bool) -> "tuple[np.ndarray, list[LayerCost], list[str], dict[str, Any]]":
    """The outputs int8 [N,O,OH,OW], the first input's costs, lines for what differs, and more for the report.

    That is ``cycles`` of each input, ``outputs_on_chip``: layers whose output is not in memory, so that only scores and
    winners are compared, ``cycles_simulated`` and ``seconds``.
    """
    import numpy as np

    from sim.execute import execute
    from sim.network import engine_for, golden_layers, network_chain, recording

    config = recording(engine_for(network, config), len([node for node in network.layers if node.op != "concat"]))
    chains, outputs = [], []
    with progress_bar("golden model", len(inputs), "images") as move:
        for number, values in enumerate(inputs):
            layers = list(golden_layers(network, values, dense=dense))
            outputs.append(layers[-1].result.output)
            chains.append(network_chain(network, layers, config, dense=dense, keep_outputs=keep_outputs))
            move(number + 1)
    simulator = open_simulator(config, memory)
    with progress_bar("simulating", sum(chain.predicted_cycles for chain in chains), "cycles") as move:
        outcomes = execute(simulator, chains, seed=seed, progress=lambda _, cycles: move(cycles))
    differences = [f"input {number}: {line}" for number, outcome in enumerate(outcomes)
                   for line in outcome.differences]
    on_chip = [name for name, work in zip(chains[0].names, chains[0].workloads, strict=True) if not work.in_memory]
    details = {"cycles": [sum(one.cycles for one in outcome.measures) for outcome in outcomes],
               "outputs_on_chip": on_chip, "seconds": sum(outcome.seconds for outcome in outcomes),
               "cycles_simulated": sum(outcome.cycles_simulated for outcome in outcomes)}
    return np.stack(outputs), measured_costs(outcomes[0].measures), differences, details
