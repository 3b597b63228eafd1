"""What whoever runs the service may do to it."""

from starlette.requests import Request
from starlette.responses import Response

from bentos.api.serving import gateway_of


async def purge_cache(request: Request) -> Response:
    await gateway_of(request).answers.purge()
    return Response(status_code=204)
