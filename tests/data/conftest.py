import pytest


@pytest.fixture(autouse=True)
def base_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the fonts of the `base` set, so that what is drawn does not depend on what else is installed."""
    folders = ("/usr/share/fonts/truetype/dejavu", "/usr/share/fonts/truetype/liberation2")
    monkeypatch.setenv("OCR_OPS_FONTS", ":".join(folders))
