"""Train, quantize and store the int8 LeNet-4 that the repository carries (docs/lenet4.md)."""

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import click
import torch
from tqdm import tqdm

from golden import digits, lenet
from golden.network import QuantizedNetwork
from golden.quantization import accuracy, winner_rates

CALIBRATION_IMAGES = 2000


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help=f"Folder of MNIST idx files [{digits.FOLDER_VARIABLE}].")
@click.option("--epochs", default=14, show_default=True, type=click.IntRange(min=1), help="Passes over the digits.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**31 - 1), help="Of all randomness.")
@click.option("--out", default=lenet.MODEL_PATH, type=click.Path(path_type=Path, dir_okay=False),
              help="The int8 network, an npz file  [default: golden/models/lenet4_int8.npz].")
def main(data: Path | None, epochs: int, seed: int, out: Path) -> None:
    """Train LeNet-4 with winners-take-all on MNIST without the held-out digits, and store it as int8.

    One thread, so that a seed always gives the same network on the same machine. The state is kept beside the output
    after each epoch; after an interruption the same command resumes from there.
    """
    command = f"python -m scripts.train_lenet4 --epochs {epochs} --seed {seed}"
    click.echo(f"{command}  (seed {seed})")
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    checkpoint = out.with_suffix(".checkpoint")
    try:
        training, sets = digits.training_set(data), {"held_out": digits.held_out(), "test": digits.test_set(data)}
        out.parent.mkdir(parents=True, exist_ok=True)
        network = lenet.LeNet4()
        started = time.monotonic()
        lenet.train(network, training, epochs=epochs, seed=seed, checkpoint=checkpoint, progress=_progress)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        raise click.ClickException("interrupted; the same command resumes after the last whole epoch") from None
    click.echo(f"trained in {time.monotonic() - started:.0f} s, since the last start")

    calibration = training.images[:CALIBRATION_IMAGES]
    quantized = lenet.quantize(network, calibration)
    rates = winner_rates(quantized, calibration)
    accuracies = {name: measure(network, quantized, part) for name, part in sets.items()}
    metadata = {"command": command, "seed": seed, "training_images": len(training.labels), "winner_rates": rates,
                "accuracy": accuracies}
    replace(quantized, metadata=metadata).save(out)
    checkpoint.unlink()
    for name, rate in rates.items():
        click.echo(f"{name}: {100 * rate:.1f} % winners")
    for name, result in accuracies.items():
        for key, value in result.items():
            click.echo(f"{name} {key}: {100 * value:.2f} %")
    click.echo(f"{out}: {out.stat().st_size} bytes")


def measure(network: lenet.LeNet4, quantized: QuantizedNetwork, part: digits.Digits) -> dict[str, float]:
    """The accuracy on ``part``, float and int8, dense and with winners-take-all."""
    result = {}
    for name, dense in (("dense", True), ("winners", False)):
        result[f"float_{name}"] = lenet.float_accuracy(network, part, dense=dense)
        result[f"int8_{name}"] = accuracy(quantized, *part, dense=dense)
    return result


def _progress(batches: Iterable, label: str) -> Iterable:
    return tqdm(batches, desc=label, unit="batch")


if __name__ == "__main__":
    main()
