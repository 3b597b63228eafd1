"""A benchmark in MLflow: a run of its own, tied to the versions of what it measured."""

from collections.abc import Collection, Mapping

from ocr_ops.registry.registry import RELEASE_MODEL, ModelVersion, Registry

EXPERIMENT = "ocr-bench"
_MODELS = (RELEASE_MODEL, "ocr-detection", "ocr-recognition")


def log_bench(
    registry: Registry,
    *,
    title: str,
    record: str,
    html: str,
    markdown: str,
    metrics: Mapping[str, Mapping[str, float]],
    subjects: Collection[str],
    facts: Mapping[str, str],
) -> str:
    """Logs a benchmark: its record (JSON), its report, its figures by cell. The id of its MLflow run.

    `subjects`: digests of the bundles and releases it measured. The run is tagged with the versions of those that are
    registered, and each version with `bench`, this run's id. `facts` become params: verdict, digest, dataset, command.
    """
    with registry._run(EXPERIMENT, title) as run:
        registry._log_params(run, facts)
        for cell, figures in metrics.items():
            registry._log_metrics(run, figures, cell)
        for name, text in (("run.json", record), ("report.html", html), ("report.md", markdown)):
            registry.client.log_text(run, text, f"bench/{name}")
        for made in _measured(registry, frozenset(subjects)):
            registry.client.set_tag(run, f"{made.name}.{made.version}", made.digest)
            registry._tag(made, {"bench": run})
    return run


def _measured(registry: Registry, digests: frozenset[str]) -> list[ModelVersion]:
    """Versions that are one of these releases, or that one of these bundles was made from."""
    return [
        made
        for name in _MODELS
        for made in registry.versions(name)
        if made.digest in digests or any(made.tags[key] in digests for key in made.tags if key.startswith("bundle."))
    ]
