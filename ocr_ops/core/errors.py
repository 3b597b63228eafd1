"""Every failure the toolkit can name, and the exit code a shell sees for it.

OcrOpsError
├── GateFailed            1   a measured verdict says no
├── UsageError            2   the command itself is wrong
├── NotProven             3   inconclusive or invalid: no evidence either way, which never passes
├── BadInput              4   what was handed in cannot be used
│   ├── UnreadableDocument    an image or PDF that does not decode, is too big, or is locked
│   ├── CorruptBundle         a bundle whose bytes are not those its manifest promises
│   ├── BadRecord             a JSON/TOML file that is not the record it should be
│   ├── UnwritableLanguage    a language whose letters the release lacks, or that nobody knows
│   ├── Refused               a request that a service does not take as it is
│   ├── NotAllowed            no key, not a valid one, or one that may not do this
│   ├── UntrustedReceipt      a receipt signed by nobody we trust, or altered since
│   └── UnknownModel          a model, version, digest or alias nobody registered
└── OutsideSystem         5   something we depend on is away: MLflow, a port, a server, a program
    ├── RegistryUnreachable
    ├── PortOccupied
    ├── ServerDied
    ├── ServiceAway           a service nobody answers for
    ├── ServiceFailed         a service that answers with a fault of its own, or with nonsense
    ├── ModelAway             a model service does not answer, or failed
    │   └── ModelFailed           and did so because of what it was asked: asked again, it will again
    ├── Overloaded            the service has as much to do as it can answer in time
    ├── StoreAway             Redis is slow, full, read-only or gone; who needs it goes on without
    └── TooLate               the deadline passed: the caller's, or the service's own
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every `ocr-ops` command and load test."""

    PASS = 0
    GATE_FAILED = 1
    USAGE = 2
    NOT_PROVEN = 3
    BAD_INPUT = 4
    OUTSIDE = 5


class OcrOpsError(Exception):
    """One readable line: who it is about, what was found, what was expected, what to do."""

    exit_code = ExitCode.BAD_INPUT

    def __init__(self, subject: object, found: str, expected: str, remedy: str) -> None:
        self.subject = str(subject)
        self.found = found
        self.expected = expected
        self.remedy = remedy
        super().__init__(f"{self.subject}: {found}; expected {expected}; {remedy}")

    def __reduce__(self) -> tuple[type["OcrOpsError"], tuple[str, str, str, str]]:
        # Exceptions cross process boundaries; the default would call __init__ with one argument of four.
        return type(self), (self.subject, self.found, self.expected, self.remedy)


class GateFailed(OcrOpsError):
    exit_code = ExitCode.GATE_FAILED


class UsageError(OcrOpsError):
    exit_code = ExitCode.USAGE


class NotProven(OcrOpsError):
    exit_code = ExitCode.NOT_PROVEN


class BadInput(OcrOpsError):
    exit_code = ExitCode.BAD_INPUT


class UnreadableDocument(BadInput):
    """`http_status` lets the edge say 413 or 415 instead of a plain 422."""

    def __init__(self, subject: object, found: str, expected: str, remedy: str, http_status: int = 422) -> None:
        super().__init__(subject, found, expected, remedy)
        self.http_status = http_status

    def __reduce__(self) -> tuple[type["OcrOpsError"], tuple[str, str, str, str, int]]:  # type: ignore[override]
        return type(self), (self.subject, self.found, self.expected, self.remedy, self.http_status)


class CorruptBundle(BadInput):
    pass


class BadRecord(BadInput):
    pass


class UnwritableLanguage(BadInput):
    pass


class Refused(BadInput):
    """`http_status` is what the service said."""

    def __init__(self, subject: object, found: str, expected: str, remedy: str, http_status: int = 400) -> None:
        super().__init__(subject, found, expected, remedy)
        self.http_status = http_status

    def __reduce__(self) -> tuple[type["OcrOpsError"], tuple[str, str, str, str, int]]:  # type: ignore[override]
        return type(self), (self.subject, self.found, self.expected, self.remedy, self.http_status)


class NotAllowed(BadInput):
    pass


class UntrustedReceipt(BadInput):
    pass


class UnknownModel(BadInput):
    pass


class OutsideSystem(OcrOpsError):
    exit_code = ExitCode.OUTSIDE


class RegistryUnreachable(OutsideSystem):
    pass


class PortOccupied(OutsideSystem):
    pass


class ServerDied(OutsideSystem):
    pass


class ServiceAway(OutsideSystem):
    pass


class ServiceFailed(OutsideSystem):
    pass


class ModelAway(OutsideSystem):
    pass


class ModelFailed(ModelAway):
    pass


class Overloaded(OutsideSystem):
    """`retry_after` seconds on, there should be room again."""

    def __init__(self, subject: object, found: str, expected: str, remedy: str, retry_after: int = 1) -> None:
        super().__init__(subject, found, expected, remedy)
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[type["OcrOpsError"], tuple[str, str, str, str, int]]:  # type: ignore[override]
        return type(self), (self.subject, self.found, self.expected, self.remedy, self.retry_after)


class StoreAway(OutsideSystem):
    pass


class TooLate(OutsideSystem):
    """`http_status` is 504 where the caller set the deadline, and 503 where it was the service's own."""

    def __init__(self, subject: object, found: str, expected: str, remedy: str, http_status: int = 504) -> None:
        super().__init__(subject, found, expected, remedy)
        self.http_status = http_status

    def __reduce__(self) -> tuple[type["OcrOpsError"], tuple[str, str, str, str, int]]:  # type: ignore[override]
        return type(self), (self.subject, self.found, self.expected, self.remedy, self.http_status)
