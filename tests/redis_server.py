"""A real Redis on a free port, that a test may slow down, fill, or kill."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis


@dataclass
class RedisServer:
    """Started by `start`, also again on the same port after `kill`; what it held is then gone."""

    folder: Path
    options: tuple[str, ...] = ()
    tls: bool = False
    port: int = 0
    process: subprocess.Popen[bytes] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        ports = ("--port", "0", "--tls-port", str(self.port)) if self.tls else ("--port", str(self.port))
        command = ["redis-server", "--bind", "127.0.0.1", *ports, "--save", "", "--dir", str(self.folder)]
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen([*command, *self.options], stdout=log, stderr=log)
        deadline = time.monotonic() + 15
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert time.monotonic() < deadline, (self.folder / "redis.log").read_text()
                time.sleep(0.02)
            else:
                return

    def client(self) -> redis.Redis:
        """To look inside, from outside."""
        return redis.Redis.from_url(self.url, socket_timeout=10)

    def configure(self, name: str, value: str) -> None:
        with self.client() as client:
            client.config_set(name, value)

    def pause(self) -> None:
        """It accepts connections, and answers nobody."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def redis_running(folder: Path, *options: str, tls: bool = False) -> Iterator[RedisServer]:
    """One that is up, and gone after the block."""
    folder.mkdir(parents=True, exist_ok=True)
    server = RedisServer(folder, options, tls)
    try:
        server.start()
        yield server
    finally:
        server.kill()
