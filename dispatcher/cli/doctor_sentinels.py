"""What `doctor` says of the sentinels that `REDIS_URL` names, and of the primary that they watch."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import redis

from dispatcher.broker.connection import connect, sentinel_clients
from dispatcher.cli.doctor import Check, Grade
from dispatcher.config.urls import Sentinels, redis_hosts, sentinels_of

_TIMEOUT_SECONDS: Final = 2.0
_FEWEST: Final = 3


def judge_sentinels(redis_url: str) -> Iterator[Check]:
    """Check that the sentinels answer, agree, and have a replica to promote; nothing for an address of one server."""
    several = sentinels_of(redis_url)
    if several is None:
        return
    answers = _ask(several)
    states = [state for state in answers if isinstance(state, Mapping)]
    silent = [
        f"{host} ({type(answer).__name__})"
        for host, answer in zip(redis_hosts(redis_url), answers, strict=True)
        if not isinstance(answer, Mapping)
    ]
    found = f"{len(states)} of {len(answers)} watch a primary under the name in REDIS_URL"
    primaries = {(state["ip"], state["port"]) for state in states}
    if not states:
        advice = "Are they reachable, is `master` the name they watch it by, and `sentinel_password` theirs?"
        yield Check("Redis sentinels", Grade.BAD, f"{found}: {', '.join(silent)}", advice)
    elif silent:
        advice = "Mend these, or take them out of REDIS_URL; a failover needs most of all."
        yield Check("Redis sentinels", Grade.DOUBTFUL, f"{found}, and not {', '.join(silent)}", advice)
    elif len(primaries) > 1:
        yield Check("Redis sentinels", Grade.DOUBTFUL, f"{found}, not the same one", "Ask again after a failover.")
    elif len(states) < _FEWEST:
        advice = "Run three on three machines, and name all: two cannot agree when one of them is gone."
        yield Check("Redis sentinels", Grade.DOUBTFUL, found, advice)
    elif min(state["num-slaves"] for state in states) == 0:
        yield Check("Redis sentinels", Grade.DOUBTFUL, f"{found}, without a replica", "Start one: none can take over.")
    else:
        yield Check("Redis sentinels", Grade.GOOD, found)
    if states:
        yield from _judge_primary(redis_url)


def _ask(several: Sentinels) -> list[Mapping[str, Any] | Exception]:
    answers: list[Mapping[str, Any] | Exception] = []
    for client in sentinel_clients(several, timeout_seconds=_TIMEOUT_SECONDS):
        try:
            answers.append(cast(Mapping[str, Any], client.sentinel_master(several.master)))
        except redis.RedisError as error:
            answers.append(error)
        finally:
            client.close()
    return answers


def _judge_primary(redis_url: str) -> Iterator[Check]:
    """Redis tells how many good replicas it has only where it refuses writes without them."""
    client = connect(redis_url, timeout_seconds=_TIMEOUT_SECONDS)
    try:
        replication = client.info("replication")
    except redis.RedisError:  # told by the check of Redis itself
        return
    finally:
        client.close()
    if "min_slaves_good_slaves" not in replication:
        found = "a primary that was cut off and replaced goes on granting permits: the rate limit may be exceeded"
        advice = "Set min-replicas-to-write 1 and min-replicas-max-lag 5 on every server (docs/operations.md)."
        yield Check("Redis replicas", Grade.DOUBTFUL, found, advice)
