"""A real MLflow and a real Prometheus on free ports, that a test may kill."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from ocr_ops.registry.client import make_store

PATIENCE = 300.0
"""Seconds until they are up; MLflow takes ten, and many times that on a busy machine."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    url: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """With all it started."""
        os.killpg(self.process.pid, 9)
        self.process.wait(timeout=30)

    def query(self, expr: str) -> list[Any]:
        """Of a Prometheus."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expr}, timeout=10).raise_for_status()
        found: list[Any] = answer.json()["data"]["result"]
        return found


@contextmanager
def mlflow_running(folder: Path) -> Iterator[Running]:
    """With a store of its own, and artefacts that it hands out itself from `served`."""
    make_store(folder / "server.db")
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/server.db"]
    command += ["--artifacts-destination", str(folder / "served")]
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with _running(command, f"http://127.0.0.1:{port}", "/health", folder, environment) as server:
        yield server


@contextmanager
def prometheus_running(folder: Path, target: str) -> Iterator[Running]:
    """It asks `target`, a host and port, for its metrics every second."""
    program = shutil.which("prometheus")
    assert program, "no prometheus; `make test` installs it (Debian: apt-get install prometheus)"
    config, port = folder / "prometheus.yml", free_port()
    scrape = {"job_name": "ocr", "scrape_interval": "1s", "static_configs": [{"targets": [target]}]}
    config.write_text(yaml.safe_dump({"scrape_configs": [scrape]}))
    command = [program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}"]
    with _running(command, f"http://127.0.0.1:{port}", "/-/ready", folder, os.environ) as server:
        yield server


@contextmanager
def _running(
    command: Sequence[str], url: str, probe: str, folder: Path, environment: Mapping[str, str]
) -> Iterator[Running]:
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=environment, cwd=folder, start_new_session=True
        )
    server = Running(url, process)
    try:
        deadline = time.monotonic() + PATIENCE
        while not _answers(url + probe):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)
        yield server
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 15)
            process.wait(timeout=30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10):  # noqa: S310  one of ours
            return True
    except OSError:
        return False


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
