"""Who calls: what every route finds in `scope["state"]["caller"]`."""

from dataclasses import dataclass

from ocr_ops.core.keys import Role


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, and what they may do. The id stays when a key is rotated."""

    id: str
    roles: frozenset[Role]
