"""What is wrong with the environment ends the server, before its workers end over it one after the other."""

from pathlib import Path

import pytest

from bentos.champion import apart
from bentos.settings import require_settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OCR_OPS_AUDIT", "maybe"),
        ("OCR_OPS_CACHE", "maybe"),
        ("OCR_OPS_CACHE_KEY", "short"),
        ("OCR_OPS_CACHE_MB", "lots"),
        ("OCR_OPS_CORS_ORIGINS", "*"),
        ("OCR_OPS_JOB_MB", "0"),
        ("OCR_OPS_PAGES_PER_DAY", "-1"),
        ("OCR_OPS_REDIS_URL", "redis.example"),
        ("OCR_OPS_WEBHOOKS", "all"),
    ],
)
def test_what_its_workers_would_end_over_ends_the_server(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, with its name."""
    monkeypatch.setenv("OCR_OPS_HOME", str(tmp_path))
    require_settings()
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        require_settings()
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {name}: ")
    assert told.count("\n") == 1


@pytest.mark.parametrize("url", ["detection:3001", "http://", "ftp://detection"])
def test_a_model_apart_has_a_url(url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing else is taken for one; an empty variable is none."""
    monkeypatch.setenv("OCR_OPS_DETECTION_URL", "")
    assert apart("OCR_OPS_DETECTION_URL") is None
    monkeypatch.setenv("OCR_OPS_DETECTION_URL", "https://detection.example/v1")
    assert apart("OCR_OPS_DETECTION_URL") == "https://detection.example/v1"
    monkeypatch.setenv("OCR_OPS_DETECTION_URL", url)
    with pytest.raises(SystemExit):
        apart("OCR_OPS_DETECTION_URL")
    assert capsys.readouterr().err.startswith(f"error: OCR_OPS_DETECTION_URL: {url!r}")
