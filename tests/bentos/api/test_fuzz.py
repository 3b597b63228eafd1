"""Schemathesis asks a real service whatever its OpenAPI document allows, and what it does not."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from ocr_ops.core import metrics
from ocr_ops.core.release import Release
from ocr_ops.core.workspace import Workspace
from ocr_ops.release.server import Server

ROOT = Path(__file__).resolve().parents[3]
HOOKS = "tests.bentos.api.schemathesis_hooks"
CONFIG = f"""
hooks = "{HOOKS}"

[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "504"]

# What came of a job is what reading its document came to.
[[operations]]
include-name = "GET /v1/jobs/{{id}}/result"
checks.positive_data_acceptance.expected-statuses = ["2xx", "3xx", "4xx", "504"]
"""


def fuzz(server: Server, examples: int, folder: Path) -> int:
    """Runs it with so many examples an operation; how many requests that were. Any failed check fails the test.

    All checks are on: what the document allows is done, what it forbids is refused, and no answer is other than it
    tells; 504 is for deadlines that leave no time. What the document cannot say, the hooks do: with random bytes for
    documents, `tests/fuzz` asks the decoders.
    """
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG)
    program = Path(sys.executable).with_name("schemathesis")
    found = subprocess.run(
        [
            *(program, "--config-file", config, "run", f"{server.url}/openapi.json"),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", str(examples), "--seed", "1"),
            *("--continue-on-failure", "--no-color", "--request-timeout", "60", "--warnings", "off"),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    told = "\n".join(line[:400] for line in found.stdout.splitlines())  # a request to send again has a document in it
    assert found.returncode == 0, told[-8000:] + found.stderr[-2000:]
    (count,) = re.findall(r"(\d+) generated", found.stdout)
    return int(count)


@pytest.fixture
def unharmed(server: Server, served: tuple[Workspace, Release]) -> Callable[[int], None]:
    """Asserts that the service is as it was before: nothing in flight, no traceback, no file left open, and no more
    memory than so many MiB.
    """
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    workers = [process for process in family if "worker" in " ".join(process.cmdline())] or family

    def state() -> tuple[int, int]:
        return sum(one.num_fds() for one in workers), sum(one.memory_info().rss for one in workers)

    files, memory = state()

    def check(megabytes: int) -> None:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            while f"{metrics.IN_FLIGHT} 0.0" not in client.get("/metrics").text:
                pass
            assert client.get("/readyz").status_code == 200
        left_files, left_memory = state()
        assert left_files <= files + 20
        assert left_memory <= memory + megabytes * 2**20
        assert "Traceback" not in (served[0].home / "server.log").read_text(encoding="utf-8")

    return check


def test_hundreds_of_inputs_harm_nothing(server: Server, unharmed: Callable[[int], None], tmp_path: Path) -> None:
    assert fuzz(server, 8, tmp_path) >= 300
    unharmed(200)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_thousands_of_inputs_harm_nothing(
    server: Server, unharmed: Callable[[int], None], tmp_path: Path, tell: Callable[[str], None]
) -> None:
    count = fuzz(server, 400, tmp_path)
    tell(f"{count} requests by schemathesis")
    assert count >= 5000
    unharmed(200)
