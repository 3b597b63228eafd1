"""Serves the toolkit's own telemetry on the port it prints: every scrape finds a little more traffic."""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from ocr_ops.core.reading import Line, Page
from ocr_ops.core.release import Release
from ocr_ops.core.spec import TASKS
from ocr_ops.runtime import telemetry

CORNERS = ((0.0, 0.0), (9.0, 0.0), (9.0, 9.0), (0.0, 9.0))
PAGE = Page(
    width=9,
    height=9,
    lines=tuple(Line(text="a", confidence=share, polygon=CORNERS, words=()) for share in (0.5, 0.99)),
)


class Exporter(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """One document read, one refused, one failed; then the metrics."""
        telemetry.documents_in_flight(1)
        for status in (200, 422, 500):
            telemetry.document_answered(status, 0.2)
        telemetry.documents_in_flight(-1)
        for stage in ("decode", "detection", "recognition"):
            with telemetry.stage(stage):
                telemetry.page_read(PAGE, ())
        telemetry.page_read(PAGE, [line.confidence for line in PAGE.lines])
        for task in TASKS:
            telemetry.batch(task, 3)
        telemetry.http_answered("/v1/ocr", "POST", 200, 0.2)
        telemetry.cache_asked("hit")
        telemetry.cache_bytes(1)
        telemetry.job_over("done")
        telemetry.webhook_tried("sent")
        telemetry.store_up(up=True)
        telemetry.store_left("slow")
        telemetry.audit_lost(1)
        body, kind = telemetry.exposition()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Scrapes are not worth a line."""


if __name__ == "__main__":
    release = Release.open(Path(sys.argv[1]))
    telemetry.release_loaded(release)
    for bundle in (release.detection, release.recognition):
        telemetry.model_loaded(bundle, "CPUExecutionProvider")
        telemetry.model_attested(bundle.manifest.task, "CPUExecutionProvider", attested=True)
    server = HTTPServer(("127.0.0.1", 0), Exporter)
    print(server.server_port, flush=True)  # noqa: T201
    server.serve_forever()
