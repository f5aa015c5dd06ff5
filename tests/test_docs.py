"""The documentation against the code: tables, commands, links, examples, figures."""

import json
import re
import shlex
import subprocess
import sys

import click
import pytest

from golden.network import QuantizedNetwork
from hw.descriptor import DESCRIPTOR_BYTES, FIELDS, pack
from hw.registers import COUNTERS, Error, Register
from scripts.cli import main, winnow
from scripts.make_docs import BLOCK, FILES, ROOT, TABLES, generate

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
TEXTS = {name: page.read_text() for name, page in zip(NAMES, PAGES, strict=True)}
README = TEXTS["README.md"]


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def commands(text: str, start: str) -> list[str]:
    """Every command that starts so: lines of shell and indented blocks, and code within a line."""
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    lines += [line.strip() for line in re.findall(r"^    (?!.*\|)\S.*", text, re.M)]
    # A comment within fenced blocks of other languages is no code of a line.
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    return [line for line in lines if line.startswith(start + " ")]


@pytest.mark.parametrize("name", FILES)
def test_generated_tables_are_up_to_date(name):
    assert generate(TEXTS[name]) == TEXTS[name], "run: python -m scripts.make_docs"


def test_every_table_stands_once():
    found = [match[2] for text in TEXTS.values() for match in BLOCK.finditer(text)]
    assert sorted(found) == sorted(TABLES)
    assert sum(text.count("<!-- generated") for text in TEXTS.values()) == len(TABLES)


def test_a_stale_table_is_written_anew():
    block = next(BLOCK.finditer(README))
    stale = README.replace(block[0], block[1] + "| old |\n" + block[3])
    assert stale != README and generate(stale) == README


def test_descriptor_table_places_fields_where_pack_does():
    row = r"^\| `(\w+)` \| 0x(\w\w) \| (?:(\d+)\.\.)?(\d+) \| (yes)? ?\| "
    rows = re.findall(row, TEXTS["docs/descriptor.md"], re.M)
    assert [row[0] for row in rows] == [field.name for field in FIELDS]
    zero = dict.fromkeys((field.name for field in FIELDS), 0)
    for name, byte, high, low, signed in rows:
        low, high = 8 * int(byte, 16) + int(low), 8 * int(byte, 16) + int(high or low)
        ones = (1 << high - low + 1) - 1
        packed = pack(zero | {name: -1 if signed else ones})
        assert len(packed) == DESCRIPTOR_BYTES and int.from_bytes(packed, "little") == ones << low, name


def test_register_tables_name_everything():
    text = TEXTS["docs/registers.md"]
    assert re.findall(r"^\| 0x(\w{4}) \| `(\w+)`", text, re.M) == [(f"{one.value:04X}", one.name) for one in Register]
    assert re.findall(r"^\| (\d+) \| `(\w+)`", text, re.M) == [(str(one.value), one.name) for one in Error]
    assert re.findall(r"^\| `(\w+)` \| 0x", text, re.M) == list(COUNTERS)


def test_architecture_explains_every_counter_and_error():
    text = TEXTS["docs/architecture.md"]
    section = text.split("\n## Counters\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.M) == list(COUNTERS)
    section = text.split("\n## Errors\n")[1].split("\n## ")[0]
    first_cells = "".join(re.findall(r"^\| (`.*?) \|", section, re.M))
    assert re.findall(r"`(\w+)`", first_cells) == [one.name for one in Error if one is not Error.NONE]


@pytest.mark.parametrize("line", sorted({line for text in TEXTS.values() for line in commands(text, "winnow")}))
def test_winnow_commands_parse(line, capsys):
    name, *arguments = shlex.split(line)[1:]
    assert main([name, "--help"]) == 0
    capsys.readouterr()
    command = winnow.commands[name]
    context = click.Context(command, info_name=name)
    if arguments == ["--help"]:
        return
    values, _, _ = command.make_parser(context).parse_args(arguments)
    for param in command.params:
        if param.name in values and not isinstance(param.type, click.Path):
            param.type_cast_value(context, values[param.name])


@pytest.mark.parametrize("line", sorted({line.split("#")[0].strip() for text in TEXTS.values()
                                         for line in commands(text, "python -m")}))
def test_python_commands_have_their_options(line):
    module, *arguments = line.split()[2:]
    command = [sys.executable, "-m", module, "--help"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for argument in arguments:
        assert not argument.startswith("-") or re.search(rf"^\s+.*{argument}\b", text, re.M), argument


@pytest.mark.parametrize("target", sorted({line.split()[1] for text in TEXTS.values()
                                           for line in commands(text, "make")}))
def test_make_targets_exist(target):
    assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(), re.M)


def test_readme_has_its_commands():
    assert blocks(README, "sh")[0].split("\n") == ["make demo", "make test", ""]
    assert {shlex.split(line)[1] for line in commands(README, "winnow")} == set(winnow.commands)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.+)$", text, re.M)}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[name]):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        page = (ROOT / name).parent / path if path else ROOT / name
        assert page.exists(), target
        assert not anchor or anchor in anchors(page.read_text()), target


@pytest.mark.parametrize("name", [*NAMES, *(str(path.relative_to(ROOT)) for path in
                                            sorted((ROOT / "docs/results").rglob("*.json")))])
def test_no_path_of_a_machine(name):
    assert not re.search(r"/(work|tmp|home|root|usr|opt|mnt)\b", (ROOT / name).read_text())


def test_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for example in blocks(README, "python"):
        exec(compile(example, "README.md", "exec"), {})
    assert (tmp_path / "JOB.npz").exists()
    verilog, = (line for line in commands(README, "winnow") if "--only-verilog" in line)
    assert main(shlex.split(verilog)[1:]) == 0
    assert "module winnow(" in (tmp_path / "rtl/winnow.sv").read_text()
    for name, language in (("TOPOLOGY.csv", "csv"), ("NETWORK.json", "json")):
        text, = blocks(README, language)
        (tmp_path / name).write_text(text)
    estimates = [line for line in commands(README, "winnow") if line.startswith("winnow estimate ")]
    assert estimates
    for line in estimates:
        assert main(shlex.split(line)[1:]) == 0, line
    assert "conv_b" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["README.md", "docs/network.md"])
def test_example_networks_are_networks(name, tmp_path):
    for text in blocks(TEXTS[name], "json"):
        (tmp_path / "NETWORK.json").write_text(text)
        assert len(QuantizedNetwork.load(tmp_path / "NETWORK.json").layers) == text.count('"name"') - 1


def test_the_demo_s_table_is_that_of_the_results():
    results = json.loads((ROOT / "docs/results/lenet4.json").read_text())
    assert results["bit_exact"]
    table = README.split("\nCycles\n")[1].split("\n\n")[0]
    for one in [*results["layers"], results["total"]]:
        row = next(line for line in table.splitlines() if line.startswith(one["name"]))
        assert f" {one['dense_cycles']:,} " in row and f" {one['sparse_cycles']:,} " in row
    accuracy = results["accuracy"]["recorded"]["held_out"]
    assert f"{100 * accuracy['int8_dense']:.2f} % dense, {100 * accuracy['int8_winners']:.2f} % with winners" in README
