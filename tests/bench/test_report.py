"""The report is whole in one file, runs nothing, loads nothing, escapes everything, and stays legible."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ocr_ops.bench.report import CHECKED, lead, markdown, page
from ocr_ops.bench.report_items import thumbnail
from ocr_ops.bench.run import Run
from ocr_ops.bench.standing import boards
from tests.runs import TEXTS, line_cell, misread, page_cell, run_of

RIGHT = list(TEXTS)
WRONG = misread(TEXTS, {"0": "O", "e": "c", "1": "l"})
HOSTILE = "<script>alert(1)</script>\"'><img src=http://example.com/x onerror=alert(1)>"
LAYERS = [(f"/stage{number}/conv/Conv", number / 1000) for number in range(40)]


def picture(_: int) -> NDArray[np.uint8]:
    return np.full((40, 300, 3), 200, np.uint8)


def lines() -> Run:
    return run_of(
        line_cell("recognition-small fp32", RIGHT, 4, variant="fp32"),
        line_cell("recognition-small int8", misread(TEXTS, {"0": "O"}, every=3), 2),
        line_cell("recognition-tiny int8", WRONG, 1),
        line_cell("rapidocr", RIGHT, 9, kind="peer"),
    )


def pages() -> Run:
    cells = [page_cell("detection-small int8 + recognition-small int8", RIGHT, 300)]
    cells.append(page_cell("detection-tiny int8 + recognition-tiny int8", WRONG, 200))
    peers = [page_cell(name, misread(TEXTS, {"T": "7"}), cost, kind="peer") for name, cost in (("r", 4e3), ("t", 900))]
    return run_of(*cells, *peers, unit="page")


class Tags(HTMLParser):
    """Every tag with its attributes; refuses one that is never closed."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("run", [lines(), pages()], ids=["lines", "pages"])
def test_one_file_that_loads_and_runs_nothing(run: Run) -> None:
    text = page(run, picture, LAYERS, champion=run.results[1].cell.subject)
    tags = Tags(text).found
    assert "script" not in {tag for tag, _ in tags}
    policy = next(attrs["content"] for tag, attrs in tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    for tag, attrs in tags:
        assert not any(name.startswith("on") for name in attrs), tag
        assert not attrs.keys() & {"href", "action", "srcset"}, tag
        assert (attrs.get("src") or "data:image/webp;").startswith("data:image/webp;")
    assert "url(" not in text
    assert "@import" not in text
    for part in (
        "Accuracy against cost",
        "Every cell",
        "takes",
        "Read worst",
        "Sensitivity",
        "Environment",
        run.command,
    ):
        assert part in text
    assert run.digest in text
    assert text.count("<svg") == 4  # two drawings, for a screen and for a phone


def test_the_verdict_and_the_leader_come_first() -> None:
    text = page(lines(), lambda _: None)
    told = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", text.partition("<body>")[2]))
    assert told.index("FAIL") < told.index("2 of 3 cells pass") < told.index("recognition-small int8 reads 9")
    assert told.index("times less CPU") < told.index("Accuracy against cost")
    assert re.search(r"Against recognition-small fp32: (1.9\d?|2.\d+) times less CPU", told)
    assert "<img" not in text  # no picture, no item's image


def test_hostile_names_labels_and_readings_are_text() -> None:
    texts = [
        HOSTILE,
        "\u202eabc\u202c",
        "عربى ١٢٣",
        "汉字 かな",
        "a\x1bb|c`d",
        "",
        "نص",
        "e\u0301",
        "😀",
        "#",
        "@x",
        "-",
    ]
    cells = [line_cell(HOSTILE, [f"{text}!" for text in texts], 2, texts, version=HOSTILE)]
    cells.append(line_cell(f"peer {HOSTILE}", texts, 3, texts, kind="peer"))
    run = run_of(*cells, texts=texts, title=HOSTILE, command=HOSTILE, items=tuple(f"{HOSTILE} {n}" for n in range(12)))
    text = page(run, picture, [(HOSTILE, 1.0)], champion=HOSTILE)
    assert {tag for tag, _ in Tags(text).found} & {"script", "object", "iframe"} == set()
    assert "<script" not in text
    assert "example.com/x onerror" in text  # told, as text
    assert not [attrs for tag, attrs in Tags(text).found if tag == "img" and not str(attrs["src"]).startswith("data:")]
    assert "\x1b" not in text
    short = markdown(run, [(HOSTILE, 1.0)], champion=HOSTILE)
    assert "<script" not in short
    assert "<img" not in short
    tables = [line for line in short.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables[:3]} == {len(re.findall(r"\|", tables[1]))}


def test_wrong_letters_are_marked_beside_those_expected() -> None:
    text = page(run_of(line_cell("m", ["TOTAL 12.O0", *RIGHT[1:]], 1)), picture)
    item = text.partition('<article class="item line">')[2].partition("</article>")[0]
    assert item.count("<mark>O</mark>") == 1
    assert item.count("<mark>0</mark>") == 1
    assert "1 error<" in item
    assert item.count("<img") == 1


def test_readings_that_are_alike_share_a_row() -> None:
    same = [line_cell(name, WRONG, 1) for name in ("a", "b")]
    text = page(run_of(*same), picture)
    item = text.partition("<article")[2].partition("</article>")[0]
    assert item.count('class="readers"') == 1
    assert item.count("swatch") == 2


def test_of_many_cells_only_the_failed_ones_are_listed_and_the_file_stays_small() -> None:
    cells = [line_cell(f"m{n} int8, cpu, {n} threads", RIGHT if n % 10 else WRONG, n + 1, threads=n) for n in range(40)]
    text = page(run_of(*cells), picture, LAYERS)
    found = re.search(r"(\d+) more pass every check", text)
    assert found is not None
    assert int(found[1]) > 40 - CHECKED
    assert len(text) < 400_000
    Tags(text)


def test_a_run_without_checks_is_not_judged_and_one_without_figures_says_so() -> None:
    silent = line_cell("m", RIGHT, 1).model_copy(update={"metrics": {}, "samples": {}, "slices": {}, "checks": ()})
    run = run_of(silent, results=(silent,))
    for text in (page(run, picture), markdown(run)):
        assert "NOT JUDGED" in text
        assert "PASS" not in text
        assert "was not scored" in text
    peers = run_of(line_cell("x", RIGHT, 1, kind="peer"))
    assert "Only peers were measured here." in page(peers, picture)


def test_markdown_says_in_short_what_got_worse() -> None:
    text = markdown(lines())
    assert text.startswith("## Lines of receipts: FAIL\n")
    assert "Reads worse than recognition-small fp32 here:" in text
    assert "- width: short, 6 items: " in text
    assert "Checks not met:\n\n- cer " in text
    assert "<details><summary>" in text
    assert "ocr-ops bench --lines DIR" in text
    assert "\n\n\n" not in text
    assert len(text) < 6000


def test_the_lead_says_what_is_not_shown() -> None:
    run = run_of(line_cell("a", RIGHT, 2), line_cell("b", misread(TEXTS, {"5": "S"}), 9))
    (board,) = boards(run)
    assert "no difference in accuracy shown" in lead(run, board)[1]


def test_thumbnails_are_small_whatever_comes() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (3000, 2000, 3)).astype(np.uint8)
    assert len(thumbnail(noise, "page")) < 60_000
    assert len(thumbnail(noise[:200, :, 0], "line")) < 60_000
    assert thumbnail(noise[:1, :2000], "line").startswith("data:image/webp;base64,")
    assert thumbnail(None, "line") == thumbnail(noise[:0], "line") == ""


SEEN = """<!doctype html><title>seen</title><body><script>
addEventListener("load", () => setTimeout(() => {
  const found = [...document.querySelectorAll("iframe")].map(frame => {
    const inner = frame.contentDocument, root = inner.documentElement;
    const boxes = kind => [...inner.querySelectorAll(kind)].map(it => it.getBoundingClientRect()).filter(b => b.width);
    const named = boxes("svg.pareto .name");
    const crossed = named.filter((a, i) => named.some((b, j) => j > i && a.left + 1 < b.right && b.left + 1 < a.right
      && a.top + 3 < b.bottom && b.top + 3 < a.bottom));
    const clipped = [...inner.querySelectorAll("svg text")].filter(text => {
      const box = text.getBoundingClientRect(), whole = text.ownerSVGElement.getBoundingClientRect();
      return box.width && (box.left < whole.left - 1 || box.right > whole.right + 1);
    }).map(text => text.textContent);
    return {over: root.scrollWidth - frame.clientWidth, drawings: boxes("svg").length, named: named.length, crossed,
      clipped, hidden: [...inner.querySelectorAll(".scroll")].filter(it => it.scrollWidth > it.clientWidth + 1).length,
      images: [...inner.images].every(one => one.naturalWidth > 0), paper: getComputedStyle(inner.body).color};
  });
  document.body.textContent = JSON.stringify(found);
}, 200));
</script>"""


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_browser_shows_it_whole_on_a_screen_and_on_a_phone(tmp_path: Path, *, dark: bool) -> None:
    """Nothing sticks out, names do not cross, and the drawing that fits is the one that is shown."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium")
    frames = [
        f'<iframe width="{width}" height="900" srcdoc="{html.escape(page(run, picture, LAYERS))}"></iframe>'
        for run in (lines(), pages())
        for width in (1100, 390)
    ]
    (tmp_path / "seen.html").write_text(SEEN + "".join(frames), encoding="utf-8")
    flags = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync "
        "--disable-component-update --virtual-time-budget=10000 --dump-dom"
    )
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    command = [browser, *flags.split(), scheme, f"--user-data-dir={tmp_path}", f"file://{tmp_path / 'seen.html'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(html.unescape(done.stdout.rpartition("<body>")[2].partition("</body>")[0]))
    for frame in found:
        assert frame["over"] <= 0
        assert frame["drawings"] == 2
        assert frame["named"] >= 4
        assert (frame["crossed"], frame["clipped"]) == ([], [])
        assert frame["hidden"] == 0
        assert frame["images"]
        assert frame["paper"] == ("rgb(231, 234, 238)" if dark else "rgb(27, 31, 36)")
