"""The API as an OpenAPI 3.1 document, made of its operations and of the models they answer with."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic.json_schema import models_json_schema

from bentos.api.examples import EXAMPLES
from bentos.api.journal import REQUEST_ID
from bentos.api.operations import Operation, Schema
from bentos.api.problems import PROBLEM, Problem
from ocr_ops import __version__
from ocr_ops.core.record import Value

_SCHEMAS = "#/components/schemas/"
_ALWAYS = (400, 500, 503)
_GUARDED = (401, 403, 429)
"""Of operations that ask for a role."""
_TOLD = {
    400: "The request is not one.",
    401: "No key, or not a valid one.",
    403: "The caller's role does not allow it.",
    404: "There is no such thing.",
    406: "None of the answers is among those `Accept` names.",
    408: "The body did not come in time.",
    409: "A request with the same `Idempotency-Key` is being answered, or the job is not done.",
    410: "What was kept of the job can be read no more.",
    413: "The body, the document or one of its pages is too large.",
    415: "Not a multipart form, or not a document of a format that is read.",
    422: "The document cannot be read, or an option is not one.",
    429: "The caller's rate or quota is used up.",
    500: "A fault of the service.",
    503: "The service has too much to do, or the answer was not ready in the time it gives any.",
    504: "The answer was not ready by the deadline that the request came with.",
}
_TEXT = {"type": "string"}
_RETRIED = frozenset({409, 429, 503})
_DESCRIPTION = """Documents in, text out: what stands on each page, where, and how sure it is.

Every answer carries `X-Request-ID`. Every answer that is no success is a problem (RFC 9457), but those of probes; \
those that may be asked again say when in `Retry-After`."""


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The whole document, as JSON has it."""
    told = tuple(operation for operation in operations if operation.told)
    paths: dict[str, dict[str, Any]] = {}
    for operation in told:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ocr_ops",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": _schemas(told),
            "headers": {
                "RequestId": {"description": "Of this request, in the log and in problems.", "schema": _TEXT},
                "RetryAfter": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}},
            },
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key of `ocr-ops keys`, or a JWT where the service is set up for one.",
                }
            },
        },
    }


def limited(document: Mapping[str, Any], languages: Sequence[str]) -> dict[str, Any]:
    """The same of a release that can write these languages and no others; of one that can write none, without the
    option.
    """
    made: dict[str, Any] = copy.deepcopy(dict(document))
    for fields in _fields(made):
        if not languages:
            fields.pop("language", None)
        elif "language" in fields:
            fields["language"] |= {
                "pattern": f"^({'|'.join(languages)})(-[A-Za-z0-9]{{2,8}})*$",
                "examples": ["de" if "de" in languages else languages[0]],
            }
    return made


def _fields(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The schemas of what each operation may be asked, by name: of its form; of its query, which is told anew."""
    for operation in (one for path in document["paths"].values() for one in path.values()):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            yield content["schema"]["properties"]
        schemas = {one["name"]: one["schema"] for one in operation["parameters"]}
        yield schemas
        operation["parameters"] = [one for one in operation["parameters"] if one["name"] in schemas]


def _operation(operation: Operation) -> dict[str, Any]:
    guarded = () if operation.role is None else _GUARDED
    problems = sorted({*_ALWAYS, *guarded, *operation.problems})
    answers = {
        str(status): {"description": HTTPStatus(status).phrase, "headers": _headers(status), "content": _content(kinds)}
        for status, kinds in operation.answers.items()
    }
    found: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": [*operation.parameters, _REQUEST_ID],
        "responses": answers
        | {str(status): _problem(status, _TOLD[status]) for status in problems if status not in operation.answers}
        | {"default": _problem(None, "Any other problem.")},
        # Without any key set up, a service on loopback answers all.
        "security": [] if operation.role is None else [{"key": []}, {}],
    }
    if operation.description:
        found["description"] = operation.description
    if operation.body is not None:
        found["requestBody"] = {"required": True, "content": _content(operation.body)}
    return found


_REQUEST_ID = {
    "name": REQUEST_ID,
    "in": "header",
    "description": "Names the request in the answer, the log and problems: up to 128 letters, digits and `._:/+=@-`. "
    "Where it is absent or anything else, one is made.",
    "schema": _TEXT,
}


def _problem(status: int | None, description: str) -> dict[str, Any]:
    return {"description": description, "headers": _headers(status), "content": _content({PROBLEM: Problem})}


def _headers(status: int | None) -> dict[str, Any]:
    named = {REQUEST_ID: "RequestId", **({"Retry-After": "RetryAfter"} if status in _RETRIED else {})}
    return {name: {"$ref": f"#/components/headers/{component}"} for name, component in named.items()}


def _content(kinds: Mapping[str, type[Value] | Schema | None]) -> dict[str, Any]:
    return {kind: {} if held is None else {"schema": _schema(held)} for kind, held in kinds.items()}


def _schema(held: type[Value] | Schema) -> Schema:
    return {"$ref": _SCHEMAS + held.__name__} if isinstance(held, type) else held


def _schemas(operations: Iterable[Operation]) -> dict[str, Any]:
    """The models, and all they are made of, by name."""
    kinds: set[type[Value]] = {Problem, *EXAMPLES}
    for operation in operations:
        kinds |= set(operation.models)
        for content in (*operation.answers.values(), operation.body or {}):
            kinds |= {held for held in content.values() if isinstance(held, type)}
    ordered = sorted(kinds, key=lambda kind: kind.__name__)
    _, made = models_json_schema(
        [(kind, "validation") for kind in ordered], ref_template=_SCHEMAS + "{model}", by_alias=True
    )
    schemas: dict[str, Any] = made["$defs"]
    for kind, example in EXAMPLES.items():
        schemas[kind.__name__]["examples"] = [example.model_dump(mode="json", exclude_none=True)]
    return schemas
