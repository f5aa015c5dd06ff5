"""The inputs of a network that commands take: files, folders of pictures, data sets."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from scripts.options import Refusal

if TYPE_CHECKING:
    import numpy as np

    from golden.network import QuantizedNetwork

DATA_SETS = ("mnist", "fashion-mnist", "cifar10", "gtsrb")


def data_set_options(command: Callable) -> Callable:
    """Add ``--data``, ``--dataset`` and ``--part``, as :func:`read_inputs` takes them."""
    for option in (
            click.option("--part", type=click.Choice(["train", "test"]), default="test", show_default=True,
                         help="Of a data set."),
            click.option("--dataset", type=click.Choice(DATA_SETS),
                         help="Which data set of the folder.  [default: that of the network's input and classes]"),
            click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), envvar="WINNOW_DATA",
                         show_envvar=True,
                         help="Folder of a data set, or of pictures, or with such a folder for each class.")):
        command = option(command)
    return command


class Inputs(NamedTuple):
    """Inputs int8 [N,C,H,W], what each is called, the class of each if known, and where they come from."""

    values: "np.ndarray"
    names: list[str]
    labels: list[int] | None
    source: str


def read_inputs(model: "QuantizedNetwork", files: Sequence[Path], data: Path | None, dataset: str | None, part: str,
                count: int | None) -> Inputs:
    """The first ``count`` inputs, or all, of files, else of a data set in the folder ``data``, else of its pictures.

    Raises UsageError, Refusal, JobError or DatasetError.
    """
    from golden.images import find_pictures, read_all

    if files:
        values, names = read_all(model, files[:count])
        return Inputs(values[:count], names[:count], None, ", ".join(str(path) for path in files[:3]))
    if data is None:
        raise click.UsageError("--input, --data: expected one of them, got none")
    name = dataset or data_set(model, data)
    if name is not None:
        return of_data_set(model, data, name, part, count)
    paths, labels = find_pictures(data)
    values, names = read_all(model, paths[:count])
    if labels is not None and len(names) != len(paths[:count]):
        raise Refusal(f"{data}: expected one input a file, as their folders are classes, got {len(names)}")
    return Inputs(values[:count], names[:count], None if labels is None else labels[:count], str(data))


def data_set(model: "QuantizedNetwork", data: Path) -> str | None:
    """The data set in the folder whose images and classes are those of the network; None if there is none."""
    from golden.dataset_files import DatasetError
    from golden.datasets import load

    classes = model.layers[-1].output_shape[0]
    for name in DATA_SETS:
        expected = {"gtsrb": (43, 3 * 32 * 32), "cifar10": (10, 3 * 32 * 32)}.get(name, (10, 28 * 28))
        channels, rows, columns = model.input.shape
        if expected == (classes, channels * rows * columns):
            try:
                load(name, data)
            except DatasetError:
                continue
            return name
    return None


def of_data_set(model: "QuantizedNetwork", data: Path, name: str, part: str, count: int | None) -> Inputs:
    """The first ``count`` images of a data set, or all, with their classes. Raises DatasetError or JobError."""
    from golden.datasets import load
    from golden.preprocess import quantize_pixels

    found = load(name, data)
    split = getattr(found, part)
    values = quantize_pixels(model, split.images[:count])
    return Inputs(values, [f"{part} {number}" for number in range(len(values))], split.labels[:count].tolist(),
                  f"{found.source} ({part})")
