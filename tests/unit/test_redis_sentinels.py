"""`sentinel://`: one reading for doorbell, limiter and broker; what cannot work is refused by its name."""

import pytest

from dispatcher.broker.connection import connection_options
from dispatcher.celery import worker_configuration
from dispatcher.config.settings import Settings
from dispatcher.config.urls import normal_redis_url, redis_hosts, sentinels_of
from dispatcher.logs.setup import secrets_of

URL = "sentinel://user:p%40ss@a:26380,b,[::1]:7/3?master_name=leads&sentinel_password=s%2Fs&client_name=x"


def test_an_address_of_sentinels_is_taken_apart() -> None:
    found = sentinels_of(normal_redis_url(URL))

    assert found is not None
    assert found.master == "leads"
    assert found.sentinels == ("redis://:s%2Fs@a:26380?", "redis://:s%2Fs@b:26379?", "redis://:s%2Fs@[::1]:7?")
    _, options = connection_options(normal_redis_url(URL))
    assert options == {"db": 3, "username": "user", "password": "p@ss", "client_name": "x"}
    assert redis_hosts(normal_redis_url(URL)) == ("a", "b", "::1")


def test_tls_is_for_sentinels_and_servers_alike() -> None:
    found = sentinels_of(
        normal_redis_url("sentinels://a,b?master=m&sentinel_username=u&sentinel_password=p&ssl_cert_reqs=none")
    )

    assert found is not None
    assert found.sentinels[0] == "rediss://u:p@a:26379?ssl_cert_reqs=none"
    assert found.server == "rediss://primary/?ssl_cert_reqs=none"


def test_one_server_has_no_sentinels() -> None:
    assert sentinels_of(normal_redis_url("redis://h/0")) is None
    assert sentinels_of(normal_redis_url("unix:///run/redis.sock")) is None


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sentinel://a,b/0", "names no master; add \\?master="),
        ("sentinel://a,b/0?master=", "value of master that cannot be used; it is empty"),
        ("sentinel://a,,b/0?master=m", "names no host"),
        ("sentinel:///0?master=m", "names no host"),
        ("sentinel://a:x/0?master=m", "no usable host and port"),
        ("sentinel://a/name?master=m", "path that is not the number of a database"),
        ("sentinel://a;sentinel://b/0?master=m", "by semicolons; write sentinel://host:26379,host:26379/0"),
        ("redis+sentinel://a/0?master=m", "in another form; write sentinel://"),
        ("sentinel://a/0?master=m&master_name=n", "gives the parameter master twice"),
        ("sentinel://a/0?master=m&ssl=true", "sets ssl; write sentinels:// for TLS"),
        ("redis://a/0?ssl=true", "sets ssl; write rediss:// for TLS"),
        ("sentinel://a/0?master=m&ssl_cert_reqs=none", "sets ssl_cert_reqs without TLS; write sentinels://"),
        ("redis://a/0?master=m", "sets master without sentinels; write sentinel://"),
        ("sentinel://a/0?master=m&sentinel_username=u", "sentinel_username without sentinel_password"),
        ("sentinel://a/0?master=m&sentinel_pasword=u", "did you mean sentinel_password"),
        ("sentinel://a/0?master=m&min_other_sentinels=1", "a parameter that is not known"),
        ("sentinel://a/0?master=m&socket_timeout=5", "sets socket_timeout, which the dispatcher bounds itself"),
    ],
)
def test_what_cannot_work_is_refused_by_its_name(url: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        normal_redis_url(url)


def test_a_master_may_be_named_after_a_cluster() -> None:
    assert normal_redis_url("sentinel://a/0?master=mycluster").endswith("master=mycluster")


def test_no_password_of_a_server_or_a_sentinel_is_shown() -> None:
    settings = Settings.from_environment({"REDIS_URL": URL})

    assert {"p@ss", "s/s"} <= set(secrets_of(settings))
    shown = repr(worker_configuration(normal_redis_url(URL))) + repr(sentinels_of(normal_redis_url(URL)))
    assert not [word for word in ("p%40ss", "p@ss", "s%2Fs", "s/s") if word in shown]
