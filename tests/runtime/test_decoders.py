import asyncio
import io
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from pathlib import Path

import docx
import numpy as np
import psutil
import pypdfium2
import pytest
from PIL import Image

from ocr_ops.core.errors import UnreadableDocument
from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Line, Page, Reading, Word
from ocr_ops.runtime.decoder import Warden
from ocr_ops.runtime.decoders import Decoders
from ocr_ops.runtime.documents import LIMITS, Limits, Sheet, sheets
from ocr_ops.runtime.outputs.pdf import searchable_pdf
from ocr_ops.runtime.sheet import Caps
from tests.fuzz.corpus import seeds

ALL = ReadOptions()
MOST_PAGES = (
    ",".join(map(str, range(1, 129, 2))),
    ",".join(["1-12", *map(str, [*range(14, 94, 2), *range(100, 138, 2)])]),
)
"""Pages asked for in as many characters as there may be."""


def reading(pages: int = 1, text: str = "found") -> Reading:
    polygon = ((10.0, 10.0), (60.0, 10.0), (60.0, 30.0), (10.0, 30.0))
    line = Line(text=text, confidence=1, polygon=polygon, words=(Word(text=text, confidence=1, polygon=polygon),))
    return Reading(pages=tuple(Page(width=100, height=100, lines=(line,)) for _ in range(pages)))


def unnamed(pdf: bytes) -> bytes:
    """Without the identifiers that PDFium makes up each time."""
    return re.sub(rb"/ID *\[.*?\]", b"", pdf, flags=re.DOTALL)


def test_a_searchable_pdf_is_made_there_as_here(shared: Decoders) -> None:
    """Of each kind of document, on an event loop and without one; a broken one is refused by its own name."""
    for name, data in seeds().items():
        count = len(list(sheets(data, name, ReadOptions(text_layer="ignore"))))
        read = reading(count)
        made = unnamed(searchable_pdf(read, name, data, ALL))
        assert unnamed(shared.searchable_pdf_here(read, data, name, ALL)) == made, name
        assert unnamed(asyncio.run(shared.searchable_pdf(read, data, name, ALL))) == made, name
    for data in (b"%PDF-1.7 nothing", b"text"):
        with pytest.raises(UnreadableDocument, match=r"^broken\.pdf: "):
            shared.searchable_pdf_here(reading(), data, "broken.pdf", ALL)
    assert soon(lambda: not children(shared))


def test_a_searchable_pdf_that_takes_too_much_is_given_up() -> None:
    """Of memory, of CPU, or of time; and one that leaves early ends it."""
    page = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4000, 4000, 3), np.uint8))
    data = io.BytesIO()
    page.save(data, "BMP")
    for caps in (Caps(memory_bytes=120 * 2**20), Caps(document_cpu_seconds=1), Caps(document_seconds=0.05)):
        decoders = Decoders(caps)
        try:
            with pytest.raises(UnreadableDocument) as refused:
                decoders.searchable_pdf_here(reading(), data.getvalue(), "a.bmp", ALL, Limits(max_bytes=2**26))
            assert refused.value.http_status == 413
            assert soon(lambda: not children(decoders))  # noqa: B023  asked at once
        finally:
            decoders.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[Decoders]:
    """One for the tests that do not harm its warden."""
    made = Decoders()
    yield made
    made.close()


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    made = Decoders(Caps(page_cpu_seconds=1, page_seconds=60))
    yield made
    made.close()


def tiff(pages: int = 4, side: int = 50) -> bytes:
    data = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (pages, side, side, 3), np.uint8)
    pictures = [Image.fromarray(pixels) for pixels in noise]
    pictures[0].save(data, "TIFF", save_all=True, append_images=pictures[1:])
    return data.getvalue()


def laughing_pdf(depth: int = 9) -> bytes:
    """A page that draws a form ten times, which draws another ten times, and so on."""
    document, data = pypdfium2.PdfDocument.new(), io.BytesIO()
    document.new_page(100, 100)
    document.save(data)
    document.close()
    objects = ["<</Type/Catalog/Pages 2 0 R>>", "<</Type/Pages/Kids[3 0 R]/Count 1>>"]
    page = "<</Type/Page/Parent 2 0 R/MediaBox[0 0 100 100]/Contents 4 0 R/Resources<</XObject<</X 5 0 R>>>>>>"
    objects += [page, "<</Length 5>>\nstream\n/X Do\nendstream"]
    for level in range(depth):
        content = "/X Do " * 10 if level < depth - 1 else "0 0 9 9 re f " * 10
        form = f"<</Type/XObject/Subtype/Form/BBox[0 0 100 100]/Resources<</XObject<</X {6 + level} 0 R>>>>"
        objects.append(f"{form}/Length {len(content)}>>\nstream\n{content}\nendstream")
    body = "".join(f"{number} 0 obj\n{content}\nendobj\n" for number, content in enumerate(objects, 1))
    return f"%PDF-1.4\n{body}trailer<</Root 1 0 R>>\n%%EOF\n".encode("ascii")


def children(decoders: Decoders) -> list[int]:
    """The processes that are opening documents."""
    assert decoders._warden is not None
    pid = decoders._warden.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def files(pid: int | str = "self") -> list[str]:
    """What a process has open."""
    names = []
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # that of this listing itself, or one just closed
            names.append(str(file.readlink()))
    return names


def soon(true: Callable[[], bool]) -> bool:
    until = time.monotonic() + 20
    while not (found := true()) and time.monotonic() < until:
        time.sleep(0.01)
    return found


async def collected(decoders: Decoders, data: bytes, limits: Limits = LIMITS) -> list[Sheet]:
    return [sheet async for sheet in decoders.sheets(data, "name.ext", ALL, limits)]


def error(decoders: Decoders, data: bytes, limits: Limits = LIMITS) -> UnreadableDocument:
    with pytest.raises(UnreadableDocument) as caught:
        asyncio.run(collected(decoders, data, limits))
    assert caught.value.subject == "name.ext"
    return caught.value


def test_sheets_are_the_same_as_without_a_process(shared: Decoders) -> None:
    """With an event loop and without."""
    data = tiff()
    plain = list(sheets(data, "a.tif"))
    for found in (asyncio.run(collected(shared, data)), list(shared.each_sheet(data, "a.tif", ALL))):
        assert [(sheet.number, sheet.count) for sheet in found] == [(sheet.number, sheet.count) for sheet in plain]
        for sheet, other in zip(found, plain, strict=True):
            assert sheet.image is not None
            assert np.array_equal(sheet.image, other.image)
            sheet.image[0, 0] = 7  # whoever gets it may draw on it


def test_pages_come_in_grey_for_models_that_read_no_colours(shared: Decoders) -> None:
    async def grey() -> list[Sheet]:
        return [sheet async for sheet in shared.sheets(tiff(), "a.tif", ALL, grey=True)]

    for sheet, other in zip(asyncio.run(grey()), sheets(tiff(), "a.tif", grey=True), strict=True):
        assert sheet.image is not None
        assert sheet.image.ndim == 2
        assert other.image is not None
        assert np.array_equal(sheet.image, other.image)


def test_errors_are_the_same_as_without_a_process(shared: Decoders) -> None:
    for data in (b"", b"hello", b"\x89PNG\r\n\x1a\n", b"%PDF-1.7\n", bytes(100)):
        with pytest.raises(UnreadableDocument) as plain:
            list(sheets(data, "name.ext", limits=Limits(max_bytes=50)))
        found = error(shared, data, Limits(max_bytes=50))
        assert (str(found), found.http_status) == (str(plain.value), plain.value.http_status)


def test_many_documents_at_once_leave_nothing_behind(shared: Decoders) -> None:
    """No process, no file."""
    data = tiff(3)

    async def all_of_them(count: int) -> list[list[Sheet]]:
        return await asyncio.gather(*(collected(shared, data) for _ in range(count)))

    asyncio.run(all_of_them(1))
    before = len(files())
    assert [len(found) for found in asyncio.run(all_of_them(40))] == [3] * 40
    assert soon(lambda: not children(shared))
    assert len(files()) <= before
    warden = shared._warden
    assert warden is not None
    assert soon(lambda: not [name for name in files(warden.process.pid) if "memfd" in name])
    assert len(files(warden.process.pid)) < 12


def scan(shade: int = 0) -> bytes:
    data = io.BytesIO()
    Image.new("L", (40, 40), shade).save(data, "PNG")
    return data.getvalue()


def opened_by(decoders: Decoders, data: bytes, limits: Limits = LIMITS) -> list[int]:
    """The processes there are once a document was opened, which must have one page at least."""
    assert asyncio.run(collected(decoders, data, limits))
    return children(decoders)


def test_scans_follow_each_other_in_a_process(decoders: Decoders) -> None:
    """Up to a number; each is given its own pixels."""
    decoders.caps = Caps(documents=3)
    first = opened_by(decoders, scan(0))
    for shade in (100, 200):
        [sheet] = asyncio.run(collected(decoders, scan(shade)))
        assert sheet.image is not None
        assert np.all(sheet.image == shade)
    assert soon(lambda: not children(decoders))
    assert opened_by(decoders, scan()) != first


def test_scans_of_jobs_and_others_follow_each_other(decoders: Decoders) -> None:
    """They have one page each, however many a job's document may have."""
    assert opened_by(decoders, scan()) == opened_by(decoders, scan(), Limits(max_pages=1000))


def test_what_has_many_parts_has_a_process_to_itself(decoders: Decoders) -> None:
    [idle] = opened_by(decoders, scan())
    asyncio.run(collected(decoders, tiff()))
    assert soon(lambda: children(decoders) == [idle])


def test_a_process_of_other_limits_is_not_used(decoders: Decoders) -> None:
    [idle] = opened_by(decoders, scan())
    assert idle in opened_by(decoders, scan(), Limits(max_pages=2))
    assert len(opened_by(decoders, scan(), Limits(max_pixels=2000))) == 2


def test_a_scan_that_cannot_be_read_ends_its_process(decoders: Decoders) -> None:
    [idle] = opened_by(decoders, scan())
    assert error(decoders, scan()[:20]).http_status == 422
    assert soon(lambda: not children(decoders))
    assert opened_by(decoders, scan()) != [idle]


@pytest.mark.parametrize("victim", ["child", "warden"])
def test_a_scan_outlives_the_process_it_would_have_had(decoders: Decoders, victim: str) -> None:
    [idle] = opened_by(decoders, scan())
    assert decoders._warden is not None
    os.kill(idle if victim == "child" else decoders._warden.process.pid, signal.SIGKILL)
    assert len(asyncio.run(collected(decoders, scan()))) == 1


def test_no_scan_pays_for_those_before_it(decoders: Decoders) -> None:
    """The CPU that a document may take is its own."""
    decoders.caps = Caps(page_cpu_seconds=1, document_cpu_seconds=1)
    data = io.BytesIO()
    Image.effect_noise((3000, 3000), 90).save(data, "PNG")
    [idle] = opened_by(decoders, data.getvalue())
    while psutil.Process(idle).cpu_times().user < 2.2:
        assert opened_by(decoders, data.getvalue()) == [idle]


def test_a_long_word_document_may_take_longer(decoders: Decoders) -> None:
    """It is set as a whole, before its first page is given."""
    document, data = docx.Document(), io.BytesIO()
    document.add_paragraph("word " * 80_000)
    document.save(data)
    found = list(decoders.each_sheet(data.getvalue(), "a.docx", ALL, Limits(max_pages=1000)))
    assert len(found) > 100
    assert sum(len(line.words) for sheet in found if sheet.text for line in sheet.text.lines) == 80_000


def test_a_document_of_many_pages_may_take_longer(decoders: Decoders) -> None:
    """What is enough for fifty is not for a thousand."""
    decoders.caps = Caps(document_cpu_seconds=1)
    data = io.BytesIO()
    with pypdfium2.PdfDocument(laughing_pdf(5)) as page, pypdfium2.PdfDocument.new() as many:
        many.import_pages(page, [0] * 500)
        many.save(data)
    for _ in decoders.each_sheet(data.getvalue(), "a.pdf", ALL, Limits(max_pages=1000)):
        [child] = children(decoders)
        if psutil.Process(child).cpu_times().user > 2.2:
            break
    else:
        pytest.fail("too few pages to take more than a document of fifty may")


def test_leaving_ends_the_process(shared: Decoders) -> None:
    """Also while it is at work."""

    async def leave() -> None:
        async with aclosing(shared.sheets(tiff(), "a.tif", ALL)) as pages:
            async for _ in pages:
                assert children(shared)
                break

    async def lose_patience() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await collected(shared, laughing_pdf())

    for work in (leave, lose_patience):
        asyncio.run(work())
        assert soon(lambda: not children(shared))


@pytest.mark.parametrize("victim", ["child", "warden"])
def test_kill_nine_loses_no_page(decoders: Decoders, victim: str) -> None:
    """Nor gives any twice: another process goes on where the killed one was."""

    async def read() -> list[int]:
        numbers = []
        async for sheet in decoders.sheets(tiff(6), "a.tif", ReadOptions(pages="2-4,6")):
            assert sheet.count == 4
            numbers.append(sheet.number)
            if sheet.number == 3:
                assert decoders._warden is not None
                pid = children(decoders)[0] if victim == "child" else decoders._warden.process.pid
                os.kill(pid, signal.SIGKILL)
        return numbers

    assert asyncio.run(read()) == [2, 3, 4, 6]


@pytest.mark.parametrize("pages", MOST_PAGES)
def test_kill_nine_loses_no_page_however_many_are_asked_for(decoders: Decoders, pages: str) -> None:
    """What is left of them may take more room to tell than all of them took."""
    assert len(pages) == 200
    options = ReadOptions(pages=pages)

    async def read() -> list[int]:
        numbers = []
        async for sheet in decoders.sheets(tiff(14), "a.tif", options):
            numbers.append(sheet.number)
            if sheet.number == 9:
                os.kill(children(decoders)[0], signal.SIGKILL)
        return numbers

    assert asyncio.run(read()) == [number for number in range(1, 15) if options.wants(number)]


def test_a_page_that_eats_the_cpu_is_refused(decoders: Decoders) -> None:
    found = error(decoders, laughing_pdf())
    assert found.http_status == 413
    assert "too long" in found.found
    assert len(asyncio.run(collected(decoders, tiff()))) == 4


def test_a_page_that_hangs_is_refused(decoders: Decoders) -> None:
    """By the clock, when it uses no CPU either."""
    decoders.caps = Caps(page_seconds=0.5)

    async def read() -> None:
        async for _ in decoders.sheets(tiff(), "a.tif", ALL):
            os.kill(children(decoders)[0], signal.SIGSTOP)

    with pytest.raises(UnreadableDocument, match=r"over 0\.5 s"):
        asyncio.run(read())
    assert soon(lambda: not children(decoders))


def test_a_page_that_eats_the_memory_is_refused(decoders: Decoders) -> None:
    decoders.caps = Caps(memory_bytes=40 * 2**20)
    data = io.BytesIO()
    Image.new("RGB", (7000, 7000)).save(data, "PNG")
    assert error(decoders, data.getvalue()).http_status == 413


@pytest.mark.parametrize("waited", [True, False])
def test_a_document_that_fells_its_decoder_is_refused(decoders: Decoders, *, waited: bool) -> None:
    """Whether it is gone before its next page is asked for, or while."""

    async def read() -> None:
        async for _ in decoders.sheets(tiff(), "a.tif", ALL):
            os.kill(children(decoders)[0], signal.SIGSEGV)
            if waited:
                assert soon(lambda: not children(decoders))

    with pytest.raises(UnreadableDocument, match="SIGSEGV"):
        asyncio.run(read())


def test_a_decoder_has_no_secrets_and_few_rights(decoders: Decoders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_OPS_REDIS_URL", "redis://:secret@localhost")
    pages = decoders.each_sheet(tiff(), "a.tif", ALL)
    next(pages)
    (child,) = children(decoders)
    assert b"secret" not in Path(f"/proc/{child}/environ").read_bytes()
    status = Path(f"/proc/{child}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    limits = Path(f"/proc/{child}/limits").read_text()
    assert all("unlimited" not in line for line in limits.splitlines() if line.startswith(("Max address", "Max cpu")))
    assert soon(lambda: sorted(name.partition(":")[0] for name in files(child)) == ["/dev/null"] * 3 + ["socket"])
    if os.geteuid() == 0:
        assert Path(f"/proc/{child}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    pages.close()


def test_a_warden_that_is_being_started_holds_no_document_up(
    decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaving one happens on the event loop."""
    starting, go, started = threading.Event(), threading.Event(), Warden.started

    def slow() -> Warden:
        starting.set()
        assert go.wait(60)
        return started()

    pages = decoders.each_sheet(tiff(), "a.tif", ALL)
    next(pages)
    assert decoders._warden is not None
    decoders._warden.process.kill()
    decoders._warden.process.wait()
    monkeypatch.setattr(Warden, "started", staticmethod(slow))
    with ThreadPoolExecutor(2) as pool:
        warden = pool.submit(decoders.start)
        assert starting.wait(60)
        try:
            pool.submit(pages.close).result(20)  # type: ignore[attr-defined]
            assert not warden.done()
        finally:
            go.set()
        warden.result(60)
