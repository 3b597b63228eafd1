import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from ocr_ops.core.release import Release
from tests.tiny import build_release

# Machines that run tests are shared: how long one example takes says nothing.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real labelled pages beside the repository; without it the test is skipped."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


@pytest.fixture(scope="session")
def tiny_release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A real release whose graphs need no training; it reads the pages of `tests.tiny.draw`. Never write into it."""
    return build_release(tmp_path_factory.mktemp("tiny") / "release")


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a line of figures where people see it, also of a test that passes."""

    def line(text: str) -> None:
        with capsys.disabled():
            sys.stderr.write(f"\n{text}")

    return line
