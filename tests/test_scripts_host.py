"""``winnow host`` on a board in Python: load, run, selftest and counters, and what goes wrong."""

import json
import os
import random
import re
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace
from zlib import crc32

import numpy as np
import pytest

import hw.link.client
import scripts.board
from golden.job import Ranking
from golden.network import NetworkInput, QuantizedNetwork
from hw.descriptor import DESCRIPTOR_BYTES
from hw.program import build_program
from hw.registers import COUNTERS, Register
from scripts.board_load import state_file
from scripts.board_program import around, between, network_program
from scripts.board_run import forget_losers, layer_differences
from scripts.board_test import SIZES, Sizes, fitting_jobs
from scripts.cli import main
from sim.losers import written_planes
from sim.network import golden_layers

from .host_board import CLOCK_HZ, CONFIG, MEMORY_BYTES, HostBoard, store
from .small_network import layer


@pytest.fixture
def board(monkeypatch, tmp_path):
    """The board behind every port."""
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WINNOW_DATA", raising=False)
    monkeypatch.delenv("WINNOW_PORT", raising=False)
    monkeypatch.setattr(hw.link.client, "TIMEOUT", 0.002)
    monkeypatch.setattr(scripts.board, "BACK_SECONDS", 0.1)
    board = HostBoard()
    monkeypatch.setattr(hw.link.client, "open_port", lambda url, baud: (board.open(), board)[1])
    return board


@pytest.fixture
def network(tmp_path):
    """A network of three layers, the first two ranked, on a map of 3 x 6 x 9: not a multiple of 8 bytes."""
    path = tmp_path / "tiny.npz"
    tiny().save(path)
    return path


def tiny(seed: int = 5, outputs: int = 5) -> QuantizedNetwork:
    rng = np.random.default_rng(seed)
    return QuantizedNetwork(
        name="tiny", input=NetworkInput(scale=1.0, zero_point=3, shape=(3, 6, 9)), layers=(
            layer(rng, "one", 10, 3, 3, zero_points=(3, -128), padding=1, pool=(2, 2, 2, 2),
                  ranking=Ranking(score="max", select="topk", value=4)),
            layer(rng, "two", 9, 10, 3, ranking=Ranking(score="max", select="energy", value=0.6), padding=1),
            layer(rng, "three", outputs, 9, 1)))


def golden_engine(network: QuantizedNetwork, wrong: str | None = None):
    """The engine of a board that holds the network; of the layer ``wrong`` the last value and first score are wrong."""
    one = network_program(network, CONFIG)

    def run(memory):
        shape = network.input.shape
        size = int(np.prod(shape))
        values = memory[one.inputs[0]:one.inputs[0] + size].view(np.int8).reshape(shape)
        counters = []
        for number, (found, placed) in enumerate(zip(golden_layers(network, values), one.program.layers, strict=True)):
            output, scores = found.result.output.copy(), found.result.scores.copy()
            if found.node.name == wrong:
                output.reshape(-1)[-1] ^= 1
                scores[0] ^= 1
            store(memory, placed, replace(found.result, output=output, scores=scores))
            counters.append({"cycles": 1000 * (number + 1), "array_active": 1000 * (number + 1), "read_weights": 64,
                             "read_program": DESCRIPTOR_BYTES})
        return counters

    return run


def winnow(*arguments) -> int:
    return main(["host", "--port", "port", *map(str, arguments)])


def error(capsys, code: int, *arguments) -> str:
    """The last line of a command that fails with this exit code, without a traceback."""
    assert winnow(*arguments) == code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.err.splitlines()[-1].removeprefix("winnow: error: ")


def image(path, seed: int = 0) -> str:
    values = np.random.default_rng(seed).integers(-128, 128, (3, 6, 9), np.int8)
    np.save(path / f"{seed}.npy", values)
    return str(path / f"{seed}.npy")


# Load and run


def test_load_then_run(board, network, tmp_path, capsys):
    assert winnow("load", network) == 0
    one = network_program(QuantizedNetwork.load(network), CONFIG)
    total = sum(end - begin for begin, end in one.loaded)
    assert re.fullmatch(rf"tiny is loaded into ulx3s-test: {total:,} bytes in \d+\.\d s, read back and equal\n",
                        capsys.readouterr().out)
    assert bytes(board.memory[:32]) == one.tag
    # All that the engine reads is there, but for the input; what it writes has not been.
    loaded = np.zeros(len(board.memory), bool)
    for begin, end in one.loaded:
        loaded[begin:end] = True
        assert bytes(board.memory[begin:end]) == one.program.image[begin:end].tobytes()
    for placed in one.program.layers:
        addresses, size = placed.addresses, placed.plan.layer.out_channels
        assert loaded[addresses.parameters] and loaded[addresses.weights]
        assert size < 8 or not loaded[addresses.scores]
    assert loaded[one.program.descriptors_address] and not loaded[one.inputs[0] + 8]

    # Another process: all that it knows is in the board and in the cache.
    board.engine = golden_engine(tiny())
    report = tmp_path / "report.json"
    assert winnow("run", image(tmp_path, 0), image(tmp_path, 1), "--every-layer", "--json", report) == 0
    text, fields = capsys.readouterr().out, json.loads(report.read_text())
    assert fields["cycles"] == [6000, 6000] and fields["frames_per_second"] == CLOCK_HZ / 6000
    assert fields["frames_per_second_with_link"] > 0 and fields["bit_exact"] is True and fields["simulated"] is False
    assert [row["cycles"] for row in fields["layers"]] == [1000, 2000, 3000]
    assert "8,333.3 frames a second at 50 MHz" in text and "Bit-exact, every layer: yes" in text
    expected = list(golden_layers(tiny(), np.load(tmp_path / "1.npy")))[-1].result.output.reshape(-1)
    assert fields["results"][1]["top"][0]["class"] == int(np.argmax(expected))
    assert fields["command"].startswith("winnow host --port port run ")

    assert winnow("run", image(tmp_path, 2), "--no-check") == 0
    text = capsys.readouterr().out
    assert "Bit-exact" not in text and re.search(r"^three +3,000 +", text, re.M)


@pytest.mark.parametrize("wrong, options, message", [
    ("three", [], "three: output: 1 of 60 values differ, the first at [4, 2, 3]: "),
    ("three", ["--every-layer"], "three: output: 1 of 60 values differ, the first at [4, 2, 3]: "),
    ("two", ["--every-layer"], "two: scores: 1 of 9 values differ, the first at [0]: "),
    ("two", [], None), ("three", ["--no-check"], None)])
def test_a_wrong_byte_is_seen(board, network, tmp_path, capsys, wrong, options, message):
    assert winnow("load", network) == 0
    board.engine = golden_engine(tiny(), wrong)
    if message:
        assert error(capsys, 1, "run", image(tmp_path), *options).startswith(f"not bit-exact: 0.npy: {message}")
    else:
        assert winnow("run", image(tmp_path), *options) == 0


def test_planes_that_are_left_out_hold_what_was_there_before():
    layers = list(golden_layers(tiny(), np.random.default_rng(0).integers(-128, 128, (3, 6, 9), np.int8)))
    results = [one.result for one in layers]
    program = build_program([one.job for one in layers], CONFIG, chaining=False)
    assert program.layers[0].plan.skips_losers and program.layers[0].in_memory
    memory = program.image.copy()
    for placed, result in zip(program.layers, results, strict=True):
        store(memory, placed, result)
    found = layer_differences(["one", "two", "three"], program.layers, results, memory)
    assert len(found) == 1 and found[0].startswith("one: output: ")
    forget_losers(program.layers, results, memory)
    assert not layer_differences(["one", "two", "three"], program.layers, results, memory)


def test_what_the_board_holds(board, network, tmp_path, capsys):
    """Nothing, something that this computer has not loaded, half a network, or one that has changed since."""
    unknown = "port: the board holds no network that this computer has loaded; load it first: winnow host load NET"
    assert error(capsys, 2, "run", image(tmp_path)) == unknown
    assert winnow("load", network) == 0
    tag = bytes(board.memory[:32])
    board.memory[0] ^= 1
    assert error(capsys, 2, "run", image(tmp_path)) == unknown
    board.memory[:32] = tag
    tiny(seed=6).save(network)
    assert error(capsys, 2, "run", image(tmp_path)) == (
        f"{network}: the network, or Winnow, has changed since it was loaded; load it first: winnow host load NET")
    tiny().save(network)
    board.engine = golden_engine(tiny())
    assert winnow("run", image(tmp_path)) == 0
    board.losses, board.gone = [5], True
    assert error(capsys, 2, "load", network).startswith("port: not back after 0.1 s: ")
    board.missing = False
    assert error(capsys, 2, "run", image(tmp_path)) == unknown


def test_a_network_that_does_not_fit(board, tmp_path, capsys):
    rng = np.random.default_rng(1)
    path = tmp_path / "wide.npz"
    for channels, message in ((300, f"{path} does not fit the engine of ulx3s-test: max_channels: "),
                              (200, f"{path} does not fit the memory of ulx3s-test: it needs ")):
        network = QuantizedNetwork(name="wide", input=NetworkInput(scale=1.0, zero_point=0, shape=(3, 60, 60)), layers=(
            layer(rng, "one", channels, 3, 3, ranking=Ranking(score="max", select="topk", value=4),
                  zero_points=(0, -128)), layer(rng, "two", 5, channels, 1)))
        network.save(path)
        assert error(capsys, 2, "load", path).startswith(message)
    assert board.writes == []


def test_memory_that_does_not_keep_what_is_written(board, network, monkeypatch, capsys):
    monkeypatch.setattr(HostBoard, "answer", lambda self, frame, answer=HostBoard.answer: (
        answer(self, frame), self.memory.__setitem__(0x1007, 0x55))[0])
    assert re.match(r"port: \d+ bytes of memory are not as they were written, the first at 0x1007: 0x55, expected 0x",
                    error(capsys, 2, "load", network))


def test_an_engine_that_stops_or_hangs(board, network, tmp_path, capsys):
    assert winnow("load", network) == 0
    board.engine = golden_engine(tiny())
    board.status = 2 | 4 | 3 << 8
    assert error(capsys, 1, "run", image(tmp_path)) == "port: the engine stopped with error READ"
    board.interrupt_after = None
    assert re.fullmatch(r"port: no interrupt within [\d,]+ cycles", error(capsys, 1, "run", image(tmp_path)))


# Connections


def test_a_connection_that_is_lost(board, network, tmp_path, capsys):
    board.losses = [9, 7]
    assert winnow("load", network) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("port:")] == [
        "port: the port failed: [Errno 5] Input/output error; waiting 0.1 s at most for the board to come back ...",
        "port: the board is back"] * 2
    assert (Register.CONTROL, 4) in board.writes, "the engine is left idle"
    board.engine = golden_engine(tiny())
    board.losses = [13]
    assert winnow("run", image(tmp_path)) == 0 and board.starts >= 1
    board.losses, board.gone = [8], True
    assert error(capsys, 2, "run", image(tmp_path)).startswith("port: not back after 0.1 s: ")


def test_power_that_is_lost(board, network, tmp_path, capsys):
    one = network_program(QuantizedNetwork.load(network), CONFIG)
    board.losses, board.forgets = [9], True
    assert winnow("load", network) == 0
    assert "port: the board was without power and has lost its memory: from the beginning" in capsys.readouterr().err
    for begin, end in one.loaded:
        assert bytes(board.memory[begin:end]) == one.program.image[begin:end].tobytes()
    board.engine, board.losses = golden_engine(tiny()), [10]
    assert error(capsys, 2, "run", image(tmp_path)) == (
        "port: the board was without power and has lost its memory; load it first: winnow host load NET")


def test_interrupted(board, network, tmp_path, monkeypatch, capsys):
    """Ctrl-C leaves the board idle."""
    assert winnow("load", network) == 0
    board.registers[4] = 0

    def engine(memory):
        board.registers[8] = 1
        raise KeyboardInterrupt

    board.engine = engine
    assert winnow("run", image(tmp_path)) == 130
    assert board.registers[4] == 2 and not board.is_open and "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("arguments, message", [
    (["counters"], "--port: expected a serial port, or sim:BOARD, got none"),
    (["--port", "sim:nexys", "counters"],
     "--port: expected sim: and one of ulx3s-85f, ulx3s-45f, ulx3s-12f, got sim:nexys"),
    (["--port", "sim:icebreaker", "counters"], "sim:icebreaker: the smallest engine needs .* is ulx3s-12f"),
    (["--port", "{tmp}/ttyUSB7", "counters"], ".*/ttyUSB7: there is no such port; there .*"),
    (["--port", "port", "run"], "expected IMAGE or --data, got neither"),
    (["--port", "port", "run", "--no-check", "--every-layer", "--data", "."],
     "--no-check, --every-layer: expected one of them, got both")])
def test_refused(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("WINNOW_PORT", raising=False)
    assert main(["host", *(word.format(tmp=tmp_path) for word in arguments)]) == 2
    captured = capsys.readouterr()
    assert re.fullmatch(f"winnow: error: {message}\n", captured.err) and captured.out == ""


def test_a_port_that_is_busy_or_silent(monkeypatch, capsys):
    board_side, client_side = os.openpty()
    name = os.ttyname(client_side)
    monkeypatch.setattr(hw.link.client, "ATTEMPTS", 1)
    assert main(["host", "--port", name, "counters"]) == 2
    assert re.fullmatch(rf"winnow: error: {name}: no connection after 1 attempts: no reply; is the bitstream loaded, "
                        "and the baud rate right\\?\n", capsys.readouterr().err)
    taken = hw.link.client.open_port(name, 115_200)
    assert main(["host", "--port", name, "counters"]) == 2
    assert capsys.readouterr().err == f"winnow: error: {name}: another program uses the port; end it first\n"
    taken.close()
    os.close(board_side)
    os.close(client_side)


def test_a_board_of_another_version(board, capsys):
    board.identity = b'{"board": "x"}'
    assert re.fullmatch("the board says about itself what this version of Winnow does not understand: .*; make its "
                        "bitstream anew", error(capsys, 2, "counters"))
    board.registers[0] = 0
    board.identity = HostBoard().identity
    assert error(capsys, 2, "counters") == "port: no Winnow engine answers: register 0 is 0x00000000"


# Self-test and counters


SMALL = Sizes(jobs=4, macs=10_000, image_bytes=1 << 14, blocks=8, block_bytes=256)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(SIZES, False, SMALL)


def jobs_of(board, seed: int = 0):
    """The layers of a self-test of the board."""
    return fitting_jobs(SimpleNamespace(identity=scripts.board.Identity.read(board.identity)), seed, SMALL)


def job_engine(board, seed: int = 0, wrong: int | None = None):
    """The engine for the layers of a self-test, in turn; of the layer ``wrong`` the last score is wrong."""
    jobs = jobs_of(board, seed)

    def run(memory):
        number, chain = next(jobs)
        placed, expected = chain.program.layers[0], chain.expected[0]
        assert bytes(memory[0x1000:chain.program.image.size]) == chain.program.image[0x1000:].tobytes()
        kept = written_planes(placed.plan, placed.ranking, expected.scores) if placed.plan.skips_losers else slice(None)
        output = placed.result(memory).output
        output[kept] = expected.output[kept]
        store(memory, placed, replace(expected, output=output))
        if number == wrong:
            memory[placed.addresses.scores] ^= 1
        return [{"cycles": 100}]

    return run


def test_selftest(board, small, tmp_path, capsys):
    board.engine = job_engine(board)
    board.memory[:32] = b"x" * 32
    assert winnow("selftest", "--json", tmp_path / "report.json") == 0
    fields = json.loads((tmp_path / "report.json").read_text())
    assert fields["jobs"] == board.starts == 4 and fields["cycles"] == 400 and fields["memory_bytes_tested"] >= 2048
    assert re.search(r"4 layers tested in .*: all exact$", capsys.readouterr().out.strip())
    assert bytes(board.memory[:32]) == bytes(32), "the network that was loaded is no longer there"
    # Both values of every bit of a word have been written at each address line.
    for line in range(3, MEMORY_BYTES.bit_length() - 1):
        assert (1 << line, 8) in board.writes


def test_selftest_finds_a_layer_that_is_wrong(board, small, capsys):
    number = [seed for seed, _ in islice(jobs_of(board), 3)][-1]
    board.engine = job_engine(board, wrong=number)
    found = error(capsys, 1, "selftest")
    assert re.fullmatch(rf"layer {number}: scores: 1 of \d+ values differ, .*; again: winnow host selftest --jobs 1 "
                        rf"--seed {number}", found)
    assert board.starts == 3


@pytest.mark.parametrize("fault", ["address", "data"])
def test_selftest_finds_faults_of_memory(board, small, fault, capsys, monkeypatch):
    """An address line that is never high; a data line that is never low."""
    answer = HostBoard.answer

    def faulty(self, frame):
        if fault == "address" and frame[2] & 0x7F == 1:
            frame = changed_address(frame, ~(1 << 14))
        reply = answer(self, frame)
        if fault == "data":
            for at in range(5, len(self.memory), 8):
                if not self.memory[at] & 0x10:
                    self.memory[at] |= 0x10
        return reply

    monkeypatch.setattr(HostBoard, "answer", faulty)
    assert re.fullmatch(r"port: memory at 0x[\da-f]+ holds 0x[\da-f]{2}, expected 0x[\da-f]{2}",
                        error(capsys, 2, "selftest", "--jobs", "0"))


def changed_address(frame: bytes, mask: int) -> bytes:
    address = int.from_bytes(frame[5:9], "little") & mask
    body = frame[:5] + address.to_bytes(4, "little") + frame[9:-4]
    return body + crc32(body).to_bytes(4, "little")


def test_counters(board, capsys):
    for word, _ in enumerate(COUNTERS):
        board.registers[0x40 + 4 * word] = 1000 * word
    board.registers[8] = 2
    assert winnow("counters") == 0
    text = capsys.readouterr().out
    assert text.startswith("ulx3s-test: 2x2 array at 50 MHz, 0 MB of memory\nstatus: done\n")
    for word, name in enumerate(COUNTERS):
        assert re.search(rf"^{name} +{1000 * word:,}$", text, re.M)


# Ranges


def test_ranges_between_and_around():
    rng = random.Random(1)
    for _ in range(100):
        begin, size = 64 * rng.randrange(4), 512
        ranges = [(at, at + rng.randrange(1, 60)) for at in rng.sample(range(begin, begin + size), 5)]
        left = np.ones(2048, bool)
        left[:begin] = left[begin + size:] = False
        for first, behind in ranges:
            left[first:behind] = False
        covered = np.zeros(2048, bool)
        for first, behind in between(ranges, begin, begin + size):
            assert first % 8 == behind % 8 == 0 and not covered[first:behind].any()
            covered[first:behind] = True
        assert covered[left].all()
        assert not (covered & ~left).reshape(-1, 8)[~left.reshape(-1, 8).any(1)].any(), "a word that nobody wants"
        covered[:] = False
        for first, behind in around(ranges):
            covered[first:behind] = True
        assert all(covered[first:behind].all() for first, behind in ranges)


def test_state_is_of_a_board_and_a_program(board, tmp_path):
    one, two = (SimpleNamespace(link=SimpleNamespace(identity=name)) for name in (b"one", b"two"))
    paths = {state_file(one, b"a"), state_file(one, b"b"), state_file(two, b"a")}
    assert len(paths) == 3 and {path.parent for path in paths} == {tmp_path / "cache"}
