"""The commands about datasets: look at them, convert, check and split them, and find leaks between them."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ocr_ops.cli.options import FILE, FOLDER, F, cli, json_option, print_rows
from ocr_ops.core.errors import BadInput, ExitCode, UsageError
from ocr_ops.core.spec import ModelSpec
from ocr_ops.core.workspace import Workspace, shown

if TYPE_CHECKING:
    from ocr_ops.data.convert import Written

DATASET = click.Path(path_type=Path)
FORMATS = (
    *("pages", "sroie", "funsd", "cord", "coco-text", "doctr", "paddleocr", "icdar", "hocr", "alto", "pdf"),
    *("lines", "doctr-lines", "lmdb", "gt-txt"),
)


def format_option(command: F) -> F:
    text = "What the folder holds, where it does not tell by itself."
    return click.option("--format", "form", type=click.Choice(FORMATS), help=text)(command)


@cli.group()
def data() -> None:
    r"""Look at datasets, check, convert and split them. docs/data.md shows the formats.

    \b
    Example: ocr-ops data check DIR
    """


@data.command()
@click.argument("source", metavar="[DATASET]", type=DATASET, required=False)
@click.option("--lines", is_flag=True, help="Lines with their texts; pages with their boxes without it.")
@click.option("--count", type=click.IntRange(min=1, max=400), default=12, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is rendered.")
@click.option("--model", type=FOLDER, help="Render in the charset of this model; in ASCII without it.")
@click.option("--corpus", type=FOLDER, help="Render text from the .txt files of this folder, too.")
@click.option("--backgrounds", type=FOLDER, help="Render on the images of empty paper in this folder, too.")
@click.option("--out", type=FILE, help="PNG to write; preview.png in the workspace without it.")
@format_option
@json_option
def preview(
    *,
    source: Path | None,
    lines: bool,
    count: int,
    seed: int,
    model: Path | None,
    corpus: Path | None,
    backgrounds: Path | None,
    out: Path | None,
    form: str | None,
    as_json: bool,
) -> None:
    r"""Make a contact sheet of a dataset, or of what training renders.

    \b
    Example: ocr-ops data preview DIR --out sheet.png
             ocr-ops data preview --lines --count 40 --corpus TEXTS
    """
    import cv2

    from ocr_ops.core.record import write_atomic
    from ocr_ops.data import preview as sheets
    from ocr_ops.data.documents import CHARACTERS
    from ocr_ops.data.lines import read_lines
    from ocr_ops.data.pages import read_pages
    from ocr_ops.data.render_lines import LineRenderer
    from ocr_ops.data.render_material import load_backgrounds, load_corpus
    from ocr_ops.data.render_pages import PageRenderer

    if source is not None:
        if lines or _holds_lines(source, form):
            sheet = sheets.lines_sheet(read_lines(source, form), count)
        else:
            sheet = sheets.pages_sheet(read_pages(source, form, strict=False), count)
    else:
        charset = ModelSpec.read(model).charset if model else CHARACTERS
        if not charset:
            raise UsageError(str(model), "a model without a charset", "a recognition model", "name another")
        texts = load_corpus(corpus) if corpus else None
        papers = load_backgrounds(backgrounds) if backgrounds else ()
        if lines:
            renderer = LineRenderer(charset, corpus=texts, backgrounds=papers)
            sheet = sheets.rendered_lines_sheet(renderer, seed, count)
        else:
            sheet = sheets.rendered_pages_sheet(PageRenderer(charset, corpus=texts, backgrounds=papers), seed, count)
    path = out or Workspace.current().home / "preview.png"
    write_atomic(path, cv2.imencode(".png", cv2.cvtColor(sheet.picture, cv2.COLOR_RGB2BGR))[1].tobytes())
    height, width = sheet.picture.shape[:2]
    print_rows([{"sheet": shown(path), "examples": sheet.count, "width": width, "height": height}], as_json=as_json)


@data.command()
@click.argument("source", type=DATASET)
@click.argument("out", type=FOLDER)
@click.option(
    "--to",
    "target",
    type=click.Choice(["pages", "lines", "paddleocr", "paddleocr-lines"]),
    required=True,
    help="pages: pages.jsonl; lines: labels.tsv; paddleocr: Label.txt; paddleocr-lines: rec_gt.txt.",
)
@format_option
@json_option
def convert(source: Path, out: Path, target: str, form: str | None, *, as_json: bool) -> None:
    r"""Write a dataset in another format; pages are cut into lines where lines are asked for.

    Bad rows are left out and listed on stderr.

    \b
    Example: ocr-ops data convert FUNSD/training_data OUT --to lines
    """
    from ocr_ops.data.convert import LINE_FILES, require_empty, write_lines, write_pages
    from ocr_ops.data.lines import read_lines
    from ocr_ops.data.pages import read_pages

    require_empty(out)
    if target in LINE_FILES:
        written = write_lines(read_lines(source, form), out, target)
    elif _holds_lines(source, form):
        raise BadInput(source, "a dataset of lines", "pages, to write pages", "use --to lines")
    else:
        written = write_pages(read_pages(source, form, strict=False), out, target)
    print_rows([_row(written)], as_json=as_json)


@data.command()
@click.argument("source", metavar="DATASET", type=DATASET)
@click.option("--model", type=FOLDER, help="Hold labels against its charset; against what is printable without it.")
@format_option
@json_option
def check(source: Path, model: Path | None, form: str | None, *, as_json: bool) -> None:
    r"""Find what would spoil a training or a benchmark: file, line and cause of each. Exit code 4 on any error.

    Errors: rows that cannot be read, missing and unreadable images, boxes without area or beyond the page,
    characters outside the charset. Warnings: regions without text, images that are there twice.

    \b
    Example: ocr-ops data check DIR --model models/recognition-tiny
    """
    from ocr_ops.data.check import check as examine

    checked = examine(source, form, ModelSpec.read(model).charset if model else None)
    rows = [
        {"where": f.where, "level": "warning" if f.warning else "error", "kind": f.kind, "cause": f.cause}
        for f in checked.findings
    ]
    print_rows(rows, as_json=as_json)
    click.echo(f"{source}: {checked.summary}", err=True)
    if not checked.labels:
        raise BadInput(source, "not one usable label", "a dataset", "mend the rows above")
    if checked.errors:
        raise SystemExit(ExitCode.BAD_INPUT)


@data.command()
@click.argument("source", metavar="DATASET", type=DATASET)
@click.argument("out", type=FOLDER)
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    help="Of the documents, to test.",
)
@format_option
@json_option
def split(source: Path, out: Path, share: float, form: str | None, *, as_json: bool) -> None:
    r"""Part a dataset into OUT/train and OUT/test by the digest of each document's pixels.

    A document falls to the same side whatever it is called and whatever it comes with.

    \b
    Example: ocr-ops data split DIR OUT --share 0.1
    """
    from ocr_ops.data.convert import require_empty, split_lines, split_pages
    from ocr_ops.data.lines import read_lines
    from ocr_ops.data.pages import read_pages

    require_empty(out)
    if _holds_lines(source, form):
        parts = split_lines(read_lines(source, form), out, share)
    else:
        parts = split_pages(read_pages(source, form, strict=False), out, share)
    print_rows([_row(parts.train), _row(parts.test)], as_json=as_json)


@data.command()
@click.argument("train", type=DATASET)
@click.argument("test", type=DATASET)
@click.option("--lines", is_flag=True, help="Compare line by line; also when one of them holds lines.")
@click.option("--distance", type=click.IntRange(0, 128), help="Bits of 256 that may differ; 24 without it.")
@json_option
def leaks(train: Path, test: Path, distance: int | None, *, lines: bool, as_json: bool) -> None:
    r"""Find images of TEST that TRAIN has, too, by a perceptual hash. Exit code 1 when there is one.

    Both are datasets of any format, or folders of images. Scaled, brightened and compressed copies are found; copies
    that were turned or cropped by much are not.

    \b
    Example: ocr-ops data leaks OUT/train OUT/test
    """
    from ocr_ops.data.leaks import DISTANCE, looks
    from ocr_ops.data.leaks import leaks as find

    by_line = lines or _holds_lines(train, None) or _holds_lines(test, None)
    seen, asked = (looks(path, lines=by_line) for path in (train, test))
    found = find(seen, asked, DISTANCE if distance is None else distance)
    print_rows([{"test": leak.test, "train": leak.train, "distance": leak.distance} for leak in found], as_json=as_json)
    skipped = seen.skipped + asked.skipped
    click.echo(
        f"{len(found)} of {len(asked.places)} test images are like one of {len(seen.places)} training images"
        + (f"; {skipped} blank or unreadable ones were not compared" if skipped else ""),
        err=True,
    )
    if found:
        raise SystemExit(ExitCode.GATE_FAILED)


@data.command()
@click.argument("pdfs", type=FOLDER)
@click.argument("out", type=FOLDER)
@click.option("--pages", "pages_each", type=click.IntRange(min=1), default=2, show_default=True, help="Of each PDF.")
@click.option("--model", type=FOLDER, help="Keep only lines in the charset of this model.")
@click.option("--seed", type=int, default=0, show_default=True)
@json_option
def harvest(pdfs: Path, out: Path, pages_each: int, model: Path | None, seed: int, *, as_json: bool) -> None:
    r"""Make training data of born-digital PDFs: OUT/lines and OUT/pages, labelled by their own text.

    \b
    Example: ocr-ops data harvest ~/Documents OUT --model models/recognition-small
    """
    from ocr_ops.data.pdf_corpus import harvest as run

    charset = ModelSpec.read(model).charset if model else None
    made = run(pdfs, out, pages_each=pages_each, seed=seed, charset=charset)
    row = {"documents": made.documents, "pages": made.pages, "lines": made.lines, "unreadable": made.unreadable}
    print_rows([row], as_json=as_json)


@data.command()
@click.argument("source", metavar="LINES", type=DATASET)
@click.argument("out", type=FOLDER)
@click.option("--teacher", type=FOLDER, required=True, help="Bundle of a recogniser that reads these lines well.")
@format_option
@json_option
def label(source: Path, out: Path, teacher: Path, form: str | None, *, as_json: bool) -> None:
    r"""Let another recogniser tell the case that labels do not: OUT/cased, and OUT/caseless where it read otherwise.

    Crops without any labels are labelled with what it reads of them surely.

    \b
    Example: ocr-ops data label DIR OUT --teacher .ocr-ops/bundles/ppocr-recognition-fp32
    """
    from ocr_ops.core.bundle import ModelBundle
    from ocr_ops.data.convert import write_lines
    from ocr_ops.data.lines import read_lines
    from ocr_ops.data.teacher import teach, unlabelled

    lines = read_lines(source, form) if _holds_lines(source, form) else unlabelled(source)
    taught = teach(lines, ModelBundle.open(teacher))
    parts = (("cased", taught.lines), ("caseless", taught.caseless))
    rows = [_row(write_lines(lines, out / name)) for name, lines in parts if lines.lines]
    print_rows(rows, as_json=as_json)


def _holds_lines(path: Path, form: str | None) -> bool:
    from ocr_ops.data.lines import LINE_FORMATS, line_format

    return (form or line_format(path)) in LINE_FORMATS


def _row(written: "Written") -> dict[str, object]:
    """What was written, as a row; what was left out goes to stderr."""
    for row in written.rejected:
        click.echo(f"left out: {row.where}: {row.cause}", err=True)
    return {"labels": shown(written.labels), "images": written.images, "left out": len(written.rejected)}
