"""Examples of what the API answers, as OpenAPI shows them. They are values of the models, so they cannot grow stale."""

import datetime as dt

from bentos.api.jobs import JobList, JobPages, JobStatus
from bentos.api.ocr import Batch, BatchItem, Content, DoneEvent, PageEvent
from bentos.api.problems import KIND, Problem
from bentos.api.stream import ProblemEvent
from ocr_ops.core.reading import Block, Line, Page, Polygon, Reading, Word
from ocr_ops.core.record import Value


def _box(left: float, right: float) -> Polygon:
    return ((left, 40), (right, 40), (right, 68), (left, 68))


PROBLEM = Problem(
    type=f"{KIND}unreadable-document",
    title="Unsupported Media Type",
    status=415,
    detail="an unknown type",
    subject="notes.txt",
    expected="JPEG, PNG, TIFF, WebP, BMP, GIF, PDF or DOCX",
    remedy="convert it first",
    instance="urn:ocr-ops:request:5b0c3a9d",
)
LINE = Line(
    text="TOTAL 12.00",
    confidence=0.98,
    polygon=_box(60, 310),
    words=(
        Word(text="TOTAL", confidence=0.99, polygon=_box(60, 160)),
        Word(text="12.00", confidence=0.97, polygon=_box(220, 310)),
    ),
)
PAGE = Page(
    of=1,
    width=744,
    height=1574,
    lines=(LINE,),
    blocks=(Block(kind="text", confidence=0.98, polygon=LINE.polygon, lines=(0,)),),
)
READING = Reading(pages=(PAGE,))

JOB = JobStatus(
    id="5f0c2a1d9be34c7c8c1b3a4d5e6f7a8b",
    state="running",
    name="report.pdf",
    pages=JobPages(done=12, total=240),
    created=dt.datetime(2026, 1, 31, 9, 30, tzinfo=dt.UTC),
    expires=dt.datetime(2026, 2, 1, 9, 30, tzinfo=dt.UTC),
)

EXAMPLES: dict[type[Value], Value] = {
    Problem: PROBLEM,
    Reading: READING,
    PageEvent: PageEvent(page=PAGE),
    DoneEvent: DoneEvent(
        pages=1, content=Content(media_type="text/plain; charset=utf-8", encoding="utf-8", data="TOTAL 12.00")
    ),
    JobStatus: JOB,
    JobList: JobList(jobs=(JOB,)),
    ProblemEvent: ProblemEvent(problem=PROBLEM),
    Batch: Batch(
        documents=(
            BatchItem(index=0, name="receipt.jpg", status=200, reading=READING),
            BatchItem(index=1, name="notes.txt", status=415, problem=PROBLEM),
        )
    ),
}
