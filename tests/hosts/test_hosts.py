"""Hosts with addresses and clocks of their own, and partitions between them: a short run of what `make hosts` does."""

import random
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.hosts.__main__ import Account, partitions, run
from tests.hosts.network import Host, Network, NoNamespaces
from tests.hosts.stack import HOSTS, WORKERS
from tests.support.waiting import wait_until

PORT = 4000


@pytest.fixture
def network() -> Iterator[Network]:
    try:
        made = Network(("a", "b"), random.Random(1), delay_seconds=0.001, loss=0.0)
    except NoNamespaces as error:
        pytest.skip(str(error))
    with made:
        yield made


def listen(host: Host) -> socket.socket:
    with host.inside():
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((host.address, PORT))
    made.setblocking(False)
    return made


def received(on: socket.socket) -> bytes:
    try:
        return on.recv(100)
    except BlockingIOError:
        return b""


def test_each_way_between_two_hosts_is_cut_for_itself(network: Network) -> None:
    a, b = network.hosts.values()
    with listen(a) as at_a, listen(b) as at_b:
        network.cut = frozenset({("a", "b")})
        at_a.sendto(b"dropped", (b.address, PORT))
        wait_until(lambda: network.dropped["a", "b"])
        at_b.sendto(b"back", (a.address, PORT))
        assert wait_until(lambda: received(at_a)) == b"back"
        network.heal()
        at_a.sendto(b"healed", (b.address, PORT))
        assert wait_until(lambda: received(at_b)) == b"healed"


def test_a_host_has_its_own_name_and_this_process_keeps_its_own(network: Network) -> None:
    here = socket.gethostname()
    with network.hosts["b"].inside():
        assert subprocess.check_output(["hostname"], text=True).strip() == "b"
    assert socket.gethostname() == here


@pytest.mark.parametrize("seed", range(5))
def test_a_seed_makes_the_same_partitions_each_time_and_each_ends(seed: int) -> None:
    made = partitions(random.Random(seed), 60.0)
    assert made == partitions(random.Random(seed), 60.0)
    assert all(0 <= one.begins < one.ends <= 60 for one in made)
    assert {one.kind for one in made} == {"both ways", "one way", "a host alone"}
    assert {name for one in made for way in one.ways for name in way} == set(HOSTS)


def test_partitions_lose_nothing_call_nobody_twice_and_every_host_goes_on() -> None:
    try:
        account: Account = run(3, 3.0, backlog=20)
    except NoNamespaces as error:
        pytest.skip(str(error))
    assert account.violations == []
    assert account.counts["packets dropped by them"]
    assert account.counts["created"] == account.states["accepted"]
    assert set(account.resumed) == set(WORKERS)
