"""Numbers as the page shows them; None is a dash."""

DASH = "\N{EN DASH}"
GAP = "\N{NO-BREAK SPACE}"
"""Between a number and its unit."""


def whole(value: float | None) -> str:
    """A count with all its digits."""
    return DASH if value is None else f"{value:,.0f}"


def short(value: float | None) -> str:
    """A count in three digits: 102 k, 3.21 M, 1.4 G."""
    if value is None:
        return DASH
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * size:
            digits = value / size
            return f"{digits:,.0f}{GAP}{unit}" if digits >= 999.5 else f"{digits:.3g}{GAP}{unit}"
    return f"{value:.3g}"


def factor(value: float | None) -> str:
    """A ratio: two decimals, or two digits below 0.1, three from 10 on, all from 1,000 on."""
    if value is None:
        return DASH
    if value < 0.1:
        return f"{value:.2g}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def times(value: float) -> str:
    """A ratio with a multiplication sign."""
    return f"{factor(value)}{GAP}\N{MULTIPLICATION SIGN}"


def percent(value: float | None) -> str:
    """A fraction with one decimal."""
    return DASH if value is None else f"{100 * value:.1f}{GAP}%"


def rounded(value: float | None) -> str:
    """Three digits, or all from 1,000 on."""
    if value is None:
        return DASH
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def seconds(value: float | None) -> str:
    """Seconds, with the unit that fits."""
    if value is None:
        return DASH
    for unit, size in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size or unit == "µs":
            return f"{value / size:.3g}{GAP}{unit}"
    raise AssertionError
