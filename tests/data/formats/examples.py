"""One small page in every format the toolkit reads: `Hello` above `World 2`, level boxes, on 200 x 100 pixels."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import lmdb
import numpy as np

TEXTS = ("Hello", "World 2")
BOXES = ((10, 10, 90, 30), (10, 50, 120, 75))


def draw(path: Path, seed: int = 0) -> Path:
    """The page, unlike that of any other seed."""
    image = np.full((100, 200), 250, np.uint8)
    for text, (left, _, _, bottom) in zip(TEXTS, BOXES, strict=True):
        cv2.putText(image, text, (left, bottom - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0,), 2)
    image[78:98, 4:196] = np.kron(np.random.default_rng(seed).integers(0, 2, (2, 24)) * 250, np.ones((10, 8)))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)
    return path


def quad(box: tuple[int, int, int, int]) -> list[list[int]]:
    left, top, right, bottom = box
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def flat(box: tuple[int, int, int, int]) -> str:
    return ",".join(str(number) for point in quad(box) for number in point)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def pages(folder: Path) -> Path:
    draw(folder / "1.png")
    regions = [{"polygon": quad(box), "text": text} for box, text in zip(BOXES, TEXTS, strict=True)]
    return write(folder / "pages.jsonl", json.dumps({"image": "1.png", "regions": regions}) + "\n")


def sroie(folder: Path) -> Path:
    draw(folder / "img" / "1.png")
    return write(folder / "box" / "1.csv", "".join(f"{flat(b)},{t}\n" for b, t in zip(BOXES, TEXTS, strict=True)))


def icdar2015(folder: Path) -> Path:
    draw(folder / "images" / "1.png")
    rows = [f"{flat(box)},{text}\r\n" for box, text in zip(BOXES, TEXTS, strict=True)]
    return write(folder / "gt" / "gt_1.txt", "\ufeff" + "".join(rows) + f"{flat((1, 1, 5, 5))},###\r\n")


def icdar2013(folder: Path) -> Path:
    draw(folder / "1.png")
    (first, second), (one, two) = BOXES, TEXTS
    spaced = " ".join(map(str, second))
    return write(folder / "gt_1.txt", f'{", ".join(map(str, first))}, "{one}"\n{spaced} "{two}"\n')


def paddleocr(folder: Path) -> Path:
    draw(folder / "1.png")
    regions = [{"transcription": text, "points": quad(box)} for box, text in zip(BOXES, TEXTS, strict=True)]
    return write(folder / "Label.txt", f"{folder.name}/1.png\t{json.dumps(regions)}\n")


def funsd(folder: Path) -> Path:
    """One entity over both lines."""
    draw(folder / "images" / "1.png")
    words = [
        {"text": "Hello", "box": [10, 10, 90, 30]},
        {"text": "", "box": [92, 10, 99, 30]},
        {"text": "World", "box": [10, 50, 80, 75]},
        {"text": "2", "box": [90, 50, 120, 75]},
    ]
    form = [{"box": [10, 10, 120, 75], "text": "Hello World 2", "label": "other", "words": words, "id": 0}]
    return write(folder / "annotations" / "1.json", json.dumps({"form": form}))


def cord(folder: Path) -> Path:
    draw(folder / "image" / "1.png")

    def word(text: str, box: tuple[int, int, int, int], row: int) -> dict[str, object]:
        sides = {f"{axis}{n}": value for n, point in enumerate(quad(box), 1) for axis, value in zip("xy", point)}  # noqa: B905
        return {"quad": sides, "text": text, "row_id": row, "is_key": 0}

    hello, world = word("Hello", BOXES[0], 1), [word("World", (10, 50, 80, 75), 2), word("2", (90, 50, 120, 75), 2)]
    line = {"words": [hello, *world], "category": "menu.nm", "group_id": 1}
    ignored = [word("", (1, 1, 5, 5), 0)["quad"]]
    return write(folder / "json" / "1.json", json.dumps({"valid_line": [line], "dontcare": [ignored]}))


def coco_text(folder: Path) -> Path:
    draw(folder / "train2014" / "1.png")
    (first, second), (one, two) = BOXES, TEXTS
    outline = [number for point in quad(first) for number in point]
    notes = {
        "7": {"image_id": 1, "mask": outline, "legibility": "legible", "utf8_string": one},
        "8": {"image_id": 1, "bbox": [10, 50, 110, 25], "legibility": "legible", "utf8_string": two},
        "9": {"image_id": 1, "bbox": [1, 1, 4, 4], "legibility": "illegible"},
    }
    assert second == (10, 50, 120, 75)
    data = {"imgs": {"1": {"id": 1, "file_name": "1.png"}}, "anns": notes, "imgToAnns": {"1": [7, 8, 9]}}
    return write(folder / "COCO_Text.json", json.dumps(data))


def doctr(folder: Path) -> Path:
    draw(folder / "images" / "1.png")
    label = {"img_dimensions": [100, 200], "img_hash": "0", "polygons": {"words": [quad(box) for box in BOXES]}}
    return write(folder / "labels.json", json.dumps({"1.png": label}))


def hocr(folder: Path) -> Path:
    draw(folder / "1.png")
    lines = "\n".join(
        f"<span class='ocr_line' title=\"bbox {' '.join(map(str, box))}; x_size 20\">"
        + " ".join(f"<span class='ocrx_word'><strong>{word}</strong></span>" for word in text.split())
        + "</span>"
        for box, text in zip(BOXES, TEXTS, strict=True)
    )
    return write(folder / "1.hocr", f"<!DOCTYPE html>\n<html><body><div class='ocr_page'>\n{lines}</div></body></html>")


def alto(folder: Path, unit: str = "pixel", scale: float = 1) -> Path:
    draw(folder / "1.png")
    lines = "\n".join(
        f'<TextLine HPOS="{left * scale}" VPOS="{top * scale}" WIDTH="{(right - left) * scale}"'
        f' HEIGHT="{(bottom - top) * scale}">'
        + "<SP/>".join(f'<String CONTENT="{word}"/>' for word in text.split())
        + "</TextLine>"
        for (left, top, right, bottom), text in zip(BOXES, TEXTS, strict=True)
    )
    return write(
        folder / "1.xml",
        '<?xml version="1.0" encoding="UTF-8"?>\n<alto xmlns="http://www.loc.gov/standards/alto/ns-v4#">\n'
        f"<Description><MeasurementUnit>{unit}</MeasurementUnit></Description>\n"
        f'<Layout><Page WIDTH="{200 * scale}" HEIGHT="{100 * scale}">\n{lines}\n</Page></Layout></alto>',
    )


PAGES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "pages": ("pages", pages),
    "sroie": ("sroie", sroie),
    "icdar2015": ("icdar", icdar2015),
    "icdar2013": ("icdar", icdar2013),
    "paddleocr": ("paddleocr", paddleocr),
    "funsd": ("funsd", funsd),
    "cord": ("cord", cord),
    "coco-text": ("coco-text", coco_text),
    "doctr": ("doctr", doctr),
    "hocr": ("hocr", hocr),
    "alto": ("alto", alto),
}
"""Name, format, and what writes an example into a folder and returns its label file."""


def labels_tsv(folder: Path) -> Path:
    draw(folder / "img" / "a_1.png", 1)
    draw(folder / "img" / "b_1.png", 2)
    return write(folder / "labels.tsv", "img/a_1.png\tHello\nimg/b_1.png\tWorld  2\n")


def paddleocr_lines(folder: Path) -> Path:
    draw(folder / "a.png", 1)
    draw(folder / "b.png", 2)
    return write(folder / "rec_gt.txt", 'a.png\tHello\n["b.png"]\tWorld 2\n')


def doctr_lines(folder: Path) -> Path:
    draw(folder / "images" / "a.png", 1)
    draw(folder / "images" / "b.png", 2)
    return write(folder / "labels.json", json.dumps({"a.png": "Hello", "b.png": "World 2"}))


def gt_txt(folder: Path) -> Path:
    draw(folder / "a.png", 1)
    draw(folder / "b.bin.png", 2)
    write(folder / "a.gt.txt", "Hello\n")
    return write(folder / "b.gt.txt", "World 2\n")


def lmdb_store(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(folder), map_size=2**20) as store, store.begin(write=True) as transaction:
        for index, text in enumerate(TEXTS, 1):
            image = draw(folder.parent / "crop.png", index).read_bytes()
            transaction.put(f"image-{index:09d}".encode(), image)
            transaction.put(f"label-{index:09d}".encode(), text.encode())
        transaction.put(b"num-samples", b"2")
    return folder / "data.mdb"


LINES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "labels.tsv": ("lines", labels_tsv),
    "paddleocr": ("lines", paddleocr_lines),
    "doctr": ("doctr-lines", doctr_lines),
    "gt-txt": ("gt-txt", gt_txt),
    "lmdb": ("lmdb", lmdb_store),
}
