"""Results of random layers, and where their bytes must come to lie: loops in Python, for the write-back's tests."""

from collections import Counter
from dataclasses import dataclass, field
from random import Random

import numpy as np
import torch

from golden.job import Ranking
from golden.ranking import channel_scores, select_winners
from hw.config import EngineConfig
from hw.descriptor import OP_CONVOLUTION, OP_VECTOR, Score, Select

OUT_BASE, SCORE_BASE, WINNER_BASE = 0x10003, 0x4005, 0x200D


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Windows along one dimension: ``outs`` of them, from ``first`` on, over ``results`` results."""

    results: int
    window: int
    step: int
    first: int
    outs: int

    def taps(self, out: int) -> list[int]:
        """The results in a window."""
        start = self.first + out * self.step
        return [at for at in range(start, start + self.window) if 0 <= at < self.results]


def random_axis(random: Random, longest: int, window: int, step: int) -> Axis:
    """An axis whose windows may begin before the results and end behind them, each with a tap among them."""
    results = random.randint(1, longest)
    first = -random.randint(0, window - 1)
    most = (results - 1 - first) // step + 1
    outs = most if random.random() < 0.6 else random.randint(1, most)
    while first + step * (outs - 1) >= results or not any(
            0 <= first + n < results for n in range(window)):
        outs -= 1
    results = min(results, first + step * (outs - 1) + window)  # no result that no window has
    return Axis(results=results, window=window, step=step, first=first, outs=outs)


@dataclass(frozen=True, kw_only=True)
class Band:
    """The geometry of a band: its windows, and how they are cut into strips."""

    rows: Axis
    cols: Axis
    pitch: int
    flat: int
    strip_rows: int
    tile: int

    @property
    def positions(self) -> int:
        return (self.rows.results - 1) * self.pitch + self.cols.results

    @property
    def tiles(self) -> int:
        return -(-self.positions // self.tile)

    def needed(self, row: int) -> int:
        """Positions up to the last tap of a written row (of a flat one: up to its end)."""
        if self.flat:
            return min((row + 1) * self.flat, self.positions)
        last_col = self.cols.taps(self.cols.outs - 1)[-1]
        return self.rows.taps(row)[-1] * self.pitch + last_col + 1

    def strip_fields(self) -> dict[str, int]:
        if self.flat:
            out_rows = -(-self.positions // self.flat)
            return {"out_rows": out_rows, "out_cols": min(self.flat, self.positions), "out_strip_rows": 1,
                    "out_cols_last": self.positions - (out_rows - 1) * self.flat, "out_strip_step": self.flat,
                    "out_strip_need": self.flat, "out_row_step": self.flat}
        rows, cols = self.rows, self.cols
        row_step, last_row = rows.step * self.pitch, rows.first + (self.strip_rows - 1) * rows.step + rows.window - 1
        return {"out_rows": rows.outs, "out_cols": cols.outs, "out_cols_last": cols.outs, "out_row_step": row_step,
                "out_strip_rows": self.strip_rows, "out_strip_step": self.strip_rows * row_step,
                "out_strip_need": last_row * self.pitch + cols.taps(cols.outs - 1)[-1] + 1}

    def fields(self, config: EngineConfig) -> dict[str, int]:
        """Those of the map and of its windows."""
        rows, cols = self.rows, self.cols
        chunk = (config.axi_bytes - 1) // cols.step + 1 if cols.step <= 4 else 1
        return {"out_pitch": self.pitch, "positions": self.positions, "pool_h": rows.window, "pool_w": cols.window,
                "pool_stride_y": rows.step, "pool_stride_x": cols.step, "pool_y": rows.first, "pool_x": cols.first,
                "pool_rows": 0xFFFF if self.flat else rows.results, "chunk": chunk, "chunk_step": chunk * cols.step,
                "pool_cols": 0xFFFF if self.flat else cols.results}

    def fits(self, ring: int) -> bool:
        """Every strip, with all positions from its first tap row on, fits the ring with a tile to spare."""
        fields = self.strip_fields()
        for first in range(0, fields["out_rows"], self.strip_rows):
            start = first * self.flat if self.flat else max(0, self.rows.first + first * self.rows.step) * self.pitch
            last = min(first + self.strip_rows, fields["out_rows"]) - 1
            if self.needed(last) - start + self.tile > ring:
                return False
        return self.flat + self.tile <= ring

    def reads(self, chunk: int) -> int:
        """Reads of a channel."""
        if self.flat:
            fields = self.strip_fields()
            return (fields["out_rows"] - 1) * -(-fields["out_cols"] // chunk) + -(-fields["out_cols_last"] // chunk)
        chunks = -(-self.cols.outs // chunk)
        return sum(len(self.rows.taps(row)) * self.cols.window * chunks for row in range(self.rows.outs))

    def pooled(self, maps: np.ndarray) -> np.ndarray:
        """Maps [channels, rows, cols] of results, each window's largest."""
        if self.flat:
            return maps
        out = np.zeros((len(maps), self.rows.outs, self.cols.outs), np.int8)
        for y in range(self.rows.outs):
            for x in range(self.cols.outs):
                out[:, y, x] = maps[:, self.rows.taps(y)][:, :, self.cols.taps(x)].max((1, 2))
        return out


def random_pool(random: Random) -> tuple[int, int, int, int]:
    """Window and step along rows and columns."""
    if random.random() < 0.3:
        return 1, 1, 1, 1
    return (*(random.choice((1, 2, 3, 3, 5)) for _ in range(2)), *(random.choice((1, 2, 2, 3, 4, 5)) for _ in range(2)))


def random_band(random: Random, config: EngineConfig, pool: tuple[int, int, int, int], *, tile: int,
                one_strip: bool) -> Band:
    """A band whose strips fit the ring; flat, or with any pitch and rows a strip."""
    ring = config.output_ring_bytes
    while True:
        if pool == (1, 1, 1, 1) and random.random() < 0.7:
            rows, cols = (Axis(results=n, window=1, step=1, first=0, outs=n) for n in (
                random.randint(1, 12), random.choice((1, 4, random.randint(1, 20)))))
            flat = tile * random.randint(1, max(1, min(4, ring // 4 // tile)))
            band = Band(rows=rows, cols=cols, pitch=cols.results, flat=flat, strip_rows=1, tile=tile)
        else:
            rows = random_axis(random, 14, pool[0], pool[2])
            cols = random_axis(random, 20, pool[1], pool[3])
            band = Band(rows=rows, cols=cols, pitch=cols.results + random.choice((0, 0, 1, 4)), flat=0, tile=tile,
                        strip_rows=rows.outs if one_strip else random.choice((1, 1, random.randint(1, rows.outs))))
        if band.fits(ring) and (not one_strip or band.strip_fields()["out_rows"] <= band.strip_rows):
            return band


@dataclass(kw_only=True)
class Layer:
    """Descriptors with the results that the drain delivers for each, and all that must become of them."""

    fields: list[dict[str, int]] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)
    maps: list[np.ndarray] = field(default_factory=list)
    written: dict[int, int] = field(default_factory=dict)
    """Results: address -> byte."""
    marks: dict[int, int] = field(default_factory=dict)
    """Scores and winners: address -> byte."""
    reads: Counter = field(default_factory=Counter)
    """By ring of the output buffer."""
    judged: set[int] = field(default_factory=set)
    """Channels that are read for their scores alone first."""
    kept: set[int] = field(default_factory=set)
    """Channels that are written."""


def make_layer(arrays: np.random.Generator, config: EngineConfig, *, vector: bool, channels: int, columns: int,
               bands: list[Band], rule: Ranking, skip: bool = False, zero: int = 0, cut: int = 0, top: int = 127,
               gaps: tuple[int, int] = (0, 0)) -> Layer:
    """A layer in bands of groups of ``columns`` channels; a descriptor each, or two, cut before group ``cut``.

    ``top``: the highest result of the lowest channels; ``gaps``: bytes between rows and between planes.
    """
    layer, pooled, base = Layer(), [], OUT_BASE
    groups = [range(start, min(start + columns, channels)) for start in range(0, channels, columns)]
    parts = [part for part in (groups[:cut], groups[cut:]) if part]
    for number, band in enumerate(bands):
        # Channels of different heights, so that some win clearly; with many ties where they are low.
        tops = arrays.integers(min(zero, top), top + 1, channels)
        maps = np.minimum(arrays.integers(-128, 128, (channels, band.rows.results, band.cols.results)),
                          tops[:, None, None]).astype(np.int8)
        pooled.append(band.pooled(maps))
        row_pitch = (band.flat or band.cols.outs) + (0 if band.flat else gaps[0])
        plane = band.strip_fields()["out_rows"] * row_pitch + gaps[1]
        for part in parts:
            first = part[0][0]
            layer.bands.append(band)
            layer.maps.append(maps[first:part[-1][-1] + 1])
            layer.fields.append({
                "op": OP_VECTOR if vector else OP_CONVOLUTION, "out_zero_point": zero, "first_channel": first,
                "out_channels": channels, "out_groups": len(part), "group_columns": columns,
                "last_columns": len(part[-1]), "score_resume": number > 0, "score_final": number == len(bands) - 1,
                "layer_end": number == len(bands) - 1 and part is parts[-1], "score_kind": Score[rule.score.upper()],
                "select": Select[rule.select.upper()], "energy_square": rule.energy_power == 2,
                "select_value": rule.eps16 if rule.select == "energy" else rule.value,
                "score_multiplier": rule.score_multiplier, "score_shift": rule.score_shift, "skip_losers": skip,
                "score_base": SCORE_BASE, "winner_base": WINNER_BASE, "out_base": base + first * plane,
                "out_plane": plane, "out_row_pitch": row_pitch, "out_contiguous": bool(band.flat or gaps[0] == 0),
                "out_strip_pitch": band.strip_rows * row_pitch, "span": band.tiles * band.tile,
                "tile_positions": band.tile, "tiles": band.tiles, **band.fields(config), **band.strip_fields(),
            })
        base += channels * plane + 100
    expect(layer, rule, groups, pooled)
    return layer


def expect(layer: Layer, rule: Ranking, groups: list[range], pooled: list[np.ndarray]) -> None:
    """What must be written, where, and by how many reads."""
    fields, channels = layer.fields[0], len(pooled[0])
    vector, skip, zero = fields["op"] == OP_VECTOR, fields["skip_losers"], fields["out_zero_point"]
    whole = np.concatenate([band.reshape(channels, -1) for band in pooled], 1)
    scores = channel_scores(torch.from_numpy(whole)[:, None], zero, rule).tolist()
    layer.marks = {SCORE_BASE + n: score for n, score in enumerate(scores)}
    if rule.select != "all":
        # Bits behind the last channel are ones (hw/ranking.py).
        for n, wins in enumerate(select_winners(torch.tensor(scores), rule).tolist() + [1] * (-channels % 8)):
            layer.marks[WINNER_BASE + n // 8] = layer.marks.get(WINNER_BASE + n // 8, 0) | wins << n % 8
    for one in [[channel] for group in groups for channel in group] if vector else groups:
        so_far = sorted(scores[:one[-1] + 1], reverse=True)
        bound = 0
        if skip and (rule.select == "threshold" or len(so_far) > rule.value):
            bound = rule.value if rule.select == "threshold" else so_far[rule.value - 1]
            layer.judged.update(one)
        layer.kept.update(channel for channel in one if scores[channel] >= bound)
    maps = [out for out in pooled for _ in range(len(layer.fields) // len(pooled))]
    for fields, band, out in zip(layer.fields, layer.bands, maps, strict=True):
        for n in range((fields["out_groups"] - 1) * fields["group_columns"] + fields["last_columns"]):
            channel = fields["first_channel"] + n
            passes = (channel in layer.judged) + (channel in layer.kept)
            layer.reads[0 if vector else n % fields["group_columns"]] += band.reads(fields["chunk"]) * passes
            if channel in layer.kept:
                start = fields["out_base"] + n * fields["out_plane"]
                for (y, x), value in np.ndenumerate(out[channel].reshape(1, -1) if band.flat else out[channel]):
                    layer.written[start + y * fields["out_row_pitch"] + x] = int(value) & 0xFF


def random_layer(random: Random, config: EngineConfig, *, vector: bool, skip: bool) -> Layer:
    """Any number of channels, columns of a group, bands and pooling."""
    channels = min(config.max_channels, random.choice((1, config.columns, random.randint(1, 6 * config.columns))))
    columns, zero = random.choice((config.columns, random.randint(1, config.columns))), random.choice((-128, 0, 17))
    pool, tile = random_pool(random), random.choice((14, random.randint(1, config.rows)))
    bands = [random_band(random, config, pool, tile=tile, one_strip=skip)
             for _ in range(1 if skip else random.choice((1, 1, 2, 3)))]
    return make_layer(
        np.random.default_rng(random.randrange(1 << 32)), config, vector=vector, skip=skip, channels=channels,
        columns=columns, bands=bands, rule=random_rule(random, channels, skip), zero=zero,
        cut=random.randint(0, -(-channels // columns)) if len(bands) == 1 and random.random() < 0.3 else 0,
        top=random.choice((127, zero + 5, zero)), gaps=(random.choice((0, 0, 3)), random.choice((0, 5))))


def random_rule(random: Random, channels: int, skip: bool) -> Ranking:
    select = random.choice(("topk", "topk", "threshold") if skip else ("all", "topk", "energy", "threshold"))
    score = random.choice(("max", "absmax", "mean"))
    value = {"all": 0, "topk": random.randint(1, channels), "energy": random.random(),
             "threshold": random.choice((0, 255, random.randrange(256)))}[select]
    scale = {"score_multiplier": random.randrange(1 << 29, 1 << 31), "score_shift": -random.randint(2, 6)}
    return Ranking(score=score, select=select, value=value, energy_power=1, **(scale if score == "mean" else {}))
