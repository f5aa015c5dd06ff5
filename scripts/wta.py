"""``--wta``: winners-take-all on any network, as people state it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from golden.network import QuantizedNetwork

EVERY, ENERGY = "all", "energy"


def wta_option(command: Callable) -> Callable:
    """Add ``--wta``; :func:`with_wta` takes it."""
    return click.option("--wta", metavar="SPEC",
                        help="Winners-take-all: LAYER=RATE,... for these layers; all=RATE for every layer whose losers "
                             "a convolution can skip; energy=SHARE for those, too, as many winners as have that share "
                             "of the scores.")(command)


def with_wta(network: "QuantizedNetwork", spec: str | None) -> "QuantizedNetwork":
    """``network`` with the winners of ``--wta``, or its own for None; ``all`` is overruled by layers that are named.

    The engine chooses the winners anew for each image. Raises UsageError or JobError.
    """
    if spec is None:
        return network
    rates = {}
    for item in spec.split(","):
        name, _, value = (part.strip() for part in item.rpartition("="))
        try:
            rate = float(value)
        except ValueError:
            rate = None
        if not name or rate is None or not 0 < rate <= 1:
            raise click.UsageError(f"--wta: expected LAYER=RATE,..., all=RATE or energy=SHARE, each number above 0 and "
                                   f"at most 1, got {item!r}")
        if name in rates:
            raise click.UsageError(f"--wta: expected {name} once, got it twice")
        rates[name] = rate
    names = network.ranked_with_profit()
    if ENERGY in rates:
        if len(rates) > 1:
            raise click.UsageError("--wta: expected energy=SHARE alone, got other rates, too")
        return network.with_winners(dict.fromkeys(names, rates[ENERGY]), select="energy")
    every = rates.pop(EVERY, None)
    return network.with_winners(({} if every is None else dict.fromkeys(names, every)) | rates)
