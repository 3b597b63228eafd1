import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

with warnings.catch_warnings():
    # BentoML uses a deprecated part of pathspec while it is imported; in tests a warning is an error.
    warnings.simplefilter("ignore", DeprecationWarning)
    import _bentoml_impl.client  # noqa: F401
    import bentoml  # noqa: F401

from ocr_ops.core.release import Release
from ocr_ops.core.serving import ServingSettings, settings_file
from ocr_ops.core.workspace import Workspace
from ocr_ops.release.server import Server, serve
from tests.redis_server import RedisServer, redis_running
from tests.tiny import build_release

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Release]:
    """A workspace with a tiny champion, of which one gateway worker knows everything, however large the machine is."""
    workspace = Workspace(tmp_path_factory.mktemp("served") / "home")
    release = build_release(workspace.champion)
    ServingSettings(gateway_workers=1).save(settings_file(workspace, release.digest))
    return workspace, release


@pytest.fixture(scope="session")
def server(served: tuple[Workspace, Release]) -> Iterator[Server]:
    """`bentoml serve .` of this clone, with that champion. It reads what it is asked, also what it has just read, and
    keeps an audit log.
    """
    workspace, _ = served
    env = {"OCR_OPS_HOME": str(workspace.home), "OCR_OPS_MAX_IN_FLIGHT": "4", "OCR_OPS_CACHE": "off"}
    env["OCR_OPS_AUDIT"] = "on"
    with serve(ROOT, env=env, log=workspace.home / "server.log") as running:
        yield running


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    with redis_running(tmp_path / "redis") as server:
        yield server
