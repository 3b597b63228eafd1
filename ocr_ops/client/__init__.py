"""Client: an ocr_ops service called from Python, at once or a page at a time, in turn or in asyncio.

    from ocr_ops.client import Client

    with Client("http://localhost:3000") as client:
        print(client.read("receipt.jpg").text)

Needs httpx, and nothing of what serving needs.
"""

from ocr_ops.client.aio import AsyncClient
from ocr_ops.client.answers import Content, Job, Outcome
from ocr_ops.client.documents import Document, Source
from ocr_ops.client.retry import Retry
from ocr_ops.client.sync import Client
from ocr_ops.core.options import OutputFormat, ReadOptions
from ocr_ops.core.reading import Page, Reading

__all__ = [
    "AsyncClient",
    "Client",
    "Content",
    "Document",
    "Job",
    "Outcome",
    "OutputFormat",
    "Page",
    "ReadOptions",
    "Reading",
    "Retry",
    "Source",
]
