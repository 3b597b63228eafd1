"""Labels by another recogniser: the case that labels do not tell, and crops whose labels tell nothing."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.errors import BadInput
from ocr_ops.data.labels import Rejected
from ocr_ops.data.lines import LabelledLine, LineSet
from ocr_ops.data.pages import IGNORED
from ocr_ops.data.pixels import gray_file
from ocr_ops.data.render_material import IMAGES
from ocr_ops.runtime.recognition import Recognizer, whole_crop

CALL = 64
"""Lines read together."""
SURE = 0.95
"""Confidence of a reading that stands for a label."""


@dataclass(frozen=True, slots=True)
class Taught:
    """`lines` have their case; `caseless` are those whose label the teacher did not read, as they were."""

    lines: LineSet
    caseless: LineSet
    labelled: int
    """Of `lines`, those that had no label."""


def teach(lines: LineSet, teacher: ModelBundle, sure: float = SURE) -> Taught:
    """Reads every line with `teacher`, a recognition bundle.

    Where the reading is the label but for case and spaces, the label takes the reading's case. A line without a
    label takes a reading of confidence `sure` at least, and is left out with any other. Raises `BadInput` for a
    bundle of another task.
    """
    if teacher.manifest.task != "recognition":
        found = f"a {teacher.manifest.task} bundle"
        raise BadInput(teacher.path, found, "a recognition bundle", "name another teacher")
    cased: list[LabelledLine] = []
    caseless: list[LabelledLine] = []
    rejected = list(lines.rejected)
    labelled = 0
    for line, read, confidence in _readings(lines, Recognizer(teacher), rejected):
        if line.text in IGNORED:
            if confidence >= sure and read:
                cased.append(replace(line, text=read))
                labelled += 1
            continue
        text = with_case(line.text, read)
        if text is None:
            caseless.append(line)
        else:
            cased.append(replace(line, text=text))
    return Taught(
        replace(lines, lines=tuple(cased), fold=False, rejected=tuple(rejected)),
        replace(lines, lines=tuple(caseless), rejected=()),
        labelled,
    )


def unlabelled(folder: Path) -> LineSet:
    """The images below `folder` as lines without a text. Raises `BadInput` when there is none."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES)
    if not paths:
        raise BadInput(folder, "no image", "crops of text lines", "point at a folder of them")
    names = [path.relative_to(folder).as_posix() for path in paths]
    lines = (LabelledLine("", name, name, partial(gray_file, path)) for name, path in zip(names, paths, strict=True))
    return LineSet(folder, tuple(lines), fold=False)


def with_case(label: str, read: str) -> str | None:
    """`label` in the case of `read`, spaces where the label has them; None when they differ by more than that.

    >>> with_case("TOTAL RM 5", "TotalRM 5")
    'Total RM 5'
    """
    letters = iter("".join(read.split()))
    text = []
    for char in label:
        if char.isspace():
            text.append(char)
            continue
        letter = next(letters, "")
        if letter.upper() != char.upper():
            return None
        text.append(letter)
    return None if next(letters, "") else "".join(text)


def _readings(
    lines: LineSet, recognizer: Recognizer, rejected: list[Rejected]
) -> Iterator[tuple[LabelledLine, str, float]]:
    """Each line that decodes, with what is read of it and how surely; the others go to `rejected`."""
    shape = recognizer.bundle.manifest.input
    with tqdm(total=len(lines.lines), desc="read lines", unit="line", disable=None) as bar:
        for start in range(0, len(lines.lines), CALL):
            chosen, crops = [], []
            for line in lines.lines[start : start + CALL]:
                try:
                    crops.append(whole_crop(line.image(), shape))
                    chosen.append(line)
                except BadInput as error:
                    rejected.append(Rejected(line.where, error.found))
            for line, decoded in zip(chosen, recognizer.recognize(crops), strict=True):
                yield line, decoded.text, decoded.confidence
            bar.update(CALL)
