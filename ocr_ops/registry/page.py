"""What a person sees of a version in the MLflow UI: its description (Markdown) and its plots (PNG)."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ocr_ops.core.record import short
from ocr_ops.core.release import Release
from ocr_ops.core.report import Report
from ocr_ops.core.spec import ModelSpec, Task
from ocr_ops.core.verdict import Verdict

LIMIT = 5000
"""MLflow's SQL stores hold this many characters of a description."""

PENDING = "## Gate\n\n**PENDING**: no load gate has run yet. Do not promote.\n"

_GATE = re.compile(r"## Gate\n.*?(?=\n## |\Z)", re.DOTALL)

Curve = Sequence[tuple[int, float]]
"""(step, value)."""


def model_description(spec: ModelSpec, digest: str, figures: Mapping[str, float], card: str) -> str:
    """A trained model: what it is, its digest, its figures, its card."""
    rows = [
        ("task", spec.task),
        ("licence", spec.licence),
        ("weights", f"`{digest}`"),
        ("spec", f"`{spec.digest}`"),
        ("quality floor", f"{spec.floor:g}"),
        *((name, f"{value:.4g}") for name, value in figures.items()),
    ]
    return _fit(f"# {spec.name}\n\n{_table(('', ''), rows)}\n\n{card.strip()}\n")


def release_description(release: Release, number: int, versions: Mapping[Task, int], reports: Sequence[Report]) -> str:
    """Version `number` of `ocr`: all it takes to decide a promotion. `versions`: that of each task's model."""
    bundles = []
    for bundle in (release.detection, release.recognition):
        manifest = bundle.manifest
        made = ", ".join(f"{name} {value:.4g}" for name, value in manifest.facts.items())
        name = f"{manifest.model} {manifest.precision} (version {versions[manifest.task]})"
        bundles.append((manifest.task, name, f"`{bundle.digest}`", manifest.licence, made))
    measured = [
        (report.name, _subject(report, release), f"**{report.verdict}**", figures(report)) for report in reports
    ]
    evidence = _table(("measurement", "of", "verdict", "figures"), measured) if measured else "None logged."
    return _fit(f"""\
# OCR release {short(release.digest)}

Reads text out of images and PDFs: a detector and a recogniser that serve together.
Digest `{release.digest}`, made by ocr-ops {release.manifest.toolkit}.

{PENDING}
## Contents

{_table(("task", "bundle", "digest", "licence", "facts"), bundles)}

## Promote, roll back

`ocr-ops promote --version {number}` moves the alias `champion` here once the signed receipt verifies;
`ocr-ops rollback` returns to the alias `previous`. Moved by hand here in the UI, the alias takes effect with
`ocr-ops pull`, which asks for the same receipt.

## Measurements

{evidence}
""")


def gate_section(verdict: Verdict, report: Report, receipt: str | None) -> str:
    """The part of a release's description that tells whether the gate opened."""
    advice = "may be promoted" if verdict is Verdict.PASS and receipt else "do not promote"
    lines = [f"## Gate\n\n**{verdict}**: {advice}. Receipt: {f'`{receipt}`' if receipt else 'none'}.\n"]
    if report.checks:
        rows = [
            (
                check.name,
                "not measured" if check.found is None else f"{check.found:.4g}",
                f"{check.comparison} {check.limit:.4g}",
                str(check.verdict),
            )
            for check in report.checks
        ]
        lines.append(_table(("check", "found", "limit", "verdict"), rows) + "\n")
    return "\n".join(lines)


def with_gate(description: str, section: str) -> str:
    """`description` with its gate section replaced."""
    return _fit(_GATE.sub(lambda _: section, description, count=1))


def gate_of(description: str) -> str | None:
    """The gate section a description has now."""
    found = _GATE.search(description)
    return found.group() if found else None


def figures(report: Report) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in report.metrics.items())


def curves_png(curves: Mapping[str, Curve]) -> bytes:
    """One panel a curve, steps from left to right."""
    figure = _figure(6, 2.2 * len(curves))
    panels = figure.subplots(len(curves), 1, squeeze=False, sharex=True)
    for (name, points), panel in zip(curves.items(), panels[:, 0], strict=True):
        panel.plot(*zip(*points, strict=True), marker="." if len(points) < 50 else None)
        panel.set_ylabel(name)
        panel.grid(alpha=0.3)
    panels[-1, 0].set_xlabel("step")
    return _png(figure)


def samples_png(reports: Sequence[Report]) -> bytes | None:
    """How the raw samples spread: one panel a quantity, one box a report. None when no report has samples."""
    names = sorted({name for report in reports for name, values in report.samples.items() if values})
    if not names:
        return None
    figure = _figure(7, 1 + 1.8 * len(names))
    for name, panel in zip(names, figure.subplots(len(names), 1, squeeze=False)[:, 0], strict=True):
        having = [report for report in reports if report.samples.get(name)]
        panel.boxplot([report.samples[name] for report in having], orientation="horizontal", whis=(1, 99))
        panel.set_yticklabels([report.name for report in having])
        panel.set_xlabel(f"{name} (box: quartiles, whiskers: p1 and p99)")
        panel.grid(axis="x", alpha=0.3)
    return _png(figure)


def _subject(report: Report, release: Release) -> str:
    names = {
        release.digest: "release",
        release.detection.digest: "detection",
        release.recognition.digest: "recognition",
    }
    return names.get(report.subject, f"`{short(report.subject)}`")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in lines)


def _fit(text: str) -> str:
    if len(text) <= LIMIT:
        return text
    return text[: LIMIT - 60] + "\n\n(cut here: the run's artifacts hold the whole)"


def _figure(width: float, height: float) -> Any:
    """An empty figure, inches. Drawn without pyplot: no global state, no display."""
    from matplotlib.figure import Figure  # noqa: PLC0415 (a second, which most commands need not wait)

    return Figure(figsize=(width, height), layout="constrained")


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
