"""The command that takes in what was trained elsewhere: import."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocr_ops.cli.options import FILE, FOLDER, POSITIVE, cli, json_option, print_rows
from ocr_ops.core.errors import OcrOpsError, UsageError
from ocr_ops.core.spec import TASKS, Task
from ocr_ops.core.workspace import Workspace, shown

if TYPE_CHECKING:
    from ocr_ops.optimize.conventions import Preset
    from ocr_ops.optimize.foreign import Foreign

RAPIDOCR = "rapidocr"
SHARE = click.FloatRange(0, 1)


def _numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    try:
        return tuple(float(part) for part in value.split(",")) if value else None
    except ValueError:
        raise click.BadParameter(f"{value!r} is not numbers between commas", context, parameter) from None


@cli.command("import")
@click.argument("source")
@click.option("--task", type=click.Choice(TASKS), help="Unless inference.yml beside the file tells.")
@click.option("--preset", type=click.Choice(["paddleocr", "doctr"]), help="Whose conventions fill in what is not told.")
@click.option("--charset", type=FILE, help="Characters in class order: one a line, or all in one line.")
@click.option("--height", type=click.IntRange(min=8), help="Recognition: pixels of a crop.")
@click.option(
    "--mean", callback=_numbers, help="One, or one a channel, of pixels from 0 to 1: 0.5 or 0.485,0.456,0.406."
)
@click.option("--std", callback=_numbers, help="As --mean.")
@click.option("--order", type=click.Choice(["rgb", "bgr"]), help="Of the colours.")
@click.option("--padding", type=click.Choice(["edge", "black"]), help="What stands where a picture ends.")
@click.option("--max-side", type=click.IntRange(min=32), help="Pixels: the widest crop, or a page's longer side.")
@click.option("--min-side", type=click.IntRange(min=0), help="Detection: a page's shorter side is brought up to it.")
@click.option("--blank", type=click.Choice(["first", "last"]), help="Recognition: the blank among the classes.")
@click.option("--threshold", type=SHARE, help="Detection: of the map.")
@click.option("--min-score", type=SHARE, help="Detection: of a box.")
@click.option("--unclip", type=POSITIVE, help="Detection: DB's unclip ratio.")
@click.option("--floor", type=SHARE, help="Least accuracy that a benchmark lets pass.")
@click.option("--name", help="Of the model folder; the file's own without it.")
@click.option("--licence", help="Of the weights.")
@click.option("--samples", type=FOLDER, help="Labelled pages to hold it against; rendered ones without it.")
@click.option("--out", type=FOLDER, default=Path("models"), show_default=True, help="Folder the model folders go to.")
@json_option
def import_(source: str, samples: Path | None, out: Path, *, as_json: bool, **options: Any) -> None:
    r"""Take in a model that was trained elsewhere, once its contract holds on sample pages.

    SOURCE is an ONNX file, an archive (.zip, .tar, .tar.gz) with one in it, or `rapidocr`: the pair that the installed
    package reads with. What results are model folders that register, export, quantize, bench and release take like
    any other.

    \b
    Example: ocr-ops import rapidocr
             ocr-ops import crnn.onnx --preset doctr --task recognition --charset vocab.txt
             ocr-ops import PP-OCRv5_mobile_rec_onnx.tar
    """
    from ocr_ops.data.pages import read_pages
    from ocr_ops.optimize.archive import is_archive
    from ocr_ops.optimize.foreign import rapidocr, settle
    from ocr_ops.release.chain import calibration_pages

    workspace = Workspace.current()
    if source == RAPIDOCR:
        given = [f"--{key.replace('_', '-')}" for key, value in options.items() if value is not None]
        if given:
            raise UsageError(RAPIDOCR, f"{given[0]} beside it", "its own settings", "name its ONNX file instead")
        models = rapidocr()
    elif is_archive(Path(source)):
        models = [_unpacked(Path(source), **options)]
    else:
        models = [_described(Path(source), **options)]
    pages = read_pages(samples) if samples else calibration_pages(workspace)
    rows = []
    for model in models:
        folder, bundle = settle(model, out, workspace.bundles / f"{model.spec.name}-fp32", pages)
        row = {"model": shown(folder), "bundle": shown(bundle.path), "digest": bundle.digest}
        rows.append(row | bundle.manifest.facts)
    print_rows(rows, as_json=as_json)


def _unpacked(archive: Path, *, name: str | None, **options: Any) -> "Foreign":
    """As `_described`, of the one ONNX file in an archive, whose name the model gets."""
    from ocr_ops.optimize.archive import SUFFIXES, model_in
    from ocr_ops.optimize.foreign import slug

    stem = next(archive.name[: -len(suffix)] for suffix in SUFFIXES if archive.name.lower().endswith(suffix))
    with tempfile.TemporaryDirectory() as scratch:
        try:
            model = _described(model_in(archive, Path(scratch)), name=name or slug(stem), **options)
        except OcrOpsError as error:  # people know the file by its place in the archive
            subject = error.subject.replace(scratch, str(archive))
            raise type(error)(subject, error.found, error.expected, error.remedy) from None
        origin = f"`{model.source.name}` in `{archive.name}`"
    return replace(model, source=archive, origin=origin)


def _described(
    source: Path,
    *,
    task: Task | None,
    preset: "Preset | None",
    charset: Path | None,
    name: str | None,
    licence: str | None,
    floor: float | None,
    **settings: Any,
) -> "Foreign":
    from ocr_ops.optimize.conventions import Conventions, dictionary
    from ocr_ops.optimize.foreign import describe

    def told(*keys: str) -> dict[str, Any]:
        return {key: settings[key] for key in keys if settings[key] is not None}

    boxes = told("threshold", "min_score")
    if settings["unclip"] is not None:
        boxes |= {"growth": "area", "ratio": settings["unclip"]}
    conventions = Conventions(
        task,
        told("height", "mean", "std", "order", "padding", "max_side", "min_side"),
        boxes,
        told("blank"),
        dictionary(charset) if charset else (),
    )
    return describe(source, conventions, preset=preset, name=name, licence=licence, floor=floor)
