"""Documents as a command line names them, files, folders, globs and stdin, and where what was read of each goes."""

import glob
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from ocr_ops.core.errors import UnreadableDocument, UsageError

STDIN = "-"
SUFFIXES = frozenset({".bmp", ".docx", ".gif", ".jpeg", ".jpg", ".pdf", ".png", ".tif", ".tiff", ".webp"})
"""What is taken of a folder; a file named by itself may be called anything."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document that has not been opened yet."""

    path: str
    """As it was named, or found."""
    below: Path
    """Its name and, if it was found in a folder or by a glob, the folders between."""

    def read(self, most: int) -> bytes:
        """Its bytes; `UnreadableDocument` for what is no readable file, or more than `most` bytes."""
        if self.path == STDIN:
            data = sys.stdin.buffer.read(most + 1)
            if len(data) > most:
                raise self._too_large("more", most)
            return data
        try:
            size = Path(self.path).stat().st_size
            if size > most:
                raise self._too_large(f"{size:,} bytes", most)
            return Path(self.path).read_bytes()
        except OSError as error:
            found = (error.strerror or str(error)).lower()
            raise UnreadableDocument(self.path, found, "a readable document", "check the path") from None

    def _too_large(self, found: str, most: int) -> UnreadableDocument:
        return UnreadableDocument(self.path, found, f"at most {most:,} bytes", "split it, or save it smaller", 413)


def documents(arguments: Sequence[str]) -> list[Document]:
    """What the arguments name, in their order; files of a folder or a glob by name.

    A path that is there is itself, whatever characters it has. One that is not stays, to be told of in its turn.
    """
    return [document for argument in arguments for document in _named(argument)]


def _named(argument: str) -> Iterator[Document]:
    path = Path(argument)
    # Unlike the methods of a path, `os.path` says no where it cannot tell: too long a name, a folder that is locked.
    if argument == STDIN:
        yield Document(STDIN, Path("stdin"))
    elif os.path.isdir(path):  # noqa: PTH112
        yield from _in_folder(path)
    elif not os.path.exists(path) and glob.has_magic(argument) and (matches := _matches(argument)):  # noqa: PTH110
        yield from matches
    else:
        yield Document(argument, Path(path.name))


def _matches(pattern: str) -> list[Document]:
    """What a glob finds, each once, though `**` finds a folder and what is in it."""
    fixed = Path(*takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts))
    found: dict[Path, Document] = {}
    for match in sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207  Path.glob takes no absolute pattern
        for one in _in_folder(Path(match)) if Path(match).is_dir() else [Document(match, Path(match))]:
            below = Path(os.path.relpath(one.path, fixed))
            # A pattern may lead back out of what it found: such a document goes by its name.
            below = Path(below.name) if ".." in below.parts else below
            found.setdefault(Path(one.path), Document(one.path, below))
    return list(found.values())


def _in_folder(folder: Path) -> Iterator[Document]:
    """Documents of a folder and all below it. What begins with a dot is left alone."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                path = Path(place) / name
                yield Document(str(path), path.relative_to(folder))


def targets(found: Sequence[Document], out: Path, suffix: str) -> list[Path]:
    """Where each document's output goes: into the folder `out`, or to the file `out`, if there is but one document.

    Documents that differ in their suffix alone keep it: `a.png.txt` beside `a.jpg.txt`. `UsageError` when an output
    would take the place of a document, by whichever path it is reached.
    """
    if len(found) == 1 and not os.path.isdir(out) and out.suffix:  # noqa: PTH112  as in `_named`
        paths = [out]
    else:
        short = [document.below.with_suffix(suffix) for document in found]
        often = Counter(short)
        long = [document.below.with_name(document.below.name + suffix) for document in found]
        paths = [out / (a if often[a] == 1 else b) for a, b in zip(short, long, strict=True)]
    real = [os.path.realpath(path) for path in paths]
    taken = {path for path, times in Counter(real).items() if times > 1}
    taken |= {os.path.realpath(document.path) for document in found}
    if clash := next((path for path, place in zip(paths, real, strict=True) if place in taken), None):
        raise UsageError(clash, "a document, or two outputs", "a place of its own for each", "choose another --out")
    return paths
