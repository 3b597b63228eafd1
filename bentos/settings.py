"""Settings: what the gateway's workers make of the environment, looked at before any of them starts."""

from bentos.audit import Auditor
from bentos.cache import cache_from_environment
from bentos.headers import cors_origins
from bentos.jobs.desk import Desk
from bentos.limits import Meter
from bentos.store import Store


def require_settings() -> None:
    """Ends the process with one line where a worker would, over its settings, and so each that takes its place."""
    store = Store.from_environment()
    cache_from_environment(store)
    Meter.from_environment(store)
    Auditor.from_environment()
    Desk.from_environment()
    cors_origins()
