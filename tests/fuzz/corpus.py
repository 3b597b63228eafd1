"""Documents to damage: one of each kind, and the malformed ones that others have collected."""

import io
from pathlib import Path

import docx
import numpy as np
from PIL import Image

from tests.pdfs import Pdf, covering, lines


def seeds() -> dict[str, bytes]:
    """A small sound document of each kind, by its name."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    picture = Image.fromarray(pixels)
    found = {}
    for form in ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF"):
        data = io.BytesIO()
        more = {"save_all": True, "append_images": [picture] * 2} if form == "TIFF" else {}
        picture.save(data, form, **more)
        found[f"seed.{form.lower()}"] = data.getvalue()
    found["cmyk.jpeg"] = _saved(picture.convert("CMYK"), "JPEG")
    found["deep.png"] = _saved(Image.fromarray(pixels[..., 0].astype(np.uint16) * 257), "PNG")
    found["text.pdf"] = Pdf(lines(["A page of text", "with two lines, and a third one", "of 12.50"])).data
    found["scan.pdf"] = Pdf(covering() + lines(["hidden text"], mode=3), picture=picture).data
    document, data = docx.Document(), io.BytesIO()
    document.add_heading("Title", 1)
    document.add_paragraph("point", style="List Bullet")
    document.add_table(2, 2).cell(0, 0).text = "cell"
    document.add_picture(io.BytesIO(found["seed.png"]))
    document.save(data)
    found["word.docx"] = data.getvalue()
    return found


def malformed(shared_data: Path) -> dict[str, bytes]:
    """Corrupt, fuzzed and locked PDFs."""
    files = sorted((shared_data / "pdf" / "malformed_or_locked").glob("*.pdf"))
    return {file.name: file.read_bytes() for file in files}


def _saved(picture: Image.Image, form: str) -> bytes:
    data = io.BytesIO()
    picture.save(data, form)
    return data.getvalue()
