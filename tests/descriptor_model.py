"""What descriptors mean, executed by numpy: docs/descriptor.md as a program, with everything that must hold asserted.

It knows memory, the activation buffer and what descriptors hand on to the next; no cycles, no buffers for weights and
results. So it tells whether plan, lowering and layout are right, and what the engine must leave in memory.
"""

import numpy as np

from hw.config import VECTOR_TAPS, EngineConfig
from hw.descriptor import DESCRIPTOR_BYTES, OP_VECTOR, MaskSource, Score, Select, unpack
from hw.program import MemoryProgram

from .hw_helpers import is_malformed

LEFT_SHIFT = 20


def wrapped(values):
    return (values + 2**31) % 2**32 - 2**31


def rescaled(values, multiplier, shift):
    """TFLite's double rounding of int64 arrays."""
    values = wrapped(values << np.maximum(shift, 0))
    high = (values * multiplier + 2**30) >> 31
    right = np.maximum(-shift, 0)
    return np.sign(high) * ((np.abs(high) + (1 << right >> 1)) >> right)


class Machine:
    """Runs a program; ``memory`` is then what it leaves, ``traffic`` the bytes that its counters have.

    ``descriptors``: their fields, in order.
    """

    def __init__(self, program: MemoryProgram, config: EngineConfig):
        self.memory, self.config, self.window = program.image.copy(), config, program.window
        start = program.descriptors_address
        self.descriptors = [unpack(self.memory[n:n + DESCRIPTOR_BYTES].tobytes())
                            for n in range(start, start + program.descriptor_count * DESCRIPTOR_BYTES,
                                           DESCRIPTOR_BYTES)]
        self.chip = np.zeros(config.act_buffer_bytes, np.int8)
        self.winners: list[int] = []
        self.sums: list[np.ndarray] = []
        self.kept: list[tuple] = []
        self.partial: dict[int, list[int]] = {}
        self.scores: dict[int, int] = {}
        self.busy: tuple[int, int] = (0, 0)
        kinds = ("read_activations", "read_weights", "read_parameters", "read_mask", "write_activations", "write_mask")
        self.traffic = dict.fromkeys(kinds, 0) | {"read_program": len(self.descriptors) * DESCRIPTOR_BYTES}
        self.written = np.zeros(self.memory.size, np.uint8)

    def run(self) -> np.ndarray:
        """The memory afterwards."""
        for number, fields in enumerate(self.descriptors):
            assert not is_malformed(fields, self.config), number
            self.fields = fields
            self.execute()
        return self.memory

    def read(self, kind: str, address: int, size: int) -> np.ndarray:
        assert self.window[0] <= address and address + size <= self.window[1], (kind, address, size)
        self.traffic[f"read_{kind}"] += size
        return self.memory[address:address + size]

    def write(self, kind: str, address: int, values: np.ndarray) -> None:
        self.traffic[f"write_{kind}"] += values.size
        assert self.window[0] <= address and address + values.size <= self.window[1]
        assert not self.written[address:address + values.size].any(), "a byte is written twice"
        self.written[address:address + values.size] = 1
        self.memory[address:address + values.size] = values.view(np.uint8)

    def mask(self, source: int, base: int) -> list[int]:
        """The winners, counted from the first channel that takes part."""
        channels, skip = self.fields["in_channels"], self.fields["mask_skip"]
        if source == MaskSource.ALL:
            return list(range(channels - skip))
        bits = np.unpackbits(self.read("mask", base, -(-channels // 8)), bitorder="little")
        return [c - skip for c in range(skip, channels) if bits[c]]

    def execute(self) -> None:
        fields = self.fields
        if fields["barrier"]:
            self.busy, self.kept = (0, 0), []
        if fields["mask_source"] != MaskSource.KEEP:
            self.winners = self.mask(fields["mask_source"], fields["mask_base"])
        operands = [self.winners]
        if fields["add"]:
            operands.append(self.mask(fields["mask_source_2"], fields["mask_base_2"]))
        dense = fields["in_channels"] - fields["mask_skip"]
        slabs = dense if fields["act_dense"] else len(self.winners)
        region = fields["act_base"], fields["act_base"] + slabs * fields["slab_bytes"]
        assert region[1] <= self.config.act_buffer_bytes
        if fields["act_prefetch"]:
            self.assert_apart(region, self.busy)
        if not fields["act_resident"]:
            self.load(operands)
        self.busy = region
        if fields["act_resident"] or not fields["act_prefetch"]:
            self.protected = [region]
        else:
            self.protected = [*self.protected[-1:], region]
        if fields["op"] == OP_VECTOR:
            self.vector(operands)
        else:
            self.convolution()
        if fields["layer_end"]:
            self.select()

    def assert_apart(self, one: tuple[int, int], other: tuple[int, int]) -> None:
        assert one[1] <= other[0] or other[1] <= one[0] or one[0] == one[1] or other[0] == other[1], (one, other)

    def load(self, operands: list[list[int]]) -> None:
        """Strips of the winners' rows, dealt to the sub-planes of their phases."""
        f = self.fields
        sy, sx, rows_loaded = f["stride_y"], f["stride_x"], 0
        assert f["strips"] == 1 or f["strip_rows"] % sy == 0
        for strip in range(f["strips"]):
            last = strip == f["strips"] - 1
            rows, size = (f["last_strip_rows"], f["last_strip_load"]) if last else (f["strip_rows"], f["strip_load"])
            assert not f["act_contiguous"] or (f["in_row_pitch"] == f["in_cols"] and size == rows * f["in_cols"])
            if f["act_copy"]:
                assert f["act_contiguous"] and sy == sx == 1 and f["pitch"] == f["in_cols"]
            if f["act_merge"]:
                assert f["act_copy"] and f["in_plane"] == f["slab_bytes"] == size
            rows_loaded += rows
            for number, winner in enumerate(operands[strip if f["add"] else 0]):
                place = f["act_base"] + strip * f["strip_bytes"]
                place += f["slab_bytes"] * (winner if f["act_dense"] else number)
                source = (f["in_base"] + strip * f["strip_pitch"] + winner * f["in_plane"]) % 2**32
                y = np.arange(rows)[:, None]
                x = np.arange(f["in_cols"])[None, :]
                where = (y % sy * sx + x % sx) * f["plane_bytes"] + y // sy * f["pitch"] + x // sx
                keep = np.broadcast_to(x % sx < f["load_phases"], where.shape)
                bytes = np.stack([self.read("activations", source + row * f["in_row_pitch"], f["in_cols"])
                                  for row in range(rows)]).view(np.int8)
                self.chip[(place + where)[keep]] = bytes[keep]
        assert rows_loaded == f["in_rows"]

    def columns(self, group: int) -> int:
        return self.fields["last_columns" if group == self.fields["out_groups"] - 1 else "group_columns"]

    def constants(self, group: int) -> np.ndarray:
        """Records (bias, multiplier, shift) of a group's columns."""
        f, columns = self.fields, self.columns(group)
        count, first = (1, 0) if f["parameter_shared"] else (columns, group * f["group_columns"])
        raw = self.read("parameters", f["parameter_base"] + 16 * first, 16 * count).reshape(count, 16)
        records = np.concatenate([raw[:, :8].copy().view("<i4"), raw[:, 8:9].view(np.int8)], axis=1).astype(np.int64)
        return np.repeat(records, columns, axis=0) if f["parameter_shared"] else records

    def places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each position's input, for the tap at (0, 0): bytes from the first one's, row and column on chip."""
        f, size, vector = self.fields, self.fields["tile_positions"], self.fields["op"] == OP_VECTOR
        assert (f["stride_x"] if vector else f["lane_step"]) == 1 and (not f["add"] or f["lane_step"] == 1)
        assert (f["tile_rows"], f["tile_cols"]) == divmod(f["tile_bytes"], f["pitch"])
        assert f["span"] == f["tiles"] * size
        if f["tile_bytes"] == size * f["lane_step"]:
            assert f["pitch"] == f["out_pitch"] * f["lane_step"]
        else:  # a row of results
            assert vector and size == f["out_pitch"] and (size - 1) * f["lane_step"] < f["pitch"]
            assert f["stride_y"] == 1 and f["tile_cols"] == 0
        # All lanes of a tile, and three taps of each on the vector unit, are in one read of the buffer.
        assert (size - 1) * f["lane_step"] + (VECTOR_TAPS if vector else 1) <= self.config.act_banks
        tiles, lanes = np.arange(f["tiles"])[:, None], np.arange(size)[None, :]
        at = (tiles * f["tile_bytes"] + lanes * f["lane_step"]).reshape(-1)
        return at, *np.divmod(at, f["pitch"])

    def taps(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of each tap the positions' offsets, and which of them have an input, by the descriptor's steps."""
        f = self.fields
        at, y, x = self.places()
        found, row_offset, phase_y, tap_y = [], f["tap_base"], f["phase_y"], f["tap_y"]
        for _ in range(f["kernel_h"]):
            offset, phase_x, tap_x = row_offset, f["phase_x"], f["tap_x"]
            rows = f["phase_rows"] + (phase_y < f["phase_rows_more"])
            for _ in range(f["kernel_w"]):
                cols = f["phase_cols"] + (phase_x < f["phase_cols_more"])
                inside = (y + tap_y >= 0) & (y + tap_y < rows) & (x + tap_x >= 0) & (x + tap_x < cols)
                assert not inside.any() or phase_x < f["load_phases"] or f["act_resident"]
                found.append((offset + at, inside))
                wraps = phase_x == f["stride_x"] - 1
                offset += f["step_x_wrap" if wraps else "step_x"]
                phase_x, tap_x = (0, tap_x + 1) if wraps else (phase_x + 1, tap_x)
            wraps = phase_y == f["stride_y"] - 1
            row_offset += f["step_y_wrap" if wraps else "step_y"]
            phase_y, tap_y = (0, tap_y + 1) if wraps else (phase_y + 1, tap_y)
        return found

    def operand(self, slab: int, offsets: np.ndarray, inside: np.ndarray, zero_point: int) -> np.ndarray:
        """Activations of all positions above the zero point."""
        p = np.flatnonzero(inside)
        values = np.zeros(len(inside), np.int64)
        where = self.fields["act_base"] + slab * self.fields["slab_bytes"] + offsets[p]
        assert where.size == 0 or (where.min() >= 0 and where.max() < self.chip.size)
        values[p] = self.chip[where].astype(np.int64) - zero_point
        return values

    def convolution(self) -> None:
        f = self.fields
        taps, sums = self.taps(), []
        for group in range(f["out_groups"]):
            columns = self.columns(group)
            block = f["weight_block_last" if group == f["out_groups"] - 1 else "weight_block"]
            assert block == len(taps) * columns
            channels = self.winners
            if f["lists"] and not f["list_once"]:
                listed = self.mask(MaskSource.MEMORY, f["block_mask_base"] + group * f["block_mask_group"])
                channels = [c for c in channels if c in listed]
            base = f["weight_base"] + group * f["weight_group"]
            source = (base, block, tuple(channels))
            total = np.zeros((f["tiles"] * f["tile_positions"], columns), np.int64)
            for number, channel in enumerate(channels):
                if f["weight_reuse"]:
                    assert source in self.kept
                    weights = self.memory[base + channel * block:][:block]
                else:
                    weights = self.read("weights", base + channel * block, block)
                weights = weights.view(np.int8).reshape(len(taps), columns).astype(np.int64)
                slab = channel if f["act_dense"] else number
                operands = [self.operand(slab, offsets, inside, f["in_zero_point"]) for offsets, inside in taps]
                total += np.stack(operands, axis=1) @ weights
            if not f["sum_start"]:
                total += self.sums[group]
            if f["weight_keep"] and not f["weight_reuse"]:
                self.kept.append(source)
            sums.append(total)
        assert (f["sum_start"] and f["sum_end"]) or f["out_groups"] == 1
        self.sums = sums
        if f["sum_end"]:
            for group, total in enumerate(sums):
                first = f["first_channel"] + group * f["group_columns"]
                results = self.results(total, self.constants(group))
                self.write_back({first + n: results[:, n] for n in range(self.columns(group))}, group)

    def vector(self, operands: list[list[int]]) -> None:
        f = self.fields
        taps, first = self.taps() if not f["add"] else [], f["first_channel"]
        for group in range(f["out_groups"]):
            constants, results = self.constants(group), {}
            for column in range(self.columns(group)):
                output = group * f["group_columns"] + column
                slab, copy = divmod(output, f["depth_multiplier"])
                total = np.zeros(f["tiles"] * f["tile_positions"], np.int64)
                if f["add"]:
                    total = self.addition(slab, operands)
                elif slab in operands[0]:
                    weights = np.full(len(taps), f["unit_weight"])
                    if not f["unit_weight"]:
                        base = f["weight_base"] + slab * f["weight_block"] + copy * len(taps)
                        weights = self.read("weights", base, len(taps)).view(np.int8).astype(np.int64)
                    for weight, (offsets, inside) in zip(weights, taps, strict=True):
                        total += weight * self.operand(slab, offsets, inside, f["in_zero_point"])
                results[first + output] = self.results(total[:, None], constants[column:column + 1])[:, 0]
            self.write_back(results, group)

    def addition(self, slab: int, operands: list[list[int]]) -> np.ndarray:
        """The rescaled sum of both operands; strip 1 holds the second."""
        f = self.fields
        at, y, x = self.places()
        inside = (y < f["phase_rows"]) & (x < f["phase_cols"])
        assert f["step_y_wrap"] == f["strip_bytes"] and f["tap_base"] == 0
        total = np.zeros(len(inside), np.int64)
        for number, winners in enumerate(operands, 1):
            if slab in winners:
                zero_point = f["in_zero_point" if number == 1 else "in_zero_point_2"]
                values = self.operand(slab, (number - 1) * f["strip_bytes"] + at, inside, zero_point)
                total += rescaled(values << LEFT_SHIFT, f[f"add_multiplier_{number}"],
                                  np.int64(-f[f"add_shift_{number}"]))
        return total

    def results(self, sums: np.ndarray, records: np.ndarray) -> np.ndarray:
        """int64 [position, column]: requantized and clamped."""
        f, (bias, multiplier, shift) = self.fields, records.T
        values = rescaled(wrapped(wrapped(sums) + bias), multiplier, shift) + f["result_zero_point"]
        return np.clip(values, f["activation_min"], f["activation_max"])

    def write_back(self, channels: dict[int, np.ndarray], group: int) -> None:
        """Pooled planes of a group's channels, their scores, and which of them are written."""
        f = self.fields
        planes = {channel: self.pooled(values) for channel, values in channels.items()}
        for channel, plane in planes.items():
            self.score(channel, np.concatenate(plane))
        bounds, known = {}, dict(self.scores)
        judged = f["skip_losers"] and f["select"] in (Select.TOPK, Select.THRESHOLD)
        assert not f["skip_losers"] or f["out_strip_rows"] >= f["out_rows"]
        if judged:
            for channel in channels:
                if f["op"] == OP_VECTOR:
                    known = {c: score for c, score in self.scores.items() if c <= channel}
                ranked = sorted(known.values(), reverse=True)
                k = f["select_value"]
                bounds[channel] = k if f["select"] == Select.THRESHOLD else ranked[k - 1] if len(ranked) >= k else 0
        for channel, plane in planes.items():
            if not judged or self.scores[channel] >= bounds[channel]:
                self.write_plane(channel, plane)

    def pooled(self, values: np.ndarray) -> list[np.ndarray]:
        """The rows of a channel: of each window the largest result inside the map."""
        f, rows = self.fields, []
        for row in range(f["out_rows"]):
            cols = np.arange(f["out_cols_last" if row == f["out_rows"] - 1 else "out_cols"])
            row0, col0 = f["pool_y"] + row * f["pool_stride_y"], f["pool_x"] + cols * f["pool_stride_x"]
            start = f["pool_y"] * f["out_pitch"] + row * f["out_row_step"] + col0
            best = np.full(len(cols), -129, np.int64)
            strip = row // f["out_strip_rows"]
            there = min(f["positions"], f["out_strip_need"] + strip * f["out_strip_step"])
            for y in range(f["pool_h"]):
                for x in range(f["pool_w"]):
                    inside = (row0 + y >= 0) & (row0 + y < f["pool_rows"]) & (col0 + x >= 0)
                    inside &= (col0 + x < f["pool_cols"]) | (f["pool_w"] == 1)
                    where = (start + y * f["out_pitch"] + x)[inside]
                    assert where.size == 0 or where.max() < there, "a result that the strip does not wait for"
                    best[inside] = np.maximum(best[inside], values[where])
            assert (best >= -128).all(), "a window without a result"
            rows.append(best)
        return rows

    def score(self, channel: int, values: np.ndarray) -> None:
        f = self.fields
        above = values - f["out_zero_point"]
        now = {Score.MAX: above.max(), Score.ABSMAX: np.abs(above).max(), Score.MEAN: above.sum()}[f["score_kind"]]
        if f["score_resume"]:
            before = self.partial[channel]
            now = before + now if f["score_kind"] == Score.MEAN else max(before, now)
        self.partial[channel] = now
        if f["score_final"]:
            if f["score_kind"] == Score.MEAN:
                now = rescaled(wrapped(np.int64(now)), f["score_multiplier"], np.int64(f["score_shift"]))
            self.scores[channel] = int(np.clip(now, 0, 255))
            self.write("mask", f["score_base"] + channel, np.array([self.scores[channel]], np.uint8))

    def write_plane(self, channel: int, rows: list[np.ndarray]) -> None:
        f = self.fields
        assert f["out_to_memory"] or f["out_to_chip"]
        for row, values in enumerate(rows):
            strip, inside = divmod(row, f["out_strip_rows"])
            address = f["out_base"] + (channel - f["first_channel"]) * f["out_plane"]
            address += strip * f["out_strip_pitch"] + inside * f["out_row_pitch"]
            assert not f["out_contiguous"] or f["out_row_pitch"] == f["out_cols"]
            bytes = values.astype(np.int8)
            if f["out_to_memory"]:
                self.write("activations", address, bytes)
            if f["out_to_chip"]:
                place = (address + f["chip_offset"]) % (1 << 24)
                for region in self.protected:
                    self.assert_apart((place, place + len(bytes)), region)
                assert place + len(bytes) <= self.chip.size
                self.chip[place:place + len(bytes)] = bytes

    def select(self) -> None:
        """The layer's winners, a bit a channel; those behind the last one are set: what follows there takes part."""
        f, count = self.fields, self.fields["out_channels"]
        assert sorted(self.scores) == list(range(count))
        scores = [self.scores[channel] for channel in range(count)]
        order = sorted(range(count), key=lambda channel: (-scores[channel], channel))
        self.scores, self.partial = {}, {}
        if f["select"] == Select.ALL:
            return
        if f["select"] == Select.THRESHOLD:
            winners = {channel for channel in order if scores[channel] >= f["select_value"]}
        elif f["select"] == Select.TOPK:
            winners = set(order[:f["select_value"]])
        else:
            energy = [scores[channel] ** (1 + f["energy_square"]) for channel in order]
            k = 1
            while 65536 * sum(energy[:k]) < f["select_value"] * sum(energy):
                k += 1
            winners = set(order[:k])
        bits = np.array([channel in winners or channel >= count for channel in range(-(-count // 8) * 8)])
        self.write("mask", f["winner_base"], np.packbits(bits, bitorder="little"))
