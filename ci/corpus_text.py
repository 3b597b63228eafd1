"""Running text out of manual pages and fortunes: `corpus_text.py PACKAGES OUT` writes one .txt a language."""

import gzip
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

LINES_A_LANGUAGE = 25_000
_REQUEST = re.compile(r"^\.(B|I|BR|IR|RB|BI|IB|SH|SS|IP|RI)\s+")
_FONT = re.compile(r"\\f[BIRP1234]|\\&|\\/|\\,|\\c|\\\(..|\\[*]?\[[^\]]*\]|E<[^>]*>")
_WRITTEN_OUT = {"\\-": "-", "\\(aq": "'", "\\(em": "\N{EM DASH}", "\\(bu": "\N{BULLET}", "\\~": " ", '"': "", "\\": ""}


def prose(line: str) -> bool:
    """Whether a line is words: fifteen characters at least, seven tenths of them letters and spaces."""
    return len(line) >= 15 and sum(char.isalpha() or char == " " for char in line) > 0.7 * len(line)


def manual(page: str) -> Iterator[str]:
    """The lines of a manual page without troff's requests and escapes."""
    for row in page.splitlines():
        line = _REQUEST.sub("", row)
        if line.startswith((".", "'")):
            continue
        for sign, written in _WRITTEN_OUT.items():
            line = _FONT.sub("", line).replace(sign, written)
        yield " ".join(line.split())


def fortunes(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*")):
        if path.suffix not in {".dat", ".u8"}:
            yield from (" ".join(row.split()) for row in path.read_text(encoding="utf-8", errors="ignore").splitlines())


def main() -> None:
    packages, out = map(Path, sys.argv[1:])
    out.mkdir(parents=True, exist_ok=True)
    texts = {"fortunes": list(fortunes(packages / "fortunes/usr/share/games/fortunes"))}
    for path in sorted(packages.glob("*/usr/share/man/*/man*/*.gz")):
        with gzip.open(path, "rt", encoding="utf-8", errors="ignore") as file:
            texts.setdefault(path.parts[-3], []).extend(manual(file.read()))
    for name, lines in texts.items():
        kept = sorted(set(filter(prose, lines)))
        chosen = np.random.default_rng(0).permutation(len(kept))[:LINES_A_LANGUAGE]
        (out / f"{name}.txt").write_text("".join(f"{kept[i]}\n" for i in chosen), encoding="utf-8")
        sys.stderr.write(f"{name}: {len(kept)} lines\n")


if __name__ == "__main__":
    main()
