"""Logging of the dispatcher's own processes: every record, also Celery's and other libraries', in one format.

Only a worker, its sweep and the long-running commands call `configure`; importing the dispatcher configures nothing.
"""

import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from types import TracebackType
from typing import Any, Final, Literal, TextIO

import orjson

from dispatcher.config.passwords import passwords_of
from dispatcher.config.setting import Secret
from dispatcher.config.settings import Settings
from dispatcher.logs.redaction import SHORTEST_SECRET, indented, one_line, redact

Format = Literal["auto", "json", "console"]
Event = dict[str, Any]

CHATTY: Final = ("urllib3", "requests", "sqlalchemy", "psycopg", "redis", "asyncio", "amqp", "aiohttp")
"""Below WARNING these log URLs, statements or rows, which hold people's numbers."""

NOISY: Final = ("celery.worker.strategy", "celery.app.trace")
"""Two lines for every doorbell at INFO; they are shown at DEBUG."""

_KEPT_AS_THEY_ARE: Final = frozenset({"timestamp", "exception"})
_SHORTEST_FINDING: Final = 7
"""No number of a person and no secret is shorter."""

_OURS: Final = "dispatcher"
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def configure(
    log_format: Format,
    level: int | str = logging.INFO,
    *,
    secrets: Iterable[str] = (),
    logfile: str | TextIO | None = None,
) -> None:
    """Send every record of this process to `logfile` (default: standard error) in one format.

    `auto` is `console` where that is a terminal, else `json`. `secrets` are redacted in every record.
    """
    handler = _handler(logfile)
    on_terminal = handler.stream.isatty()
    json = log_format == "json" or (log_format == "auto" and not on_terminal)
    handler.setFormatter(Formatter(json=json, colors=on_terminal, secrets=secrets))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    debugging = root.level <= logging.DEBUG
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.NOTSET if debugging else logging.WARNING)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def configure_from(settings: Settings, level: int | str | None = None, *, logfile: str | TextIO | None = None) -> None:
    """As `configure`, by the settings; a sweep logs at the level and to the file of the worker that started it."""
    configure(
        settings.log_format,
        inherited_level() if level is None else level,
        secrets=secrets_of(settings),
        logfile=inherited_logfile() if logfile is None else logfile,
    )


def secrets_of(settings: Settings) -> list[str]:
    """Return the tokens, the secret settings and the passwords of addresses, for redaction."""
    held = [token for account in settings.accounts.values() for token in (account.token, account.next_token)]
    held += [value for _, value in settings if isinstance(value, Secret)]
    found = [secret.reveal() for secret in held if secret is not None]
    # A key of several, a user of several: each is a secret by itself. Shorter parts are words like `off`.
    found += [part for text in found for part in re.split(r"[\s,]+", text) if len(part) >= SHORTEST_SECRET]
    for address in (settings.database_url, settings.database_read_url, settings.redis_url, settings.proxy):
        if address is not None:
            found += passwords_of(address.reveal())
    return found


def inherited_level() -> int:
    """Return the level of the worker that started this process (Celery sets a variable); INFO without one."""
    level = os.environ.get("CELERY_LOG_LEVEL", "")
    return int(level) if level.isdigit() else logging.INFO


def inherited_logfile() -> str | None:
    """Return the file that the worker logs to; None is standard error."""
    return os.environ.get("CELERY_LOG_FILE") or None


class Formatter(logging.Formatter):
    """Render one record. Never raises, and never shows a local variable."""

    def __init__(self, *, json: bool, colors: bool = False, secrets: Iterable[str] = ()) -> None:
        known = tuple(secret for secret in secrets if len(secret) >= SHORTEST_SECRET)
        super().__init__()
        self._clean = _Clean(known)
        self._render = _to_json if json else _console(colors=colors)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its line break."""
        try:
            return self._line(record)
        except Exception as error:  # noqa: BLE001 - logging would print the record's arguments, whatever they hold
            unreadable = logging.makeLogRecord(
                {
                    "name": record.name,
                    "levelno": record.levelno,
                    "levelname": record.levelname,
                    "created": record.created,
                    "msg": "log.unreadable",
                    "at": f"{record.module}:{record.lineno}",
                }
            )
            unreadable.error = type(error).__name__
            return self._line(unreadable)

    def _line(self, record: logging.LogRecord) -> str:
        return self._render(self._clean(_described(record)))


class _Clean:
    """Redact phone numbers, credentials and control characters in every text of an event."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self._secrets = secrets

    def __call__(self, event: Event) -> Event:
        for key, value in event.items():
            if type(value) is str:
                if len(value) >= _SHORTEST_FINDING and key not in _KEPT_AS_THEY_ARE:
                    event[key] = one_line(redact(value, self._secrets))
                elif not value.isprintable():
                    event[key] = one_line(value)
            elif value is not None and type(value) not in (float, bool) and not _short(value):
                event[key] = one_line(redact(str(value), self._secrets))
        if "exception" in event:
            event["exception"] = indented(redact(event["exception"], self._secrets))
        return event


def _console(*, colors: bool) -> Callable[[Event], str]:
    """Return the format for a terminal: time, level, event, fields, then the traceback."""
    from structlog import dev  # late: it loads rich, and a line of JSON needs neither

    render = dev.ConsoleRenderer(
        colors=colors, sort_keys=False, exception_formatter=dev.plain_traceback, pad_event_to=24
    )
    return lambda event: render(None, "", event)


def _short(value: object) -> bool:
    """Return whether JSON readers and databases take the integer as it is."""
    return type(value) is int and abs(value) < 2**63


def _described(record: logging.LogRecord) -> Event:
    """Return the record's attributes and our fields, without the fields of other libraries, which may hold anything."""
    described: Event = {
        "timestamp": _utc(record.created),
        "level": record.levelname.lower(),
        "event": record.getMessage(),
    }
    if record.name != _OURS:
        described["logger"] = record.name
    if record.name == _OURS or record.name.startswith(_OURS + ".") or record.msg == "log.unreadable":
        described |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
    described["pid"] = record.process
    if (trouble := record.exc_info) and trouble[0] is not None:
        described["exception"] = "".join(traceback.format_exception(*trouble)).rstrip()
    return described


def _utc(seconds: float) -> str:
    """ISO 8601 with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _to_json(event: Event) -> str:
    return orjson.dumps(event).decode()


def _handler(logfile: str | TextIO | None) -> logging.StreamHandler[Any]:
    if isinstance(logfile, str):
        return WatchedFileHandler(logfile, encoding="utf-8")  # reopens after logrotate
    return logging.StreamHandler(logfile if logfile is not None else sys.stderr)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger(_OURS).critical("process.died", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
        logging.getLogger(_OURS).critical("thread.died", exc_info=(args.exc_type, args.exc_value, args.exc_traceback))
