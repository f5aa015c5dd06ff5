"""The command that imports damaged models: its counts, and that it finds what it looks for."""

import json
import os
import re
import time

import pytest

from golden.checks import JobError
from scripts import fuzz_import
from scripts.fuzz_import import IMPORTED, REFUSED, fuzz, main, mutation
from tests.tflite_models import ModelBuilder


def small_model() -> bytes:
    model = ModelBuilder()
    x = model.input((1, 6, 6, 3))
    y = model.window("CONV_2D", [x, model.weights((20, 3, 3, 3)), model.bias(20)], (1, 4, 4, 20), activation="RELU")
    return model.finish(model.window("MAX_POOL_2D", [y], (1, 2, 2, 20), stride=(2, 2), kernel=(2, 2)))


def test_command(tmp_path, capsys):
    path, report = tmp_path / "model.tflite", tmp_path / "report.json"
    path.write_bytes(small_model())
    arguments = [str(path), str(path), "--mutations", "40", "--seed", "3", "--json", str(report)]
    assert main(arguments) == 0
    printed, counts = capsys.readouterr().out, json.loads(report.read_text())["counts"]
    assert sum(counts.values()) == 40 and set(counts) == {IMPORTED, REFUSED}
    assert printed == (f"seed 3, 40 mutations of 2 models: {counts[IMPORTED]} imported, {counts[REFUSED]} refused\n")
    assert main([*arguments, "--compare"]) == 0
    compared = json.loads(report.read_text())["counts"]
    assert compared[REFUSED] == counts[REFUSED] and compared["equal to TFLite"] > 5
    assert set(tmp_path.iterdir()) == {path, report}


def test_mutations_are_those_of_their_seed():
    models = [small_model(), bytes(200)]
    found = [mutation(models, 1, number) for number in range(60)]
    assert found == [mutation(models, 1, number) for number in range(60)]
    assert found != [mutation(models, 2, number) for number in range(60)]
    assert all(len(one) <= 200 for one in found[1::2]) and len({len(one) for one in found}) > 5
    assert sum(one not in models for one in found) > 55


def crashing(path):
    content = path.read_bytes()[0]
    if content == 0:
        return None
    if content == 1:
        raise JobError(f"{path}: expected something else")
    if content == 2:
        raise JobError("two\nlines")
    if content == 3:
        raise ValueError("a number")
    if content == 4:
        os._exit(7)
    if content == 5:
        bytearray(2 << 30)
    time.sleep(60)


def test_failures_are_found(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("scripts.models.import_model", crashing)
    monkeypatch.setattr(fuzz_import, "SECONDS", 0.5)
    monkeypatch.setattr(fuzz_import, "mutation", lambda models, seed, number: models[number % len(models)])
    models = [bytes([number]) for number in range(7)]
    found = list(fuzz(models, 9, 0, tmp_path / "x.tflite"))
    assert found[:2] == found[7:] == [IMPORTED, REFUSED]
    assert re.match(r"refused, but not in one line .*two\\nlines", found[2])
    assert found[3:7] == ["ValueError: a number", "ended with 7", "MemoryError", "no answer within 0.5 seconds"]
    path, folder = tmp_path / "three.tflite", tmp_path / "kept"
    path.write_bytes(models[3])
    folder.mkdir()
    assert main([str(path), "--mutations", "2", "--keep", str(folder)]) == 1
    assert capsys.readouterr().err.endswith("winnow: error: mutation 0: ValueError: a number\n")
    assert {one.name: one.read_bytes() for one in folder.iterdir()} == {
        f"seed0_{number}.tflite": models[3] for number in range(2)}


@pytest.mark.parametrize("names, more, message", [
    (["a.tflite", "b.onnx"], [], r"MODEL: expected files of one suffix, \.tflite or \.onnx, got \.onnx, \.tflite"),
    (["b.onnx"], ["--compare"], r"MODEL: expected \.tflite files, got \.onnx"),
    (["c.png"], [], r"MODEL: expected files of one suffix, \.tflite or \.onnx, got \.png"),
    (["empty.tflite"], [], "MODEL: expected files that are not empty, got one that is")])
def test_refusals(names, more, message, tmp_path, capsys):
    for name in names:
        (tmp_path / name).write_bytes(b"" if name.startswith("empty") else b"x")
    assert main([*(str(tmp_path / name) for name in names), *more]) == 2
    assert re.fullmatch(f"winnow: error: {message}\n", capsys.readouterr().err)
