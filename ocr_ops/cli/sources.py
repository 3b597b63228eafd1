"""Documents as a command line names them, files, folders, globs and stdin, and where what was read of each goes."""

import glob
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
    """Its name and, if it was found in a folder, the folders between."""

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
    if argument == STDIN:
        yield Document(STDIN, Path("stdin"))
    elif path.is_dir():
        yield from _in_folder(path)
    elif not path.exists() and glob.has_magic(argument):
        matches = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207  Path.glob takes no absolute pattern
        for match in matches:
            yield from _in_folder(Path(match)) if Path(match).is_dir() else [Document(match, Path(Path(match).name))]
        if not matches:
            yield Document(argument, Path(path.name))
    else:
        yield Document(argument, Path(path.name))


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
    would take the place of a document.
    """
    if len(found) == 1 and not out.is_dir() and out.suffix:
        paths = [out]
    else:
        short = [document.below.with_suffix(suffix) for document in found]
        often = Counter(short)
        long = [document.below.with_name(document.below.name + suffix) for document in found]
        paths = [out / (a if often[a] == 1 else b) for a, b in zip(short, long, strict=True)]
    taken = {path.absolute() for path, times in Counter(paths).items() if times > 1}
    taken |= {Path(document.path).absolute() for document in found}
    if clash := next((path for path in paths if path.absolute() in taken), None):
        raise UsageError(clash, "a document, or two outputs", "a place of its own for each", "choose another --out")
    return paths
