"""A release as an MLflow pyfunc model: what `mlflow.pyfunc.load_model("models:/ocr@champion")` runs.

MLflow calls `_load_pyfunc` by that name; nothing of MLflow is imported here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ocr_ops.core.errors import UsageError
from ocr_ops.core.release import Release
from ocr_ops.runtime.pipeline import Reader


class Model:
    def __init__(self, release: Release) -> None:
        self._reader = Reader(release)

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """One reading (the JSON of `POST /v1/ocr`) a document.

        `model_input`: a path, the bytes of a document, a list of either, or a DataFrame with a column `path` or
        `image` (bytes). Errors as `Reader.read`.
        """
        del params  # MLflow passes it; there is nothing to set
        documents = [_document(one) for one in _listed(model_input)]
        return [self._reader.read(data, name).model_dump(mode="json") for data, name in documents]


def _listed(model_input: Any) -> Sequence[Any]:
    if isinstance(model_input, (str, Path, bytes)):
        return [model_input]
    if isinstance(model_input, (list, tuple)):
        return model_input
    for column in ("path", "image"):  # pandas need not be installed to be recognised
        if column in getattr(model_input, "columns", ()):
            return list(model_input[column])
    raise UsageError(
        "model input", type(model_input).__name__, "a path, bytes, a list of them, or a DataFrame", _REMEDY
    )


def _document(one: Any) -> tuple[bytes, str]:
    if isinstance(one, bytes):
        return one, "document"
    if isinstance(one, (str, Path)):
        try:
            return Path(one).read_bytes(), str(one)
        except OSError as error:
            raise UsageError(one, error.strerror or str(error), "a readable file", "check the path") from None
    raise UsageError("model input", type(one).__name__, "a path or bytes", _REMEDY)


_REMEDY = "give `path` or `image` columns, paths, or bytes"


def _load_pyfunc(path: str) -> Model:
    return Model(Release.open(Path(path)))
