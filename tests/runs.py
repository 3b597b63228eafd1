"""Runs of the benchmark as a benchmark records them, of made-up costs: for what is made of a run."""

from collections.abc import Sequence
from random import Random

from ocr_ops.bench.run import Cell, Ratio, Result, Run
from ocr_ops.bench.stats import paired_ratio
from ocr_ops.core.record import digest_bytes
from ocr_ops.core.report import quantile
from ocr_ops.core.scores import cer, edit_distance, match_words, normalise
from ocr_ops.core.verdict import Check
from tests.registered import ENVIRONMENT

TEXTS = (
    "TOTAL 12.00", "Cash 20.00", "CHANGE 8.00", "Tel: 03-8947 1123", "No. 53, Jalan Besar", "GST ID 000164270080",
    "Thank you", "02/01/2026 14:05", "Receipt No. 1042", "SUBTOTAL 11.32", "6% GST 0.68", "Please come again",
)  # fmt: skip


def line_cell(name: str, readings: Sequence[str], cost: float, texts: Sequence[str] = TEXTS, **cell: object) -> Result:
    """A recogniser, or a peer, that read these lines at about this many milliseconds each."""
    pairs = list(zip(texts, readings, strict=True))
    edits = [float(edit_distance(normalise(want), normalise(have))) for want, have in pairs]
    random = Random(name)
    cpu = [cost * (1 + len(text) / 40) * random.uniform(0.95, 1.05) for text in texts]
    known: dict[str, object] = {"kind": "bundle", "task": "recognition", "version": "0" * 12, "variant": "int8"}
    if cell.get("kind") == "peer":
        known = {"version": "1.0"}
    else:
        known["subject"] = digest_bytes(name.encode())
    error, half = cer(pairs) or 0.0, len(texts) // 2
    slices = {
        "width: short": {"cer": cer(pairs[:half]) or 0.0, "items": float(half)},
        "width: long": {"cer": cer(pairs[half:]) or 0.0, "items": float(len(texts) - half)},
    }
    return Result(
        cell=Cell.model_validate({**known, "name": name, **cell}),
        metrics={
            "cer": error,
            "exact": sum(not wrong for wrong in edits) / len(edits),
            "cpu_ms": sum(cpu) / len(cpu),
            "p50_ms": quantile(cpu, 0.5) or 0.0,
            "p95_ms": quantile(cpu, 0.95) or 0.0,
            "p99_ms": quantile(cpu, 0.99) or 0.0,
            "items_per_s": 1e3 * len(cpu) / sum(cpu),
            "word_accuracy": 1 - error,
            "cold_start_ms": 1234.5,
            "size_mb": 2.22,
            "peak_mb": 180.0,
            "warm_up": 2.0,
        },
        samples={
            "wall_ms": tuple(cpu),
            "cpu_ms": tuple(cpu),
            "edits": tuple(edits),
            "characters": tuple(float(len(normalise(text))) for text in texts),
        },
        slices=slices,
        readings=tuple(readings),
        checks=() if cell.get("kind") == "peer" else (Check(name="cer", found=error, comparison="<=", limit=0.1),),
    )


def page_cell(name: str, readings: Sequence[str], cost: float, texts: Sequence[str] = TEXTS, **cell: object) -> Result:
    """As `line_cell`, of words on pages."""
    made = line_cell(name, readings, cost, texts, **{"kind": "release", "task": None, **cell})
    matches = [match_words(want, have) for want, have in zip(texts, readings, strict=True)]
    total = sum(matches[1:], matches[0])
    counts = {key: tuple(float(getattr(match, key)) for match in matches) for key in ("hits", "found", "expected")}
    samples = {key: made.samples[key] for key in ("wall_ms", "cpu_ms")} | counts
    metrics = {key: value for key, value in made.metrics.items() if key not in {"cer", "exact"}}
    return made.model_copy(update={"metrics": metrics | {"word_f1": total.f1 or 0.0}, "samples": samples, "slices": {}})


def run_of(*results: Result, unit: str = "line", texts: Sequence[str] = TEXTS, **changes: object) -> Run:
    """A run of these cells, with the ratios of each over the first."""
    first = results[0]
    ratios = []
    for result in results[1:]:
        found = paired_ratio(result.samples["cpu_ms"], first.samples["cpu_ms"])
        ratios.append(
            Ratio(
                metric="cpu_ms",
                cell=result.cell.name,
                over=first.cell.name,
                median=found.value,
                low=found.low,
                high=found.high,
                pairs=found.count,
            )
        )
    known = {
        "title": "Lines of receipts",
        "dataset": digest_bytes("\n".join(texts).encode()),
        "unit": unit,
        "fold": False,
        "items": tuple(f"{number}.png" for number in range(len(texts))),
        "expected": tuple(texts),
        "seed": 0,
        "command": "ocr-ops bench --lines DIR",
        "environment": ENVIRONMENT,
        "results": results,
        "ratios": tuple(ratios),
    }
    return Run.parse({**known, **changes}, "a run")


def misread(texts: Sequence[str], pairs: dict[str, str], every: int = 1) -> list[str]:
    """Texts with letters taken for others in every so many-th of them."""
    table = str.maketrans(pairs)
    return [text if number % every else text.translate(table) for number, text in enumerate(texts)]
