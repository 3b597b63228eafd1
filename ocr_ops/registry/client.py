"""A connection to MLflow that is quiet, gives up soon, and speaks our errors.

MLflow takes seconds to import: it is imported when somebody connects, and not before.
"""

import logging
import os
import re
import socket
import sqlite3
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ocr_ops.core.errors import RegistryUnreachable, UnknownModel

_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # MLflow's own defaults retry for many minutes before they tell anyone.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
_FIRST_WORD = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "8"}
"""For the first request: that a server is away is told within ten seconds."""

_NO_ALIAS = re.compile(r"^(INVALID_PARAMETER_VALUE: )?Registered model alias .* not found")


@dataclass(frozen=True, slots=True)
class Client:
    """`mlflow.MlflowClient`, method by method; what it raises becomes `RegistryUnreachable` or `UnknownModel`."""

    uri: str
    mlflow: Any

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.mlflow, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            with translated(self.uri):
                return method(*args, **kwargs)

        return call


def connect(uri: str) -> Client:
    """A client that has had an answer; an embedded store is made when there is none.

    Raises `RegistryUnreachable` within about ten seconds when nobody answers.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    _knock(uri)
    with translated(uri), _environment(_FIRST_WORD):
        from mlflow import MlflowClient  # noqa: PLC0415 (seconds)

        logging.getLogger("alembic").setLevel(logging.WARNING)
        if uri.startswith("sqlite:///"):
            make_store(Path(uri.removeprefix("sqlite:///")))
        client = MlflowClient(uri, uri)
        client.search_experiments(max_results=1)
    return Client(uri, client)


def make_store(path: Path) -> None:
    """An empty embedded store, unless there is one: whole or not at all.

    MLflow itself makes it in a thousand steps, and waits for the disk after each; in memory they take two seconds.
    What cannot be made is left to MLflow, which tells why.
    """
    if path.exists():
        return
    with _quiet(), suppress(OSError, sqlite3.Error), tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        with closing(sqlite3.connect(":memory:")) as memory, closing(sqlite3.connect(made)) as store:
            memory.deserialize(_empty_store())
            memory.backup(store)
        path.hardlink_to(made)  # unless another process was quicker


@cache
def _empty_store() -> bytes:
    """Made once a process, however many stores it makes."""
    from mlflow.store.db.utils import _initialize_tables  # noqa: PLC0415 (seconds)
    from sqlalchemy import create_engine  # noqa: PLC0415

    with closing(sqlite3.connect(":memory:")) as memory:
        engine = create_engine("sqlite://", creator=lambda: memory)
        _initialize_tables(engine)
        made = memory.serialize()
        engine.dispose()
    return made


def log_points(client: Client, run: str, points: Sequence[tuple[str, float, int]]) -> None:
    """Metrics as (name, value, step), as many a request as MLflow takes."""
    from mlflow.entities import Metric  # noqa: PLC0415 (seconds)

    now = time.time_ns() // 1_000_000
    for start in range(0, len(points), 1000):
        metrics = [Metric(name, value, now, step) for name, value, step in points[start : start + 1000]]
        client.log_batch(run, metrics=metrics)


def save_pyfunc(path: Path, *, loader: str, data: Path, code: Path, requirements: list[str]) -> None:
    """Writes an MLflow pyfunc model folder: `loader` is the module in `code` that opens `data`."""
    with _quiet():
        import mlflow.pyfunc  # noqa: PLC0415 (seconds)

        mlflow.pyfunc.save_model(
            str(path),
            loader_module=loader,
            data_path=str(data),
            code_paths=[str(code)],
            pip_requirements=requirements,
        )


def download(uri: str, client: Client, to: Path) -> Path:
    """An artifact folder, copied into the folder `to`. `OSError` or `UnknownModel` when it is not there."""
    with translated(client.uri):
        from mlflow.artifacts import download_artifacts  # noqa: PLC0415 (seconds)

        return Path(download_artifacts(artifact_uri=uri, dst_path=str(to), tracking_uri=client.uri))


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """MLflow's, its database's and its HTTP client's errors come out as ours, its warnings not at all."""
    with _quiet():
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 (seconds)
        from requests import RequestException  # noqa: PLC0415
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

        try:
            yield
        except MlflowException as error:
            # Of an alias nobody set, MLflow says that it is an invalid parameter.
            if error.error_code == "RESOURCE_DOES_NOT_EXIST" or _NO_ALIAS.search(str(error)):
                remedy = "see what is registered with `ocr-ops history` or in the MLflow UI"
                raise UnknownModel(_shown(uri), _line(error), "something registered", remedy) from None
            raise _away(uri, _line(error)) from None
        except (RequestException, SQLAlchemyError) as error:
            raise _away(uri, _line(error)) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """MLflow warns about its own type hints and of what it will change one day: nothing a user could act on."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(mlflow|pydantic|sqlalchemy|alembic)\b")
        warnings.simplefilter("ignore", DeprecationWarning)  # of no module: those of a migration
        yield


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _knock(uri: str) -> None:
    """A database server that is away: MLflow would retry for minutes."""
    parts = urlsplit(uri)
    if not parts.hostname or parts.scheme in ("http", "https"):
        return
    port = parts.port or {"postgresql": 5432, "mysql": 3306, "mssql": 1433}.get(parts.scheme.partition("+")[0])
    try:
        socket.create_connection((parts.hostname, port or 5432), timeout=5).close()
    except OSError as error:
        raise _away(uri, str(error)) from None


def _away(uri: str, found: str) -> RegistryUnreachable:
    remedy = "start it, or check MLFLOW_TRACKING_URI (unset, the embedded store is used)"
    return RegistryUnreachable(_shown(uri), found, "an MLflow store that answers", remedy)


def _shown(uri: str) -> str:
    """Without the password an URI may carry."""
    parts = urlsplit(uri)
    if not parts.password:
        return f"MLflow at {uri}"
    return f"MLflow at {uri.replace(f':{parts.password}@', ':***@')}"


def _line(error: Exception) -> str:
    """The first line of a message that may be a page long."""
    line = str(error).partition("\n")[0]
    return line if len(line) <= 200 else line[:200] + " ..."
