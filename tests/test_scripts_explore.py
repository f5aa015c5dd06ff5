"""``winnow explore`` from the command line."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

from hw.config import EngineConfig
from scripts.bound_deviation import NETWORKS
from scripts.bound_deviation import main as bound_deviation
from scripts.cli import main
from sim.network import estimate_network

DOCS = Path(__file__).parent.parent / "docs"
SMALL = ["explore", "lenet4", "--macs", "16", "--buffers", "32k,64k"]


def fields_of(command: str) -> dict[str, str]:
    """The options of a command."""
    words = shlex.split(command)
    return {word: words[place + 1] for place, word in enumerate(words) if word.startswith("--")}


def test_a_small_exploration(tmp_path, capsys):
    report_path, plot = tmp_path / "explore.json", tmp_path / "explore.png"
    assert main([*SMALL, "--json", str(report_path), "--plot", str(plot)]) == 0
    text = capsys.readouterr().out
    report = json.loads(report_path.read_text())
    arrays = sum(rows * columns <= 16 for rows in range(1, 17) for columns in range(1, 17))
    assert report["engines"] == arrays * 4 * 2 and report["engines_refused"] == 0
    assert 0 < report["engines_followed"] < report["engines"] and report["engines_per_second"] > 0
    assert report["command"] == shlex.join(["winnow", *SMALL, "--json", str(report_path), "--plot", str(plot)])
    assert (report["macs"], report["buffers"][1], report["bandwidth"]) == (16, [32768, 65536], [64, 128])

    # Every point is the estimate of its engine, none is worse than another, and the first one is chosen.
    from golden.networks import build

    front = report["front"]
    for one in front[::5]:
        layers = estimate_network(build("lenet4"), EngineConfig(
            rows=one["rows"], columns=one["cols"], act_buffer_bytes=one["act_buffer_bytes"],
            weight_buffer_bytes=one["weight_buffer_bytes"], axi_data_bits=one["axi_width"]))
        assert one["layer_cycles"] == {layer.name: layer.predicted.cycles for layer in layers}
        assert one["cycles"] == sum(one["layer_cycles"].values())
    figures = [(one["cycles"], one["bytes"], one["multipliers"]) for one in front]
    assert figures == sorted(figures) and len(set(figures)) == len(front)
    assert not any(all(a <= b for a, b in zip(one, two, strict=True)) for one in figures for two in figures
                   if one != two)
    commands = report["chosen"].pop("commands")
    assert report["chosen"] == front[0]
    for name, command in commands.items():
        assert command.startswith(f"winnow {name} ") and f"\n  {command}\n" in text
        options = fields_of(command)
        for field in ("rows", "cols", "act_buffer_bytes", "weight_buffer_bytes", "axi_width"):
            assert options[f"--{field.replace('_', '-')}"] == str(front[0][field])

    # The table, and the picture.
    best = front[0]
    row = next(line for line in text.splitlines() if line.startswith("* "))
    assert re.fullmatch(rf"\* {best['rows']}x{best['cols']} +\d+k +\d+k +128 +{best['cycles']:,} +{best['bytes']:,} +"
                        rf"{best['multipliers']} +{100 * best['utilization']:.1f} %", row)
    shown = int(re.search(r": (\d+) engines, (\d+) shown", text)[2])
    assert len(re.findall(r"^[* ] +\d+x\d+ ", text, re.M)) == shown <= len(front)
    pixels = image.imread(plot)
    assert pixels.shape == (870, 1950, 4) and len(np.unique(pixels.reshape(-1, 4), axis=0)) > 100
    assert sorted(tmp_path.iterdir()) == [report_path, plot]


def test_the_chosen_commands_run(capsys):
    assert main([*SMALL, "--macs", "8", "--winner-rate", "0.25", "--choose", "bytes", "--bandwidth", "64"]) == 0
    simulate, = re.findall(r"^  winnow (simulate lenet4 .*)$", capsys.readouterr().out, re.M)
    assert simulate.endswith("--axi-width 64 --winner-rate 0.25")
    # The same options, for the command that needs no compiler.
    assert main(["estimate", *shlex.split(simulate)[1:]]) == 0


def test_pairs_of_buffers(tmp_path):
    path = tmp_path / "explore.json"
    assert main(["explore", "lenet4", "--macs", "4", "--buffers", "64k:32768,32k:64K,1m:32k,64k:32k", "--bandwidth",
                 "128", "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    assert report["buffers"] == [[65536, 32768], [32768, 65536], [1048576, 32768]]
    assert report["engines"] == 8 * 3


@pytest.mark.parametrize("arguments, message", [
    (["nothing"], "nothing: expected NETWORK.npz, NETWORK.json, or one of "),
    (["lenet4", "--macs", "0"], "'--macs': 0 is not in the range 1<=x<=4096."),
    (["lenet4", "--buffers", "32k,big"], "'--buffers': expected a size such as 32768, 32k or 1m, got big"),
    (["lenet4", "--buffers", "32k,,64k"], "'--buffers': expected a size such as 32768, 32k or 1m, got nothing"),
    (["lenet4", "--buffers", "32k:64k,32k"], "'--buffers': expected sizes such as 32k,64k or pairs such as "),
    (["lenet4", "--buffers", "100"], "--buffers: expected a size that an engine can have "),
    (["lenet4", "--buffers", "256:32k"], "--buffers: expected sizes with which an engine can run lenet4, all "),
    (["lenet4", "--bandwidth", "32"], "'--bandwidth': expected 64, 128 or 64,128, got 32"),
    (["lenet4", "--winner-rate", "0.5", "--winner-rates", "RATES"],
     "--winner-rate, --winner-rates: expected one of them, got both"),
    (["lenet4", "--plot", "explore.pdf"], "expected a name that ends with .png, got explore.pdf"),
])
def test_refusals(arguments, message, tmp_path, capsys):
    rates = tmp_path / "rates.json"
    rates.write_text("{}")
    arguments = [str(rates) if one == "RATES" else one for one in arguments]
    macs = [] if "--macs" in arguments else ["--macs", "4"]
    assert main(["explore", *arguments, *macs, "--json", str(tmp_path / "explore.json")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == [rates]


def test_engines_that_are_refused_are_counted(capsys):
    assert main(["explore", "convnet5", "--macs", "8", "--buffers", "512:512,32k:32k"]) == 0
    text = capsys.readouterr().out
    arrays = sum(rows * columns <= 8 for rows in range(1, 9) for columns in range(1, 9))
    assert text.splitlines()[1].endswith(f"; {arrays * 2} refused")


def test_deviations(tmp_path, capsys):
    path = tmp_path / "deviation.json"
    assert bound_deviation(["--engines", "8", "--macs", "64", "--json", str(path)]) == 0
    found = json.loads(path.read_text())["networks"]
    lines = capsys.readouterr().out.splitlines()[2:]
    assert list(found) == list(NETWORKS) == [line.split()[0] for line in lines]
    for one, line in zip(found.values(), lines, strict=True):
        cycles = one["cycles"]
        assert 0 < cycles["median"] < cycles["quantile_95"] <= cycles["largest"] < 0.1
        assert line.split()[1:3] == [f"{100 * cycles['median']:.2f}", "%"] and one["bytes"]["median"] == 0


def test_the_documentation_has_the_reports_figures():
    text = (DOCS / "explore.md").read_text()
    reports = [json.loads(path.read_text()) for path in sorted((DOCS / "results/explore").glob("*_*.json"))]
    assert len(reports) == 3
    for report in reports:
        best = report["chosen"]
        assert report["command"] in text and report["front"][0]["cycles"] == best["cycles"]
        row = next(line for line in text.splitlines()
                   if line.startswith(f"| {report['network']} | {report['macs']} | {report['engines']:,} | "))
        assert f" {report['engines_followed']:,} in " in row and f" | {len(report['front'])} | " in row
        assert f" | {best['cycles']:,} | {best['bytes']:,} | {best['multipliers']} | " in row
    deviation = json.loads((DOCS / "results/explore/deviation.json").read_text())
    for name, one in deviation["networks"].items():
        shown = [f"{100 * one[kind][part]:.2f} %" for kind in ("cycles", "bytes")
                 for part in ("median", "quantile_95", "largest")]
        assert f"| {name} | {' | '.join(shown)} |" in text
