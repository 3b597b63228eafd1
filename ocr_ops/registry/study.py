"""A search in MLflow: its study is a run, each of its trials a run within it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ocr_ops.core.errors import UnknownModel
from ocr_ops.registry.registry import Registry

PARENT_TAG = "mlflow.parentRunId"
"""What MLflow's pages nest runs by."""


def log_study(registry: Registry, study: str, task: str, known: str | None) -> str:
    """The run of a study: the `known` one where this store has it, else a new one, left running. Its id."""
    if known:
        try:
            registry.client.get_run(known)
        except UnknownModel:
            pass  # the study was begun beside another store
        else:
            return known
    with registry._run(f"ocr-{task}", f"tune {study}") as made:
        registry.client.set_tag(made, "study", study)
    return made


def log_trial(
    registry: Registry,
    parent: str,
    name: str,
    *,
    task: str,
    params: Mapping[str, Any],
    figures: Mapping[str, float],
    scores: Sequence[tuple[int, float]],
    state: str,
) -> str:
    """Logs one trial that is over: its settings, its figures, its score by step, what became of it. Its run's id."""
    with registry._run(f"ocr-{task}", name) as run:
        registry.client.set_tag(run, PARENT_TAG, parent)
        registry.client.set_tag(run, "state", state)
        registry._log_params(run, params)
        registry._log_metrics(run, figures)
        registry._log_curves(run, {"score": scores})
    return run


def conclude_study(registry: Registry, run: str, figures: Mapping[str, float], folder: Path) -> None:
    """Shows on a study's run what it has found so far, and the files of its folder."""
    registry._log_metrics(run, figures)
    registry.client.log_artifacts(run, str(folder), "study")
