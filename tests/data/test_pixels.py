"""Looks: nearly the same for copies, far apart for other documents."""

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from ocr_ops.core.errors import BadInput
from ocr_ops.data.leaks import DISTANCE, Looks, leaks, looks
from ocr_ops.data.pages import read_pages
from ocr_ops.data.pixels import Gray, distances, gray_file, look, pixel_digest
from tests.data.formats.examples import LINES, PAGES, draw


def copied(image: Gray) -> Gray:
    """Scaled, paled and compressed, as copies are."""
    small = cv2.resize(image, (image.shape[1] * 7 // 10, image.shape[0] * 7 // 10), interpolation=cv2.INTER_AREA)
    packed = cv2.imencode(".jpg", np.clip(small * 0.9 + 10, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE), np.uint8)


def test_packing_changes_no_pixel_digest(tmp_path: Path) -> None:
    """PNG and BMP of the same pixels are the same image; one pixel more is another."""
    image = gray_file(draw(tmp_path / "a.png"))
    cv2.imwrite(str(tmp_path / "a.bmp"), image)
    assert pixel_digest(gray_file(tmp_path / "a.bmp")) == pixel_digest(image)
    assert pixel_digest(image[1:]) != pixel_digest(image)
    assert pixel_digest(image.reshape(200, 100)) != pixel_digest(image)


def test_distances_count_bits() -> None:
    """As arithmetic on single bits counts them."""
    rng = np.random.default_rng(0)
    left, right = (rng.integers(0, 2**64, (n, 4), np.uint64) for n in (5, 7))
    bits = [np.unpackbits(codes.view(np.uint8), axis=1) for codes in (left, right)]
    expected = (bits[0][:, None] != bits[1][None]).sum(axis=2)
    np.testing.assert_array_equal(distances(left, right), expected)


def test_copies_leak_and_other_documents_do_not(tmp_path: Path) -> None:
    """A changed copy under another name is found, and nothing else."""
    for seed in range(6):
        draw(tmp_path / "train" / f"{seed}.png", seed)
    draw(tmp_path / "test" / "new.png", 99)
    cv2.imwrite(str(tmp_path / "test" / "copy.jpg"), copied(gray_file(tmp_path / "train" / "3.png")))
    (found,) = leaks(looks(tmp_path / "train"), looks(tmp_path / "test"), 40)
    assert (Path(found.test).name, Path(found.train).name) == ("copy.jpg", "3.png")


def test_lines_are_compared_with_lines_of_pages(tmp_path: Path) -> None:
    """A crop cut out of a training page is found among its lines."""
    PAGES["pages"][1](tmp_path / "train")
    page = gray_file(tmp_path / "train" / "1.png")
    LINES["labels.tsv"][1](tmp_path / "test")
    cv2.imwrite(str(tmp_path / "test" / "img" / "a_1.png"), page[10:30, 9:91])
    (found,) = leaks(looks(tmp_path / "train", lines=True), looks(tmp_path / "test", lines=True))
    assert found.test == "labels.tsv:1"
    assert found.train == "pages.jsonl:1[0]"


def test_blank_and_unreadable_images_are_counted_not_compared(tmp_path: Path) -> None:
    """White paper is not a copy of white paper; a folder of nothing else is no evidence."""
    cv2.imwrite(str(tmp_path / "a.png"), np.full((50, 50), 255, np.uint8))
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(BadInput, match="2 images, none of them comparable"):
        looks(tmp_path)
    draw(tmp_path / "c.png")
    assert looks(tmp_path).skipped == 2


def test_ten_thousand_images_take_seconds() -> None:
    """A hundred million comparisons; planted copies are found."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2**64, (10_000, 4), np.uint64)
    train = Looks(tuple(map(str, range(10_000))), codes, 0)
    test = Looks(tuple(map(str, range(10_000))), np.roll(codes, 1, axis=0) ^ np.uint64(0b111), 0)
    start = time.process_time()
    found = leaks(train, test)
    assert len(found) == 10_000
    assert found[1].train == "0"
    assert time.process_time() - start < 30


@pytest.mark.shared_data
def test_real_receipts_differ_more_than_their_copies(shared_data: Path) -> None:
    """The default distance lies between the farthest copy and the nearest other receipt."""
    pages = read_pages(shared_data / "sroie").head(40)
    images = [gray_file(pages.folder / page.image) for page in pages.pages]
    codes = np.stack([look(image) for image in images])
    apart = distances(codes, codes)[np.triu_indices(len(codes), 1)]
    copies = distances(codes, np.stack([look(copied(image)) for image in images])).diagonal()
    assert copies.max() < DISTANCE < apart.min()
