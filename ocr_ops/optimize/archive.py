"""Archives that models are published in, taken apart without trusting a word of them.

Only plain files come out, under names that stay inside; how many and how large is settled before each is written.
"""

import gzip
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ocr_ops.core.errors import BadInput

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
MAX_MEMBERS = 1000
MAX_BYTES = 2 << 30
"""Of an archive, and of all that comes out of one."""
MAX_RATIO = 200
"""How many times its own size an archive may unpack to. Weights hardly shrink; what does is zeros."""
FREE = 16 << 20
"""Bytes that may come out of any archive, however small."""
CHUNK = 1 << 20
MAX_DIRECTORY = 1 << 20
"""Bytes of a zip's table of contents."""

_REMEDY = "unpack it yourself, look at it, and name the ONNX file"
_ERRORS = (
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,  # a member that is encrypted; headers within headers without end
    ValueError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    size: int
    oddity: str
    """What it is instead of a plain file; empty for one."""
    handle: Any


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def model_in(archive: Path, folder: Path) -> Path:
    """Unpacks an archive into a folder, and finds the one ONNX file in it.

    `BadInput` for what is no such archive, or holds a link, a device, a name that leads outside, more than
    `MAX_MEMBERS` members or `MAX_BYTES`, what unpacks to more than `MAX_RATIO` times its size, and not one ONNX file.
    """
    if not archive.is_file():
        raise BadInput(archive, "no such file", "an archive with an ONNX model", "check the path")
    size = archive.stat().st_size
    if size > MAX_BYTES:
        raise _too_large(archive, size)
    try:
        _unpack(archive, folder, max(FREE, MAX_RATIO * size))
    except _ERRORS as error:
        found = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise BadInput(archive, f"does not unpack: {found}", "a sound archive", "fetch it again") from None
    models = sorted(folder.rglob("*.onnx"))
    if len(models) == 1:
        return models[0]
    if models:
        names = ", ".join(str(path.relative_to(folder)) for path in models[:4])
        raise BadInput(archive, f"{len(models)} ONNX files: {names}", "one", "unpack it and name one of them")
    if any(folder.rglob("*.pdiparams")):
        remedy = "convert it with paddle2onnx; see docs/import.md"
        raise BadInput(archive, "a PaddlePaddle model", "an ONNX file", remedy)
    raise BadInput(archive, "no ONNX file in it", "one", "fetch the model's ONNX export")


def _unpack(archive: Path, folder: Path, most: int) -> None:
    names: set[str] = set()
    total = 0
    for member in (_zipped if archive.name.lower().endswith(".zip") else _tarred)(archive):
        place = _place(member.name, archive)
        if member.oddity:
            raise _refused(archive, f"{member.oddity} {member.name[:80]!r}", "plain files")
        if len(names) >= MAX_MEMBERS:
            raise _refused(archive, f"more than {MAX_MEMBERS:,} files", "a model's few")
        if (key := str(place).casefold()) in names:
            raise _refused(archive, f"{member.name[:80]!r} twice", "each name once")
        names.add(key)
        total += member.size
        if total > MAX_BYTES:
            raise _too_large(archive, total)
        if total > most:
            found = f"unpacks to {total / 1e6:,.0f} MB, {MAX_RATIO} times its size or more"
            raise _refused(archive, found, "a model, which hardly shrinks")
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            _copy(member, file)


def _copy(member: _Member, file: IO[bytes]) -> None:
    """Writes as many bytes as were announced. `EOFError` when there are fewer, `OverflowError` when there are more."""
    left = member.size
    while left and (chunk := member.handle.read(min(CHUNK, left))):
        file.write(chunk)
        left -= len(chunk)
    if left:
        msg = f"{member.name[:80]!r} ends early"
        raise EOFError(msg)
    if member.handle.read(1):
        msg = f"{member.name[:80]!r} is longer than it says"
        raise OverflowError(msg)


def _place(name: str, archive: Path) -> PurePosixPath:
    """Where a member goes, within the folder it is unpacked to."""
    place = PurePosixPath(name)
    drive = name[1:2] == ":"
    if place.is_absolute() or drive or ".." in place.parts or "\\" in name or not place.parts:
        raise _refused(archive, f"a member {name[:80]!r}, which leads outside", "names within it")
    if not name.isprintable() or any(len(part.encode()) > 255 for part in place.parts):
        raise _refused(archive, f"a member {name[:80]!r}", "names of files")
    return place


def _zipped(archive: Path) -> Iterator[_Member]:
    with archive.open("rb") as file:
        _check_directory(file, archive)
        with zipfile.ZipFile(file) as zipped:
            for entry in zipped.infolist():
                kind = stat.S_IFMT(entry.external_attr >> 16)
                oddity = ""
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    oddity = "a link" if kind == stat.S_IFLNK else "a device"
                elif entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    oddity = f"compression {entry.compress_type} of"  # LZMA may ask for gigabytes to begin with
                if oddity:
                    yield _Member(entry.filename, entry.file_size, oddity, None)
                elif entry.is_dir():
                    _place(entry.filename, archive)
                else:
                    with zipped.open(entry) as handle:
                        yield _Member(entry.filename, entry.file_size, "", handle)


def _check_directory(file: IO[bytes], archive: Path) -> None:
    """Refuses a long table of contents, which would be read as a whole: it ends with its own length."""
    size = file.seek(0, 2)
    file.seek(max(0, size - (1 << 16) - 42))
    tail = file.read()
    end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) < end + 22:
        raise _refused(archive, "no zip archive", "one")
    if b"PK\6\7" in tail[max(0, end - 20) : end] or int.from_bytes(tail[end + 12 : end + 16], "little") > MAX_DIRECTORY:
        raise _refused(archive, "a table of contents for very many files", "a model's few")
    file.seek(0)


def _tarred(archive: Path) -> Iterator[_Member]:
    packed = archive.name.lower().endswith("gz")
    with gzip.open(archive) if packed else archive.open("rb") as file, tarfile.open(fileobj=_Sips(file)) as tar:  # type: ignore[call-overload]
        for entry in tar:
            if entry.isdir():
                if entry.name.strip("./"):
                    _place(entry.name, archive)
                continue
            oddity = "" if entry.isreg() else "a link" if entry.issym() or entry.islnk() else "a device"
            if entry.issparse() or entry.size < 0:
                oddity = "a file with holes,"
            yield _Member(entry.name, entry.size, oddity, None if oddity else tar.extractfile(entry))


class _Sips:
    """A file read in small amounts: a tar's headers may announce gigabytes, and would be read at once."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= CHUNK:
            msg = f"a header of {size:,} bytes"
            raise ValueError(msg)
        return bytes(self._file.read(size))


def _refused(archive: Path, found: str, expected: str) -> BadInput:
    return BadInput(archive, found, expected, _REMEDY)


def _too_large(archive: Path, size: int) -> BadInput:
    return BadInput(archive, f"{size / 1e6:,.0f} MB", f"at most {MAX_BYTES / 1e6:,.0f} MB", "choose a smaller model")
