"""Documents made to harm, sent to the running service: each is read or refused within its limits, in one line."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from ocr_ops.core.reading import Reading
from ocr_ops.release.server import Server
from tests.fuzz.corpus import malformed, seeds
from tests.held import Held
from tests.hostile import (
    CIRCLES,
    huge_bmp,
    huge_gif,
    huge_jpeg,
    huge_tiff,
    linked_word,
    listening,
    many_pages,
    pdf_of,
    pdf_that_asks,
    png_bomb,
    stream_bomb,
    two_in_one,
    word_bomb,
)

SOUND = seeds()
REFUSED: dict[str, tuple[Callable[[], bytes], int]] = {
    "35,000 pixels a side, a PNG that unpacks to them": (png_bomb, 413),
    "35,000 pixels a side, JPEG": (huge_jpeg, 413),
    "35,000 pixels a side, BMP": (huge_bmp, 413),
    "35,000 pixels a side, GIF": (huge_gif, 413),
    "35,000 pixels a side, TIFF": (huge_tiff, 413),
    "10,000 pages": (lambda: many_pages(10_000), 413),
    "a picture of 130 MiB in a .docx": (word_bomb, 413),
    "XML of 60 MiB in a .docx": (lambda: word_bomb("word/more.xml", 60 * 2**20), 413),
}


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=120) as made:
        yield made


def send(client: httpx.Client, data: bytes, **form: str) -> httpx.Response:
    """The answer, which is a reading or a problem in one line, never a failure."""
    answer = client.post("/v1/ocr", files={"file": ("document", data)}, data=form)
    if answer.status_code == 200:
        Reading.model_validate_json(answer.content)
    else:
        assert answer.status_code in {413, 415, 422}, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert "\n" not in answer.json()["detail"]
    return answer


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_too_large_is_refused(client: httpx.Client, name: str) -> None:
    make, status = REFUSED[name]
    assert send(client, make()).status_code == status


def test_one_of_ten_thousand_pages_is_read(client: httpx.Client) -> None:
    assert len(send(client, many_pages(10_000), pages="9999").json()["pages"]) == 1


@pytest.mark.parametrize("name", CIRCLES)
def test_pdfs_that_turn_in_circles_come_to_an_end(client: httpx.Client, name: str) -> None:
    send(client, pdf_of(CIRCLES[name]))


@pytest.mark.slow
def test_a_gigabyte_of_drawing_holds_nobody_up(server: Server, client: httpx.Client) -> None:
    """It ends at its decoder's limit; others are read meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        bomb = pool.submit(send, client, stream_bomb())
        with httpx.Client(base_url=server.url, timeout=120) as other:
            while not bomb.done():
                assert send(other, SOUND["seed.png"]).status_code == 200
    assert bomb.result().status_code in {200, 413, 422}


@pytest.mark.parametrize("name", two_in_one())
def test_a_document_is_what_its_first_bytes_say(client: httpx.Client, name: str) -> None:
    read = Reading.model_validate_json(send(client, two_in_one()[name]).content)
    assert ("of two" in read.text) == name.startswith("pdf")


def test_nothing_is_ever_fetched(client: httpx.Client) -> None:
    with listening() as (address, questions):
        for make in (linked_word, pdf_that_asks):
            assert send(client, make(address)).status_code == 200
    assert not questions


@pytest.mark.parametrize("name", SOUND)
def test_documents_cut_short_are_read_or_refused(client: httpx.Client, name: str) -> None:
    data = SOUND[name]
    for part in (0.02, 0.3, 0.6, 0.9):
        send(client, data[: int(len(data) * part)])


@pytest.mark.shared_data
def test_malformed_and_locked_pdfs_are_refused(client: httpx.Client, shared_data: Path) -> None:
    for name, data in malformed(shared_data).items():
        assert send(client, data).status_code in {415, 422}, name


def test_after_all_of_them_the_service_is_as_before(server: Server, client: httpx.Client) -> None:
    """The bombs left no process, file or memory behind."""
    before = Held.by(server.pid)
    for make in (png_bomb, word_bomb, lambda: pdf_of(CIRCLES["form"])):
        send(client, make())
    end = time.monotonic() + 60
    while (after := Held.by(server.pid)).descriptors > before.descriptors:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert after.memory < before.memory + 64
    assert send(client, SOUND["seed.png"]).status_code == 200
