"""``python -m scripts.compare_table``: the comparison of five networks at winner rate 1/2, for docs/results.md."""

import sys
from pathlib import Path

import click

from scripts.cli import winnow
from scripts.options import Failure, run

NETWORKS = ("lenet4", "convnet5", "resnet8", "resnet18", "mobilenet_v1_1.0_224")
SETTINGS = ("--winner-rate", "0.5", "--rtl-cycles", "20000000", "--software-cycles", "1500000000")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--out", type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
              default=Path("docs/results/compare"), show_default=True, help="Folder of the reports, NETWORK.json each.")
@click.option("--network", "names", type=click.Choice(NETWORKS), multiple=True,
              help="This one; may be given several times.  [default: all]")
def compare_table(out: Path, names: tuple[str, ...]) -> None:
    """Run winnow compare on LeNet-4, ConvNet-5, MLPerf Tiny's ResNet-8, ResNet-18 and MobileNet v1, winners 1/2.

    All in RTL on 16x16 PEs; software of the larger layers is extrapolated. Half an hour on two cores; what has been
    measured is kept, so after Ctrl-C it goes on.

    \b
    Examples:
      python -m scripts.compare_table
      python -m scripts.compare_table --network resnet8 --out /tmp
    """
    for name in names or NETWORKS:
        click.echo(f"\n{name}")
        code = run(winnow, ["compare", name, *SETTINGS, "--json", str(out / f"{name}.json")])
        if code:
            raise Failure(f"{name}: winnow compare ended with exit code {code}")


if __name__ == "__main__":
    sys.exit(run(compare_table, sys.argv[1:]))
