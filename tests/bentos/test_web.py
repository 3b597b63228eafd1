"""The page at `/`, as people use it: in a browser, with a mouse, a keyboard, or a phone."""

import io
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, Route, expect, sync_playwright

from ocr_ops.release.server import Server
from tests.tiny import draw

pytestmark = pytest.mark.browser

LINES = ["abc ab", "cab", "ba ac cc"]


def _picture(form: str = "PNG", pages: int = 1, lines: Sequence[str] = LINES) -> bytes:
    buffer = io.BytesIO()
    drawn = [Image.fromarray(draw(lines)) for _ in range(pages)]
    more = {"save_all": True, "append_images": drawn[1:], "resolution": 200} if form == "PDF" else {}
    drawn[0].save(buffer, form, **more)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or pytest.skip("no chromium")
    arguments = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """The page, opened; whatever it complains about fails the test."""
    context = browser.new_context(viewport={"width": 1200, "height": 800}, accept_downloads=True)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(server.url)
    yield opened
    context.close()
    # A refused document is told on the page; that its status is an error, the browser tells by itself.
    assert [text for text in complaints if "the server responded with a status of 4" not in text] == []


def _hand_in(page: Page, name: str, kind: str, data: bytes) -> None:
    _hand_in_all(page, (name, kind, data))


def _hand_in_all(page: Page, *files: tuple[str, str, bytes]) -> None:
    page.set_input_files("#file", [FilePayload(name=name, mimeType=kind, buffer=data) for name, kind, data in files])


def _held(page: Page, path: str, work: Callable[[], None]) -> Route:
    """The first request that `work` leads to, held back; those after it are not."""
    held: list[Route] = []
    page.route(path, lambda route: route.continue_() if held else held.append(route))
    with page.expect_request(path):
        work()
    while not held:
        page.wait_for_timeout(20)
    return held[0]


def _read(page: Page) -> list[str]:
    page.wait_for_selector("#exports:not([hidden])")
    return page.locator(".lines button").all_inner_texts()


def test_boxes_stand_over_the_picture(page: Page) -> None:
    """Where the ink is: the first line's box covers the first line."""
    _hand_in(page, "bars.png", "image/png", _picture())
    assert _read(page) == LINES
    sheet, box = page.locator(".sheet").bounding_box(), page.locator(".sheet polygon").first.bounding_box()
    assert sheet is not None
    assert box is not None
    scale = sheet["width"] / 640
    assert box["x"] - sheet["x"] == pytest.approx(32 * scale, abs=8)
    assert box["y"] - sheet["y"] == pytest.approx(32 * scale, abs=8)
    assert page.locator(".sheet img").evaluate("img => img.naturalWidth") == 640


@pytest.mark.parametrize("form", ["GIF", "WEBP"])
def test_of_films_and_turned_pictures_what_was_read_is_shown(page: Page, form: str) -> None:
    """Not a film that goes on under the boxes of its first picture, nor one that the browser leaves on its side."""
    drawn, exif, data = Image.fromarray(draw(LINES)), Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    still = {"save_all": True, "append_images": [Image.new("RGB", drawn.size, "navy")], "duration": 100, "loop": 0}
    frame = drawn.transpose(Image.Transpose.ROTATE_90) if form == "WEBP" else drawn
    frame.save(data, form, **({"exif": exif, "lossless": True} if form == "WEBP" else still))
    with page.expect_response("**/v1/preview"):
        _hand_in(page, f"bars.{form.lower()}", f"image/{form.lower()}", data.getvalue())
        assert _read(page) == LINES
    shown = page.wait_for_selector(".sheet img[src]")
    size = shown.evaluate("async (img) => { await img.decode(); return [img.naturalWidth, img.naturalHeight]; }")
    assert size == [drawn.width, drawn.height]


def test_a_line_tells_its_text_and_confidence(page: Page) -> None:
    """A click on its box or its text chooses it, in both places; it can be copied."""
    _hand_in(page, "bars.png", "image/png", _picture())
    _read(page)
    page.locator(".sheet polygon").nth(1).click()
    expect(page.locator("#detail-text")).to_have_text(LINES[1])
    expect(page.locator("#detail-facts")).to_contain_text("Confidence")
    expect(page.locator(".lines button.at")).to_have_text(LINES[1])
    page.click("#detail-copy")
    expect(page.locator("#status")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == LINES[1]


def test_text_that_was_not_copied_is_told(page: Page) -> None:
    """Without TLS browsers offer an old way only, and need not let it be taken."""
    _hand_in(page, "bars.png", "image/png", _picture())
    _read(page)
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    for taken in (False, True, False):
        page.evaluate("taken => { document.execCommand = () => taken; }", taken)
        page.click("#copy")
        expect(page.locator("#status")).to_have_text("Copied." if taken else "")
        expect(page.locator("#problem")).to_have_text("" if taken else re.compile("let nothing be copied"))


@pytest.mark.parametrize(
    ("output", "suffix", "start"),
    [
        ("text", "txt", b"abc ab"),
        ("json", "json", b'{"pages"'),
        ("pdf", "ocr.pdf", b"%PDF-"),
        ("alto", "alto.xml", b"<"),
    ],
)
def test_outputs_are_downloaded(page: Page, output: str, suffix: str, start: bytes) -> None:
    """Under the document's name."""
    _hand_in(page, "bars.png", "image/png", _picture())
    _read(page)
    page.select_option("#output", output)
    with page.expect_download() as waited:
        page.click("#download")
    assert waited.value.suggested_filename == f"bars.{suffix}"
    assert Path(waited.value.path()).read_bytes().lstrip(b"\xef\xbb\xbf").startswith(start)


def test_what_is_downloaded_is_what_was_asked_for(page: Page) -> None:
    """Under its own name, also when another document is handed in before it has come."""
    _hand_in(page, "a.png", "image/png", _picture())
    _read(page)
    held = _held(page, "**/v1/ocr", lambda: page.click("#download"))
    _hand_in(page, "b.png", "image/png", _picture(lines=["cc"]))
    assert _read(page) == ["cc"]
    with page.expect_download() as waited:
        held.continue_()
    assert waited.value.suggested_filename == "a.txt"
    assert Path(waited.value.path()).read_text(encoding="utf-8-sig").split() == " ".join(LINES).split()


def test_text_is_copied(page: Page) -> None:
    """All of it, in one go."""
    _hand_in(page, "bars.png", "image/png", _picture())
    _read(page)
    page.click("#copy")
    expect(page.locator("#status")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()").split() == " ".join(LINES).split()


def test_pages_of_a_pdf_are_shown_one_by_one(page: Page) -> None:
    """With pictures that the service drew, since browsers have none of them."""
    _hand_in(page, "two.pdf", "application/pdf", _picture("PDF", pages=2))
    assert _read(page) == LINES * 2
    expect(page.locator("article.page")).to_have_count(2)
    for index in range(2):
        page.locator("article.page").nth(index).scroll_into_view_if_needed()
        page.wait_for_function("index => document.querySelectorAll('.sheet img')[index].naturalWidth > 0", arg=index)


def test_a_picture_is_pasted_or_dropped(page: Page) -> None:
    """From the clipboard, or from the desktop."""
    for event, member in (("paste", "clipboardData"), ("drop", "dataTransfer")):
        page.evaluate(
            """([event, member, bytes]) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], event + ".png", {type: "image/png"}));
                const sent = event === "paste"
                    ? new ClipboardEvent(event, {clipboardData: data, bubbles: true, cancelable: true})
                    : new DragEvent(event, {dataTransfer: data, bubbles: true, cancelable: true});
                document.body.dispatchEvent(sent);
            }""",
            [event, member, list(_picture())],
        )
        expect(page.locator("article h2")).to_have_text(f"{event}.png")
        assert _read(page) == LINES


def test_what_cannot_be_read_is_told(page: Page) -> None:
    """In the service's own words, in a place that screen readers announce; the next document is read as ever."""
    _hand_in(page, "notes.txt", "text/plain", b"no document at all")
    expect(page.get_by_role("alert")).to_contain_text("an unknown type")
    _hand_in(page, "bars.png", "image/png", _picture())
    assert _read(page) == LINES
    expect(page.locator("#problem")).to_be_hidden()


def test_of_several_each_is_read_whatever_became_of_the_others(page: Page) -> None:
    """Each problem is told with its file's name, and stays while what was read is copied."""
    notes, picture = ("text/plain", b"no document at all"), ("image/png", _picture())
    _hand_in_all(page, ("a.png", *picture), ("notes.txt", *notes), ("c.png", *picture), ("more.txt", *notes))
    assert _read(page) == LINES * 2
    told = page.get_by_role("alert").inner_text().splitlines()
    assert [line.split("; ")[0] for line in told] == ["notes.txt: an unknown type", "more.txt: an unknown type"]
    assert page.locator("#status").inner_text().startswith("2 pages, 6 lines in ")
    page.click("#copy")
    expect(page.locator("#status")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()").split() == " ".join(LINES * 2).split()
    assert page.get_by_role("alert").inner_text().splitlines() == told


def test_a_wrong_key_is_told_once(page: Page) -> None:
    """The next file would be refused as well. An answer that makes no sense ends nothing."""
    answers = iter(["nonsense", "real", "refusal"])

    def answer(route: Route) -> None:
        kind = next(answers)
        if kind == "nonsense":
            route.fulfill(status=200, body="nonsense")
        elif kind == "real":
            route.continue_()
        else:
            route.fulfill(status=401, json={"detail": "no key", "expected": "one", "subject": "request"})

    page.route("**/v1/ocr", answer)
    _hand_in_all(page, *((f"{name}.png", "image/png", _picture()) for name in "abcd"))
    assert _read(page) == LINES
    told = page.get_by_role("alert").inner_text().splitlines()
    assert told[0].startswith("a.png: ")
    assert told[1:] == ["no key; expected one"]
    assert next(answers, None) is None
    expect(page.locator("#key")).to_be_focused()


def test_an_empty_file_is_told_and_changes_nothing_else(page: Page) -> None:
    """Neither with nothing read, nor while another is, nor beside one that is not empty."""
    _hand_in(page, "nothing.png", "image/png", b"")
    expect(page.get_by_role("alert")).to_have_text("nothing.png is empty.")
    expect(page.locator("#progress")).to_be_hidden()
    held = _held(page, "**/v1/ocr", lambda: _hand_in(page, "bars.png", "image/png", _picture()))
    expect(page.locator("#problem")).to_be_hidden()
    _hand_in(page, "nought.png", "image/png", b"")
    expect(page.get_by_role("alert")).to_have_text("nought.png is empty.")
    expect(page.locator("#cancel")).to_be_visible()
    held.continue_()
    assert _read(page) == LINES
    for part in ("#progress", "#cancel"):
        expect(page.locator(part)).to_be_hidden()
    _hand_in_all(page, ("none.txt", "text/plain", b""), ("more.png", "image/png", _picture(lines=["cc"])))
    expect(page.locator("article h2")).to_have_text("more.png")
    assert _read(page) == ["cc"]
    expect(page.get_by_role("alert")).to_have_text("none.txt is empty.")


def test_a_file_can_be_chosen_again(page: Page) -> None:
    """The field forgets it; browsers tell of no choice that changes nothing."""
    for _ in range(2):
        _hand_in(page, "bars.png", "image/png", _picture())
        assert _read(page) == LINES
        assert page.locator("#file").evaluate("field => field.files.length") == 0


def test_a_keyboard_is_enough(page: Page) -> None:
    """Tab reaches the file field, then the lines; arrows walk them, Enter opens one, Escape closes it."""
    focused = "document.activeElement.id || document.activeElement.textContent"
    for _ in range(4):
        page.keyboard.press("Tab")
        if page.evaluate(focused) == "file":
            break
    assert page.evaluate(focused) == "file"
    _hand_in(page, "bars.png", "image/png", _picture())
    _read(page)
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate(focused) == LINES[0]:
            break
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#detail-text")).to_have_text(LINES[1])
    page.keyboard.press("ArrowDown")
    expect(page.locator("#detail-text")).to_have_text(LINES[2])
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    assert page.evaluate(focused) == LINES[2]


def test_a_phone_is_enough(browser: Browser, server: Server) -> None:
    """One column, nothing beyond the edge, targets a thumb can hit."""
    context = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(server.url)
    _hand_in(page, "bars.png", "image/png", _picture())
    assert _read(page) == LINES
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    heights = [button.bounding_box()["height"] for button in page.locator(".lines button").all()]
    assert min(heights) >= 40
    page.locator(".lines button").nth(2).tap()
    expect(page.locator("#detail-text")).to_have_text(LINES[2])
    context.close()


def test_another_document_leaves_nothing_of_the_one_before(page: Page) -> None:
    """No picture that comes too late, whose memory nobody would give back, and no line that is still chosen."""
    page.evaluate(
        """() => {
            window.kept = new Set();
            const [make, drop] = [URL.createObjectURL, URL.revokeObjectURL];
            URL.createObjectURL = (blob) => { const url = make(blob); kept.add(url); return url; };
            URL.revokeObjectURL = (url) => { kept.delete(url); drop(url); };
        }"""
    )
    held = _held(page, "**/v1/preview", lambda: _hand_in(page, "one.pdf", "application/pdf", _picture("PDF")))
    _read(page)
    page.locator(".lines button").first.click()
    _hand_in(page, "bars.png", "image/png", _picture())
    _read(page)
    expect(page.locator("#detail")).to_be_hidden()
    page.locator(".lines button").first.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#detail")).to_be_hidden()
    with page.expect_response("**/v1/preview") as waited:
        held.continue_()
    waited.value.finished()
    page.wait_for_timeout(50)
    assert page.evaluate("[...kept]") == [page.locator(".sheet img").get_attribute("src")]


def test_options_are_asked_for(page: Page) -> None:
    """They read the document again."""
    page.click("#options summary")
    _hand_in(page, "two.pdf", "application/pdf", _picture("PDF", pages=2))
    _read(page)
    page.fill("[name=pages]", "2")
    page.keyboard.press("Tab")
    expect(page.locator("article.page")).to_have_count(1)
    assert _read(page) == LINES


def test_the_api_is_there_to_read(page: Page, server: Server) -> None:
    """Every path of the OpenAPI document."""
    page.goto(f"{server.url}/docs")
    shown = page.locator("#operations summary")
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    expect(shown).to_have_count(sum(len(methods) for methods in paths.values()))
    shown.first.click()
    expect(page.locator("#operations details").first).to_contain_text("form")


def test_files_are_fresh_and_harmless(server: Server) -> None:
    """Asked about each time, sent when they changed; nothing but this page may run or frame it."""
    answer = httpx.get(f"{server.url}/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    again = httpx.get(f"{server.url}/", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for missing in ("/web/nothing.js", "/web/..%2fgateway.py", "/web/%2e%2e/gateway.py"):
        assert httpx.get(server.url + missing).status_code == 404
