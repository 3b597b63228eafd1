import asyncio
import logging
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from bentos.shared import Shared
from ocr_ops.core.errors import StoreAway

ADDER = """
import asyncio, sys
from pathlib import Path
from bentos.shared import Shared

def prepare(database):
    database.execute("CREATE TABLE IF NOT EXISTS numbers (number INTEGER)")

def add(database):
    [(most,)] = database.execute("SELECT coalesce(max(number), 0) FROM numbers")
    database.execute("INSERT INTO numbers VALUES (?)", (most + 1,))

async def main():
    shared = Shared(Path(sys.argv[1]), prepare, "nothing is counted")
    for _ in range(50):
        await shared.run(add)

asyncio.run(main())
"""


def prepare(database: sqlite3.Connection) -> None:
    database.execute("CREATE TABLE IF NOT EXISTS numbers (number INTEGER)")


def add(database: sqlite3.Connection) -> None:
    database.execute("INSERT INTO numbers VALUES (1)")


def count(database: sqlite3.Connection) -> int:
    [(found,)] = database.execute("SELECT count(*) FROM numbers")
    return int(found)


def test_every_step_of_several_processes_is_whole(tmp_path: Path) -> None:
    """They begin at once, with no file there; each number is one more than all before it."""
    path = tmp_path / "made" / "numbers.db"
    command = [sys.executable, "-c", ADDER, str(path)]
    running = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(60) for process in running] == [0, 0, 0, 0]
    with closing(sqlite3.connect(path)) as database:
        found = [number for (number,) in database.execute("SELECT number FROM numbers ORDER BY number")]
    assert found == list(range(1, 201))


def test_a_step_that_fails_leaves_nothing(tmp_path: Path) -> None:
    shared = Shared(tmp_path / "numbers.db", prepare, "nothing is counted")

    def fail(database: sqlite3.Connection) -> None:
        add(database)
        raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(shared.run(fail))
    assert asyncio.run(shared.run(count)) == 0
    asyncio.run(shared.run(add))
    assert asyncio.run(shared.run(count)) == 1


def test_a_file_that_cannot_be_used_is_told_of_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "numbers.db"
    path.write_bytes(b"no database at all, and long enough to tell" * 40)
    shared = Shared(path, prepare, "nothing is counted")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with pytest.raises(StoreAway, match="not a database"):
                asyncio.run(shared.run(count))
        path.unlink()
        with pytest.raises(StoreAway):  # nobody waits for it before it is time
            asyncio.run(shared.run(count))
        monkeypatch.setattr(shared, "_again", 0.0)
        assert asyncio.run(shared.run(count)) == 0
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert "nothing is counted until it can be used again" in told[0]
    assert told[1].endswith("can be used again")
