"""Readers: the champion in this process, or a service elsewhere. Both may be shared by threads."""

from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Protocol

from ocr_ops.cli.sources import Document
from ocr_ops.core.errors import OutsideSystem
from ocr_ops.core.languages import require_writable
from ocr_ops.core.options import OutputFormat, ReadOptions
from ocr_ops.core.reading import Page, Reading
from ocr_ops.core.release import Release
from ocr_ops.core.workspace import Workspace, legible
from ocr_ops.runtime.decoders import Decoders
from ocr_ops.runtime.documents import LIMITS
from ocr_ops.runtime.outputs import render
from ocr_ops.runtime.pipeline import Reader

if TYPE_CHECKING:
    from ocr_ops.client import Client

Progress = Callable[[int, int | None], None]
"""Called with how many pages are read, and of how many, where that is known."""


class Reads(Protocol):
    """Reads a document into an output format; JSON without the path."""

    def read(self, document: Document, options: ReadOptions, output: OutputFormat, progress: Progress) -> bytes: ...


class Here:
    """The champion, in this process; documents are opened in others, for in a folder may be anything."""

    def __init__(self, options: ReadOptions, threads: int | None) -> None:
        """`threads` are those of each model. `UnwritableLanguage` for a language that the champion cannot write."""
        release = Release.open(Workspace.current().champion)
        if options.language is not None:
            require_writable(options.language, release.recognition.manifest.charset)
        self.decoders = Decoders()
        Thread(target=self._start, daemon=True).start()  # while the models are loaded
        self.reader = Reader(release, threads)

    def _start(self) -> None:
        with suppress(OutsideSystem):  # the first document says so
            self.decoders.start()

    def close(self) -> None:
        self.decoders.close()

    def read(self, document: Document, options: ReadOptions, output: OutputFormat, progress: Progress) -> bytes:
        data = document.read(LIMITS.max_bytes)
        pages: list[Page] = []
        for sheet in self.decoders.each_sheet(data, document.path, options):
            pages.append(self.reader.read_sheet(sheet, options))
            progress(len(pages), sheet.count)
        reading = Reading(pages=tuple(pages), language=options.language)
        if output == "pdf":
            return self.decoders.searchable_pdf_here(reading, data, document.path, options)
        return render(reading, output, name=legible(document.below.name), document=b"", options=options).data


class There:
    """A service."""

    def __init__(self, client: "Client") -> None:
        self.client = client

    def read(self, document: Document, options: ReadOptions, output: OutputFormat, progress: Progress) -> bytes:
        from ocr_ops.client import Document as Sent

        sent = Sent(document.below.name, document.read(LIMITS.max_bytes))
        found = self.client.read(sent, options, output, progress=progress)
        if isinstance(found, Reading):
            return found.model_dump_json().encode()
        return found if isinstance(found, bytes) else found.encode()
