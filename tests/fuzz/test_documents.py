import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocr_ops.core.errors import UnreadableDocument
from ocr_ops.core.options import ReadOptions
from ocr_ops.runtime.decoders import Decoders
from ocr_ops.runtime.documents import Limits
from ocr_ops.runtime.sheet import Caps
from tests.fuzz.corpus import malformed, seeds

HARNESS = Path(__file__).with_name("documents.py")
LIMITS = Limits(max_pixels=300_000, max_pages=4, pdf_dpi=40)
SEEDS = seeds()
LEGS = 6
TOKENS = [
    b"\0",
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"endobj",
    b"<<",
    b">>",
    b"2 0 R",
    b"/Kids",
    b"/Length",
    b"-1",
    b"9" * 12,
]


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    made = Decoders(Caps(page_cpu_seconds=5, page_seconds=60, memory_bytes=2**29))
    yield made
    made.close()


def outcome(decoders: Decoders, data: bytes) -> str:
    """What becomes of a document: any other exception is the test's failure."""
    try:
        return f"{sum(1 for _ in decoders.each_sheet(data, 'fuzzed', ReadOptions(), LIMITS))} pages"
    except UnreadableDocument as error:
        refused = error
    assert refused.http_status in {413, 415, 422}
    assert "\n" not in str(refused)
    return refused.found


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Bytes changed, taken out, doubled, put in, cut off."""
    made = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at, size = rng.randrange(len(made) + 1), rng.choice((1, 1, 2, 8, 64, 1024))
        how = rng.randrange(5)
        if how == 0 and made:
            made[at % len(made)] = rng.randrange(256)
        elif how == 1:
            del made[at : at + size]
        elif how == 2:
            made[at:at] = made[at : at + size]
        elif how == 3:
            made[at:at] = rng.choice(TOKENS)
        elif rng.random() < 0.2:
            del made[at:]
    return bytes(made)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(SEEDS)), seed=st.integers(0, 2**32))
def test_damaged_documents_are_read_or_refused(decoders: Decoders, name: str, seed: int) -> None:
    outcome(decoders, damaged(random.Random(seed), SEEDS[name]))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.sampled_from([data[:12] for data in SEEDS.values()]), rest=st.binary(max_size=400))
def test_the_first_bytes_of_a_document_are_not_enough(decoders: Decoders, start: bytes, rest: bytes) -> None:
    outcome(decoders, start + rest)


@pytest.mark.shared_data
def test_malformed_documents_are_refused_and_so_are_their_like(decoders: Decoders, shared_data: Path) -> None:
    rng = random.Random(0)
    for name, data in malformed(shared_data).items():
        assert "pages" not in outcome(decoders, data), name
        for _ in range(10):
            outcome(decoders, damaged(rng, data))


def learn(corpus: Path, documents: dict[str, bytes], *options: str) -> subprocess.CompletedProcess[str]:
    for name, data in documents.items():
        (corpus / name).write_bytes(data)
    root = HARNESS.parents[2]
    command = [sys.executable, str(HARNESS), *options, "-rss_limit_mb=3000", "-timeout=60", str(corpus)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=corpus, env=environment)


def test_atheris_finds_nothing_in_a_short_run(tmp_path: Path) -> None:
    found = learn(tmp_path, SEEDS, "-max_total_time=4")
    assert found.returncode == 0, found.stderr[-3000:]
    assert "Done" in found.stderr


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.shared_data
def test_atheris_finds_nothing_in_a_long_run(tmp_path: Path, shared_data: Path, tell: Callable[[str], None]) -> None:
    """In legs, each going on from what the last one learnt: atheris keeps some 20 KB of every input for itself, which
    on a fast machine is the memory that one input may take.
    """
    inputs = 0
    for _ in range(LEGS):
        found = learn(tmp_path, SEEDS | malformed(shared_data), f"-max_total_time={600 // LEGS}")
        assert found.returncode == 0, found.stderr[-3000:]
        done = next(line for line in reversed(found.stderr.splitlines()) if line.startswith("Done "))
        inputs += int(done.split()[1])
    tell(f"{inputs} inputs by atheris.")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.shared_data
def test_thousands_of_damaged_documents_leave_nothing_behind(
    decoders: Decoders, shared_data: Path, tell: Callable[[str], None]
) -> None:
    """No process, no open file, no memory; and none takes longer than its caps."""
    rng = random.Random(1)
    documents = [*SEEDS.values(), *malformed(shared_data).values()]
    files = sorted((shared_data / "pdf").rglob("*.pdf")) + sorted((shared_data / "docx").rglob("*.docx"))
    documents += [file.read_bytes() for file in files]

    def held() -> tuple[int, int]:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return len([*Path("/proc/self/fd").iterdir()]), int(pages) * 4096

    def run(count: int) -> float:
        longest = 0.0
        for _ in range(count):
            start = time.monotonic()
            outcome(decoders, damaged(rng, rng.choice(documents)))
            longest = max(longest, time.monotonic() - start)
        return longest

    run(200)
    files_before, memory_before = held()
    longest = run(5000)
    files_after, memory_after = held()
    tell(
        f"5000 damaged documents, the longest {longest:.1f} s; {files_before} descriptors, {memory_before >> 20} MiB; "
        f"after them {files_after} and {memory_after >> 20}"
    )
    assert longest < 4 * 60 + 10
    assert files_after <= files_before
    assert memory_after < memory_before + 50 * 2**20
