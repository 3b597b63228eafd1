"""The Python client against the real service: what it reads there is what is read here."""

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from ocr_ops.cli import main
from ocr_ops.client import AsyncClient, Client, Document, ReadOptions
from ocr_ops.core.errors import Refused, UnreadableDocument
from ocr_ops.core.release import Release
from ocr_ops.core.workspace import Workspace
from ocr_ops.release.server import Server
from ocr_ops.runtime.outputs import FORMS, render
from ocr_ops.runtime.pipeline import Reader
from tests.tiny import draw

TEXTS = ("abc cab", "cc", "ba")


def tiff() -> bytes:
    """Three pages."""
    buffer = io.BytesIO()
    first, *others = (Image.fromarray(draw([text])) for text in TEXTS)
    first.save(buffer, "TIFF", save_all=True, append_images=others)
    return buffer.getvalue()


FILM = tiff()


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with Client(server.url, timeout=120) as client:
        yield client


def test_a_document_is_read_as_in_this_process(client: Client, served: tuple[Workspace, Release]) -> None:
    """Whole, with progress, and a page at a time."""
    expected = Reader(served[1], threads=1).read(FILM, "film.tif")
    assert expected.text == "\f".join(TEXTS)
    seen: list[tuple[int, int | None]] = []
    assert client.read(FILM) == expected
    assert client.read(FILM, progress=lambda *told: seen.append(told)) == expected
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert tuple(client.stream(FILM)) == expected.pages


def test_options_and_outputs_reach_the_service(client: Client) -> None:
    """Every output is what `render` makes of the reading, with and without progress."""
    document, options = Document("film.tif", FILM), ReadOptions(pages="2-3")
    reading = client.read(document, options)
    assert [page.text for page in reading.pages] == list(TEXTS[1:])
    for output in FORMS:
        made = render(reading, output, name=document.name, document=FILM, options=options).data
        found = client.read(document, options, output)
        expected = reading if output == "json" else made if output == "pdf" else made.decode()
        assert found == expected
        assert client.read(document, options, output, progress=lambda *_: None) == expected


def test_a_loop_may_be_left(client: Client) -> None:
    """After the first page."""
    for page in client.stream(FILM):
        assert page.text == TEXTS[0]
        break
    assert client.ready()


def test_a_batch_answers_each_for_itself(client: Client) -> None:
    """In order; the bad one is an error, in its place."""
    found = client.batch([FILM, b"hello, world", Document("b.tif", FILM)], output="text")
    assert [outcome.name for outcome in found] == ["document", "document", "b.tif"]
    assert found[0].content == found[2].content == "\f".join(f"{text}\n" for text in TEXTS)
    assert isinstance(found[1].error, UnreadableDocument)
    assert found[1].error.http_status == 415


def test_a_job_is_read_in_the_background(client: Client) -> None:
    """In the output it was submitted for; one that fails raises what reading at once would have; erased, it is gone."""
    seen: list[tuple[int, int | None]] = []
    job = client.submit(Document("film.tif", FILM), ReadOptions(pages="2-3"), "text")
    assert job.name == "film.tif"
    assert client.wait(job, progress=lambda *told: seen.append(told)) == "cc\n\fba\n"
    assert seen[-1] == (2, 2)
    assert client.job(job).state == "done"
    assert job.id in [one.id for one in client.jobs()]
    client.cancel(job)
    with pytest.raises(Refused, match="one of your jobs"):
        client.job(job)
    with pytest.raises(UnreadableDocument, match="unknown type"):
        client.wait(client.submit(b"hello, world"))


def test_refusals_are_errors_of_their_kind(client: Client, tmp_path: Path) -> None:
    """Unreadable, or not to be asked that way."""
    with pytest.raises(UnreadableDocument, match="unknown type"):
        client.read(b"hello, world")
    with pytest.raises(UnreadableDocument, match="pages 7"):
        client.read(FILM, ReadOptions(pages="7"))
    with pytest.raises(Refused, match="without a file name"):
        client.read(Document("", b"a"))
    with pytest.raises(UnreadableDocument, match="a readable file"):
        client.read(tmp_path / "none.png")


def test_a_service_tells_of_itself(client: Client, served: tuple[Workspace, Release]) -> None:
    """Its models and what it takes."""
    assert client.ready()
    assert client.models()["release"] == client.about()["release"] == served[1].digest
    assert {model["task"] for model in client.models()["models"]} == {"detection", "recognition"}


def test_many_calls_may_be_under_way(server: Server) -> None:
    """More than the service takes at once: those turned away come back, and all are answered."""

    async def asked() -> list[str]:
        async with AsyncClient(server.url, timeout=120) as client:
            readings = await asyncio.gather(*(client.read(FILM) for _ in range(16)))
            pages = [page async for page in client.stream(FILM)]
            assert [page.number for page in pages] == [1, 2, 3]
            return [reading.text for reading in readings]

    assert asyncio.run(asked()) == ["\f".join(TEXTS)] * 16


def test_the_command_line_reads_by_the_service(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As it reads here, but elsewhere: in order, each output, the bad one on stderr."""
    for name in ("a.tif", "c.tif"):
        (tmp_path / name).write_bytes(FILM)
    (tmp_path / "b.pdf").write_bytes(b"%PDF-1.7 nothing")
    with pytest.raises(SystemExit) as ended:
        main(["read", str(tmp_path), "--url", server.url, "--pages", "1,3", "--no-progress"])
    out, err = capfd.readouterr()
    assert ended.value.code == 4
    assert out == "abc cab\n\fba\n" * 2
    assert err.startswith(f"ocr-ops: {tmp_path / 'b.pdf'}: ")
    assert err.count("\n") == 1
    main(["read", str(tmp_path / "a.tif"), "--url", server.url, "-o", "pdf", "--out", str(tmp_path / "made" / "a.pdf")])
    assert (tmp_path / "made" / "a.pdf").read_bytes().startswith(b"%PDF")
