"""LMDB as deep-text-recognition-benchmark writes it: `num-samples`, `image-%09d`, `label-%09d`, from 1."""

import importlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ocr_ops.core.errors import BadInput, BadRecord, OutsideSystem
from ocr_ops.data.labels import bad, line_text

if TYPE_CHECKING:
    import lmdb

DATA_FILE = "data.mdb"


def holds(path: Path) -> bool:
    return (path / DATA_FILE).is_file()


def read_lines(folder: Path) -> Iterator[tuple[str, str, str] | BadRecord]:
    """Where, image key and text of each crop, bad ones as they come."""
    count, entries = _value(folder, "num-samples"), _environment(folder).stat()["entries"]
    if count is None or not count.isdigit() or len(count) > 9 or int(count) > entries:
        found = f"num-samples {count!r} of {entries} entries"
        raise BadInput(folder / DATA_FILE, found, "the number of lines", "write the store again")
    for index in range(1, int(count) + 1):
        where, key = f"{folder / DATA_FILE}:{index}", f"image-{index:09d}"
        label = _value(folder, f"label-{index:09d}")
        try:
            if label is None or not _value(folder, key):
                raise bad(where, f"no {'image' if label else 'label'} {index}", "an image and a label of each number")
            text = line_text(label.decode(errors="surrogateescape"), where)
        except BadRecord as error:
            yield error
        else:
            yield where, key, text


def image_bytes(folder: Path, key: str) -> bytes:
    """The file kept under a key, or none."""
    return _value(folder, key) or b""


def _value(folder: Path, key: str) -> bytes | None:
    try:
        with _environment(folder).begin() as transaction:
            value = transaction.get(key.encode())
    except _lmdb().Error as error:
        raise BadInput(folder / DATA_FILE, str(error), "an LMDB store", "write it again") from None
    return None if value is None else bytes(value)


@lru_cache(maxsize=8)  # LMDB refuses to open one store twice in a process
def _environment(folder: Path) -> "lmdb.Environment":
    environment: lmdb.Environment = _lmdb().open(str(folder), readonly=True, lock=False, readahead=False)
    # A store cut short, as by a broken download, would kill the process: LMDB trusts its file.
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    found = (folder / DATA_FILE).stat().st_size
    if found < needed:
        environment.close()
        raise BadInput(folder / DATA_FILE, f"{found:,} bytes", f"{needed:,} at least", "copy the store again")
    return environment


def _lmdb() -> ModuleType:
    try:
        return importlib.import_module("lmdb")  # only here: machines that train do without
    except ImportError:
        raise OutsideSystem("lmdb", "not installed", "the package that reads LMDB", "`pip install lmdb`") from None
