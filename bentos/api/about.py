"""What the service says of itself: what it is, what it runs, what it takes, and how it is."""

import asyncio
from typing import Annotated, Any

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bentos.api.form import OUTPUTS
from bentos.api.ocr import BATCH_BYTES, BATCH_FILES
from bentos.api.serving import gateway_of
from ocr_ops import __version__
from ocr_ops.core.bundle import Digest, ModelBundle, Precision
from ocr_ops.core.languages import writable
from ocr_ops.core.options import OutputFormat, ReadOptions
from ocr_ops.core.record import Told, Value
from ocr_ops.core.spec import TASKS, Task
from ocr_ops.runtime import telemetry

FORMATS = ("JPEG", "PNG", "TIFF", "WebP", "BMP", "GIF", "PDF", "DOCX")

Count = Annotated[int, Field(ge=0)]


class ServedModel(Told):
    """A model as it runs now."""

    task: Task
    model: str
    digest: Digest
    """Of its bundle: its identity."""
    precision: Precision
    licence: str
    provider: str | None = None
    """What ONNX Runtime runs it on; absent while its worker does not answer."""
    attested: bool | None = None
    """Whether its release was admitted with this machine's arithmetic."""
    characters: Count | None = None
    """Recognition: how many different ones it can write."""
    languages: tuple[str, ...] | None = None
    """Recognition: BCP 47 tags of the languages it has all letters of."""


class Models(Told):
    """The models behind `POST /v1/ocr`."""

    release: Digest
    models: tuple[ServedModel, ...]


class Limits(Told):
    document_bytes: Count
    document_pages: Count
    page_pixels: Count
    """Images above are refused; PDF pages are rendered coarser instead."""
    batch_files: Count
    batch_bytes: Count
    seconds: Count
    """What a request may take, whatever its deadline says."""
    in_flight: Count
    """Documents that a worker of the gateway takes at once; those beyond get 503 with `Retry-After`."""


class About(Told):
    """What the service is and takes."""

    version: str
    release: Digest
    """Of the models that serve together."""
    serving: Digest
    """Of the settings they are run with."""
    formats: tuple[str, ...]
    outputs: tuple[OutputFormat, ...]
    languages: tuple[str, ...]
    """BCP 47 tags; others are refused."""
    options: dict[str, Any]
    """The options of a reading as a JSON Schema."""
    limits: Limits


async def about(request: Request) -> Response:
    gateway = gateway_of(request)
    engine = gateway.engine
    found = About(
        version=__version__,
        release=engine.release.digest,
        serving=engine.settings.digest,
        formats=FORMATS,
        outputs=OUTPUTS,
        languages=writable(engine.release.recognition.manifest.charset),
        options=ReadOptions.model_json_schema(),
        limits=Limits(
            document_bytes=engine.limits.max_bytes,
            document_pages=engine.limits.max_pages,
            page_pixels=engine.limits.max_pixels,
            batch_files=BATCH_FILES,
            batch_bytes=BATCH_BYTES,
            seconds=gateway.document_seconds,
            in_flight=gateway.admission.limit,
        ),
    )
    return _json(found)


async def models(request: Request) -> Response:
    engine = gateway_of(request).engine
    told = await asyncio.gather(*map(engine.loaded, TASKS))
    bundles = (engine.release.detection, engine.release.recognition)
    served = tuple(_served(bundle, state) for bundle, state in zip(bundles, told, strict=True))
    return _json(Models(release=engine.release.digest, models=served))


async def ready(request: Request) -> Response:
    status, state = await request.state.gateway.readiness()
    return JSONResponse(state, status, headers={"Retry-After": "1"} if status == 503 else None)


async def alive(request: Request) -> Response:
    status, state = await request.state.gateway.liveness()
    return JSONResponse(state, status)


async def health(request: Request) -> Response:
    return await alive(request)


async def metrics(_request: Request) -> Response:
    text, kind = await run_in_threadpool(telemetry.exposition)
    return Response(text, media_type=kind)


def _served(bundle: ModelBundle, state: dict[str, Any]) -> ServedModel:
    manifest = bundle.manifest
    writes = manifest.task == "recognition"
    return ServedModel(
        task=manifest.task,
        model=manifest.model,
        digest=bundle.digest,
        precision=manifest.precision,
        licence=manifest.licence,
        provider=state.get("provider"),
        attested=state.get("attested"),
        characters=len(set(manifest.charset)) if writes else None,
        languages=writable(manifest.charset) if writes else None,
    )


def _json(value: Value) -> Response:
    return Response(value.model_dump_json(exclude_none=True), media_type="application/json")
