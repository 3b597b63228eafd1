"""The commands that look: read and doctor."""

import errno
import json
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, InvalidStateError, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, get_args

import click
from pydantic import ValidationError

from ocr_ops.cli.options import POSITIVE, cli, json_option, print_rows
from ocr_ops.cli.sources import SUFFIXES, Document, documents, targets
from ocr_ops.core.errors import (
    BadInput,
    ExitCode,
    NotAllowed,
    OcrOpsError,
    ServiceAway,
    UnreadableDocument,
    UnwritableLanguage,
    UsageError,
)
from ocr_ops.core.options import OutputFormat, ReadOptions
from ocr_ops.core.record import write_atomic
from ocr_ops.core.workspace import Workspace, legible, printable, shown

if TYPE_CHECKING:
    from ocr_ops.cli.readers import Reads

F = TypeVar("F", bound=Callable[..., Any])
OUTPUTS: tuple[OutputFormat, ...] = get_args(OutputFormat)
_IN_A_ROW = ("json", "text")
"""Outputs of several documents that can be printed one after the other and told apart, or need not be."""
_EXAMPLES = {"pages": "1-3,8", "language": "de or pt-BR"}
_REMOTE_JOBS = 4
_HOPELESS = (NotAllowed, ServiceAway, UnwritableLanguage, UsageError)
"""What is wrong with all documents if it is with one."""
_LEAVING = (KeyboardInterrupt, BrokenPipeError, *_HOPELESS)
"""What leaves nobody who waits for the documents that are being read."""
_THREADS, _IDLE_SECONDS = "ocr-ops read", 0.2
"""The name of threads that read, and what they take to end, at most, if they have nothing to read."""


def read_options(command: F) -> F:
    """An option of the command line for each of `ReadOptions`, in their words."""
    for name, field in reversed(ReadOptions.model_fields.items()):
        flag, text = "--" + name.replace("_", "-"), ReadOptions.told().get(name, "").replace("`", "")
        if field.annotation is bool:
            # Whether it was given at all is what tells a service to decide by itself.
            both = click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=f"{text} [{_word(field.default)}]")
            command = both(command)
        else:
            choices = [one for one in get_args(field.annotation) if isinstance(one, str)]
            kind = click.Choice(choices) if choices else click.STRING
            command = click.option(flag, name, type=kind, help=text)(command)
    return command


def _word(default: object) -> str:
    return "on" if default else "off"


@cli.command()
@click.argument("paths", nargs=-1, required=True)
@click.option(
    "--output", "--format", "-o", "output", type=click.Choice(OUTPUTS), default="text", show_default=True,
    help="What to make of each document.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="Folder for a file a document, or the file of one.")
@click.option("--url", help="Ask the service there; OCR_OPS_API_KEY holds the key, if it wants one.")
@click.option("--jobs", "-j", type=click.IntRange(1, 64), help="Documents at a time.  [one a core; 4 with --url]")
@click.option("--timeout", type=POSITIVE, default=300.0, show_default=True, help="Seconds a service has for each.")
@click.option("--progress/--no-progress", default=None, help="A bar on stderr.  [on a terminal]")
@read_options
def read(
    *,
    paths: tuple[str, ...],
    output: OutputFormat,
    out: Path | None,
    url: str | None,
    jobs: int | None,
    timeout: float,
    progress: bool | None,
    **options: Any,
) -> None:
    r"""Read documents with the champion, in this process, or by a service.

    PATHS are files, folders (all documents in and below them), globs, or - for stdin. A document that cannot be read
    gets its line on stderr, and the others are still read. JSON is one object a document, on one line.

    \b
    Example: ocr-ops read receipt.jpg invoice.pdf --output json
             ocr-ops read scans/ --output pdf --out searchable/
             ocr-ops read 'scans/**/*.tif' --url http://localhost:3000 --jobs 8
    """
    found = documents(paths)
    if not found:
        known = ", ".join(sorted(SUFFIXES))
        raise UnreadableDocument(", ".join(paths), "no document", f"files that end in {known}", "check the path")
    asked = _asked(options)
    several = len(found) > 1
    if out is None and several and output not in _IN_A_ROW:
        raise UsageError(f"--output {output}", f"{len(found)} documents", "--out FOLDER", "give it, or one document")
    if out is None and output == "pdf" and sys.stdout.isatty():
        raise UsageError("--output pdf", "a terminal", "--out, or a pipe", "give it")
    from ocr_ops.runtime.outputs import FORMS

    places = [None] * len(found) if out is None else targets(found, out, FORMS[output].suffix)
    at_once = min(jobs or (_REMOTE_JOBS if url else _cores()), len(found))
    with _reader(url, asked, timeout, at_once) as reader, _Bar(len(found), wanted=progress) as bar:
        code = _Work(reader, asked, output, bar).done(found, places, at_once)
    if code is not ExitCode.PASS:
        raise SystemExit(code)


def _asked(options: dict[str, Any]) -> ReadOptions:
    try:
        return ReadOptions.model_validate({name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        expected = f"such as {_EXAMPLES[name]}" if name in _EXAMPLES else first["msg"]
        flag = f"--{name.replace('_', '-')}"
        raise UsageError(flag, repr(first["input"]), expected, "see `ocr-ops read --help`") from None


def _cores() -> int:
    from ocr_ops.runtime.cpu import thread_count

    return thread_count()


@contextmanager
def _reader(url: str | None, options: ReadOptions, timeout: float, jobs: int) -> Iterator["Reads"]:
    from ocr_ops.cli.readers import Here, There

    reader: Reads
    with ExitStack() as held:
        if url is None:
            reader = held.enter_context(closing(Here(options, max(1, _cores() // jobs))))
        else:
            from ocr_ops.client import Client

            reader = There(held.enter_context(Client(url, timeout=timeout)))
        try:
            yield reader
        except _LEAVING:
            if still_reads():
                held.pop_all()  # it ends with the process; documents still being read would only start it anew
            raise


def still_reads() -> bool:
    """Whether documents are being read that are not waited for."""
    for thread in threading.enumerate():
        if thread.name.startswith(_THREADS):
            thread.join(_IDLE_SECONDS)
            if thread.is_alive():
                return True
    return False


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be done with each document."""

    reader: "Reads"
    options: ReadOptions
    output: OutputFormat
    bar: "_Bar"

    def done(self, found: Sequence[Document], places: Sequence[Path | None], jobs: int) -> ExitCode:
        """Reads them all, `jobs` at a time, and hands each on in its turn; the code is the first failure's. What is
        wrong with all of them is raised at once, whosever turn it is.
        """
        code, hopeless = ExitCode.PASS, Future[bytes]()
        pool, patient = ThreadPoolExecutor(jobs, _THREADS), True
        try:
            for document, place, coming in zip(found, places, self._ahead(pool, found, jobs, hopeless), strict=True):
                wait((coming, hopeless), return_when=FIRST_COMPLETED)
                if not coming.done():
                    hopeless.result()
                failed = self._turn(document, place, coming)
                code = code or failed
        except _LEAVING:
            patient = False
            raise
        finally:
            pool.shutdown(wait=patient, cancel_futures=True)
        return code

    def _ahead(
        self, pool: ThreadPoolExecutor, found: Sequence[Document], jobs: int, hopeless: "Future[bytes]"
    ) -> Iterator[Future[bytes]]:
        """What each comes to, in order. Twice as many as are read at a time are begun, so that none waits for a slow
        one, and what is read and not yet handed on does not fill the memory.
        """
        begun: deque[Future[bytes]] = deque()
        for document in found:
            begun.append(pool.submit(self._read, document, hopeless))
            if len(begun) >= 2 * jobs:
                yield begun.popleft()
        yield from begun

    def _read(self, document: Document, hopeless: "Future[bytes]") -> bytes:
        try:
            return self.reader.read(document, self.options, self.output, self.bar.page)
        except _HOPELESS as error:
            with suppress(InvalidStateError):  # another was there before
                hopeless.set_exception(error)
            raise

    def _turn(self, document: Document, place: Path | None, coming: Future[bytes]) -> ExitCode:
        try:
            _hand_on(coming.result(), document, place, self.output)
        except _HOPELESS:
            raise
        except OcrOpsError as error:
            told, path = printable(str(error)), printable(document.path)
            self.bar.say(f"ocr-ops: {told if told.startswith(path) else f'{path}: {told}'}")
            return error.exit_code
        else:
            return ExitCode.PASS
        finally:
            self.bar.document()


def _hand_on(data: bytes, document: Document, place: Path | None, output: OutputFormat) -> None:
    if place is not None:
        _write(data, place)
        click.echo(shown(place))
    elif output == "json":
        line = {"path": legible(document.path), **json.loads(data)}
        click.echo(json.dumps(line, ensure_ascii=False, separators=(",", ":")))
    else:
        click.echo(data, nl=False)


def _write(data: bytes, place: Path) -> None:
    """`UsageError` for a place that cannot be written, like which all would be; `BadInput` for too long a name."""
    try:
        write_atomic(place, data)
    except OSError as error:
        # "File exists" is said of what should be a folder.
        found = "not a directory" if isinstance(error, FileExistsError) else (error.strerror or str(error)).lower()
        if error.errno == errno.ENAMETOOLONG:
            remedy = "rename the document, or read it by itself"
            raise BadInput(shown(place), found, "a name the disk takes", remedy) from None
        remedy = "choose another --out, or make room"
        raise UsageError(shown(place), found, "a place that can be written", remedy) from None


class _Bar:
    """Progress on stderr: in documents, or in pages of the only one. May be told by several threads."""

    def __init__(self, count: int, *, wanted: bool | None) -> None:
        from tqdm import tqdm

        shown = sys.stderr.isatty() if wanted is None else wanted
        self.single = count == 1
        self.bar = tqdm(
            total=None if self.single else count,
            unit="page" if self.single else "document",
            file=sys.stderr,
            disable=not shown,
            leave=False,
        )
        self.pages = 0
        self.lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def page(self, done: int, count: int | None) -> None:
        with self.lock:
            self.pages += 1
        if self.single:
            self.bar.total = count
            self.bar.update(done - self.bar.n)
        else:
            self.bar.set_postfix_str(f"{self.pages} pages")

    def document(self) -> None:
        if not self.single:
            self.bar.update()

    def say(self, line: str) -> None:
        self.bar.clear()
        click.echo(line, err=True)
        self.bar.refresh()


@cli.command()
@json_option
def doctor(*, as_json: bool) -> None:
    r"""Say what of the machine, the packages and the workspace is in order, and what to do about the rest.

    \b
    Example: ocr-ops doctor
    """
    from ocr_ops.doctor import examine

    findings = examine(Workspace.current())
    print_rows(
        [{"check": f.name, "state": f.state, "found": f.found, "remedy": f.remedy} for f in findings], as_json=as_json
    )
    if any(f.state == "missing" for f in findings):
        raise SystemExit(ExitCode.OUTSIDE)
