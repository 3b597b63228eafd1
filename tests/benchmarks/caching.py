"""What the cache saves and costs, and what a job costs those who wait: milliseconds of one run, each beside its peer.

`python -m tests.benchmarks.caching WORKSPACE FOLDER [DOCUMENTS]` serves the champion of a workspace twice, with its
cache in the process and in Redis, and prints tables; docs/caching.md and docs/jobs.md hold them.
"""

import base64
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from ocr_ops.release.server import serve
from tests.redis_server import redis_running

ROOT = Path(__file__).resolve().parents[2]
WAYS = ("no-store", "miss", "hit")


@contextmanager
def served(home: Path, redis: str | None) -> Iterator[httpx.Client]:
    """A service of the champion in `home`."""
    env = {"OCR_OPS_HOME": str(home), "OCR_OPS_JOB_PAGES": "1000"}
    if redis is not None:
        env |= {"OCR_OPS_REDIS_URL": redis, "OCR_OPS_CACHE_KEY": base64.b64encode(os.urandom(32)).decode()}
    with (
        tempfile.TemporaryDirectory() as folder,
        serve(ROOT, env=env, log=Path(folder) / "log") as server,
        httpx.Client(base_url=server.url, timeout=600) as client,
    ):
        yield client


def timed(client: httpx.Client, document: Path, way: str) -> float:
    headers = {"Cache-Control": "no-store"} if way == "no-store" else {}
    start = time.perf_counter()
    answer = client.post("/v1/ocr", files={"file": (document.name, document.read_bytes())}, headers=headers)
    answer.raise_for_status()
    return (time.perf_counter() - start) * 1000


def line(text: str) -> None:
    print(text, flush=True)  # noqa: T201  it is what this is for


def told(name: str, samples: dict[str, list[float]]) -> None:
    for way, values in samples.items():
        share = [b / a for a, b in zip(samples["no-store"], values, strict=True)]
        ratio = f"{statistics.median(share):.3f}"
        low, high = min(values), max(values)
        line(f"| {name} | {way} | {statistics.median(values):.1f} | {low:.1f} to {high:.1f} | {ratio} |")


def caching(client: httpx.Client, documents: list[Path], name: str) -> None:
    samples: dict[str, list[float]] = {way: [] for way in WAYS}
    timed(client, documents[0], "no-store")
    for document in documents:
        for way in WAYS:
            samples[way].append(timed(client, document, way))
    told(name, samples)


def beside_a_job(client: httpx.Client, documents: list[Path]) -> None:
    """The same documents alone, and with a job that always has pages to read, in turn."""
    samples: dict[str, list[float]] = {"alone": [], "beside a job": []}
    for document in documents:
        samples["alone"].append(timed(client, document, "no-store"))
        jobs = [client.post("/v1/jobs", files={"file": (one.name, one.read_bytes())}) for one in documents[:8]]
        samples["beside a job"].append(timed(client, document, "no-store"))
        for job in jobs:
            client.delete(job.raise_for_status().headers["location"])
    share = [b / a for a, b in zip(*samples.values(), strict=True)]
    for way, values in samples.items():
        line(f"| {way} | {statistics.median(values):.1f} | {min(values):.1f} to {max(values):.1f} |")
    line(f"ratio, median of pairs: {statistics.median(share):.2f}")


def main() -> None:
    home, folder = map(Path, sys.argv[1:3])
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 20
    documents = list(itertools.islice(sorted(folder.glob("*.[jp][pn]g")), count))
    with ExitStack() as held:
        place = Path(held.enter_context(tempfile.TemporaryDirectory()))
        (place / "home").mkdir()
        (place / "home" / "champion").symlink_to((home / "champion").resolve())
        line("| cache | answer | ms, median | ms | of `no-store`, median of pairs |\n|---|---|---|---|---|")
        with served(place / "home", None) as client:
            caching(client, documents, "in the process")
            beside_a_job(client, documents)
        server = held.enter_context(redis_running(place / "redis"))
        with served(place / "home", server.url) as client:
            caching(client, documents, "Redis")
            server.pause()
            without: dict[str, list[float]] = {"no-store": [], "miss": []}
            for document in documents:
                timed(client, document, "no-store")  # whatever else the document needs, it has by now
                without["no-store"].append(timed(client, document, "no-store"))
                without["miss"].append(timed(client, document, "miss"))
            told("Redis, stopped", without)
            server.resume()


if __name__ == "__main__":
    main()
