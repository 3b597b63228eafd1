"""Every Prometheus metric the services expose, named once; telemetry, rules and dashboards read this."""

REQUESTS = "ocr_requests_total"
"""Counter: documents answered. Labels: status (HTTP status code)."""
REQUEST_SECONDS = "ocr_request_duration_seconds"
"""Histogram: gateway, whole document. No labels."""
PAGES = "ocr_pages_total"
"""Counter: pages read. Labels: orientation (degrees clockwise: 0, 90, 180, 270)."""
LINES = "ocr_lines_total"
"""Counter: lines recognised."""
LINE_CONFIDENCE = "ocr_line_confidence"
"""Histogram: mean confidence of each piece of a line that was read, also of those a page leaves out as doubtful."""
STAGE_SECONDS = "ocr_stage_duration_seconds"
"""Histogram. Labels: stage (decode, detection, recognition)."""
BATCH_ITEMS = "ocr_batch_items"
"""Histogram: pages or crops that one call of a network carried. Labels: task."""
MODEL_INFO = "ocr_model_info"
"""Gauge, always 1. Labels: task, model, precision, digest, provider."""
RELEASE_INFO = "ocr_release_info"
"""Gauge, always 1. Labels: digest."""
MODEL_ATTESTED = "ocr_model_attested"
"""Gauge: 1 where the release was admitted on this CPU's instructions and provider, else 0. Labels: task, provider."""
IN_FLIGHT = "ocr_requests_in_flight"
"""Gauge: documents being read now."""
STORE_UP = "ocr_store_up"
"""Gauge: 1 while Redis answers, 0 while the service goes on without it; none where there is no Redis."""
STORE_LEFT = "ocr_store_left_total"
"""Counter: times Redis was found away. Labels: reason (slow, gone, full, read-only, refused, an error)."""
HTTP_REQUESTS = "ocr_http_requests_total"
"""Counter: requests answered. Labels: route (an operation's path, or other), method, status (499: the client left)."""
HTTP_SECONDS = "ocr_http_request_duration_seconds"
"""Histogram. Labels: route."""
AUDIT_LOST = "ocr_audit_lost_total"
"""Counter: entries the audit log could not take."""

SECONDS_BUCKETS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75,
    1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 20.0, 30.0, 60.0,
)  # fmt: skip
"""Edges at every budget an SLO is likely to name: a histogram cannot be asked between its edges."""
CONFIDENCE_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0)
ITEMS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
