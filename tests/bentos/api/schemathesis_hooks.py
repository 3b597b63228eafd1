"""What schemathesis is told of the API that no schema tells: what documents look like, which places may be called, and
when time may run out.
"""

import uuid

import schemathesis
from hypothesis import strategies as st

from bentos.api.idempotency import HEADER as KEY
from bentos.deadline import HEADER
from tests.fuzz.corpus import seeds

_ENOUGH = 60_000
"""Milliseconds in which any of the documents is read."""
_UNTOLD = "x-schemathesis-unknown-property"
_PUBLIC = ["https://example.org", "https://example.org/hook?job=1", "https://example.org:8443/a"]
_MORE = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), max_size=3)


def _written(spans: list[tuple[int, int]]) -> str:
    """Page 1, which every document has, and more."""
    return ",".join(["1", *(f"{first}-{first + more}" if more else f"{first}" for first, more in spans)])


schemathesis.openapi.format("binary", st.sampled_from(sorted(seeds().values())))
schemathesis.openapi.format("page-ranges", _MORE.map(_written))
schemathesis.openapi.format("uri", st.sampled_from(_PUBLIC))


@schemathesis.hook
def before_call(_context: object, case: schemathesis.Case, _kwargs: dict[str, object]) -> None:
    """A key is new each time: another request under the same one is refused, which is right.

    Headers nobody told of are let pass, which schemathesis sees unless there is a number among those it was told of.
    """
    if KEY in case.headers and case.meta.generation.mode.is_positive:
        case.headers[KEY] = uuid.uuid4().hex
    if _UNTOLD in case.headers:
        case.headers.pop(HEADER, None)


@schemathesis.check
def only_deadlines_run_out(_context: object, response: schemathesis.Response, _case: schemathesis.Case) -> None:
    """504 is for who gave too little time, and for nobody else."""
    if response.status_code == 504:
        given = response.request.headers.get(HEADER, _ENOUGH)
        assert int(given) < _ENOUGH, f"504 with {given} ms"
