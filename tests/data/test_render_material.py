from pathlib import Path

import cv2
import numpy as np
import pytest

from ocr_ops.core.errors import BadInput
from ocr_ops.data.render_lines import LineRenderer
from ocr_ops.data.render_material import load_backgrounds, load_corpus, on_background
from ocr_ops.data.render_pages import PageRenderer
from ocr_ops.data.render_text import CHARSET

WORDS = "Sphinx of black quartz judge my vow"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "prose.txt").write_text(f"{WORDS}\n\n  {WORDS}  \n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "paper.png"), np.tile(np.arange(100, 200, dtype=np.uint8), (60, 1)))
    return tmp_path


def test_phrases_are_words_that_follow_each_other(corpus: Path) -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        phrase = load_corpus(corpus).phrase(rng, 1, 4)
        assert phrase.lower() in WORDS.lower()
        assert 1 <= len(phrase.split()) <= 4


def test_lines_speak_as_the_corpus_does(corpus: Path) -> None:
    renderer = LineRenderer(CHARSET, corpus=load_corpus(corpus))
    texts = [renderer.line(np.random.default_rng(i))[1].lower() for i in range(60)]
    assert 15 < sum(text in WORDS.lower() for text in texts) < 55


def test_printing_on_a_background_only_darkens(papers: Path) -> None:
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (90, 40), dtype=np.uint8)
    printed = on_background(rng, image, load_backgrounds(papers))
    assert printed.shape == image.shape
    assert (printed.astype(int) <= image.astype(int) * 1.1 + 1).all()


def test_pages_and_lines_take_backgrounds(papers: Path) -> None:
    grounds = load_backgrounds(papers)
    page = PageRenderer(CHARSET, backgrounds=grounds).page(np.random.default_rng(4), 300)
    line, _ = LineRenderer(CHARSET, backgrounds=grounds).line(np.random.default_rng(4))
    assert page.image.dtype == line.dtype == np.uint8


def test_empty_and_broken_folders_are_refused(tmp_path: Path) -> None:
    for load in (load_corpus, load_backgrounds):
        with pytest.raises(BadInput, match=tmp_path.name):
            load(tmp_path)
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(BadInput, match=r"bad\.png"):
        load_backgrounds(tmp_path)
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(BadInput, match=r"bad\.txt"):
        load_corpus(tmp_path)
