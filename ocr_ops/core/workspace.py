"""Where the toolkit keeps what it makes: one folder, `.ocr-ops` or `OCR_OPS_HOME`."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_SURROGATES = re.compile("[\ud800-\udfff]")
"""What Python has in a name for bytes that are no UTF-8, and JSON may have in a text; no encoding takes them."""
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters, but for tabs and ends of lines."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Paths only; nothing is created by asking."""

    home: Path

    @classmethod
    def current(cls) -> Self:
        return cls(Path(os.environ.get("OCR_OPS_HOME", ".ocr-ops")).absolute())

    @property
    def tracking_uri(self) -> str:
        """The embedded MLflow store; `MLFLOW_TRACKING_URI` takes over when it is set."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        return self.home / "mlartifacts"

    @property
    def runs(self) -> Path:
        """Training runs: checkpoints and curves."""
        return self.home / "runs"

    @property
    def bundles(self) -> Path:
        """Bundles by MODEL-PRECISION."""
        return self.home / "bundles"

    @property
    def releases(self) -> Path:
        """Release folders by short digest."""
        return self.home / "releases"

    @property
    def champion(self) -> Path:
        """The release being served: the same relative place in a clone and inside a Bento."""
        return self.home / "champion"

    @property
    def reports(self) -> Path:
        return self.home / "reports"

    @property
    def receipts(self) -> Path:
        return self.home / "receipts"

    @property
    def keys(self) -> Path:
        """Keys that sign and verify receipts."""
        return self.home / "keys"

    @property
    def api_keys(self) -> Path:
        """Who may call the service; `OCR_OPS_KEYS_FILE` takes over when it is set: a mounted secret."""
        return Path(os.environ.get("OCR_OPS_KEYS_FILE") or self.home / "keys.json")

    @property
    def audit(self) -> Path:
        """Who asked the service for what; `OCR_OPS_AUDIT_FOLDER` takes over when it is set."""
        return Path(os.environ.get("OCR_OPS_AUDIT_FOLDER") or self.home / "audit")

    @property
    def ledger(self) -> Path:
        return self.home / "ledger.jsonl"


def shown(path: Path) -> str:
    """A path as a person would type it from here."""
    whole, here = path.absolute(), Path.cwd()
    return printable(str(whole.relative_to(here)) if whole.is_relative_to(here) else str(whole))


def legible(name: str) -> str:
    """A file's name as it can be sent: U+FFFD stands for bytes that are no UTF-8. It opens nothing."""
    return _SURROGATES.sub("\ufffd", name)


def printable(text: str) -> str:
    """A text with names in it as a terminal may be given it: `legible`, and without what terminals obey."""
    return _OBEYED.sub("\ufffd", legible(text))
