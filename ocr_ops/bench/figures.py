"""How figures of the benchmark are written for people: shares, differences, times, and what they say."""

from collections.abc import Callable

from ocr_ops.bench.stats import Interval

Format = Callable[[float], str]

FEWEST = 6
"""Pairs that can show a difference, with all of them agreeing (sign test, two-sided, 5 %)."""


def share(value: float) -> str:
    """`87.9 %`; with a second decimal near none and near all, where it matters."""
    text = f"{value * 100:.2f}" if 0 < value < 0.1 or 0.995 <= value < 1 else f"{value * 100:.1f}"
    return f"{text}\N{NO-BREAK SPACE}%"


def points(value: float) -> str:
    """A difference of shares, signed: `+1.4`."""
    places = 2 if abs(value) < 0.00995 else 1
    return f"{value * 100:+.{places}f}".replace("-", "\N{MINUS SIGN}")


def milliseconds(value: float) -> str:
    """`3.09 ms`, `344 ms`, `3.73 s`: three digits, no more."""
    amount, unit = (value / 1000, "s") if value >= 999.5 else (value, "ms")
    places = 0 if amount >= 99.95 else 1 if amount >= 9.995 else 2
    text = f"{amount:.{places}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}\N{NO-BREAK SPACE}{unit}"


def times(value: float) -> str:
    return f"{value:.0f}" if value >= 99.5 else f"{value:.3g}"


def _megabytes(value: float) -> str:
    return f"{value:.3g}\N{NO-BREAK SPACE}MB" if value < 999.5 else f"{value / 1000:.3g}\N{NO-BREAK SPACE}GB"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


_METRICS: dict[str, tuple[str, Format, int]] = {
    "word_f1": ("word F1", share, 1),
    "word_precision": ("precision", share, 1),
    "word_recall": ("recall", share, 1),
    "macro_f1": ("mean F1", share, 1),
    "hmean": ("hmean", share, 1),
    "precision": ("precision", share, 1),
    "recall": ("recall", share, 1),
    "cer": ("CER", share, -1),
    "exact": ("exact", share, 1),
    "word_accuracy": ("words right", share, 1),
    "unreadable": ("unreadable", _plain, 0),
    "cpu_ms": ("CPU", milliseconds, -1),
    "p50_ms": ("p50", milliseconds, -1),
    "p95_ms": ("p95", milliseconds, -1),
    "p99_ms": ("p99", milliseconds, -1),
    "items_per_s": ("per second", _plain, 1),
    "peak_mb": ("memory", _megabytes, -1),
    "cold_start_ms": ("cold start", milliseconds, -1),
    "size_mb": ("size", _megabytes, -1),
}
MEASURES = {
    "word_f1": "word F1",
    "hmean": "hmean at IoU 0.5",
    "cer": "characters right (1\N{NO-BREAK SPACE}\N{MINUS SIGN}\N{NO-BREAK SPACE}CER)",
}
READS = {
    "word_f1": "reads {0} of the words right (F1)",
    "hmean": "finds {0} of the text regions right (hmean)",
    "cer": "reads {0} of the characters right (1\N{NO-BREAK SPACE}\N{MINUS SIGN}\N{NO-BREAK SPACE}CER)",
}


def metric(name: str) -> tuple[str, Format, int]:
    """A metric's heading, how it is written, and whether more (1) or less (-1) is better."""
    return _METRICS.get(name, (name.replace("_", " "), _plain, 0))


def place(name: str) -> tuple[int, str]:
    """Where a metric stands among others."""
    return [*_METRICS, name].index(name), name


def sure(found: Interval, same: float) -> bool:
    """Whether a figure differs from `same`. Of five pairs, even if all agree, one in sixteen does so by chance."""
    return found.count >= FEWEST and not found.low <= same <= found.high


def cheaper(ratio: Interval) -> str:
    span = f"({times(ratio.low)} to {times(ratio.high)})"
    if ratio.count < FEWEST:
        return f"{times(ratio.value)} times the CPU on {ratio.count} pairs, too few to tell"
    if not sure(ratio, 1):
        return f"the same CPU, as far as can be told {span}"
    if ratio.high < 1:
        return f"{times(1 / ratio.value)} times less CPU ({times(1 / ratio.high)} to {times(1 / ratio.low)})"
    return f"{times(ratio.value)} times the CPU {span}"


def beside(ratio: Interval) -> str:
    """In few words, to be followed by a name."""
    if not sure(ratio, 1):
        return "about that of"
    return f"{times(1 / ratio.value)} times less than" if ratio.high < 1 else f"{times(ratio.value)} times that of"


def better(gain: Interval) -> str:
    span = f"{points(gain.value)} points ({points(gain.low)} to {points(gain.high)})"
    if gain.count < FEWEST:
        return f"{points(gain.value)} points of accuracy on {gain.count} items, too few to tell"
    if gain.low == gain.high == 0:
        return "just as accurate on every item"
    if not sure(gain, 0):
        return f"no difference in accuracy shown, {span}"
    return f"{'more' if gain.value > 0 else 'less'} accurate, {span}"
