"""Errors carry four parts, one line and an exit code."""

import pickle

import pytest

from ocr_ops.core import errors


def every_error() -> list[type[errors.OcrOpsError]]:
    found = [errors.OcrOpsError]
    for error in found:
        found.extend(error.__subclasses__())
    return [error for error in found if error.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", every_error())
def test_error_is_one_line_and_crosses_processes(kind: type[errors.OcrOpsError]) -> None:
    """Subject, found, expected and remedy survive pickling between workers."""
    error = pickle.loads(pickle.dumps(kind("file", "nothing", "something", "look")))  # noqa: S301 - our own bytes
    assert str(error) == "file: nothing; expected something; look"
    assert error.exit_code in errors.ExitCode
    assert error.exit_code is not errors.ExitCode.PASS


def test_the_tree_at_the_top_of_the_file_is_the_tree() -> None:
    """Every class is drawn in the module's docstring."""
    assert errors.__doc__ is not None
    for kind in every_error():
        assert kind.__name__ in errors.__doc__
