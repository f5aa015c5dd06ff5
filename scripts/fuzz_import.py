"""``python -m scripts.fuzz_import``: damaged models, each of which must be refused in one line or imported rightly."""

import multiprocessing
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import numpy as np

from scripts.options import INPUT_FILE, Failure, Refusal, json_option, progress_bar, run, seed_option

REFUSED, IMPORTED = "refused", "imported"
EQUAL, NOT_TAKEN = "equal to TFLite", "not taken by TFLite"
ENDED = "ended"
SECONDS, MEMORY = 20, 1 << 30
_WORDS = (0, 1, 2, 255, 65535, 2**31 - 1, 2**31, 2**32 - 1)
_KINDS = {"cut": 0.1, "bits": 0.4, "bytes": 0.15, "word": 0.15, "stretch": 0.15, "taken out": 0.05}
"""Of mutations, and how likely each is."""
_FORK = multiprocessing.get_context("fork")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.argument("models", type=INPUT_FILE, nargs=-1, required=True, metavar="MODEL...")
@click.option("--mutations", "count", type=click.IntRange(min=1), default=2000, show_default=True,
              help="Of all models together, in turn.")
@seed_option
@click.option("--compare", is_flag=True,
              help="Run .tflite files that are imported on an input, too: where TFLite's reference kernels take them, "
                   "every byte is equal.")
@click.option("--keep", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Folder for the files that fail.")
@json_option
def fuzz_import(models: tuple[Path, ...], count: int, seed: int, compare: bool, keep: Path | None,
                json_path: Path | None) -> None:
    """Import damaged .tflite or .onnx models: bits flipped, cut short, words, bytes and stretches that are others.

    Each is a refusal of one line or a network, within 20 seconds and with at most 1 GB of memory more than before, in a
    process of its own. Exit code 1 where one is not. Mutation N of a seed is always the same one.

    \b
    Examples:
      python -m scripts.fuzz_import *.tflite
      python -m scripts.fuzz_import resnet8.tflite --mutations 500 --seed 7 --compare
    """
    suffixes = {path.suffix.lower() for path in models}
    if len(suffixes) > 1 or not suffixes <= {".tflite", ".onnx"} or (compare and suffixes != {".tflite"}):
        raise Refusal(f"MODEL: expected {'.tflite files' if compare else 'files of one suffix, .tflite or .onnx'}, got "
                      f"{', '.join(sorted(suffixes))}")
    contents = [path.read_bytes() for path in models]
    if not all(contents):
        raise Refusal("MODEL: expected files that are not empty, got one that is")
    with tempfile.TemporaryDirectory() as folder, progress_bar("mutations", count, "files") as move:
        path = (keep or Path(folder)) / f"mutated{suffixes.pop()}"
        counts, failures = Counter(), {}
        for number, outcome in enumerate(fuzz(contents, count, seed, path, compare=compare)):
            kind = outcome if outcome in (REFUSED, IMPORTED, EQUAL, NOT_TAKEN) else "failed"
            counts[kind] += 1
            if kind == "failed":
                failures[number] = outcome
                if keep:
                    path.with_stem(f"seed{seed}_{number}").write_bytes(mutation(contents, seed, number))
            move(number + 1)
        path.unlink(missing_ok=True)
    click.echo(f"seed {seed}, {count:,} mutations of {len(models)} models: "
               + ", ".join(f"{number:,} {kind}" for kind, number in sorted(counts.items())))
    for number, outcome in failures.items():
        click.echo(f"  mutation {number} of {models[number % len(models)].name}: {outcome}")
    if json_path:
        from sim.report import write_json

        write_json(json_path, {"seed": seed, "mutations": count, "models": [path.name for path in models],
                               "counts": dict(counts), "failures": failures})
    if failures:
        raise Failure(f"mutation {next(iter(failures))}: {next(iter(failures.values()))}")


def fuzz(models: Sequence[bytes], count: int, seed: int, path: Path, *, compare: bool = False) -> Iterator[str]:
    """What becomes of mutations 0, 1, ... of these models, each written to ``path``, whose suffix says what they are.

    :data:`REFUSED` or :data:`IMPORTED`, with ``compare`` :data:`EQUAL` or :data:`NOT_TAKEN` of those imported, else a
    line that says what went wrong.
    """
    import scripts.models  # So that each process has it already.

    def imported() -> str:
        return _import(scripts.models.import_model, path)

    if compare:
        import torch

        torch.set_num_threads(1)
    importing, comparing = Process(imported), Process(partial(_compare, path, seed))
    for number in range(count):
        path.write_bytes(mutation(models, seed, number))
        outcome = importing.ask()
        if compare and outcome == IMPORTED:
            outcome = comparing.ask()
            outcome = NOT_TAKEN if outcome.startswith(ENDED) else outcome
        yield outcome


def _import(import_model: Callable[[Path], Any], path: Path) -> str:
    from golden.checks import JobError

    try:
        import_model(path)
    except JobError as error:
        fits = "\n" not in str(error) and str(error).startswith(f"{path}: ")
        return REFUSED if fits else f"refused, but not in one line that begins with the path: {error!r}"
    return IMPORTED


def _compare(path: Path, seed: int) -> str:
    """One random input by both."""
    from scripts.models import import_model
    from scripts.tflite_kernels import compare, interpreter

    network = import_model(path)
    try:
        runner = interpreter(path.read_bytes(), keep_all=True)
    except (ValueError, RuntimeError):
        return NOT_TAKEN
    planes = np.random.default_rng(seed).integers(-128, 128, (1, *network.input.shape), np.int8)
    differing = compare(network, runner, planes).differing
    return f"{differing} bytes differ from TFLite's" if differing else EQUAL


class Process:
    """``work`` whenever it is asked for, in a forked process that has :data:`MEMORY` more than this one.

    It is started when it is needed, and again when it has ended or given no answer.
    """

    def __init__(self, work: Callable[[], str]):
        self._work = work
        self._process, self._own = None, None

    def ask(self) -> str:
        """What ``work`` returns, or how it failed: an exception, the process' end, or no answer in time."""
        if self._process is None:
            self._own, other = _FORK.Pipe()
            self._process = _FORK.Process(target=_answer, args=(other, self._work), daemon=True)
            self._process.start()
            other.close()
        self._own.send(None)
        try:
            if self._own.poll(SECONDS):
                return self._own.recv()
            failure = f"no answer within {SECONDS} seconds"
        except EOFError:
            self._process.join()
            failure = f"{ENDED} with {self._process.exitcode}"
        self._process.kill()
        self._process.join()
        self._process = None
        return failure


def _answer(connection: Connection, work: Callable[[], str]) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while True:
        try:
            connection.recv()
        except EOFError:
            return
        try:
            answer = work()
        except Exception as error:  # Whatever it is, it is what is looked for.
            answer = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
        connection.send(answer)


def mutation(models: Sequence[bytes], seed: int, number: int) -> bytes:
    """Mutation ``number`` of the models, which take turns."""
    random = np.random.default_rng((seed, number))
    content = bytearray(models[number % len(models)])
    size = len(content)

    def place(width: int = 1) -> int:
        """Where ``width`` bytes fit; half of all lie in the first or last 4096 bytes, which describe the graph."""
        last = max(1, size - width + 1)
        if random.integers(2):
            return int(random.integers(last))
        near = int(random.integers(min(last, 4096)))
        return near if random.integers(2) else last - 1 - near

    kind = random.choice(list(_KINDS), p=list(_KINDS.values()))
    if kind == "cut":
        del content[int(random.integers(size)):]
    elif kind == "bits":
        for _ in range(random.choice((1, 1, 2, 4))):
            content[place()] ^= 1 << int(random.integers(8))
    elif kind == "bytes":
        for _ in range(random.choice((1, 1, 2, 4))):
            content[place()] = int(random.integers(256))
    elif kind == "word":
        start = place(4) // 4 * 4
        value = int(random.choice([*_WORDS, size, int(random.integers(2**32))]))
        content[start:start + 4] = value.to_bytes(4, "little")
    elif kind == "stretch":  # Over another one.
        length = int(random.integers(1, 1 + min(size, int(random.choice([16, 64, 1024])))))
        source, start = place(length), place(length)
        content[start:start + length] = content[source:source + length]
    else:  # All behind it lies elsewhere.
        start = place()
        del content[start:start + int(random.integers(1, 65))]
    return bytes(content)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default those of the process; returns the exit code."""
    return run(fuzz_import, sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
