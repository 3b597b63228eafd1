"""Records: what crosses a file, a wire or a machine. Frozen, strict, and identified by digest."""

import ast
import fcntl
import hashlib
import inspect
import json
import os
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from ocr_ops.core.errors import BadRecord


def canonical_json(value: Any) -> str:
    """`value` as JSON with sorted keys, no white space, no NaN: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_bytes(data: bytes) -> str:
    """`sha256:<hex>` of `data`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """`sha256:<hex>` of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def short(digest: str) -> str:
    """The first twelve hex digits, for people and for names; never compared."""
    return digest.removeprefix("sha256:")[:12]


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Writes `path` whole or not at all, also when the process or the machine stops half-way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not after the file's own name, which may be as long as a name can be.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Holds an exclusive lock on a file, waiting for whoever has it; the end of a process frees its locks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Value(BaseModel):
    """A typed part of a record: frozen, unknown keys refused, NaN and infinity refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Told(Value):
    """A value whose schema people read: there, the docstrings of its fields describe them.

    They are found when a schema is asked for. Found by pydantic, as the class is made, they took a tenth of the start
    of every process.
    """

    @classmethod
    @cache
    def told(cls) -> Mapping[str, str]:
        """The docstrings, by field."""
        found = {}
        for kind in reversed(cls.__mro__):
            # One made of another, as BentoML does, has no source, nor fields of its own.
            if issubclass(kind, Told) and inspect.get_annotations(kind):
                source = ast.parse(textwrap.dedent(inspect.getsource(kind)))
                for field, docstring in pairwise(ast.walk(source)):
                    match field, docstring:
                        case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                            found[name] = inspect.cleandoc(text)
        return found

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        made = handler(schema)
        fields = handler.resolve_ref_schema(made)["properties"]
        for name, text in cls.told().items():
            fields[name]["description"] = text
        return made


class Record(Value):
    """A whole file or message. Its digest is that of its canonical JSON."""

    schema_version: Literal[1] = 1

    @property
    def canonical(self) -> str:
        return canonical_json(self.model_dump(mode="json"))

    @property
    def digest(self) -> str:
        return digest_bytes(self.canonical.encode())

    def save(self, path: Path) -> Path:
        """Writes the record as readable JSON, atomically."""
        text = json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
        write_atomic(path, text.encode() + b"\n")
        return path

    @classmethod
    def parse(cls, data: Any, subject: object) -> Self:
        """`data` as this record; `BadRecord` names `subject` and the first wrong field."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise _bad_record(cls, error, subject) from None

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Reads a JSON file; `BadRecord` when it is absent, not JSON, or not this record."""
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise BadRecord(path, "no such file", f"a {cls.__name__} as JSON", "check the path") from None
        except (OSError, UnicodeDecodeError) as error:
            raise BadRecord(path, str(error), f"a {cls.__name__} as JSON", "check the file") from None
        return cls.parse_json(text, path)

    @classmethod
    def parse_json(cls, text: str, subject: object) -> Self:
        """JSON text as this record; `BadRecord` names `subject` when it is not."""
        try:
            return cls.parse(json.loads(text), subject)
        except json.JSONDecodeError as error:
            found = f"no JSON at line {error.lineno}: {error.msg}"
            raise BadRecord(subject, found, f"a {cls.__name__} as JSON", "write it again") from None


def _bad_record(cls: type[BaseModel], error: ValidationError, subject: object) -> BadRecord:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "the whole"
    found = f"{where}: {first['msg']}"
    if error.error_count() > 1:
        found += f" (and {error.error_count() - 1} more)"
    return BadRecord(subject, found, f"a valid {cls.__name__}", "correct that field")
