"""The rate limit, beside an exact sliding log, on a real Redis."""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatcher.broker.connection import connect
from dispatcher.broker.limiter import MARGIN, Limiter, LimiterUnavailable, Permits
from dispatcher.config.account import RateWindow as Window
from dispatcher.lead.options import Channel
from tests.support.doubles import Clock

from .conftest import RedisServer

SECOND = 1_000_000


class Microseconds(Clock):
    """Redis' clock: whole microseconds."""

    def __init__(self) -> None:
        super().__init__(1_800_000_000 * SECOND)

    def advance(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)


@dataclass
class SlidingLog:
    """The definition of the limit, in the plainest words: the reference of the property test."""

    windows: list[Window]
    stamps: list[int] = field(default_factory=list)

    def room(self, now: int) -> int:
        return min(w.permits - self._used(w, now) for w in self.windows)

    def _used(self, window: Window, now: int) -> int:
        return sum(stamp > now - int(window.seconds * MARGIN * SECOND) for stamp in self.stamps)


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    """Of a user who may do everything, to look behind the limiter and to flush."""
    with connect(server.admin_url) as client:
        yield client


@pytest.fixture
def clock() -> Microseconds:
    return Microseconds()


@pytest.fixture
def limiter(server: RedisServer, clock: Microseconds) -> Iterator[Limiter]:
    with connect(server.url) as client:
        yield Limiter(client, now_microseconds=clock)


def take(limiter: Limiter, wanted: int, *windows: Window, campaign: int = 1) -> Permits:
    return limiter.take(Channel("default", campaign), wanted, windows)


windows_of = st.lists(
    st.builds(Window, permits=st.integers(1, 12), seconds=st.sampled_from([0.5, 1.0, 3.0, 10.0])),
    min_size=1,
    max_size=3,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    account=windows_of,
    own=st.one_of(st.just([]), windows_of),
    steps=st.lists(
        st.tuples(
            st.one_of(st.just(0.0), st.floats(0.0, 4.0), st.sampled_from([0.51, 1.02, 10.2])),
            st.integers(1, 8),
            st.integers(1, 2),
            st.integers(0, 3),
        ),
        max_size=25,
    ),
)
def test_it_grants_exactly_what_a_sliding_log_would(
    client: redis.Redis,
    account: list[Window],
    own: list[Window],
    steps: list[tuple[float, int, int, int]],
) -> None:
    client.flushall()
    clock = Microseconds()
    limiter = Limiter(client, now_microseconds=clock)
    shared = SlidingLog(account)
    per_campaign = {1: SlidingLog(own), 2: SlidingLog(own)}

    for wait, wanted, campaign, unused in steps:
        clock.advance(wait)
        logs = [shared] + ([per_campaign[campaign]] if own else [])
        expected = max(0, min(wanted, *(log.room(clock.now) for log in logs)))

        permits = limiter.take(Channel("default", campaign), wanted, account, own)

        assert permits.granted == expected
        limiter.give_back(permits, min(unused, permits.granted))
        for log in logs:
            log.stamps += [clock.now] * max(0, expected - unused)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(windows=windows_of, wanted=st.integers(1, 8))
def test_waiting_as_long_as_it_says_is_just_enough(client: redis.Redis, windows: list[Window], wanted: int) -> None:
    client.flushall()
    clock = Microseconds()
    limiter = Limiter(client, now_microseconds=clock)
    for _ in range(12):
        permits = take(limiter, wanted, *windows)
        if permits.granted == wanted:
            assert permits.next_in_seconds >= 0
        if permits.next_in_seconds > 0:
            clock.now += round(permits.next_in_seconds * SECOND) - 1
            assert take(limiter, 1, *windows).granted == 0
            clock.now += 1
            assert take(limiter, 1, *windows).granted == 1


def test_constant_demand_uses_at_least_95_percent_of_the_announced_rate(limiter: Limiter, clock: Microseconds) -> None:
    windows = (Window(100, 60), Window(20, 10))
    begin, granted = clock.now, 0
    while clock.now < begin + 3600 * SECOND:
        permits = take(limiter, 8, *windows)
        granted += permits.granted
        clock.now += max(1, round(permits.next_in_seconds * SECOND))

    assert 0.95 * 6000 <= granted <= 6000


Span = tuple[float, float]
"""When it was asked, and when the answer was there; Redis decided between the two."""


def _take_for_a_while(url: str, seconds: float, spans: "multiprocessing.Queue[tuple[list[Span], list[Span]]]") -> None:
    """Put a span for each permit, and one for each question that was answered with fewer than asked for."""
    limiter, granted, refused = Limiter(connect(url)), list[Span](), list[Span]()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        asked = time.monotonic()
        permits = limiter.take(Channel("default", 1), 3, [Window(20, 0.5)])
        span = (asked, time.monotonic())
        granted += [span] * permits.granted
        refused += [span] * (permits.granted < 3)
        time.sleep(min(permits.next_in_seconds, 0.05))
    spans.put((granted, refused))


def test_four_processes_together_stay_within_one_limit_and_use_it(server: RedisServer) -> None:
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[tuple[list[Span], list[Span]]] = context.Queue()
    workers = [context.Process(target=_take_for_a_while, args=(server.url, 3.0, queue)) for _ in range(4)]
    for worker in workers:
        worker.start()
    told = [queue.get(timeout=60) for _ in workers]
    spans = sorted((span for granted, _ in told for span in granted), key=lambda span: span[1])
    for worker in workers:
        worker.join(60)

    for place in range(20, len(spans)):
        together = spans[place - 20 : place + 1]
        assert together[-1][1] - min(asked for asked, _ in together) > 0.5
    # Whoever was refused had been preceded by all that the window allows.
    refusals = [span for _, refused in told for span in refused]
    assert refusals
    for asked, answered in refusals:
        assert sum(begun <= answered and ended >= asked - 0.5 * MARGIN for begun, ended in spans) >= 20


def test_a_window_is_open_again_exactly_at_its_end(limiter: Limiter, clock: Microseconds) -> None:
    window = Window(5, 10)
    assert take(limiter, 5, window).granted == 5
    clock.advance(10 * MARGIN - 1 / SECOND)
    assert take(limiter, 5, window).granted == 0
    clock.advance(1 / SECOND)
    assert take(limiter, 5, window).granted == 5


def test_a_clock_set_back_by_a_day_costs_one_window_and_exceeds_none(limiter: Limiter, clock: Microseconds) -> None:
    window = Window(5, 10)
    take(limiter, 5, window)
    clock.advance(-86_400)

    refused = take(limiter, 5, window)
    assert refused.granted == 0
    assert refused.next_in_seconds == pytest.approx(10 * MARGIN)
    clock.advance(10 * MARGIN)
    assert take(limiter, 5, window).granted == 5


def test_a_clock_set_forward_locks_nobody_out(limiter: Limiter, clock: Microseconds) -> None:
    take(limiter, 5, Window(5, 10))
    clock.advance(86_400)
    assert take(limiter, 5, Window(5, 10)).granted == 5
    clock.advance(-86_400)
    clock.advance(10 * MARGIN)
    assert take(limiter, 5, Window(5, 10)).granted == 0
    clock.advance(10 * MARGIN)
    assert take(limiter, 5, Window(5, 10)).granted == 5


def test_a_campaigns_own_windows_hold_back_only_that_campaign(limiter: Limiter) -> None:
    account, own = [Window(10, 60)], [Window(2, 60)]
    assert limiter.take(Channel("default", 1), 8, account, own).granted == 2
    assert limiter.take(Channel("default", 2), 8, account).granted == 8
    assert limiter.take(Channel("default", 3), 8, account).granted == 0
    assert limiter.take(Channel("other", 1), 8, account).granted == 8


def test_lookups_use_a_fifth_while_leads_wait_and_all_when_none_does(limiter: Limiter) -> None:
    windows = [Window(20, 10)]
    assert limiter.take_lookups("default", 10, windows, leads_wait=True).granted == 4
    assert limiter.take_lookups("default", 10, windows, leads_wait=True).granted == 0
    assert limiter.take_lookups("default", 10, windows, leads_wait=False).granted == 10
    assert limiter.take(Channel("default", 1), 10, windows).granted == 6


def test_lookups_are_never_starved_by_their_share(limiter: Limiter) -> None:
    assert limiter.take_lookups("default", 5, [Window(2, 10)], leads_wait=True).granted == 1


def test_permits_given_back_are_there_at_once_but_never_more_than_were_taken(limiter: Limiter) -> None:
    window = Window(8, 60)
    permits = take(limiter, 8, window)
    limiter.give_back(permits, 3)
    limiter.give_back(permits, 3)
    assert take(limiter, 8, window).granted == 3
    limiter.give_back(Permits(0, 0.0), 5)
    assert take(limiter, 8, window).granted == 0


def test_retry_after_stops_every_worker_until_it_is_over(limiter: Limiter, clock: Microseconds) -> None:
    window = Window(100, 60)
    limiter.slow("default", remaining=0, reset_seconds=30)
    refused = take(limiter, 8, window)
    assert (refused.granted, refused.next_in_seconds) == (0, 30)
    limiter.slow("default", remaining=7, reset_seconds=5)
    assert take(limiter, 8, window).next_in_seconds == 30
    assert limiter.take(Channel("other", 1), 8, [window]).granted == 8
    clock.advance(30)
    assert take(limiter, 8, window).granted == 8


def test_an_announced_rest_is_shared_by_all_until_the_reset(limiter: Limiter, clock: Microseconds) -> None:
    window = Window(100, 60)
    limiter.slow("default", remaining=5, reset_seconds=20)
    assert take(limiter, 3, window).granted == 3
    limiter.slow("default", remaining=4, reset_seconds=20)
    last = take(limiter, 8, window)
    assert (last.granted, last.next_in_seconds) == (2, 20)
    clock.advance(20)
    assert take(limiter, 8, window).granted == 8


def test_runs_that_find_nothing_to_send_use_up_no_announced_rest(limiter: Limiter, clock: Microseconds) -> None:
    window = Window(100, 60)
    limiter.slow("default", remaining=5, reset_seconds=20)
    for _ in range(10):
        clock.advance(0.1)
        permits = take(limiter, 8, window)
        assert permits.granted == 5
        limiter.give_back(permits, 5)
    permits = take(limiter, 8, window)
    limiter.give_back(permits, 3)  # two were sent
    assert take(limiter, 8, window).granted == 3


def test_permits_given_back_raise_no_rest_that_was_announced_since(limiter: Limiter, clock: Microseconds) -> None:
    window = Window(100, 60)
    limiter.slow("default", remaining=50, reset_seconds=20)
    clock.advance(0.1)
    permits = take(limiter, 20, window)
    clock.advance(0.1)
    limiter.slow("default", remaining=6, reset_seconds=20)
    limiter.give_back(permits, 20)
    assert take(limiter, 20, window).granted == 6


def test_permits_taken_after_the_reset_raise_no_rest(limiter: Limiter, clock: Microseconds) -> None:
    window = Window(100, 60)
    limiter.slow("default", remaining=5, reset_seconds=1)
    clock.advance(2)
    limiter.give_back(take(limiter, 8, window), 8)
    clock.advance(-3)  # the announcement is in force again
    assert take(limiter, 8, window).granted == 5


def test_what_was_announced_survives_a_clock_set_back_without_growing(limiter: Limiter, clock: Microseconds) -> None:
    limiter.slow("default", remaining=0, reset_seconds=30)
    clock.advance(-86_400)
    assert take(limiter, 1, Window(100, 60)).next_in_seconds == 30


def test_an_absurd_wait_is_clamped_to_an_hour(limiter: Limiter) -> None:
    limiter.slow("default", remaining=0, reset_seconds=1e12)
    assert take(limiter, 1, Window(100, 60)).next_in_seconds == 3600


def test_usage_reports_each_window_and_takes_nothing(limiter: Limiter, clock: Microseconds) -> None:
    windows = [Window(100, 60), Window(20, 10)]
    take(limiter, 8, *windows)
    clock.advance(11)
    take(limiter, 4, *windows)
    for _ in range(2):
        assert [use.used for use in limiter.usage("default", windows)] == [12, 4]


def test_no_windows_means_no_limit_and_no_call(server: RedisServer) -> None:
    limiter = Limiter(connect("redis://127.0.0.1:1/0"))
    assert limiter.take(Channel("default", 1), 50, []) == Permits(50, 0.0)
    limiter.give_back(Permits(50, 0.0), 50)


def test_a_flushed_or_restarted_redis_only_forgets_the_log(limiter: Limiter, client: redis.Redis) -> None:
    take(limiter, 5, Window(5, 10))
    client.script_flush()
    assert take(limiter, 5, Window(5, 10)).granted == 0
    client.flushall()
    assert take(limiter, 5, Window(5, 10)).granted == 5


def test_logs_are_bounded_and_lapse(limiter: Limiter, client: redis.Redis, clock: Microseconds) -> None:
    windows = (Window(10, 1), Window(50, 60))
    for _ in range(400):
        take(limiter, 10, *windows)
        clock.advance(1)
    assert client.zcard("dispatcher:permits:default") <= 50 + 1
    assert all(0 < client.ttl(key) <= 125 for key in client.scan_iter("*"))


@pytest.mark.parametrize("broken", ["refused", "frozen"])
def test_a_redis_that_cannot_be_asked_grants_nothing_and_says_so_quickly(server: RedisServer, broken: str) -> None:
    limiter = Limiter(connect(server.url if broken == "frozen" else "redis://127.0.0.1:1/0"))
    with server.frozen() if broken == "frozen" else nullcontext():
        begin = time.monotonic()
        with pytest.raises(LimiterUnavailable, match="nothing is sent"):
            take(limiter, 1, Window(5, 10))
        with pytest.raises(LimiterUnavailable):
            limiter.slow("default", remaining=0, reset_seconds=1)
        limiter.give_back(Permits(1, 0.0, "name", ("dispatcher:permits:default",)), 1)
        assert time.monotonic() - begin < 30  # three waits of a second, and what a busy machine takes for itself


def test_a_full_redis_still_counts(server: RedisServer) -> None:
    """The script trims before it adds, and Redis lets a script that has written go on."""
    limiter = Limiter(connect(server.url))
    take(limiter, 2, Window(5, 10))
    with server.client() as client:
        client.config_set("maxmemory", 1)
        assert take(limiter, 5, Window(5, 10)).granted == 3
        assert take(limiter, 5, Window(5, 10)).granted == 0


def test_no_window_of_a_long_run_holds_more_than_its_permits(limiter: Limiter, clock: Microseconds) -> None:
    """Over a long run every 21st permit is at least a whole window after the first of the 21."""
    stamps: list[int] = []
    window = Window(20, 10)
    for _ in range(60):
        permits = take(limiter, 3, window)
        stamps += [clock.now] * permits.granted
        clock.now += max(round(permits.next_in_seconds * SECOND), 300_000)
    assert all(late - early >= 10 * MARGIN * SECOND for early, late in zip(stamps, stamps[20:], strict=False))
