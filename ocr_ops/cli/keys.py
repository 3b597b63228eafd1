"""The commands about API keys: create, list, rotate and revoke them. A running service follows within a second."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, get_args

import click

from ocr_ops.cli.options import cli, json_option, print_rows
from ocr_ops.core.audit import AuditLog, Event
from ocr_ops.core.chain import actor
from ocr_ops.core.errors import UsageError
from ocr_ops.core.keys import Changed, Key, KeyRing, Limits, Role, change_keys, now, read_keys
from ocr_ops.core.workspace import Workspace, shown

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Span(click.ParamType[timedelta]):
    """A span of time: 90d, 24h, 15m, 30s."""

    name = "span"

    def __init__(self, *, some: bool = False) -> None:
        """`some`: more than none."""
        self.some = some

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        found = re.fullmatch(r"(\d{1,6})([smhd])", str(value))
        if not found:
            self.fail(f"{value!r} is no span such as 90d, 24h, 15m or 30s", param, ctx)
        span = timedelta(seconds=int(found[1]) * _UNITS[found[2]])
        if self.some and not span:
            self.fail(f"{value!r} is no time; leave it out for a key that never expires", param, ctx)
        return span


@cli.group()
def keys() -> None:
    r"""Make, list, replace and take back the keys that callers of the service send. docs/security.md says more.

    They stand in keys.json of the workspace, or in OCR_OPS_KEYS_FILE; of each secret only a slow hash.

    \b
    Example: ocr-ops keys create scanner --role read --expires 90d
    """


@keys.command()
@click.argument("name")
@click.option("--role", "roles", type=click.Choice(get_args(Role)), multiple=True, default=("read",), show_default=True)
@click.option("--expires", type=Span(some=True), help="After so long, e.g. 90d; never without it.")
@click.option("--requests-per-minute", type=click.IntRange(min=0), help="0: no limit; the service's own without it.")
@click.option("--pages-per-day", type=click.IntRange(min=0), help="As above.")
@click.option("--pages-per-month", type=click.IntRange(min=0), help="As above.")
@json_option
def create(
    *, name: str, roles: tuple[Role, ...], expires: timedelta | None, as_json: bool, **limits: int | None
) -> None:
    r"""Make a key. It is shown this once: what is kept does not tell it.

    \b
    Example: ocr-ops keys create scanner --role read --role feedback --expires 90d --pages-per-day 5000
    """
    made = now()
    until = made + expires if expires else None
    kinds = tuple(dict.fromkeys(roles))
    _show(_change("create", lambda ring: ring.create(name, kinds, Limits(**limits), until, made)), as_json=as_json)


@keys.command("list")
@json_option
def list_(*, as_json: bool) -> None:
    r"""Who has a key, as what, until when; never a secret.

    \b
    Example: ocr-ops keys list --json
    """
    print_rows([_row(key, now()) for key in read_keys(Workspace.current().api_keys).keys], as_json=as_json)


@keys.command()
@click.argument("name")
@click.option("--grace", type=Span(), default="24h", show_default=True, help="How long the old secret stays good.")
@json_option
def rotate(*, name: str, grace: timedelta, as_json: bool) -> None:
    r"""Give a key, by name or id, a new secret. It keeps its id, roles, limits and quotas.

    \b
    Example: ocr-ops keys rotate scanner --grace 24h
    """
    _show(_change("rotate", lambda ring: ring.rotate(name, grace, now())), as_json=as_json)


@keys.command()
@click.argument("name")
@json_option
def revoke(*, name: str, as_json: bool) -> None:
    r"""Take a key back, by name or id, all its secrets at once. Its record stays, for the audit log's sake.

    \b
    Example: ocr-ops keys revoke scanner
    """
    changed = _change("revoke", lambda ring: ring.revoke(name, now()))
    print_rows([_row(changed.key, now())], as_json=as_json)


def _change(what: str, change: Callable[[KeyRing], Changed]) -> Changed:
    """Writes a change, and an entry about it in the audit log."""
    workspace = Workspace.current()
    try:
        changed = change_keys(workspace.api_keys, change)
    except OSError as error:
        found = (error.strerror or str(error)).lower()
        remedy = "name another in OCR_OPS_KEYS_FILE"
        raise UsageError(shown(workspace.api_keys), found, "a file to write", remedy) from None
    event = Event(caller=actor(), action=f"keys {what}", outcome="done", subject=changed.key.id)
    try:
        AuditLog(workspace.audit).append([event])
    except OSError as error:
        click.echo(f"ocr-ops: audit log {workspace.audit}: {error}; the key is changed all the same", err=True)
    return changed


def _show(changed: Changed, *, as_json: bool) -> None:
    print_rows([{**_row(changed.key, now()), "key": changed.secret}], as_json=as_json)
    click.echo("Keep it now: it is not shown again. Callers send it as `Authorization: Bearer KEY`.", err=True)


def _row(key: Key, at: datetime) -> dict[str, Any]:
    good = [secret for secret in key.secrets if key.good(secret, at)]
    return {
        "id": key.id,
        "name": key.name,
        "roles": ",".join(key.roles),
        "state": key.state(at),
        "created": key.created.isoformat(),
        "expires": key.expires.isoformat() if key.expires else None,
        "secrets": len(good),
        "requests_per_minute": key.limits.requests_per_minute,
        "pages_per_day": key.limits.pages_per_day,
        "pages_per_month": key.limits.pages_per_month,
    }
