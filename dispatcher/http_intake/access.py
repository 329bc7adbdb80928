"""Who asks: the key of a request, whether it may, and how much it has submitted.

A key is read from Postgres at most twice a second, so that a revoked one is refused within a second and an ordinary
request costs no statement more. Tries of keys that a source has not used yet are checked one after the other, and
failed ones lock the source as failed logins of the console do. A key that a source has used is not held up by others'
failures from there, e.g. behind the same proxy.
"""

import asyncio
import time
from base64 import b64decode
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from starlette.requests import Request

from dispatcher.config.account import RateWindow, parse_rate_limit
from dispatcher.errors import DispatcherError
from dispatcher.http_intake import keys
from dispatcher.http_intake.keys import KEY, ApiKey, digest_of
from dispatcher.http_intake.problems import BAD_REQUEST, NO_KEY, NOT_YOURS, TOO_MANY, Problem, wait
from dispatcher.logs import events
from dispatcher.store.database import Database
from dispatcher.store.trouble import StatementRefused
from dispatcher.web.throttle import Throttle, source_of

T = TypeVar("T")

FRESH_SECONDS: Final = 0.5
USE_NOTED_SECONDS: Final = 60.0
FAMILIAR_SECONDS: Final = 3600.0
_MOST: Final = 10_000

Start = Callable[[Callable[[], Any]], "Future[Any]"]
"""Calls in a thread."""


@dataclass(slots=True)
class _Seen:
    """A key as it was read, and when; `used_at` when its use was noted."""

    key: ApiKey
    read_at: float
    used_at: float = float("-inf")


class Access:
    """Finds the key of a request and bounds it. Of one event loop.

    start   calls in a thread: what asks Postgres
    clock   monotonic seconds
    """

    def __init__(
        self, database: Callable[[], Database], start: Start, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._start = start
        self._clock = clock
        self._throttle = Throttle(clock)
        self._seen: dict[str, _Seen] = {}  # by prefix
        self._familiar: dict[tuple[str, bytes], float] = {}  # source and digest of a key that was right
        self._checking: dict[str, asyncio.Lock] = {}  # by source
        self._allowances: dict[int, Allowance] = {}  # by key

    async def key_of(self, request: Request, *, mapping: str | None = None, secret: str | None = None) -> ApiKey:
        """Return the key of a request, which may submit one lead now.

        mapping   the webhook that is asked for; None for any other path
        secret    the key, where it stands in the URL

        Raises `Problem`; `StoreUnavailable` where Postgres cannot be asked.
        """
        given = secret or _bearer(request, basic=mapping is not None)
        source = source_of(request.client.host if request.client else "unknown")
        key = await self._checked(given, source)
        if key.mapping != mapping and not (key.mapping is None and secret is None):
            where = "every path but webhooks' URLs" if key.mapping is None else f"the webhook {key.mapping}"
            raise Problem(NOT_YOURS, f"This key is for {where}.")
        allowance = self._allowances.setdefault(key.id, Allowance(parse_rate_limit(key.rate_limit), self._clock()))
        _bound(self._allowances)
        seconds = allowance.take(self._clock())
        if seconds:
            raise wait(TOO_MANY, seconds, f"This key may submit {key.rate_limit}; wait as Retry-After says.")
        self._note_use(key)
        return key

    def charge(self, key: ApiKey, leads: int) -> None:
        """Count more leads of a request that was admitted; the next request waits for them."""
        if key.id in self._allowances:
            self._allowances[key.id].owe(leads)

    async def _checked(self, given: str, source: str) -> ApiKey:
        digest, now = digest_of(given), self._clock()
        if now - self._familiar.get((source, digest), float("-inf")) < FAMILIAR_SECONDS:
            key = await self._find(given)
            if key is not None and key.is_key(digest):
                return key
            self._familiar.pop((source, digest), None)  # revoked or ended: from now on it is a try like any other
        async with self._one_at_a_time(source):
            if (source, digest) not in self._familiar:
                seconds = self._throttle.admit(source)
                if seconds:
                    raise wait(TOO_MANY, seconds, "Too many refused keys came from this address; wait.")
            try:
                key = await self._find(given)
            except BaseException:
                self._throttle.succeeded(source)  # nothing was decided
                raise
            if key is None or not key.is_key(digest):
                locked = self._throttle.wait_seconds(source)
                events.warning("intake.key_refused", source=source, locked_seconds=locked)
                raise Problem(NO_KEY, "The key is unknown, revoked or past its end.")
            self._throttle.succeeded(source)
            self._familiar[source, digest] = now
            _bound(self._familiar)
            return key

    def _one_at_a_time(self, source: str) -> asyncio.Lock:
        if len(self._checking) > _MOST:
            self._checking = {one: lock for one, lock in self._checking.items() if lock.locked()}
        return self._checking.setdefault(source, asyncio.Lock())

    async def _find(self, given: str) -> ApiKey | None:
        """Return the active key of this prefix, as it was within `FRESH_SECONDS`."""
        shape = KEY.fullmatch(given)
        if shape is None:
            return None
        prefix, now = shape["prefix"], self._clock()
        seen = self._seen.get(prefix)
        if seen is None or now - seen.read_at > FRESH_SECONDS:
            found: ApiKey | None = await self._in_thread(lambda: self._database().read(keys.find, prefix))
            if found is None:
                self._seen.pop(prefix, None)
                return None
            seen = self._seen[prefix] = _Seen(found, now, seen.used_at if seen else float("-inf"))
            _bound(self._seen)
        return seen.key if seen.key.active else None

    def _note_use(self, key: ApiKey) -> None:
        """Write that the key was used, once a minute; nobody waits for it."""
        seen, now = self._seen.get(key.prefix), self._clock()
        if seen is None or now - seen.used_at < USE_NOTED_SECONDS:
            return
        seen.used_at = now

        def note() -> None:
            try:
                self._database().again(keys.note_use, key.id)
            except (DispatcherError, StatementRefused) as error:
                events.warning("intake.use_not_noted", key=key.prefix, error=type(error).__name__)

        self._start(note)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._start(call))


class Allowance:
    """How many leads a key may submit now: a bucket for each window, which fills steadily."""

    def __init__(self, windows: tuple[RateWindow, ...], now: float) -> None:
        self._windows = windows
        self._left = [float(window.permits) for window in windows]
        self._at = now

    def take(self, now: float) -> float:
        """Take one lead and return 0.0; or return the seconds until there is one, and take nothing."""
        passed, self._at = max(0.0, now - self._at), now
        waits = [0.0]
        for place, window in enumerate(self._windows):
            speed = window.permits / window.seconds
            self._left[place] = min(float(window.permits), self._left[place] + passed * speed)
            waits.append((1.0 - self._left[place]) / speed)
        seconds = max(waits)
        if seconds <= 0:
            self.owe(1)
        return max(0.0, seconds)

    def owe(self, leads: int) -> None:
        """Take so many leads, also more than there are."""
        self._left = [left - leads for left in self._left]


def _bearer(request: Request, *, basic: bool) -> str:
    """Return the key of the header. A webhook may also send it as the password of HTTP Basic."""
    given = request.headers.getlist("authorization")
    if len(given) > 1:
        raise Problem(BAD_REQUEST, "Send one field Authorization.")
    scheme, _, value = given[0].partition(" ") if given else ("", "", "")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    if basic and scheme.lower() == "basic":
        try:
            return b64decode(value.strip(), validate=True).decode("ascii").partition(":")[2]
        except ValueError:
            pass
    raise Problem(NO_KEY)


def _bound(kept: dict[Any, Any]) -> None:
    """Forget the half that was stored longest ago, once there are too many."""
    if len(kept) > _MOST:
        for one in list(kept)[: _MOST // 2]:
            del kept[one]
