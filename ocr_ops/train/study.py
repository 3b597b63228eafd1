"""A search's study: where its trials are kept, which of them are worth having, and what they tell."""

import os
import socket
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from ocr_ops.core.errors import OutsideSystem, UsageError

STORE_VARIABLE = "OCR_OPS_STUDY_URL"
HEARTBEAT = 20
"""Seconds between a running trial's signs of life."""
GRACE = 90
"""Seconds without one after which its worker counts as dead; the trial fails, and is queued again."""
RETRIES = 2
Direction = Literal["maximize", "minimize"]
DIRECTIONS: tuple[Direction, ...] = ("maximize", "minimize")
"""Of a trial's values: score, CPU milliseconds."""
TERMS = "terms"
COST = "cpu_ms"
SCORE = "score_"
"""What trials note of themselves: their cost, and with a rung's number behind it their score there."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trial that went all the way."""

    number: int
    score: float
    cpu_ms: float
    settings: Mapping[str, Any]

    @property
    def row(self) -> dict[str, Any]:
        return {"trial": self.number, "score": self.score, "cpu_ms": round(self.cpu_ms, 3), **self.settings}


def store_url(home: Path, given: str | None) -> str:
    """Where studies are kept: as given, else `OCR_OPS_STUDY_URL`, else sqlite in the workspace."""
    return given or os.environ.get(STORE_VARIABLE) or f"sqlite:///{home.absolute() / 'tune.db'}"


def open_study(
    url: str, name: str, terms: Mapping[str, Any], seed: str, directions: Sequence[Direction] = DIRECTIONS
) -> optuna.Study:
    """The study of that name, made when there is none; many processes may have it open.

    `terms` are what makes trials comparable: `UsageError` when the study was begun under others. `OutsideSystem` when
    the store does not answer. Workers of unlike `seed` propose unlike trials; on one machine the same ones again.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(study_name=name, storage=_storage(url), directions=directions, load_if_exists=True)
        known = study.user_attrs.get(TERMS)
        if known is None and not study.get_trials(deepcopy=False):
            study.set_user_attr(TERMS, dict(terms))
            known = dict(terms)
    except (StorageInternalError, SQLAlchemyError, ImportError) as error:
        found = str(error.__cause__ or error).strip().partition("\n")[0][:200]
        remedy = f"start it, install its driver, or correct --storage ({STORE_VARIABLE})"
        raise OutsideSystem(f"study store {_shown(url)}", found, "a database that answers", remedy) from None
    if known != dict(terms):
        found = ", ".join(f"{key} {(known or {}).get(key, 'unknown')}" for key in terms)
        expected = ", ".join(f"{key} {value}" for key, value in terms.items())
        raise UsageError(f"study {name}", f"begun with {found}", expected, "pass the same, or --study with a new name")
    own = f"{seed} {socket.gethostname()} {len(study.get_trials(deepcopy=False))}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.sampler = optuna.samplers.TPESampler(
            seed=zlib.crc32(own.encode()), n_startup_trials=6, multivariate=True, constant_liar=True
        )
    return study


def complete(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that went all the way, by number."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def counts(study: optuna.Study) -> dict[str, int]:
    """How many trials there are, by what became of them."""
    states = [trial.state.name.lower() for trial in study.get_trials(deepcopy=False)]
    return {state: states.count(state) for state in ("complete", "pruned", "fail", "running", "waiting")}


def scores(trial: FrozenTrial) -> list[float]:
    """A trial's scores, rung by rung."""
    names = sorted(name for name in trial.user_attrs if name.startswith(SCORE))
    return [trial.user_attrs[name] for name in names]


def front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that no other beats in both score and cost (Pareto), cheapest first; of equals the first."""
    best: list[Candidate] = []
    for one in sorted(candidates, key=lambda c: (c.cpu_ms, -c.score, c.number)):
        if not best or one.score > best[-1].score:
            best.append(one)
    return best


def importance(study: optuna.Study) -> dict[str, dict[str, float]]:
    """For score and cost, how much each setting matters, 0 to 1 (PED-ANOVA, Watanabe et al., IJCAI 2023).

    Empty of a study too young to tell.
    """
    if len(complete(study)) < 6:
        return {}
    targets = {"score": lambda t: -t.values[0], "CPU": lambda t: t.values[1]}  # lower is better
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a setting that hardly varied is no news
        return {name: optuna.importance.get_param_importances(study, target=target) for name, target in targets.items()}


def _storage(url: str) -> RDBStorage:
    patience = {"connect_args": {"timeout": 60}} if url.startswith("sqlite:") else {"pool_pre_ping": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return RDBStorage(
            url,
            engine_kwargs=patience,
            heartbeat_interval=HEARTBEAT,
            grace_period=GRACE,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=RETRIES),
        )


def _shown(url: str) -> str:
    """Without the password it may carry."""
    head, at, tail = url.rpartition("@")
    return f"{head.rpartition(':')[0]}:***@{tail}" if at and head.count(":") > 1 else url
