"""The whole chain, from training outputs to a promoted release, and each stage as a function of its own.

A stage whose result is already there for the same digests is not done again, so a chain that stopped resumes.
What a stage makes lies in the workspace under a name that says what it is; what it *is* its digest says.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ocr_ops import __version__
from ocr_ops.bench.run import Run
from ocr_ops.bench.suite import bench_release, whole_report
from ocr_ops.bench.variants import bench_variants, choose, refusals
from ocr_ops.core.attestation import Attestation, Place
from ocr_ops.core.bundle import ModelBundle, Precision, Quantization
from ocr_ops.core.errors import BadInput, NotProven, OcrOpsError, UnknownModel
from ocr_ops.core.policy import Policy
from ocr_ops.core.record import digest_file, short
from ocr_ops.core.release import Release
from ocr_ops.core.report import Environment, Report
from ocr_ops.core.serving import ServingSettings
from ocr_ops.core.spec import ONNX_FILE, TASKS, ModelSpec, Task, output_of
from ocr_ops.core.verdict import Verdict, require_pass
from ocr_ops.core.workspace import Workspace, shown
from ocr_ops.data.documents import load_documents, rendered_pages
from ocr_ops.data.pages import PageSet, read_pages
from ocr_ops.monitor.generate import generate
from ocr_ops.monitor.slo import SloFile
from ocr_ops.optimize.adopt import adopt
from ocr_ops.optimize.calibration import Material
from ocr_ops.optimize.quantize import STATIC, quantize
from ocr_ops.registry import ModelVersion, Registry
from ocr_ops.release.gate import documents_digest, gate, load_name
from ocr_ops.release.package import Package, package
from ocr_ops.release.promote import MODEL, promote
from ocr_ops.release.server import serve
from ocr_ops.release.signing import issue_receipt
from ocr_ops.runtime.session import preferred

CALIBRATION_PAGES, CALIBRATION_SEED = 16, 7
BENCH_PAGES, BENCH_SEED = 24, 11
PARITY_PAGES, PARITY_SEED = 4, 13
"""Pages that calibrate never judge: other seeds, other pages."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One row of the table a release ends with."""

    name: str
    artefact: str
    digest: str
    verdict: str
    reused: bool
    seconds: float


def say(line: str) -> None:
    """Progress goes to stderr; stdout carries the artefact."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def release(models: Sequence[Path], workspace: Workspace, policy: Policy, data: Path | None = None) -> Iterator[Stage]:
    """Takes a detection and a recognition training output to the `champion` alias, yielding each finished stage.

    `data`: labelled pages to benchmark on; rendered ones without it. The failing stage's own error ends it.
    """
    clock = _Clock()
    folders = pair(models)
    registry = Registry.open(workspace)
    calibration = calibration_pages(workspace)
    judged = read_pages(data) if data else bench_pages(workspace)

    versions: dict[Task, ModelVersion] = {}
    for task, folder in folders.items():
        say(f"register {folder}")
        versions[task] = registry.register(folder)
        version = versions[task]
        yield clock.stage("register", f"{version.name} v{version.version}", version.digest, "done")

    chosen: dict[Task, ModelBundle] = {}
    for task, folder in folders.items():
        say(f"export {folder}")
        parent, reused = exported(folder, workspace)
        yield clock.stage("export", parent.path.name, parent.digest, "PASS", reused=reused)
        say(f"quantize {parent.path.name}")
        small, reused = quantized(parent, calibration, workspace)
        yield clock.stage("quantize", small.path.name, small.digest, "done", reused=reused)
        say(f"bench the variants of {parent.manifest.model}")
        variants = [parent, small]
        found, reused = benchmarked(variants, judged, policy, workspace)
        for bundle, report in zip(variants, found, strict=True):
            registry.log_bundle(versions[task], bundle, report)
            if why := refusals(report):
                say(f"not admitted: {report.name}: {'; '.join(why)}")
            yield clock.stage("bench", report.name, report.digest, report.verdict, reused=reused)
        chosen[task], report = choose(variants, found)
        yield clock.stage("choose", report.name, chosen[task].digest, report.verdict)

    made = paired(chosen["detection"], chosen["recognition"], workspace)
    say("bench end to end")
    whole, reused = benchmarked_whole(made, judged, policy, workspace)
    yield clock.stage("bench", "end to end", whole.digest, whole.verdict, reused=reused)
    require_pass("end to end", whole.checks)

    say("package")
    version = registered(registry, made, workspace)
    yield clock.stage("register", f"{version.name} v{version.version}", version.digest, "done")
    packed = package(made, workspace)
    yield clock.stage("package", packed.tag, packed.digest, "done")
    say("serve it and put load on it")
    load, reused = gated(made, packed, judged, policy, workspace)
    yield clock.stage("gate", "load", load.digest, load.verdict, reused=reused)
    path, digest = receipt(registry, made, load, judged, policy=policy, workspace=workspace)
    require_pass("load gate", load.checks)
    yield clock.stage("receipt", shown(path), digest, "PASSED")

    moved = promote(registry, workspace, version=version.version, reason="release")
    yield clock.stage("promote", f"{version.name}@champion", made.digest, "done", reused=moved.entry is None)
    slo = Path("monitoring/slo.toml")
    files = generate(SloFile.read(slo), slo.parent)
    yield clock.stage("rules", shown(files[0]), digest_file(files[0]), "done")


def pair(models: Sequence[Path]) -> dict[Task, Path]:
    """Model folders by task: one for each. `BadInput` otherwise."""
    found: dict[Task, Path] = {}
    for folder in models:
        task = ModelSpec.read(folder).task
        if task in found:
            raise BadInput(folder, f"a second {task} model beside {found[task]}", "one a task", "name one of them")
        found[task] = folder
    for task in TASKS:
        if task not in found:
            raise BadInput("models", f"no {task} model", "one detection and one recognition model", "name both")
    return {task: found[task] for task in TASKS}


def calibration_pages(workspace: Workspace) -> PageSet:
    """What quantization calibrates on unless told otherwise."""
    return rendered_pages(workspace, CALIBRATION_PAGES, CALIBRATION_SEED)


def bench_pages(workspace: Workspace) -> PageSet:
    """What benchmarks and load gates read unless told otherwise."""
    return rendered_pages(workspace, BENCH_PAGES, BENCH_SEED)


def exported(folder: Path, workspace: Workspace, samples: PageSet | None = None) -> tuple[ModelBundle, bool]:
    """The float bundle of a training output or an imported model, and whether it was there already.

    `samples`: what an imported model's contract is held against (the calibration pages without it), or pages on which
    the graph has to read as PyTorch does (a few rendered ones without it).
    """
    spec = ModelSpec.read(folder)
    weights = output_of(folder)
    out = workspace.bundles / f"{spec.name}-fp32"
    kept = _kept(out)
    if kept is not None:
        manifest = kept.manifest
        same = (spec.input, spec.charset, spec.boxes, spec.text, spec.floor, digest_file(weights), __version__)
        found = (manifest.input, manifest.charset, manifest.boxes, manifest.text, manifest.floor)
        if (*found, manifest.weights, manifest.toolkit) == same:
            return kept, True
    if weights.name == ONNX_FILE:
        return adopt(folder, out, samples or calibration_pages(workspace)), False
    from ocr_ops.train.export import export  # noqa: PLC0415 - torch takes seconds, and only this stage needs it

    return export(folder, out, samples or rendered_pages(workspace, PARITY_PAGES, PARITY_SEED)), False


def quantized(
    parent: ModelBundle,
    material: Material | None,
    workspace: Workspace,
    recipe: Quantization = STATIC,
    precision: Precision = "int8",
) -> tuple[ModelBundle, bool]:
    """A variant of a float bundle, and whether it was there already; its buckets, once proven, stay."""
    wanted = parent.manifest.model_copy(
        update={
            "precision": precision,
            "parent": parent.digest,
            "dataset": material.digest if material and recipe.method == "static" else None,
            "recipe": None if recipe == STATIC else recipe,
        }
    )
    out = workspace.bundles / f"{wanted.model}-{wanted.variant}"
    kept = _kept(out)
    if kept is not None:
        found = kept.manifest
        same = (wanted.parent, wanted.dataset, wanted.recipe, wanted.precision, __version__)
        if (found.parent, found.dataset, found.recipe, found.precision, found.toolkit) == same:
            return kept, True
    return quantize(parent, material, out, recipe, precision), False


def benchmarked(
    bundles: Sequence[ModelBundle], pages: PageSet, policy: Policy, workspace: Workspace
) -> tuple[list[Report], bool]:
    """A report for each variant, the float parent first, and whether all were there already."""
    kept = [_report(workspace, "bench", bundle.digest, pages.digest, policy.digest) for bundle in bundles]
    fresh = [report for report in kept if report is not None and report.environment.provider == preferred()]
    if len(fresh) == len(bundles):
        return fresh, True
    measured = bench_variants(bundles, pages, policy.variant)
    return [_save(workspace, report, policy.digest) for report in measured], False


def benchmarked_whole(made: Release, pages: PageSet, policy: Policy, workspace: Workspace) -> tuple[Report, bool]:
    """The end-to-end report of a release, and whether it was there already."""
    kept = _report(workspace, "bench", made.digest, pages.digest, policy.digest)
    if kept is not None:
        return kept, True
    return _save(workspace, bench_release(made, pages, policy), policy.digest), False


def keep_whole(run: Run, policy: Policy, workspace: Workspace) -> list[Report]:
    """Keeps what a run found of releases as their end-to-end reports: of each, what its first cell did."""
    firsts = {result.cell.subject: result for result in reversed(run.results) if result.cell.kind == "release"}
    return [_save(workspace, whole_report(run, result), policy.digest) for result in firsts.values()]


def paired(detection: ModelBundle, recognition: ModelBundle, workspace: Workspace) -> Release:
    """The release folder of two bundles, under its digest's name."""
    scratch = Release.write(workspace.releases / ".new", detection, recognition)
    folder = workspace.releases / short(scratch.digest)
    if not folder.is_dir():
        scratch.path.rename(folder)
    return Release.open(folder)


def gated(made: Release, packed: Package, pages: PageSet, policy: Policy, workspace: Workspace) -> tuple[Report, bool]:
    """Serves the packaged release, puts load on it, and judges; a pass that stands is not run again.

    It stands for the settings it was served with, no others.
    """
    documents = load_documents(workspace, pages)
    kept = _report(workspace, "gate", made.digest, documents_digest(documents), policy.digest)
    name = load_name(ServingSettings.read(workspace, made.digest).digest)
    if kept is not None and kept.verdict is Verdict.PASS and kept.name == name:
        return kept, True
    with serve(packed.path, log=workspace.home / "serve.log") as server:
        report = gate(made.digest, server.url, documents, policy.load, workspace)
    return _save(workspace, report, policy.digest), False


def best_variant(task: Task, workspace: Workspace) -> ModelBundle:
    """The cheapest variant of a task that passed its benchmark here. `NotProven` when none was benchmarked."""
    bundles = [bundle for path in sorted(workspace.bundles.glob("*")) if (bundle := _kept(path)) is not None]
    found = [
        (bundle, report)
        for bundle in bundles
        if bundle.manifest.task == task and (report := _report(workspace, "bench", bundle.digest)) is not None
    ]
    if not found:
        raise NotProven(task, "no benchmarked bundle", "at least one", "run `ocr-ops bench BUNDLE...` first")
    return choose([bundle for bundle, _ in found], [report for _, report in found])[0]


def registered(registry: Registry, made: Release, workspace: Workspace) -> ModelVersion:
    """A release's version of the registered model `ocr`, which becomes the candidate."""
    sources = [
        registry.find(f"ocr-{bundle.manifest.task}", bundle.manifest.weights)
        for bundle in (made.detection, made.recognition)
    ]
    # The gate speaks for itself, once it has run: an older outcome beside the new one would only confuse.
    reports = evidence(made, workspace)
    vouched = attested(made, reports)
    version = registry.log_release(vouched, sources[0], sources[1], reports)
    vouched.attest(registry.log_attestations(version, vouched.attested).attestations)
    return version


def attested(made: Release, reports: Sequence[Report]) -> Release:
    """The release, which from now on says of each bundle that these reports admit that it was admitted there."""
    passed = {report.subject: report for report in reports if report.verdict is Verdict.PASS}
    found = [
        Attestation(
            task=bundle.manifest.task,
            place=Place.here(report.environment.provider),
            cpu=report.environment.cpu,
            policy=report.policy,
            report=report.digest,
            created=report.created,
        )
        for bundle in (made.detection, made.recognition)
        if (report := passed.get(bundle.digest)) and report.policy
    ]
    return made.attest(found)


def candidate(registry: Registry, workspace: Workspace) -> Release:
    """The release that the `candidate` alias names."""
    version = registry.alias(MODEL, "candidate")
    if version is None:
        remedy = "run `ocr-ops package`, or name a release folder"
        raise UnknownModel(f"{MODEL}@candidate", "no version bears this alias", "a packaged release", remedy)
    folder = workspace.releases / short(version.digest)
    return Release.open(folder) if folder.is_dir() else registry.fetch_release(version, folder)


def receipt(
    registry: Registry, made: Release, load: Report, pages: PageSet, *, policy: Policy, workspace: Workspace
) -> tuple[Path, str]:
    """Signs what was measured on `pages`, passed or not, and tells the registry; the receipt's path and digest.

    Benchmarks on other pages neither help nor harm.
    """
    reports = [*evidence(made, workspace, pages), load]
    envelope, path = issue_receipt(made, reports, policy, workspace)
    registry.tag_gate(registry.find(MODEL, made.digest), load.verdict, load, envelope.digest)
    return path, envelope.digest


def evidence(made: Release, workspace: Workspace, pages: PageSet | None = None) -> list[Report]:
    """The newest benchmark kept of a release and of each of its bundles, on `pages` if given."""
    dataset = pages.digest if pages else None
    digests = (made.detection.digest, made.recognition.digest, made.digest)
    found = [_report(workspace, "bench", digest, dataset) for digest in digests]
    return [report for report in found if report is not None]


@dataclass(slots=True)
class _Clock:
    last: float = 0.0

    def __post_init__(self) -> None:
        self.last = time.monotonic()

    def stage(self, name: str, artefact: str, digest: str, verdict: str, *, reused: bool = False) -> Stage:
        now = time.monotonic()
        seconds, self.last = now - self.last, now
        return Stage(name, artefact, digest, str(verdict), reused, seconds)


def _kept(path: Path) -> ModelBundle | None:
    """The sound bundle at `path`, if there is one: a damaged one is made again, not trusted."""
    try:
        return ModelBundle.open(path)
    except OcrOpsError:
        return None


def _report(
    workspace: Workspace, kind: str, subject: str, dataset: str | None = None, policy: str | None = None
) -> Report | None:
    """The newest kept report of a subject made on this machine and, where asked, on this dataset by this policy."""
    kept, here = [], Environment.here()
    for path in workspace.reports.glob(f"{kind}-{short(subject)}-*.json"):
        try:
            report = Report.from_file(path)
        except OcrOpsError:
            continue
        wanted = (subject, dataset or report.dataset, policy or report.policy)
        if (report.subject, report.dataset, report.policy) == wanted and report.environment.same_machine(here):
            kept.append(report)
    return max(kept, key=lambda report: report.created, default=None)


def _save(workspace: Workspace, report: Report, policy: str) -> Report:
    """Keeps a report; one on other documents stands beside it."""
    report = report.model_copy(update={"policy": policy})
    name = "-".join((report.kind, short(report.subject), short(report.dataset or "none")))
    report.save(workspace.reports / f"{name}.json")
    return report
