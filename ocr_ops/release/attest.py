"""Attest: a release measured on this machine too, variant beside float parent, and what it may say of itself after."""

from contextlib import suppress

from ocr_ops.core.attestation import Attestations
from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.errors import OcrOpsError, UnknownModel
from ocr_ops.core.policy import Policy
from ocr_ops.core.record import short
from ocr_ops.core.release import Release
from ocr_ops.core.report import Report
from ocr_ops.core.verdict import require_pass
from ocr_ops.core.workspace import Workspace
from ocr_ops.data.pages import PageSet
from ocr_ops.registry import Registry
from ocr_ops.release.chain import attested, benchmarked
from ocr_ops.release.promote import MODEL


def attest(made: Release, pages: PageSet, policy: Policy, workspace: Workspace, registry: Registry) -> Attestations:
    """Measures both bundles here, and adds an attestation to the release's folders and to its registered version.

    A float parent that is not in the workspace comes from the registry. `GateFailed` or `NotProven` when a bundle is
    not admitted here, and nothing is written; `UnknownModel` without its parent. A release nobody registered keeps its
    attestation to itself.
    """
    reports: list[Report] = []
    for bundle in (made.detection, made.recognition):
        variants = [bundle] if bundle.manifest.parent is None else [_parent(bundle, workspace, registry), bundle]
        report = benchmarked(variants, pages, policy, workspace)[0][-1]
        require_pass(f"{report.name} here", report.checks)
        reports.append(report)
    known = attested(made, reports).attested
    with suppress(UnknownModel):
        known = registry.log_attestations(registry.find(MODEL, made.digest), known)
    for folder in (made.path, workspace.releases / short(made.digest), workspace.champion):
        with suppress(OcrOpsError):  # no release there, or a damaged one
            if (copy := Release.open(folder)).digest == made.digest:
                copy.attest(known.attestations)
    return known


def _parent(bundle: ModelBundle, workspace: Workspace, registry: Registry) -> ModelBundle:
    """The bundle this one was made from, wherever it is."""
    wanted = bundle.manifest.parent or ""
    for folder in sorted(workspace.bundles.glob("*")):
        with suppress(OcrOpsError):
            if (found := ModelBundle.open(folder)).digest == wanted:
                return found
    return registry.fetch_bundle(
        bundle.manifest.task, wanted, workspace.bundles / f"{bundle.manifest.model}-{short(wanted)}"
    )
