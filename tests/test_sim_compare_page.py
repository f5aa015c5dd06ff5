"""The page of a comparison: its numbers, that it needs nothing else, that nothing overflows in a browser."""

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from sim.compare_page import page, write_page
from sim.cycle_parts import cycle_parts
from sim.page import axes, bars, dots, heat, roofline, summary, tables, text
from tests import compare_reports as reports
from tests.browser import CHROMIUM, lay_out

VOID = {"meta", "br", "img"}


class Reader(HTMLParser):
    """The page as a reader sees it: ``tables`` by title of lines of cells, and every tag with its attributes."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.tables, self.path, self.words = [], {}, [], []
        self.heading = self.cell = None
        self.feed(page)
        assert self.path == [], "a tag is not closed"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.path.append(tag)
        if tag == "h3":
            self.heading = ""
        if tag == "tr":
            self.tables.setdefault(self.heading, []).append([])
        if tag in ("td", "th"):
            self.tables[self.heading][-1].append("")

    def handle_endtag(self, tag):
        assert self.path.pop() == tag, tag

    def handle_data(self, data):
        self.words.append(data)
        if self.path[-1:] == ["h3"]:
            self.heading += data
        if self.path[-1:] in (["td"], ["th"]):
            self.tables[self.heading][-1][-1] += data

    def records(self, title):
        """A table's lines as dictionaries by column."""
        columns, *lines = self.tables[title]
        return [dict(zip(columns, line, strict=True)) for line in lines]


@pytest.fixture(scope="module")
def large():
    return reports.large()


def number(cell):
    """The number in a cell, without its marks."""
    return float(re.sub("[,†‡ %\N{NO-BREAK SPACE}]", "", cell))


@pytest.mark.parametrize("name", ["small", "large"])
def test_tables_hold_the_reports_numbers(name):
    report = getattr(reports, name)()
    found = Reader(page(report))
    rows = [*report["layers"], report["total"]]
    cycles = found.records("Cycles")
    assert [line["layer"] for line in cycles] == [layer["name"] for layer in rows]
    for line, layer in zip(cycles, rows, strict=True):
        assert number(line["cycles dense"]) == layer["engine"]["dense"]["cycles"]
        assert number(line["cycles with winners"]) == layer["engine"]["sparse"]["cycles"]
        assert ("†" in line["cycles dense"]) == (layer["engine"]["dense"]["source"] == "analytical")
        assert number(line["MACs with winners"]) == layer["macs"]["sparse"]
        assert number(line["speed-up"]) == pytest.approx(layer["engine"]["speedup"], rel=5e-3)
    traffic = found.records("Bytes")
    for line, layer, run in zip(traffic, [layer for layer in rows for _ in range(2)], ["dense", "sparse"] * len(rows),
                                strict=True):
        counters = layer["engine"][run]
        assert number(line["weights read"]) == counters["bytes_read"]["weights"]
        assert number(line["activations written"]) == counters["bytes_written"]["activations"]
        assert (number(line["in sum"]), number(line["compulsory"])) == (counters["bytes"], counters["compulsory_bytes"])
    for line, layer in zip(found.records("Software, in cycles"), rows, strict=True):
        if layer["software"]:
            kernel = layer["software"]["sparse"]["packed"]
            assert number(line["sparse: packed"]) == kernel["cycles"]
            assert ("‡" in line["sparse: packed"]) == kernel["extrapolated"]
        else:
            assert line["sparse: packed"] == text.DASH
    rates = found.records("Milliseconds")[-1]
    assert rates["layer"] == "frames a second"
    assert number(rates["engine with winners"]) == pytest.approx(report["total"]["frames_per_second"]["engine_sparse"],
                                                                 rel=5e-3)


def test_summary_says_the_numbers_in_one_sentence():
    report = reports.small()
    report["total"] |= {"speedup_over_software": {"dense": 200.0, "sparse": 123.4}}
    report["total"]["engine"] |= {"speedup": 2.4239, "exploitation": 0.98382}
    report["total"]["engine"]["dense"] |= {"cycles": 248116, "bytes": 3294404}
    report["total"]["engine"]["sparse"] |= {"cycles": 102362, "bytes": 1253434}
    sentence = summary.sentence(report).replace(text.GAP, " ")
    assert sentence == (
        "With its winners only, lenet4 runs 2.42 times as fast as dense on a 16x16 engine (102,362 cycles in place of "
        "248,116, 98.4 % of the ideal), moves 38.0 % of the bytes, and takes 123 times fewer cycles than the best "
        "software with the same winners on VexRiscv, RV32IM, 4 KiB caches.")
    assert sentence in page(report).replace(text.GAP, " ")


def test_grounds_name_what_is_not_measured(large):
    assert summary.grounds(reports.small()) == ["The engine's cycles are those of its RTL, simulated."]
    grounds = " ".join(summary.grounds(large))
    scaled = sum(bool(layer["software"]) and layer["software"]["dense"]["naive"]["extrapolated"]
                 for layer in large["layers"])
    assert scaled > 5 and f"{scaled} of 53 layers are extrapolated" in grounds
    assert "in RTL for 11 of 53 layers" in grounds and "weights are random" in grounds
    assert "predicted by the analytical model, not simulated" in " ".join(summary.grounds(reports.bare()))


def test_page_needs_nothing_else(large):
    for report in (reports.small(), large, reports.bare()):
        found = Reader(page(report))
        assert {"script", "link", "iframe", "object", "img"}.isdisjoint(tag for tag, _ in found.tags)
        for tag, attributes in found.tags:
            assert not {"src", "srcset", "href", "xlink:href", "data"} & set(attributes), tag
            assert not any(key.startswith("on") for key in attributes), tag
        style = page(report).split("<style>")[1].split("</style>")[0]
        assert "@import" not in style and set(re.findall(r"url\((.*?)\)", style)) == {"#hatch"}


def test_hostile_names_are_text(large):
    text_of_page = page(large)
    assert reports.HOSTILE in Reader(text_of_page).words
    assert "<script" not in text_of_page and "<img" not in text_of_page


def test_the_total_stands_out_where_it_is_known():
    report = reports.small()
    report["total"] |= {"software": None, "speedup_over_software": None}
    found = page(report)
    assert found.count('class="row total"') == 4  # cycles, speed-up, traffic, float32 on the host, not software
    assert '<div class="row total">' not in page(reports.bare())


def test_a_job_alone_has_no_total_and_no_empty_figures():
    found = Reader(page(reports.bare()))
    headings = [word.strip() for word in found.words]
    assert "Against software" not in headings and "Winners over inputs" not in headings
    assert [line["layer"] for line in found.records("Cycles")] == ["JOB"]
    assert "cycles" in headings and "ms" not in headings  # the timeline's unit


def test_the_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "compare.html"
    write_page(path, reports.small())
    written = path.read_text(encoding="utf-8")
    assert written == page(reports.small()) and list(tmp_path.iterdir()) == [path]
    broken = reports.small()
    del broken["layers"][2]["engine"]["sparse"]["bytes"]
    with pytest.raises(KeyError):
        write_page(path, broken)
    assert path.read_text(encoding="utf-8") == written and list(tmp_path.iterdir()) == [path]


def test_bars_of_cycles_are_in_proportion():
    layer = reports.small()["layers"][1]
    dense, sparse = (layer["engine"][run] for run in ("dense", "sparse"))
    (row,) = bars.cycle_rows([layer])
    assert row.note == "16 of 32"
    for bar, run in zip(row.bars, (dense, sparse), strict=True):
        lengths = {piece.kind: piece.length * dense["cycles"] / 100 for piece in bar.pieces}
        expected = {"active": run["array_active_cycles"], **run["stall_cycles"], "rest": 7}
        assert lengths == pytest.approx(expected, abs=dense["cycles"] * 1e-5)
        ends = [piece.start + piece.length for piece in bar.pieces]
        assert [piece.start for piece in bar.pieces] == pytest.approx([0, *ends[:-1]], abs=2e-3)
    end = 100 * sparse["cycles"] / dense["cycles"]
    assert row.bars[1].under.start + row.bars[1].under.length == pytest.approx(end, abs=2e-3)
    assert row.bars[1].under.length == pytest.approx(100 * 43 / dense["cycles"], abs=1e-3)


def test_predicted_cycles_have_no_causes():
    layer = reports.bare()["layers"][0]
    (row,) = bars.cycle_rows([layer])
    share = layer["engine"]["sparse"]["cycles"] / layer["engine"]["dense"]["cycles"]
    assert [[(piece.kind, piece.length) for piece in bar.pieces] for bar in row.bars] == [
        [("predicted", 100)], [("predicted", pytest.approx(100 * share, abs=1e-3))]]
    assert all("predicted by the analytical model" in bar.title for bar in row.bars)


def test_causes_that_exceed_the_cycles_are_an_error():
    run = {"array_active_cycles": 90, "stall_cycles": {"weights": 20}, "cycles": 100}
    with pytest.raises(ValueError, match="got 100, 10 too few"):
        cycle_parts(run)
    assert cycle_parts(run | {"cycles": 115}) == {"active": 90, "weights": 20, "rest": 5}


def test_bytes_reach_the_mark_where_they_are_compulsory():
    layer = reports.small()["layers"][1]
    layer["engine"]["sparse"]["compulsory_bytes"] = 2 * layer["engine"]["dense"]["bytes"]
    (row,) = bars.byte_rows([layer])
    assert row.bars[1].mark == 100 and row.bars[0].mark == pytest.approx(45, abs=0.01)
    whole = sum(piece.length for piece in row.bars[0].pieces)
    assert whole == pytest.approx(50, abs=0.01)
    assert {piece.kind for piece in row.bars[0].pieces} == {
        "activations-read", "weights-read", "parameters-read", "activations-written", "mask-written"}


def test_timeline_puts_layers_behind_each_other():
    report = reports.small()
    found = bars.timeline(report["layers"], 79.2)
    total = report["total"]["engine"]
    assert found.unit == "ms" and found.ticks[-1].at <= 100
    for run, slices in found.runs.items():
        ends = [one.start + one.length for one in slices]
        assert [one.start for one in slices] == pytest.approx([0, *ends[:-1]], abs=1e-3)
        assert ends[-1] == pytest.approx(100 * total[run]["cycles"] / total["dense"]["cycles"], abs=1e-3)
        assert all(sum(piece.length for piece in one.pieces) == pytest.approx(100, abs=0.02) for one in slices)
    assert bars.timeline(report["layers"], None).unit == "cycles"


def test_dots_stand_where_their_values_are():
    report = reports.small()
    found = dots.speedups(report["layers"])
    row = found.rows[1]
    values = {mark.kind: mark.at for mark in row.marks}
    (one,) = [tick.at for tick in found.axis.ticks if tick.label == "1"]
    (two,) = [tick.at for tick in found.axis.ticks if tick.label == "2"]
    assert found.one == one and values["ideal"] == two > values["engine-sparse"] > one
    against = dots.software(report["layers"])
    assert [row.value for row in against.rows] == [text.factor(layer["speedup_over_software"]["sparse"])
                                                   for layer in report["layers"]]
    assert dots.software([layer | {"software": None, "speedup_over_software": None}
                          for layer in report["layers"]]) is None


@pytest.mark.parametrize(("values", "base", "low", "high"), [
    ([1.0, 1.0], 2, 0, 1), ([0.99, 6.28], 2, -1, 3), ([1000.0], 10, 3, 4), ([3e3, 4e9], 10, 3, 10),
    ([0.008, 1.5], 2, -7, 1)])
def test_logarithmic_axes(values, base, low, high):
    axis = axes.LogAxis.around(values, base)
    assert (axis.low, axis.high) == (low, high)
    assert axis.at(base**low) == axes.MARGIN and axis.at(base**high) == 100 - axes.MARGIN
    assert axis.at(base ** ((low + high) / 2)) == pytest.approx(50)
    assert 2 <= len(axis.ticks) <= 7
    assert low > 0 or "1" in [tick.label for tick in axis.ticks]


@pytest.mark.parametrize("largest", [0.004, 1, 3.13, 7, 102362, 1e9])
def test_linear_ticks_are_round_and_few(largest):
    ticks = axes.linear_ticks(largest)
    assert ticks[0].at == 0 and 3 <= len(ticks) <= 6 and ticks[-1].at <= 100
    steps = [two.at - one.at for one, two in pairwise(ticks)]
    assert steps == pytest.approx([steps[0]] * len(steps), abs=2e-3)


def test_roofline_meets_the_peak_at_the_ridge():
    report = reports.small()
    found = roofline.roofline(report["layers"], report["engine"])
    bus, peak = found.roofs
    assert bus[2:] == peak[:2] and peak[1] == peak[3] < bus[1]
    places = {tick.label: tick.at for tick in found.ticks}
    assert places["10"] < bus[2] < places["100"]  # 256 MACs a cycle / 16 bytes a cycle = 16 MACs a byte
    assert all(point.y >= peak[1] for point in found.points) and len(found.points) == 8
    heights = [name.y for name in found.names]
    assert all(two - one >= roofline.LINE for one, two in pairwise(heights))
    no_macs = [layer | {"macs": {"dense": 0, "sparse": 0}} for layer in report["layers"]]
    assert roofline.roofline(no_macs, report["engine"]) is None


def test_heat_map_sorts_channels_by_frequency():
    rows = heat.heat_rows({"layers": {"one": {"mean": 2.5, "frequency": [0, 1, 0.5, 0, 1, 0.999, 0.001, 0.5]}}})
    assert [(cell.level, cell.length) for cell in rows[0].cells] == [
        (10, 25), (9, 12.5), (5, 25), (1, 12.5), (0, 25)]
    assert rows[0].note.replace(text.GAP, " ") == "50.0 % vary" and rows[0].value == "2.5 of 8"
    assert heat.heat_rows(None) == [] == heat.heat_rows({"kinds": {}})


@pytest.mark.parametrize(("value", "expected"), [
    (0, "0"), (491, "491"), (999.6, "1 k"), (4288, "4.29 k"), (102362, "102 k"), (999_600, "1 M"), (3.2e9, "3.2 G"),
    (1.5e12, "1.5 T"), (2.5e15, "2,500 T"), (None, "-")])
def test_short_numbers(value, expected):
    assert text.short(value).replace(text.GAP, " ").replace(text.DASH, "-") == expected


def test_other_numbers():
    assert [text.factor(value) for value in (0.00804, 0.997, 9.994, 45.67, 1535.2)] == [
        "0.008", "1.00", "9.99", "45.7", "1,535"]
    assert text.factor(None) == text.percent(None) == text.whole(None) == text.DASH
    assert [text.seconds(value).replace(text.GAP, " ") for value in (2, 0.0123, 4.4e-5, 3e-9)] == [
        "2 s", "12.3 ms", "44 µs", "0.003 µs"]
    assert [text.rounded(value) for value in (0.377, 1234.5)] == ["0.377", "1,234"]


def test_tables_without_anything_to_show_are_left_out():
    bare = reports.bare()
    assert [one.title for one in tables.tables(bare["layers"], None)] == ["Cycles", "Where the cycles went", "Bytes"]
    assert tables.tables(bare["layers"], None)[0].notes == ["† predicted by the analytical model"]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on PATH")
@pytest.mark.parametrize("name", ["small", "large", "bare"])
def test_nothing_overflows_in_a_browser(name, tmp_path):
    report = getattr(reports, name)()
    found = lay_out(page(report), [1400, 800, 360], tmp_path)
    assert sorted(found) == [360, 800, 1400]
    for width, one in found.items():
        assert one["problems"] == [], width
        assert one["drawn"] > 50 * len(report["layers"]) and one["title"].startswith(report["network"])
