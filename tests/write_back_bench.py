"""A drain, an output buffer and a writer around the write-back, which must keep the rules between them."""

from collections import Counter
from random import Random

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.buffer import BankedBuffer
from hw.config import EngineConfig
from hw.descriptor import LAYOUT, OP_VECTOR
from hw.ranking import RankingUnit
from hw.score import ScoreUnit
from hw.strip_walker import label_layout
from hw.write_back import WriteBack
from hw.writer import HEADROOM, WriteKind, WriteRun, chunk_layout

from .hw_helpers import bytes_of, descriptor
from .write_back_layers import Layer


class Results(wiring.Component):
    """The write-back with the score unit and the ranking unit, as in the engine."""

    def __init__(self, *, config: EngineConfig):
        self.config, axi_bytes = config, config.axi_bytes
        super().__init__({
            "i_descriptor": In(stream.Signature(LAYOUT)), "tile_drained": In(1), "positions_freed": Out(24),
            "read_enable": Out(1), "read_ring": Out(range(config.columns)),
            "read_offset": Out(range(config.output_ring_bytes)), "read_data": In(8 * axi_bytes),
            "o_run": Out(stream.Signature(WriteRun)), "o_chunk": Out(chunk_layout(axi_bytes)), "hold": In(1),
            "writer_idle": In(1), "layer_done": Out(1), "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.write_back = write_back = WriteBack(config=config)
        m.submodules.score = score = ScoreUnit(
            chunk_bytes=config.axi_bytes, max_channels=config.max_channels, label=label_layout(config.columns))
        m.submodules.ranking = ranking = RankingUnit(max_channels=config.max_channels, lanes=config.rank_lanes)
        for name in self.signature.members:
            if name not in ("i_descriptor", "o_run"):
                inner, outer = getattr(write_back, name), getattr(self, name)
                m.d.comb += inner.eq(outer) if self.signature.members[name].flow == In else outer.eq(inner)
        connect(m, flipped(self.i_descriptor), write_back.i_descriptor)
        connect(m, write_back.o_run, flipped(self.o_run))
        connect(m, ranking.o_winners, write_back.i_winners)
        m.d.comb += [
            score.descriptor.eq(write_back.descriptor), ranking.descriptor.eq(write_back.descriptor),
            score.valid.eq(write_back.score_valid),
            *(getattr(score, name).eq(getattr(write_back, f"score_{name}"))
              for name in ("data", "count", "start", "end", "resume", "final", "channel", "label")),
            write_back.score_in_valid.eq(score.score_valid), write_back.score_in.eq(score.score),
            write_back.score_in_label.eq(score.score_label),
            ranking.score_valid.eq(score.score_valid), ranking.score_channel.eq(score.score_channel),
            ranking.score.eq(score.score), ranking.select.eq(write_back.select),
            ranking.bound_request.eq(write_back.bound_request), write_back.bound_valid.eq(ranking.bound_valid),
            write_back.bound.eq(ranking.bound), write_back.ranking_ready.eq(ranking.ready),
        ]
        return m


class World:
    """A drain, an output buffer and a writer around :class:`Results`; every rule between them is asserted.

    The drain delivers a tile in a share ``arrival`` of the cycles as soon as the ring has room for it, at most a
    descriptor ahead, and overwrites what has been freed at once. The writer takes runs in a share ``taking`` of the
    cycles and holds in a share ``holding``.
    """

    def __init__(self, component: Results, random: Random, *, arrival: float = 1, taking: float = 1,
                 holding: float = 0):
        self.component, self.random = component, random
        self.arrival, self.taking, self.holding = arrival, taking, holding
        self.config = component.config
        self.ring = [[random.randrange(256) for _ in range(self.config.output_ring_bytes)]
                     for _ in range(self.config.columns)]
        self.now = self.drained = self.begun = self.freed = 0
        self.hold, self.held_chunks = False, 0
        self.events: list[tuple[int, str]] = []
        """(cycle, "read", "run" or "done")."""

    def begin(self, layer: Layer) -> None:
        """Expect the results of another layer."""
        self.layer, self.done, self.taken = layer, False, 0
        self.memory = {WriteKind.ACTIVATIONS: {}, WriteKind.MASK: {}}
        self.runs, self.run, self.reads, self.chunk_before = [], None, Counter(), False
        self.tiles = [tile for n in range(len(layer.fields)) for tile in self.tiles_of(n)]
        self.offered = 0

    def tiles_of(self, number: int):
        """(descriptor, its positions, {column of the output buffer: bytes}) of each tile in the drain's order."""
        fields, band, maps = (part[number] for part in (self.layer.fields, self.layer.bands, self.layer.maps))
        tile, size = band.tile, fields["group_columns"]
        flat = np.random.default_rng(self.random.randrange(1 << 32)).integers(
            0, 256, (len(maps), band.rows.results, band.pitch), np.uint8)
        flat[:, :, :band.cols.results] = maps.view(np.uint8)
        flat = flat.reshape(len(maps), -1)[:, :band.positions]
        for start in range(0, len(maps), size):
            group = range(start, min(start + size, len(maps)))
            for part in [[n] for n in group] if fields["op"] == OP_VECTOR else [group]:
                for first in range(0, band.positions, tile):
                    yield number, tile, {n - part[0]: flat[n, first:first + tile] for n in part}

    def drain(self) -> bool:
        """A tile arrives, or not."""
        if not self.tiles or self.random.random() >= self.arrival:
            return False
        number, size, columns = self.tiles[0]
        if number >= self.offered or self.begun + size - self.freed > self.config.output_ring_bytes:
            return False
        self.tiles.pop(0)
        self.begun += size
        for column in range(self.config.columns):
            for at in range(size):
                values = columns.get(column, ())
                place = (self.drained + at) % self.config.output_ring_bytes
                self.ring[column][place] = int(values[at]) if at < len(values) else self.random.randrange(256)
        self.drained += size
        return True

    def free(self, count: int) -> None:
        """What has been freed may be overwritten from now on."""
        for position in range(self.freed, min(self.freed + count, self.drained)):
            for column in self.ring:
                column[position % self.config.output_ring_bytes] = self.random.randrange(256)
        self.freed += count

    def take_chunk(self, chunk) -> None:
        """A chunk belongs to the oldest run that is not complete, and is of its kind and place."""
        assert chunk.count >= 1
        if chunk.first:
            assert not self.chunk_before, "no idle cycle between runs"
            assert self.run is None, "a run was not completed"
            assert self.runs, "a chunk came before its run"
            self.run = self.runs.pop(0)
            assert chunk.lane + self.config.axi_bytes * chunk.beat == self.run["at"] % (16 * self.config.axi_bytes)
        memory = self.memory[WriteKind(self.run["kind"])]
        for value in bytes_of(chunk.data, chunk.count):
            assert self.run["at"] not in memory, f"{self.run['at']:#x} is written twice"
            memory[self.run["at"]] = value
            self.run["at"] += 1
        assert chunk.last == (self.run["at"] == self.run["end"]), "chunks and run differ in length"
        if chunk.last:
            self.run = None

    async def cycle(self, ctx) -> None:
        """One cycle: what comes out of the component, then what goes in in the next."""
        c, layer = self.component, self.layer
        offer = (self.taken < len(layer.fields) and self.offered == self.taken
                 and not any(number < self.taken for number, *_ in self.tiles))
        if offer:
            self.offered += 1
            ctx.set(c.i_descriptor.payload, descriptor(**layer.fields[self.taken]))
            ctx.set(c.i_descriptor.valid, 1)
        (_, _, taken, offered, read, ring, offset, freed, run_valid, run_ready, run, chunk, done) = await ctx.tick(
        ).sample(c.i_descriptor.ready, c.i_descriptor.valid, c.read_enable, c.read_ring, c.read_offset,
                 c.positions_freed, c.o_run.valid, c.o_run.ready, c.o_run.payload, c.o_chunk, c.layer_done)
        if taken and offered:
            self.taken += 1
            ctx.set(c.i_descriptor.valid, 0)
        self.data.append([self.ring[ring][(offset + n) % self.config.output_ring_bytes]
                          for n in range(self.config.axi_bytes)] if read else None)
        if read:
            self.reads[ring] += 1
            self.events.append((self.now, "read"))
        if run_valid and run_ready:
            assert run.bytes >= 1
            self.runs.append({"at": run.address, "end": run.address + run.bytes, "kind": run.kind})
            self.events.append((self.now, "run"))
        if chunk.valid:
            self.take_chunk(chunk)
        self.held_chunks = self.held_chunks + chunk.valid if self.hold else 0
        assert self.held_chunks <= HEADROOM
        self.chunk_before = bool(chunk.valid)
        if freed:
            self.free(freed)
        if done:
            assert not self.runs and self.run is None
            self.done = True
            self.events.append((self.now, "done"))
        self.now += 1
        arrived = self.data.pop(0)
        if arrived is not None:
            ctx.set(c.read_data, int.from_bytes(bytes(arrived), "little"))
        ctx.set(c.tile_drained, self.drain())
        ctx.set(c.o_run.ready, self.random.random() < self.taking)
        if self.random.random() < 0.2:
            self.hold = self.random.random() < self.holding
        ctx.set(c.hold, self.hold)
        ctx.set(c.writer_idle, not self.runs and self.run is None and self.random.random() < 0.5)

    async def follow(self, ctx, layers: list[Layer]) -> None:
        """Layer after layer; each must be complete and as expected when the component says so."""
        self.data = [None] * (BankedBuffer.READ_LATENCY - 1)
        for layer in layers:
            self.begin(layer)
            start = self.now
            while not self.done:
                await self.cycle(ctx)
                assert self.now - start < 100_000, "the layer does not end"
            assert not self.tiles and self.freed == self.drained
            assert self.memory[WriteKind.ACTIVATIONS] == layer.written
            assert self.memory[WriteKind.MASK] == layer.marks
            assert self.reads == layer.reads
