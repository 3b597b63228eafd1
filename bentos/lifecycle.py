"""Lifecycle: what holds before any worker starts, and how they end: the gateway drains first, the models after it."""

import asyncio
import atexit
import fcntl
import gc
import ipaddress
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from circus.arbiter import Arbiter
from circus.controller import Controller
from circus.exc import ConflictError

from bentos import evenly
from bentos.champion import asked_address, end, require_attested, require_champion, require_port, require_provider
from bentos.connections import allow_many
from bentos.lending import GROUP
from bentos.terms import KEY
from ocr_ops.core.errors import UsageError

LOCK, DRAINING = "gateways", "draining"
"""Files of a group's folder that gateways hold a lock on: as long as they live, and while they drain."""
COUNTERS = "OCR_OPS_COUNTERS"
"""The folder of the counters that workers share: in memory, since one that starts on a full disk could write none."""
MEMORY = Path("/dev/shm")  # noqa: S108  a folder of our own is made in it
DRAIN = "OCR_OPS_DRAIN_SECONDS"
"""How long a gateway that was told to end goes on answering /readyz with 503, for a balancer to see it."""
LONGEST_DRAIN = 600.0
_POLL_SECONDS = 0.05
_LOOK_SECONDS = 1.0
"""How often it is looked for dead workers, to put others in their place; BentoML alone looks every ten."""
if COUNTERS in os.environ:  # in a worker, before it counts anything: BentoML names a folder on disk
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.environ[COUNTERS]
_ALONE_SECONDS = 10.0
"""After which a model that is told to end, while no gateway is, goes alone, working until then: its place is taken by
another. A gateway on a busy machine needs some of it to learn that it is told, too."""


def check_group() -> None:
    """Of the gateway, before any worker of it or of the models beside it starts."""
    _check()
    os.environ[KEY] = os.environ.get(KEY) or secrets.token_urlsafe(32)
    os.environ[GROUP] = _folder()
    for name in (LOCK, DRAINING, evenly.FILE):
        Path(os.environ[GROUP], name).touch(0o600)


def check_model() -> None:
    """Of a model's service, before any worker of it starts. `check_group` has been there if a gateway is beside it."""
    require_provider()
    if GROUP in os.environ:
        return
    host, _ = asked_address()
    if not os.environ.get(KEY) and not _loopback(host):
        remedy = f"export {KEY}=$(openssl rand -base64 32), for the gateway too; or pass --host 127.0.0.1"
        end(UsageError(host, f"a model open to the network, without {KEY}", "a key that the gateway shows", remedy))
    _check()


def _check() -> None:
    require_champion()
    require_attested()
    require_port()
    # BentoML does not start a dead worker again where it believes to be in a container: the others would go on
    # without it, and nothing else restarts it.
    os.environ.pop("BENTOML_CONTAINERIZED", None)
    _look_often()
    _hear_nobody_else()
    allow_many()
    if os.access(MEMORY, os.W_OK):
        os.environ[COUNTERS] = _folder(MEMORY)
    atexit.register(gc.freeze)  # what is left goes with this process: to look through it takes half a second


def _look_often() -> None:
    """Of BentoML's process manager, which this process is about to start."""
    start = Controller.start

    def often(self: Any) -> None:
        look = self.arbiter.manage_watchers

        def unless_busy() -> Any:
            with suppress(ConflictError):  # it is just starting or ending them; as an error, it would be logged
                return look()

        self.arbiter.manage_watchers = unless_busy
        self.check_delay = min(self.check_delay, 1000 * _LOOK_SECONDS)
        start(self)

    Controller.start = often


def _hear_nobody_else() -> None:
    """BentoML's process manager takes commands, programs to start among them. It listens for them on a port, of which
    any user of this machine is heard; now on files in a folder of this user's own.
    """
    init = Arbiter.__init__

    def inside(self: Any, *args: Any, **more: Any) -> None:
        folder = _folder()
        ours = {"endpoint": f"ipc://{folder}/control", "pubsub_endpoint": f"ipc://{folder}/events"}
        init(self, *args, **(more | ours))

    Arbiter.__init__ = inside


def settle() -> None:
    """Of a worker that is ready: what it holds by now it keeps, and the collector need not look through it again.

    In a profile of the gateway a sixth of the samples stood where objects are made, and no longer do.
    """
    gc.collect()
    gc.freeze()


def _folder(within: Path | None = None) -> str:
    """A fresh one, gone with this process, which outlives all workers."""
    folder = tempfile.mkdtemp(prefix="ocr-ops-", dir=within)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def drain(busy: Callable[[], bool], close: Callable[[], None], seconds: float) -> None:
    """Lets this gateway, when it is told to end (SIGTERM), go on for `seconds` and as long as it is `busy`.

    `close` is called at once. Then the server itself ends: it takes no more connections, and finishes its answers.
    """
    group, draining = _group(LOCK), _group(DRAINING)
    if group is not None:
        fcntl.flock(group, fcntl.LOCK_SH)

    async def drained() -> None:
        if draining is not None:
            fcntl.flock(draining, fcntl.LOCK_SH)
        close()
        await _until(lambda since: since >= seconds and not busy())

    _before_the_end(drained)


def outlive_gateway() -> None:
    """Lets this model, when it is told to end (SIGTERM) together with the gateways beside it, end after them."""
    group, draining = _group(LOCK), _group(DRAINING)
    if group is None or draining is None:
        return

    async def alone() -> None:
        await _until(lambda since: _free(group) or (since > _ALONE_SECONDS and _free(draining)))

    _before_the_end(alone)


async def _until(over: Callable[[float], bool]) -> None:
    """Returns once `over`, given the seconds since the call, says so; at the latest after `LONGEST_DRAIN`."""
    begun = time.monotonic()
    while (since := time.monotonic() - begun) < LONGEST_DRAIN and not over(since):  # noqa: ASYNC110  other processes set no event
        await asyncio.sleep(_POLL_SECONDS)


def _group(name: str) -> int | None:
    folder = os.environ.get(GROUP)
    return os.open(Path(folder, name), os.O_RDWR | os.O_CLOEXEC) if folder else None


def _free(file: int) -> bool:
    """Whether no gateway holds a lock on it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(file, fcntl.LOCK_UN)
    return True


def _before_the_end(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """On SIGTERM, does `work` first, and only then what the server does."""
    loop, server = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)
    begun: list[asyncio.Task[None]] = []  # held, or it might be collected

    async def then_end() -> None:
        try:
            await work()
        finally:
            signal.signal(signal.SIGTERM, server)
            signal.raise_signal(signal.SIGTERM)

    def begin() -> None:
        if not begun:
            begun.append(loop.create_task(then_end()))

    signal.signal(signal.SIGTERM, lambda _signal, _frame: loop.call_soon_threadsafe(begin))
