"""The command line ``winnow``."""

import sys
from collections.abc import Sequence

import click

from scripts.compare import compare
from scripts.conformance import conformance
from scripts.estimate import estimate
from scripts.evaluate import evaluate, winners
from scripts.explore import explore
from scripts.host import host
from scripts.import_network import import_network
from scripts.options import run
from scripts.run import run_network
from scripts.run_layer import run_layer
from scripts.show import show
from scripts.simulate import simulate
from scripts.synth import synth
from scripts.train import train


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="winnow-accelerator")
def winnow() -> None:
    """Winnow: an int8 CNN accelerator that turns channel sparsity into fewer cycles and fewer bytes.

    \b
    winnow simulate lenet4            a whole network in RTL, dense and sparse, bit for bit against the golden model
    winnow run-layer JOB.npz          one layer in RTL
    winnow estimate TOPOLOGY.csv      the analytical model alone, at once
    winnow compare lenet4             the engine against software on a soft core, and against itself dense
    winnow explore NET --macs 256     which engines are worth building for a network
    winnow conformance --jobs 300     random layers in RTL with random memory stalls
    winnow train lenet4 --data DATA   a baseline, winners-take-all, int8 (DASNet)
    winnow import M.tflite --out NET  a published int8 model as a network of the engine
    winnow run NET --data DATA        its classes, accuracy, cycles and bytes
    winnow show NET --svg NET.svg     its layers as a table and a picture
    winnow synth --board ulx3s-85f    a bitstream for a board
    winnow host --port PORT run IMG   networks on that board, or on a simulated one

    Exit codes: 0 all is well, 1 a result is wrong or a simulation failed, 2 the input or the environment is.
    """


for command in (simulate, run_layer, estimate, conformance, train, evaluate, winners, import_network, run_network,
                show, synth, host, compare, explore):
    winnow.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``winnow`` with these arguments, by default those of the process; returns the exit code."""
    return run(winnow, sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
