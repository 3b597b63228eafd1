"""Load: users who post the documents of a folder to /v1/ocr, one after the other, without a pause.

It records and judges nothing: each request becomes a JSON line in the samples file, also those that never got
an answer. Run by `ocr-ops gate`, or by hand:

    locust -f loadtests/locustfile.py --headless --host URL --users 4 --run-time 30s --stop-timeout 60 \
        --documents FOLDER --samples samples.jsonl
"""

import itertools
import json
import time
from pathlib import Path
from typing import Any, TextIO

import gevent
from locust import FastHttpUser, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from pydantic import ValidationError

from ocr_ops.core.reading import Reading

Answer = tuple[int, bytes, str | None]
"""HTTP status (0: none came), body, and what went wrong on the way."""


@events.init_command_line_parser.add_listener
def _options(parser: LocustArgumentParser) -> None:
    parser.add_argument(
        "--documents", env_var="OCR_OPS_DOCUMENTS", required=True, help="folder: each file in it is posted"
    )
    parser.add_argument(
        "--samples", env_var="OCR_OPS_SAMPLES", default="samples.jsonl", help="file to write, a JSON line a request"
    )


class Reader(FastHttpUser):
    """Takes the next document of the folder, over and over, together with all other users."""

    documents: list[tuple[str, bytes]]
    turn = itertools.count()
    samples: TextIO

    connection_timeout = 60.0
    network_timeout = 120.0

    @task
    def read(self) -> None:
        name, data = self.documents[next(self.turn) % len(self.documents)]
        start, clock = time.time(), time.perf_counter()
        answer: Answer = (0, b"", "not answered when the run ended")
        try:
            answer = self._post(name, data)
        finally:  # also when Locust kills this user: a request that hangs is a sample, and the one that matters
            ms = (time.perf_counter() - clock) * 1000
            self._record(start, ms, name, len(data), answer)

    def _post(self, name: str, data: bytes) -> Answer:
        # The same documents come round again: what is measured is reading them, not remembering them.
        headers = {"Cache-Control": "no-store"}
        files = {"file": (name, data)}
        with self.client.post("/v1/ocr", files=files, headers=headers, catch_response=True) as response:
            status, body = response.status_code, response.content or b""
            error = None if status else f"{type(response.error).__name__}: {response.error}"
            if status == 200:
                response.success()
            else:
                response.failure(error or f"status {status}")
            return status, body, error

    def _record(self, start: float, ms: float, name: str, size: int, answer: Answer) -> None:
        status, body, error = answer
        pages = lines = 0
        if status == 200:
            try:
                reading = Reading.model_validate_json(body)
                pages, lines = len(reading.pages), sum(len(page.lines) for page in reading.pages)
                error = None if pages else "a reading without pages"
            except ValidationError as invalid:
                error = f"no reading: {invalid.errors()[0]['msg']}"
        elif status:
            error = body[:200].decode("utf-8", "replace")
        sample = {
            "start": start,
            "ms": ms,
            "status": status,
            "bytes": size,
            "document": name,
            "pages": pages,
            "lines": lines,
            "error": error,
        }
        self.samples.write(json.dumps(sample) + "\n")
        self.samples.flush()


@events.init.add_listener
def _look_at_the_clock(**_: Any) -> None:
    # gevent counts the run time from when its loop last looked: on a busy machine that was before these imports,
    # seconds ago, and the run would end when it has hardly begun.
    gevent.get_hub().loop.update_now()


@events.test_start.add_listener
def _open(environment: Environment, **_: Any) -> None:
    options = environment.parsed_options
    files = sorted(file for file in Path(options.documents).glob("*") if file.is_file() and file.name[0] != ".")
    if not files:
        raise SystemExit(f"error: {options.documents}: no files; expected documents to post; check the folder")
    Reader.documents = [(file.name, file.read_bytes()) for file in files]
    Reader.samples = Path(options.samples).open("w", encoding="utf-8")  # noqa: SIM115  closed when the run ends


@events.quitting.add_listener
def _close(**_: Any) -> None:
    Reader.samples.close()
