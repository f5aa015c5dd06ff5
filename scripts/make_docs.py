"""``python -m scripts.make_docs``: write the tables of the documentation that are made from the code.

A table stands between two comment lines of a Markdown file, ``<!-- generated NAME: python -m scripts.make_docs -->``
and ``<!-- end -->``; everything else in the file is written by hand.
"""

import ast
import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields
from enum import IntEnum
from itertools import pairwise
from pathlib import Path

import click

from hw import registers
from hw.config import EngineConfig
from hw.descriptor import DESCRIPTOR_BYTES, FIELDS, LAYOUT, OP_CONVOLUTION, OP_VECTOR, MaskSource, Score, Select
from hw.registers import COUNTERS, IDENTITY_VALUE, PROFILE_WORDS, Error, Register
from scripts.compare_table import NETWORKS

ROOT = Path(__file__).parent.parent
FILES = ("README.md", "docs/descriptor.md", "docs/registers.md", "docs/networks.md", "docs/dasnet.md", "docs/import.md",
         "docs/fpga.md", "docs/results.md")
BLOCK = re.compile(r"(<!-- generated (\w+): python -m scripts\.make_docs -->\n).*?(<!-- end -->\n)", re.S)


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def member_docs(cls: type[IntEnum]) -> dict[str, str]:
    """The docstrings below the members of a class of hw/registers.py, which Python itself does not keep."""
    tree = ast.parse(Path(registers.__file__).read_text())
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == cls.__name__)
    return {first.targets[0].id: as_markdown(second.value.value) for first, second in pairwise(body)
            if isinstance(first, ast.Assign) and isinstance(second, ast.Expr)}


def as_markdown(text: str) -> str:
    """A docstring's marks as Markdown's, on one line."""
    text = re.sub(r":\w+:`(?:[\w.]*\.)?(\w+)`", r"`\1`", " ".join(text.split()))
    return text.replace("``", "`")


def parameters() -> str:
    """The sizes of an engine."""
    docs = {}
    for names, text in re.findall(r"^    (\w+(?:, \w+)*):\n((?:        .+\n)+)", EngineConfig.__doc__, re.M):
        docs |= dict.fromkeys(names.split(", "), as_markdown(text))
    return markdown(["parameter", "default", "meaning"],
                    [[f"`{field.name}`", f"{field.default:,}", docs[field.name]] for field in fields(EngineConfig)])


def descriptor_fields() -> str:
    """The fields of the descriptor and where they lie."""
    rows = []
    for field in FIELDS:
        word, bit = divmod(LAYOUT[field.name].offset, 32)
        place = f"{bit}" if field.bits == 1 else f"{bit + field.bits - 1}..{bit}"
        rows.append([f"`{field.name}`", f"0x{4 * word:02X}", place, "yes" if field.signed else "", field.doc])
    return (f"{len(FIELDS)} fields in {DESCRIPTOR_BYTES} bytes.\n\n"
            + markdown(["field", "byte", "bits", "signed", "meaning"], rows))


def descriptor_values() -> str:
    """The values of the descriptor's enumerations."""
    rows = [[f"`{field}`", member.value, member.name] for field, enum in
            (("mask_source", MaskSource), ("score_kind", Score), ("select", Select)) for member in enum]
    operations = [["`op`", f"0x{value:02X}", name]
                  for name, value in (("OP_CONVOLUTION", OP_CONVOLUTION), ("OP_VECTOR", OP_VECTOR))]
    return markdown(["field", "value", "name"], [*operations, *rows])


def register_map() -> str:
    """The registers."""
    docs = member_docs(Register)
    return (markdown(["offset", "register", "meaning"],
                     [[f"0x{member.value:04X}", f"`{member.name}`", docs[member.name]] for member in Register])
            + f"\n`IDENTITY_VALUE` is 0x{IDENTITY_VALUE:08X}, `PROFILE_WORDS` is {PROFILE_WORDS}.\n")


def errors() -> str:
    """The error codes of the status register."""
    docs = member_docs(Error)
    return markdown(["code", "error", "meaning"],
                    [[member.value, f"`{member.name}`", docs.get(member.name, "The program ended well.")]
                     for member in Error])


def counters() -> str:
    """Where the counters lie."""
    return markdown(["counter", "register", "in a profile record"],
                    [[f"`{name}`", f"0x{Register.COUNTERS + 4 * index:04X}", f"word {index} of {PROFILE_WORDS}"]
                     for index, name in enumerate(COUNTERS)])


def results() -> dict:
    """What ``python -m scripts.reference_layers --json docs/results/reference_layers.json`` has measured."""
    return json.loads((ROOT / "docs/results/reference_layers.json").read_text())


def reference_results() -> str:
    """The reference layers, dense and at two winner rates."""
    rows = []
    for one in results()["layers"]:
        ratios = [f"{one['speedup']:.2f}", f"{100 * one['exploitation']:.1f} %"] if "speedup" in one else ["", ""]
        rows.append([f"`{one['layer']}`", f"{one['winners']} of {one['channels']}", f"{one['cycles']:,}",
                     f"{100 * one['utilization']:.1f} %", *ratios, f"{one['predicted_cycles']:,}"])
    return markdown(["layer", "winners", "cycles", "utilization", "speed-up", "exploitation", "predicted cycles"], rows)


def ranking_results() -> str:
    """What ranking adds to a layer of 2048 output channels."""
    return markdown(["ranking", "cycles", "added"], [[one["run"], f"{one['cycles']:,}", f"{one['added_cycles']}"]
                                                     for one in results()["rankings"]])


def layers() -> dict:
    """What ``python -m scripts.layer_table --json docs/results/layers.json`` has measured."""
    return json.loads((ROOT / "docs/results/layers.json").read_text())


def percent(value: float) -> str:
    """A fraction as a percentage with one decimal."""
    return f"{100 * value:.1f} %"


def layer_cells(one: dict) -> list[str]:
    """A layer's sizes, and its two runs."""
    dense, winners = one["dense"], one["winners"]
    return [f"{one['kernel']}x{one['kernel']}" + (f", stride {one['stride']}" if one["stride"] > 1 else ""),
            f"{one['channels']}x{one['height']}x{one['width']}", f"{one['out_channels']}", f"{one['count']}",
            f"{dense['cycles']:,}", percent(dense["utilization"]), f"{winners['cycles']:,}",
            percent(winners["utilization"]), f"{one['speedup']:.2f}"]


LAYER_HEADER = ["kernel", "input", "outputs", "layers", "dense", "utilization", "half", "utilization", "speed-up"]


def convolution_results() -> str:
    """ResNet-18's layers, and their mean."""
    found = layers()
    weighted = found["mean"]
    rows = [[*layer_cells(one), percent(one["exploitation"])] for one in found["convolutions"]]
    rows.append(["**weighted**", "", "", "", "", percent(weighted["utilization"]), "",
                 percent(weighted["winners_utilization"]), "", percent(weighted["exploitation"])])
    return markdown([*LAYER_HEADER, "exploitation"], rows)


def depthwise_results() -> str:
    """MobileNet v1's depthwise layers beside a column of the array."""
    return markdown([*LAYER_HEADER, "one column of the array", "of Winnow's"],
                    [[*layer_cells(one), f"{one['one_column_cycles']:,}", f"{one['gain']:.2f}x"]
                     for one in layers()["depthwise"]])


def network_results() -> str:
    """Whole networks by the model, in RTL where they have been simulated."""
    rows = []
    for one in layers()["networks"]:
        dense, winners = one["dense"], one["winners"]
        parts = [(run["predicted"], run.get("measured")) for run in (dense, winners)]
        for name, (predicted, measured) in zip(("dense", "half"), parts, strict=True):
            first = name == "dense"
            rows.append([
                f"`{one['network']}`" if first else "", f"{one['products'] / 1e6:,.1f} M" if first else "", name,
                f"{predicted['cycles']:,}", f"{measured['cycles']:,}" if measured else "",
                percent(predicted["utilization"]), percent(predicted["array"]["utilization"]),
                "" if first else f"{parts[0][0]['cycles'] / predicted['cycles']:.2f}", f"{predicted['bytes']:,}",
                f"{predicted['compulsory_ratio']:.2f}x"])
    return markdown(["network", "products", "run", "cycles", "in RTL", "utilization", "layers on the array",
                     "speed-up", "bytes", "compulsory"], rows)


def published(kind: str) -> list[dict]:
    """The reports of published models of a kind, docs/results/published/KIND_*.json, in the order of their names."""
    return [json.loads(path.read_text()) for path in sorted((ROOT / "docs/results/published").glob(f"{kind}_*.json"))]


def published_models() -> str:
    """Imported models beside TFLite's reference kernels, as python -m scripts.compare_tflite has reported them."""
    rows, models = [], [one for report in published("compare") for one in report["models"]]
    for one in sorted(models, key=lambda one: one["macs"]):
        output, tensors = one["output"], one["tensors"]
        accuracies = [f"{100 * one[key]:.2f} %" if key in one else "" for key in ("accuracy", "accuracy_default")]
        rows.append([f"`{Path(one['model']).stem}`", one["type"], one["layers"], f"{one['macs'] / 1e6:.2f} M",
                     f"{output['inputs']:,}, {one['source']}", f"{output['differing']:,} of {output['bytes']:,}",
                     f"{tensors['differing']:,} of {tensors['bytes']:,}", *accuracies])
    return markdown(["model", "type", "layers", "MACs", "inputs", "differing bytes of the output",
                     "of every tensor, 10 inputs", "accuracy", "with TFLite's default kernels"], rows)


def published_cycles() -> str:
    """Imported models in RTL, as winnow run --engine rtl has reported them."""
    rows = []
    for one in sorted(published("rtl"), key=lambda one: (one["network"], one["rows"])):
        total = one["total"]
        rows.append([f"`{one['network']}`", f"{one['rows']}x{one['cols']}", len(one["layers"]),
                     "all" if one["bit_exact"] else "not all", f"{total['cycles']:,}", percent(total["utilization"]),
                     f"{total['bytes_read'] + total['bytes_written']:,}"])
    return markdown(["model", "array", "layers", "bit-exact", "cycles", "utilization", "bytes"], rows)


def compared() -> list[dict]:
    """What python -m scripts.compare_table has reported, in its order."""
    return [json.loads((ROOT / f"docs/results/compare/{name}.json").read_text()) for name in NETWORKS]


def compare_engine() -> str:
    """The engine dense and with winners, and plain arrays."""
    rows = []
    for one in compared():
        total, engine = one["total"], one["total"]["engine"]
        dense, sparse = engine["dense"], engine["sparse"]
        rows.append([f"`{one['network']}`", f"{total['macs']['dense'] / 1e6:,.1f} M",
                     f"{total['macs']['sparse'] / 1e6:,.1f} M", f"{dense['cycles']:,}", f"{sparse['cycles']:,}",
                     f"{sparse['ranking_cycles']:,}", f"{engine['speedup']:.2f}", f"{engine['ideal']:.2f}",
                     percent(engine["exploitation"]), percent(sparse["bytes"] / dense["bytes"]),
                     *(f"{total['scale_sim'][name]:,}" for name in ("os", "ws"))])
    return markdown(["network", "MACs", "of winners", "cycles dense", "with winners", "of them ranking", "speed-up",
                     "ideal", "exploitation", "bytes of dense", "plain OS, dense", "plain WS, dense"], rows)


def compare_software() -> str:
    """Software on the soft core, and the engine against it."""
    rows = []
    for one in compared():
        total, software = one["total"], one["total"]["software"]
        dense, sparse = ({way: kernel["cycles"] / 1e6 for way, kernel in software[run].items()}
                         for run in ("dense", "sparse"))
        scaled = [layer["software"]["dense"]["naive"]["extrapolated"] for layer in one["layers"] if layer["software"]]
        engine = total["engine"]["sparse"]["cycles"] / 1e6
        rows.append([f"`{one['network']}`", f"{dense['naive']:,.1f}", f"{dense['blocked']:,.1f}",
                     f"{sparse['indexed']:,.1f}", f"{sparse['packed']:,.1f}", f"{sparse['best']:,.1f}",
                     f"{software['ranking']['cycles'] / 1e6:,.2f}", f"{dense['blocked'] / sparse['packed']:.2f}",
                     f"{sparse['packed'] / engine:,.0f}", f"{total['speedup_over_software']['sparse']:,.0f}",
                     f"{sum(scaled)} of {len(scaled)}"])
    return markdown(["network", "naive", "blocked", "winners indexed", "packed", "best of each layer", "ranking",
                     "packed against blocked", "engine against packed", "against the best, ranking included",
                     "layers extrapolated"], rows)


def compare_host() -> str:
    """PyTorch on the computer that measured: dense / winners gathered."""
    rows = []
    for one in compared():
        host = one["total"]["host"]
        rows.append([f"`{one['network']}`", *(f"{host[precision][name]:.2f}" if host[precision] else "-"
                                              for precision in ("float32", "int8")
                                              for name in ("ratio", "packed_ratio"))])
    return markdown(["network", "float32", "weights packed beforehand", "int8", "weights packed beforehand"], rows)


def board_results() -> str:
    """Boards as winnow synth has reported them, docs/results/boards/*.json, the largest array last."""
    rows, reports = [], [json.loads(path.read_text()) for path in (ROOT / "docs/results/boards").glob("*.json")]
    for one in sorted(reports, key=lambda one: (one["macs"], one["board"])):
        used = [f"{one[key]['used']:,}, {percent(one[key]['used'] / one[key]['available'])}"
                for key in ("luts", "flip_flops", "multipliers", "block_rams")]
        rows.append([f"`{one['board']}`", f"{one['rows']}x{one['cols']}", *used,
                     f"{one['fmax_mhz']['clock']:.1f} MHz", f"{one['frequency_mhz']:g} MHz, "
                     + ("met" if one["met"] else "missed"), f"{one['peak_gops']:.2f}", f"{one['effective_gops']:.2f}",
                     f"{one['gops_per_multiplier']:.3f}", ", ".join(map(str, one["seeds"]))])
    return markdown(["board", "array", "LUTs", "flip-flops", "multipliers", "block RAMs", "fmax", "asked", "GOP/s",
                     "effective", "a multiplier", "seeds"], rows)


def trained() -> dict[str, list[dict]]:
    """What ``winnow train`` has reported, docs/results/dasnet/NAME_SEED.json, by NAME, the seeds of each in order."""
    found: dict[str, list[dict]] = {}
    for path in sorted((ROOT / "docs/results/dasnet").glob("*.json")):
        name, _, seed = path.stem.rpartition("_")
        if name and seed.isdigit():
            found.setdefault(name, []).append(json.loads(path.read_text()))
    return dict(sorted(found.items(), key=lambda item: (item[1][0]["macs"]["dense"], item[0])))


def mean(values: Iterable[float]) -> float:
    """The mean of numbers."""
    values = list(values)
    return sum(values) / len(values)


def pruned_cell(runs: Sequence[dict]) -> str:
    """How many feature maps and neurons lose, in the mean, and how many neurons win where that is left to energy."""
    energies = sorted({rule["eps"] for rule in runs[0].get("rules", {}).values() if rule["select"] == "energy"})
    by = f" (energy {' and '.join(percent(energy) for energy in energies)})" if energies else ""
    return ", ".join(f"{percent(mean(one['pruned'][kind] for one in runs))} of {kind.replace('_', ' ')}"
                     + (by if kind == "neurons" else "") for kind in runs[0]["pruned"])


def dasnet_results() -> str:
    """Networks trained with winners and all their weights: the mean and spread over the seeds of each."""
    rows = []
    for runs in trained().values():
        if "weights" in runs[0] or "float_winners" not in runs[0]["accuracy"]["test"]:
            continue
        parts = {"baseline": [one["baseline_accuracy"] for one in runs]}
        parts |= {key: [one["accuracy"]["test"][key] for one in runs] for key in ("float_winners", "int8_winners")}
        drops = [before - after for before, after in zip(parts["baseline"], parts["float_winners"], strict=True)]
        rows.append([f"`{runs[0]['network']}`", runs[0]["source"], len(runs), mean_and_spread(parts["baseline"]),
                     pruned_cell(runs), percent(mean(one["macs"]["reduction"] for one in runs)),
                     mean_and_spread(parts["float_winners"]), mean_and_spread(drops),
                     mean_and_spread(parts["int8_winners"])])
    return markdown(["network", "data", "seeds", "baseline", "pruned", "MACs saved", "float, winners", "drop",
                     "int8, winners"], rows)


def weights_kept(one: dict) -> str:
    """The fraction of the weights that are not zero, of the layers that have been pruned."""
    weights, zeros = (sum(layer[key] for layer in one["weights"].values()) for key in ("weights", "zeros"))
    return percent(1 - zeros / weights)


def pruning_results() -> str:
    """Networks with pruned weights: accuracy, and what zeros, winners and both save."""
    rows = []
    for runs in trained().values():
        one = runs[0]
        if "weights" not in one:
            continue
        test, cycles = one["accuracy"]["test"], {name: run["cycles"] for name, run in one["engine"]["runs"].items()}
        last = "winners" if "float_winners" in test else "dense"
        saved = [percent(1 - cycles[name] / cycles["dense"]) if name in cycles else ""
                 for name in ("winners", "blocks", "both")]
        pruned = [run["pruned_accuracy"] for run in runs if "pruned_accuracy" in run]
        rows.append([f"`{one['network']}`", "blocks" if "--prune-blocks" in one["command"] else "weights",
                     weights_kept(one),
                     mean_and_spread([run["baseline_accuracy"] for run in runs]),
                     mean_and_spread(pruned) if pruned else "",
                     *(mean_and_spread([run["accuracy"]["test"][f"{kind}_{last}"] for run in runs])
                       for kind in ("float", "int8")),
                     *(percent(one["macs"][key]) for key in ("static_reduction", "reduction", "both_reduction")),
                     *saved])
    return markdown(["network", "pruned", "weights kept", "baseline", "pruned, fine-tuned", "float, winners",
                     "int8, winners", "MACs saved by zeros", "by winners", "by both", "cycles saved by winners",
                     "by blocks", "by both"], rows)


def pruned_layers() -> str:
    """Like DASNet's Table III: of each pruned layer the weights that are kept, and the inputs that win."""
    rows = []
    for runs in trained().values():
        one = runs[0]
        for number, (name, layer) in enumerate(one.get("weights", {}).items()):
            found = one["macs"]["layers"][name]
            rows.append([f"`{one['network']}`" if number == 0 else "", f"`{name}`", f"{layer['weights']:,}",
                         percent(1 - layer["zeros"] / layer["weights"]), percent(found["winners"] / found["dense"]),
                         percent(found["both"] / found["dense"])])
        if "weights" in one:
            layers = [one["macs"]["layers"][name] for name in one["weights"]]
            dense, winners, both = (sum(layer[key] for layer in layers) for key in ("dense", "winners", "both"))
            rows.append(["", "total", f"{sum(layer['weights'] for layer in one['weights'].values()):,}",
                         weights_kept(one), percent(winners / dense), percent(both / dense)])
    return markdown(["network", "layer", "weights", "weights kept", "MACs of winners", "MACs of both"], rows)


PUBLISHED = ("alexnet", "resnet18", "mobilenet_v1_1.0_224")
"""Networks of ImageNet in DASNet's tables, whose ranking is compared with what it saves."""


def ranking_cost() -> str:
    """Ranking against what it saves, in operations and in cycles, of trained networks and of large ones."""
    from golden.network import QuantizedNetwork
    from golden.networks import build
    from sim.ranking_cost import ranking_cost, total

    networks = {f"`{name}`": QuantizedNetwork.load(ROOT / f"docs/results/dasnet/{name}_0.npz") for name, runs
                in trained().items()
                if "weights" not in runs[0] and (ROOT / f"docs/results/dasnet/{name}_0.npz").exists()}
    networks |= {f"`{name}`, half of all channels": build(name).with_winners(0.5) for name in PUBLISHED}
    rows = []
    for name, network in networks.items():
        if not any(node.ranking for node in network.layers):
            continue
        costs = ranking_cost(network, EngineConfig())
        whole = total(costs)
        rows.append([name, len(costs), f"{whole.saved_products:,.0f}", f"{whole.comparisons:,.0f}",
                     f"{100 * whole.operations_ratio:.2f} %",
                     f"{100 * max(cost.operations_ratio for cost in costs):.1f} %", f"{whole.saved_cycles:,.0f}",
                     f"{whole.ranking_cycles:,.0f}", f"{100 * whole.cycles_ratio:.3f} %"])
    return markdown(["network", "ranked layers", "MACs saved", "operations of ranking", "ratio (Eq. 6, 7)",
                     "largest of a layer", "cycles saved", "cycles of ranking", "ratio"], rows)


def mean_and_spread(values: Sequence[float]) -> str:
    """Percentages with two decimals: the mean, and the least and most in brackets."""
    spread = f" ({100 * min(values):.2f}..{100 * max(values):.2f})" if len(values) > 1 else ""
    return f"{100 * mean(values):.2f} %{spread}"


TABLES = {table.__name__: table for table in
          (parameters, descriptor_fields, descriptor_values, register_map, errors, counters, reference_results,
           ranking_results, convolution_results, depthwise_results, network_results,
           published_models, published_cycles, compare_engine,
           compare_software, compare_host, board_results, dasnet_results, pruning_results, pruned_layers,
           ranking_cost)}


def generate(text: str) -> str:
    """A file's text with its tables as the code has them now."""
    return BLOCK.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 where a table is not up to date.")
def make_docs(check: bool) -> None:
    """Write the tables of README.md and of the pages in docs that are made from the code and from docs/results."""
    stale = []
    for name in FILES:
        path = ROOT / name
        text = path.read_text()
        if generate(text) != text:
            stale.append(name)
            if not check:
                path.write_text(generate(text))
    click.echo("\n".join(f"{name}: {'not up to date' if check else 'written'}" for name in stale) or "up to date")
    if check and stale:
        sys.exit(1)


if __name__ == "__main__":
    make_docs()
