"""What is found out about a bundle before it is chosen: its layers' sensitivity, the best calibration, its buckets."""

from collections.abc import Sequence

from ocr_ops.core.bundle import Calibration, ModelBundle, Quantization
from ocr_ops.core.errors import BadInput, OcrOpsError
from ocr_ops.core.policy import Policy
from ocr_ops.core.record import digest_file, short
from ocr_ops.core.report import Report
from ocr_ops.core.verdict import Verdict
from ocr_ops.core.workspace import Workspace
from ocr_ops.data.pages import PageSet
from ocr_ops.optimize.calibration import Material
from ocr_ops.optimize.invariance import LINES, Invariance, invariance
from ocr_ops.optimize.sensitivity import BUDGET, Sensitivity, sensitivity
from ocr_ops.release.chain import benchmarked, quantized

CALIBRATIONS: tuple[Calibration, ...] = ("minmax", "entropy", "percentile")
CALIBRATING, JUDGING = 16, 32
"""Pages at most, where one dataset does both."""
EQUAL_COST = 0.95
"""Share of the best speed-up that costs as much."""


def sensed(
    parent: ModelBundle,
    material: Material,
    workspace: Workspace,
    calibration: Calibration = "minmax",
    budget: float | None = None,
) -> tuple[Sensitivity, bool]:
    """The sensitivity of a float bundle's layers, kept beside the reports, and whether it was there already."""
    limit = BUDGET[parent.manifest.task] if budget is None else budget
    path = workspace.reports / f"sensitivity-{short(parent.digest)}-{short(material.digest)}-{calibration}.json"
    try:
        kept = Sensitivity.from_file(path)
    except OcrOpsError:
        kept = None
    if kept and (kept.subject, kept.dataset, kept.budget) == (parent.digest, material.digest, limit):
        return kept, True
    made = sensitivity(parent, material, calibration, limit)
    made.save(path)
    return made, False


def divided(pages: PageSet) -> tuple[PageSet, PageSet]:
    """Pages that calibrate and pages that judge, of one dataset: a third and the rest, but not more than is needed.

    `BadInput` for a single page.
    """
    if len(pages.pages) < 2:
        raise BadInput(pages.folder, "one page", "one to calibrate on and another to judge by", "add pages, or --judge")
    cut = min(CALIBRATING, max(1, len(pages.pages) // 3))
    judging = PageSet(pages.folder, pages.pages[cut : cut + JUDGING], pages.fold)
    return PageSet(pages.folder, pages.pages[:cut], pages.fold), judging


def compared(
    parent: ModelBundle, material: Material, judged: PageSet, policy: Policy, workspace: Workspace
) -> tuple[ModelBundle, list[tuple[ModelBundle, Report]]]:
    """The best calibrated INT8 variant, and each with its benchmark on other pages, the float parent first.

    The best has the highest accuracy of those that cost the same; of equals, the first in `CALIBRATIONS`.
    """
    if isinstance(material, PageSet) and (twice := _images(material) & _images(judged)):
        found = f"{len(twice)} pages that calibrate as well"
        raise BadInput(judged.folder, found, "pages that do not", "point --judge at others")
    variants = [quantized(parent, material, workspace, Quantization(calibration=name))[0] for name in CALIBRATIONS]
    reports, _ = benchmarked([parent, *variants], judged, policy, workspace)
    return best(variants, reports[1:]), list(zip([parent, *variants], reports, strict=True))


def best(variants: Sequence[ModelBundle], reports: Sequence[Report]) -> ModelBundle:
    """The most accurate of the variants that cost the same; the first of equals. `BadInput` when nothing was read."""
    speedups = [report.metrics.get("speedup") for report in reports]
    accuracies = [report.metrics.get("accuracy") for report in reports]
    found = [
        (accuracy, speedup, variant)
        for variant, accuracy, speedup in zip(variants, accuracies, speedups, strict=True)
        if accuracy is not None and speedup is not None
    ]
    if not found:
        raise BadInput("variants", "no page that says which reads best", "labelled text", "point --judge at others")
    fastest = max(speedup for _, speedup, _ in found)
    alike = [(accuracy, variant) for accuracy, speedup, variant in found if speedup >= EQUAL_COST * fastest]
    return max(alike, key=lambda pair: pair[0])[1]


def proven(
    bundle: ModelBundle, material: Material, policy: Policy, workspace: Workspace, lines: int = LINES
) -> tuple[ModelBundle, Invariance]:
    """What company does to a recogniser's texts, kept beside the reports, and the bundle: its manifest rewritten with
    the buckets that passed when the verdict is PASS, and as it was when it is not.
    """
    found = invariance(bundle, material, limit=policy.max_flip_share, lines=lines)
    found.save(workspace.reports / f"invariance-{short(found.subject)}-{short(found.dataset)}.json")
    if found.verdict is not Verdict.PASS or found.buckets == bundle.manifest.buckets:
        return bundle, found
    files = {name: (bundle.path / name).read_bytes() for name in bundle.manifest.files}
    manifest = bundle.manifest.model_copy(update={"buckets": found.buckets})
    return ModelBundle.write(bundle.path, manifest, files), found


def _images(pages: PageSet) -> set[str]:
    return {digest_file(pages.folder / page.image) for page in pages.pages}
