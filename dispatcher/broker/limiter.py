"""The rate limit that all workers share: a sliding log in Redis, read and written by one Lua script.

Times are by Redis' clock, so that a worker with a wrong clock neither starves the others nor exceeds the limit. If
Redis is unreachable, there are no permits: `LimiterUnavailable`, and the caller sends nothing.

Redis keys, under the prefix: `permits:{account}`, `permits:{account}:{campaign}`, `permits:{account}:lookups`,
`announced:{account}`. A log holds one entry per permit of its longest window and lapses with it.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final, cast

import redis

from dispatcher.config.account import RateWindow
from dispatcher.errors import DispatcherError
from dispatcher.lead.options import Channel
from dispatcher.logs import events

MARGIN: Final = 1.02
"""Our windows are this much longer than announced: requests bunch up on their way, and Voicery's clock is not ours."""
LOOKUP_SHARE: Final = 0.2
"""The part of each window that look-ups may use while leads wait."""
ANNOUNCED_MAX_SECONDS: Final = 3600.0
"""The longest wait that an answer of Voicery can impose."""

_MICROSECONDS: Final = 1_000_000
_UNKNOWN: Final = -1  # the script knows nothing of a log
_GRACE_SECONDS: Final = 1.0
"""After a loss of memory, for permits that were granted before it to show as attempts: a claim follows its permit."""
_LOG_OUTLIVES_SECONDS: Final = 60.0


class LimiterUnavailable(DispatcherError):
    """Redis is unreachable, so no permits can be granted; try again in a few seconds."""


@dataclass(frozen=True, slots=True)
class Permits:
    """The permits that were granted."""

    granted: int
    next_in_seconds: float
    """How long until at least one more can be granted; 0.0 if at once."""
    name: str = ""
    logs: tuple[str, ...] = ()
    announced: str = ""


@dataclass(frozen=True, slots=True)
class WindowUse:
    """How much of a window is used now."""

    permits: int
    seconds: float
    used: int


@dataclass(frozen=True, slots=True)
class _Scope:
    log: str
    windows: tuple[tuple[int, float], ...]
    channel: Channel  # campaign 0: the whole account
    lookups: bool = False  # only those of the account

    @property
    def seconds(self) -> float:
        """The longest window."""
        return max(seconds for _, seconds in self.windows) * MARGIN

    @property
    def permits(self) -> int:
        """The most permits of a window: more entries change nothing."""
        return max(permits for permits, _ in self.windows)


@dataclass(frozen=True, slots=True)
class History:
    """The requests of an account, or of one campaign, within the last seconds, as Postgres knows them.

    posts      pairs of age in seconds and number
    listing    look-ups may have been sent too; they are not stored one by one
    """

    posts: Sequence[tuple[float, int]] = ()
    listing: bool = False


class Limiter:
    """Permits to send requests, shared by every worker of one Redis. Thread-safe and fork-safe, as its client is."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        history: Callable[[Channel, float], History] = lambda _channel, _seconds: History(),
        prefix: str = "dispatcher:",
        now_microseconds: Callable[[], int] | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            client: its socket timeouts must be at most a second.
            history: the requests of a channel, or of a whole account (campaign 0), within the last seconds. Asked when
                this Redis knows nothing of them: after a restart, a `FLUSHALL`, a failover. May raise.
            prefix: of every key.
            now_microseconds: replaces Redis' clock in tests.
        """
        self._history = history
        self._client = client
        self._prefix = prefix
        self._now_microseconds = now_microseconds
        self._take = client.register_script(_script("limiter_take.lua"))
        self._slow = client.register_script(_script("limiter_slow.lua"))
        self._seed = client.register_script(_script("limiter_seed.lua"))
        self._give_back = client.register_script(_script("limiter_give_back.lua"))

    def take(
        self,
        channel: Channel,
        wanted: int,
        account_windows: Sequence[RateWindow],
        campaign_windows: Sequence[RateWindow] = (),
    ) -> Permits:
        """Take up to `wanted` permits for leads of a channel, within all windows of the account and of the campaign.

        No windows at all means no limit, and Redis is not asked. Raises `LimiterUnavailable`.
        """
        return self._taken(
            channel.account,
            wanted,
            _Scope(self._log(channel.account), _lengths(account_windows), Channel(channel.account, 0)),
            _Scope(self._log(channel.account, str(channel.campaign_id)), _lengths(campaign_windows), channel),
            # Its loss is noticed with that of the account's log, and counted with it: see `limiter_seed.lua`.
            lost_too=self._lookups(channel.account, account_windows, leads_wait=True),
        )

    def take_lookups(
        self, account: str, wanted: int, account_windows: Sequence[RateWindow], *, leads_wait: bool
    ) -> Permits:
        """Take up to `wanted` permits for look-ups; while leads wait, `LOOKUP_SHARE` of each window at most.

        Raises `LimiterUnavailable`.
        """
        return self._taken(
            account,
            wanted,
            _Scope(self._log(account), _lengths(account_windows), Channel(account, 0)),
            self._lookups(account, account_windows, leads_wait=leads_wait),
        )

    def _lookups(self, account: str, account_windows: Sequence[RateWindow], *, leads_wait: bool) -> _Scope:
        share = LOOKUP_SHARE if leads_wait else 1.0
        windows = tuple((max(1, int(permits * share)), seconds) for permits, seconds in _lengths(account_windows))
        return _Scope(self._log(account, "lookups"), windows, Channel(account, 0), lookups=True)

    def give_back(self, permits: Permits, unused: int) -> None:
        """Return unused permits. Never raises: a permit that cannot be returned lapses.

        They are returned to what Voicery announced too, unless it has announced anything since they were taken.
        """
        first = max(0, permits.granted - unused) + 1
        members = [f"{permits.name}:{i}" for i in range(first, permits.granted + 1)]
        if not members or not permits.logs:
            return
        try:
            self._give_back(keys=[permits.announced, *permits.logs], args=members)
        except redis.RedisError:
            return

    def slow(self, account: str, *, remaining: int, reset_seconds: float) -> None:
        """Slow every worker: at most `remaining` more requests of the account within the next `reset_seconds`.

        From `X-RateLimit-Remaining` with `X-RateLimit-Reset`, or from `Retry-After` with none remaining. Clamped to
        `ANNOUNCED_MAX_SECONDS`. Raises `LimiterUnavailable`.
        """
        reset = min(max(reset_seconds, 0.0), ANNOUNCED_MAX_SECONDS)
        try:
            self._slow(
                keys=[self._announced(account)],
                args=[self._now(), max(0, remaining), int(reset * _MICROSECONDS)],
            )
        except redis.RedisError as error:
            raise _unavailable(error) from error

    def usage(self, account: str, windows: Sequence[RateWindow], *, campaign_id: int | None = None) -> list[WindowUse]:
        """Return the use of each window of the account, or of one campaign's own windows.

        Raises `LimiterUnavailable`.
        """
        if not windows:
            return []
        log = self._log(account) if campaign_id is None else self._log(account, str(campaign_id))
        _, _, _, *used = self._ask(account, 0, "", [_Scope(log, _lengths(windows), Channel(account, campaign_id or 0))])
        return [WindowUse(w.permits, w.seconds, n) for w, n in zip(windows, used, strict=True)]

    def _taken(self, account: str, wanted: int, *scopes: _Scope, lost_too: _Scope | None = None) -> Permits:
        limited = [scope for scope in scopes if scope.windows]
        if wanted <= 0 or not limited:
            return Permits(max(0, wanted), 0.0)
        name = os.urandom(8).hex()
        answer = self._ask(account, wanted, name, limited)
        if answer[0] == _UNKNOWN:
            wait_seconds = self._recall(limited if lost_too is None or not lost_too.windows else [*limited, lost_too])
            if wait_seconds > 0:
                return Permits(0, wait_seconds)
            answer = self._ask(account, wanted, name, limited)
            if answer[0] == _UNKNOWN:  # lost again meanwhile
                return Permits(0, _GRACE_SECONDS)
        granted, wait, *_ = answer
        logs = tuple(scope.log for scope in limited)
        return Permits(granted, wait / _MICROSECONDS, name, logs, self._announced(account))

    def _recall(self, scopes: Sequence[_Scope]) -> float:
        """Tell Redis which permits were used before it lost them; return the seconds to wait before the next try.

        Without it a restarted Redis would grant whole windows again: up to twice the limit.
        """
        histories: dict[tuple[Channel, float], History] = {}
        for scope in scopes:
            where = (scope.channel, scope.seconds)
            if where not in histories:
                histories[where] = self._history(*where)
        used = [self._used(scope, histories[scope.channel, scope.seconds]) for scope in scopes]
        args: list[str | int] = [
            self._now(),
            int(_GRACE_SECONDS * _MICROSECONDS) if any(used) else 0,
            os.urandom(8).hex(),
            next((number for number, scope in enumerate(scopes, 1) if scope.lookups), 0),
        ]
        for scope, pairs in zip(scopes, used, strict=True):
            args += [int((scope.seconds + _LOG_OUTLIVES_SECONDS) * 1000), len(pairs)]
            for age_seconds, permits in pairs:
                args += [int(age_seconds * _MICROSECONDS), permits]
        try:
            return cast(int, self._seed(keys=[scope.log for scope in scopes], args=args)) / _MICROSECONDS
        except redis.RedisError as error:
            raise _unavailable(error) from error

    def _used(self, scope: _Scope, history: History) -> list[tuple[float, int]]:
        posts = [] if scope.lookups else sorted(history.posts)
        if history.listing and not scope.channel.campaign_id:
            # While leads are sent, look-ups have only their share. Those of the log of look-ups have it in its windows.
            share = LOOKUP_SHARE if posts else 1.0
            posts.insert(0, (0.0, max(1, int(scope.permits * share))))
        used, left = [], scope.permits
        for age_seconds, number in posts:
            if left > 0:
                used.append((age_seconds, min(number, left)))
            left -= number
        return used

    def _ask(self, account: str, wanted: int, name: str, scopes: Iterable[_Scope]) -> list[int]:
        keys = [self._announced(account)]
        args: list[str | int] = [self._now(), wanted, name]
        for scope in scopes:
            keys.append(scope.log)
            args.append(len(scope.windows))
            for permits, seconds in scope.windows:
                args += (permits, int(seconds * MARGIN * _MICROSECONDS))
        try:
            answer = cast(list[int], self._take(keys=keys, args=args))
        except redis.RedisError as error:
            raise _unavailable(error) from error
        if answer[2]:
            events.warning("redis.repaired", account=account, keys=answer[2], consequence="what they said is ignored")
        return answer

    def held_seconds(self, account: str) -> float:
        """Return for how long an announcement lets nothing through; 0.0 for none. Raises `LimiterUnavailable`."""
        try:
            now, microseconds = self._client.time()
            hold = self._client.hget(self._announced(account), "hold")
        except redis.ResponseError:  # another type: the next taking deletes it
            return 0.0
        except redis.RedisError as error:
            raise _unavailable(error) from error
        try:
            left = float(cast(bytes, hold or b"0")) / _MICROSECONDS - now - microseconds / _MICROSECONDS
        except ValueError:
            return 0.0
        return max(0.0, left)

    def _now(self) -> str | int:
        return "" if self._now_microseconds is None else self._now_microseconds()

    def _log(self, account: str, part: str | None = None) -> str:
        return f"{self._prefix}permits:{account}" + (f":{part}" if part else "")

    def _announced(self, account: str) -> str:
        return f"{self._prefix}announced:{account}"


def _lengths(windows: Sequence[RateWindow]) -> tuple[tuple[int, float], ...]:
    return tuple((window.permits, window.seconds) for window in windows)


def _unavailable(error: redis.RedisError) -> LimiterUnavailable:
    return LimiterUnavailable(
        f"Redis could not be asked for permits ({type(error).__name__}), so nothing is sent until it answers."
    )


def _script(name: str) -> str:
    return files("dispatcher.broker").joinpath(name).read_text(encoding="utf-8")


TURNS_A_WINDOW: Final = 5
"""One turn takes at most this part of the smallest window: campaigns that share a limit take turns in small steps."""


class Rate:
    """The rate limit of one account: for its look-ups, or with `campaign_id` for the leads of one channel.

    windows           of the account
    campaign_windows  the campaign's own; leads keep to both
    """

    def __init__(
        self,
        limiter: Limiter,
        account: str,
        windows: Sequence[RateWindow],
        *,
        campaign_id: int = 0,
        campaign_windows: Sequence[RateWindow] = (),
    ) -> None:
        self._limiter = limiter
        self._channel = Channel(account, campaign_id)
        self._windows = windows
        self._campaign_windows = campaign_windows
        smallest = min((window.permits for window in (*windows, *campaign_windows)), default=None)
        self._most = None if smallest is None else max(1, smallest // TURNS_A_WINDOW)

    @property
    def limited(self) -> bool:
        """Return whether any limit applies."""
        return bool(self._windows or self._campaign_windows)

    def take(self, wanted: int) -> Permits:
        """Take up to `wanted` permits for leads, at most one turn's share. Raises `LimiterUnavailable`."""
        share = wanted if self._most is None else min(wanted, self._most)
        return self._limiter.take(self._channel, share, self._windows, self._campaign_windows)

    def take_lookup(self, *, leads_wait: bool) -> Permits:
        """Take one permit for a look-up, or none; a smaller share while leads wait. Raises `LimiterUnavailable`."""
        return self._limiter.take_lookups(self._channel.account, 1, self._windows, leads_wait=leads_wait)

    def give_back(self, permits: Permits, unused: int) -> None:
        """Return permits that were not used."""
        self._limiter.give_back(permits, unused)

    def slow(self, *, remaining: int, reset_seconds: float) -> None:
        """Slow all workers of the account. Raises `LimiterUnavailable`; does nothing where no limit applies."""
        if self.limited:
            self._limiter.slow(self._channel.account, remaining=remaining, reset_seconds=reset_seconds)

    def available(self) -> int | None:
        """Return the number of permits that are free now; None without a limit. Raises `LimiterUnavailable`."""
        if not self._windows:
            return None
        return min(use.permits - use.used for use in self._limiter.usage(self._channel.account, self._windows))
