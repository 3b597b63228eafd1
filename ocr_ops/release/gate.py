"""The load gate: users on a running server for some seconds, judged from the raw samples alone."""

import math
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

from pydantic import ValidationError
from tqdm import tqdm

import ocr_ops
from ocr_ops.core.errors import BadInput, NotProven, OutsideSystem, ServerDied
from ocr_ops.core.policy import LoadPolicy
from ocr_ops.core.record import Value, canonical_json, digest_bytes, digest_file, short
from ocr_ops.core.report import Report, quantile
from ocr_ops.core.serving import ServingSettings
from ocr_ops.core.verdict import Check
from ocr_ops.core.workspace import Workspace
from ocr_ops.release.server import readiness

LOCUSTFILE = Path(ocr_ops.__file__).resolve().parent.parent / "loadtests" / "locustfile.py"
WARM_UP_DOCUMENTS = 24
"""Until every thread has read pages of its own, and the service knows its pace."""
STOP_SECONDS = 60
"""What requests in flight get to finish. Those that do not are failures, and counted."""


class Sample(Value):
    """A line of the samples file: one request, answered or not."""

    start: float
    """Seconds since the epoch."""
    ms: float
    status: int
    bytes: int
    """Of the document."""
    document: str
    pages: int
    lines: int
    error: str | None

    @property
    def failed(self) -> bool:
        return self.error is not None


def gate(release_digest: str, url: str, documents: Path, policy: LoadPolicy, workspace: Workspace) -> Report:
    """Puts `policy.users` on the server at `url` for `policy.seconds`, each posting `documents` without a pause.

    The server must say, before and after, that it serves `release_digest`: `NotProven` otherwise, and without
    samples. `BadInput` without documents, `ServerDied` when the server is gone, `OutsideSystem` when none is there.
    """
    files = files_of(documents)
    if not LOCUSTFILE.is_file():
        raise BadInput(LOCUSTFILE, "no such file", "the load test of a clone", "run it from a clone of the toolkit")
    serving = _require_release(url, release_digest)
    warm_up(url, files, policy.users)
    folder = workspace.home / "load" / short(release_digest)
    samples = put_load(url, documents, policy.users, policy.seconds, folder)
    try:
        _require_release(url, release_digest)
    except OutsideSystem as error:
        raise ServerDied(url, f"gone after the load: {error.found}", "a server that lasts", "see its log") from None
    return judge(samples, release_digest, documents_digest(documents), policy, load_name(serving))


def load_name(serving: str) -> str:
    """What a gate's report is called: it holds for a release as served with the settings of this digest."""
    return "load" if serving == ServingSettings().digest else f"load, settings {short(serving)}"


def documents_digest(documents: Path) -> str:
    """Identity of the documents a folder holds, names and bytes. `BadInput` when it holds none."""
    return digest_bytes(canonical_json({file.name: digest_file(file) for file in files_of(documents)}).encode())


def judge(samples: list[Sample], release_digest: str, dataset: str, policy: LoadPolicy, name: str = "load") -> Report:
    """The report on a run. Times are those of answered requests; the rest are told by the failed share."""
    samples = sorted(samples, key=lambda sample: sample.start)
    answered = [sample.ms for sample in samples if not sample.failed]
    seconds = max(s.start + s.ms / 1000 for s in samples) - samples[0].start if samples else 0.0
    found = {
        "requests": float(len(samples)),
        "failed_share": 1 - len(answered) / len(samples) if samples else None,
        "requests_per_second": len(answered) / seconds if seconds > 0 else None,
        "p50_ms": quantile(answered, 0.5),
        "p95_ms": quantile(answered, 0.95),
        "p99_ms": quantile(answered, 0.99),
        "pages": float(sum(sample.pages for sample in samples)),
        "lines": float(sum(sample.lines for sample in samples)),
    }
    return Report(
        kind="gate",
        name=name,
        subject=release_digest,
        dataset=dataset,
        metrics={name: value for name, value in found.items() if value is not None},
        samples={
            "start_s": tuple(sample.start - samples[0].start for sample in samples),
            "ms": tuple(sample.ms for sample in samples),
            "status": tuple(float(sample.status) for sample in samples),
            "failed": tuple(float(sample.failed) for sample in samples),
        },
        checks=(
            Check(name="requests", found=found["requests"], comparison=">=", limit=policy.min_requests),
            Check(name="failed share", found=found["failed_share"], comparison="<=", limit=policy.max_failed_share),
            Check(name="p95 ms", found=found["p95_ms"], comparison="<=", limit=policy.max_p95_ms),
            Check(
                name="requests per second",
                found=found["requests_per_second"],
                comparison=">=",
                limit=policy.min_requests_per_second,
            ),
        ),
    )


def read_samples(path: Path) -> list[Sample]:
    """Every line of a samples file. `NotProven` when there is none, or one that is not whole."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    if not lines:
        raise NotProven(path, "no samples", "a line a request", "see locust.log beside it")
    try:
        return [Sample.model_validate_json(line) for line in lines]
    except ValidationError as error:
        raise NotProven(path, f"a broken line: {error.errors()[0]['msg']}", "samples", "run it again") from None


def files_of(documents: Path) -> list[Path]:
    """The documents in a folder. `BadInput` when there is none."""
    files = sorted(file for file in documents.glob("*") if file.is_file() and file.name[0] != ".")
    if not files:
        raise BadInput(documents, "no files", "documents to post", "check the folder")
    return files


def _require_release(url: str, digest: str) -> str:
    """The digest of the settings it is served with."""
    state = readiness(url)
    if state.get("release") != digest or state.get("ready") is not True:
        found = f"release {state.get('release')}, ready: {state.get('ready')}"
        raise NotProven(url, found, f"release {digest}, ready", "start the server with that release")
    return str(state.get("serving", ServingSettings().digest))


def warm_up(url: str, files: Iterable[Path], users: int, documents: int = WARM_UP_DOCUMENTS) -> None:
    """What a server does only once is not what is judged. Whether it answers is: that comes with the load."""

    def post(file: Path) -> None:
        edge = uuid.uuid4().hex
        head = f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="document"\r\n\r\n'
        body = head.encode() + file.read_bytes() + f"\r\n--{edge}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={edge}", "Cache-Control": "no-store"}
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{url}/v1/ocr", body, headers), timeout=120) as answer:  # noqa: S310
                answer.read()
        except OSError:
            pass

    with ThreadPoolExecutor(users) as pool:
        todo = pool.map(post, islice(cycle(files), documents))
        for _ in tqdm(todo, total=documents, desc="warm up", unit="document", disable=None):
            pass


def put_load(url: str, documents: Path, users: int, seconds: float, folder: Path) -> list[Sample]:
    """So many users on a server for so many seconds; every request they made. `ServerDied` when none was answered.

    Locust is a child: importing it would patch this process. Its log stays in `folder`, beside the samples.
    """
    samples, log = folder / "samples.jsonl", folder / "locust.log"
    folder.mkdir(parents=True, exist_ok=True)
    samples.unlink(missing_ok=True)
    whole = math.ceil(seconds)
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary"]
    command += ["--host", url, "--users", str(users), "--spawn-rate", str(users), "--run-time", f"{whole}s"]
    # The exit code then says whether Locust itself ran, and nothing about the samples.
    command += ["--stop-timeout", str(STOP_SECONDS), "--exit-code-on-error", "0"]
    command += ["--documents", str(documents.absolute()), "--samples", str(samples)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            code = _watch(process, whole)
        finally:
            process.kill()
            process.wait()
    if code != 0:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] or ["no word"]
        raise NotProven("locust", f"ended with {code}: {last[0]}", "a whole run", f"see {log}")
    found = read_samples(samples)
    if all(sample.status == 0 for sample in found):
        raise ServerDied(url, f"answered none of {len(found)} requests", "answers", f"first: {found[0].error}")
    return found


def _watch(process: subprocess.Popen[bytes], seconds: int) -> int | None:
    """Its exit code; None when it had to be given up."""
    start = time.monotonic()
    allowed = seconds + STOP_SECONDS + 60
    with tqdm(total=seconds, desc="load", unit="s", disable=None) as bar:
        while time.monotonic() - start < allowed:
            try:
                return process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                bar.update(min(1, seconds - bar.n))
    return None
