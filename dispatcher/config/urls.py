"""Which base URLs may be given the token and people's numbers, and how an endpoint's path is joined to one.

The base URL comes from the operator alone; the rules guard against a mistyped or smuggled one (security: S8). Names
are not resolved here: a name that resolves to a wrong machine fails at its certificate.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

from dispatcher.config.libpq import libpq_address

MAX_LENGTH: Final = 2048

_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PATH: Final = re.compile(r"[A-Za-z0-9._~/-]*")


def check_base_url(url: str, *, allow_http: bool = False) -> list[str]:
    """Every fault of `url` as a base URL, in plain words and without repeating it; empty if it may be used.

    `allow_http` admits plain http to any host; without it http is for loopback only.
    """
    if not url or len(url) > MAX_LENGTH:
        return [f"must have between 1 and {MAX_LENGTH} characters"]
    if not url.isascii():
        return ["must be ASCII; write an international host name in its xn-- form"]
    if not url.isprintable() or " " in url or "\\" in url:
        return ["must not contain spaces, control characters or backslashes"]
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ["is not a URL; write it like https://app.voicery.ai/api"]
    return [
        *_scheme_faults(parts, allow_http=allow_http),
        *_authority_faults(parts, port),
        *_path_faults(parts, url),
    ]


def check_webhook_url(url: str, *, allow_http: bool = False) -> list[str]:
    """As `check_base_url`, for an address that may carry a query, as webhooks do."""
    address, _, query = url.partition("?")
    if any(not "!" <= character <= "~" or character in "#\\" for character in query):
        return ["must not contain spaces, control characters, backslashes or a fragment"]
    return check_base_url(address, allow_http=allow_http)


def endpoint(base_url: str, path: str) -> str:
    """The URL of `path` (relative, no leading slash) under `base_url`, whether or not that ends with a slash."""
    return f"{base_url.rstrip('/')}/{path}"


def is_loopback(host: str) -> bool:
    """Whether `host`, as written, can only be this machine."""
    if host == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


Network = IPv4Network | IPv6Network


def networks(text: str) -> tuple[Network, ...]:
    """Return the addresses and networks of a text, separated by spaces or commas. Raises `ValueError`."""
    try:
        return tuple(map(ip_network, text.replace(",", " ").split()))
    except ValueError:
        raise ValueError("holds what is no address and no network") from None


def names_loopback(authority: str) -> bool:
    """Whether a `Host` header, with or without its port, can only mean this machine."""
    host, bracket, rest = authority.partition("]")
    if bracket:
        return host.startswith("[") and is_loopback(host[1:]) and (not rest or _PORT.fullmatch(rest) is not None)
    host, colon, port = authority.partition(":")
    return is_loopback(host.lower()) and (not colon or _PORT.fullmatch(f":{port}") is not None)


_PORT: Final = re.compile(r":[0-9]{1,5}")


def _scheme_faults(parts: SplitResult, *, allow_http: bool) -> list[str]:
    match parts.scheme:
        case "https":
            return []
        case "http" if allow_http or is_loopback(parts.hostname or ""):
            return []
        case "http":
            return ["must be https: the token and phone numbers would travel in the clear (http is for loopback only)"]
        case _:
            return ["must begin with https://"]


def _authority_faults(parts: SplitResult, port: int | None) -> list[str]:
    faults = []
    if "@" in parts.netloc:
        faults.append("must not contain a user name or password")
    if port == 0 or parts.netloc.endswith(":"):
        faults.append("must have a port between 1 and 65535, or none")
    if not parts.hostname:
        return [*faults, "must name a host"]
    if "%" in parts.netloc or ("[" in parts.netloc and _address(parts.hostname) is None):
        return [*faults, "must name a valid host"]
    return faults + _host_faults(parts.hostname)


def _host_faults(host: str) -> list[str]:
    address = _address(host)
    if address is not None:
        if address.is_link_local or address.is_multicast or address.is_unspecified:
            return ["must not name a link-local, multicast or unspecified address"]
        return []
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return ["must name a valid host"]
    if labels[-1].isdigit() or labels[-1].startswith("0x"):
        # `2130706433`, `127.1` and `0x7f.1` are addresses to the resolver, and not to whoever reads the setting.
        return ["must write an IP address in its usual form"]
    return []


def _path_faults(parts: SplitResult, url: str) -> list[str]:
    faults = []
    if "?" in url or "#" in url:
        faults.append("must not contain a query or a fragment")
    if not _PATH.fullmatch(parts.path):
        faults.append("must have a path of plain letters, digits and - . _ ~ /")
    segments = parts.path.removesuffix("/").split("/")[1:]
    if any(segment in {"", ".", ".."} for segment in segments):
        faults.append("must not have empty, . or .. parts in its path")
    return faults


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


_SCHEME: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*)://(?P<rest>.*)", re.DOTALL)
_POSTGRES: Final = frozenset({"postgres", "postgresql", "postgresql+psycopg"})
_REDIS: Final = {"redis": "redis", "rediss": "rediss", "unix": "unix", "redis+socket": "unix"}
_SENTINEL: Final = {"sentinel": "redis", "sentinels": "rediss"}  # the scheme of each of its servers
_SENTINEL_PORT: Final = 26379
_REDIS_PATH: Final = re.compile(r"/?|/\d{1,5}")


def normal_database_url(url: str) -> str:
    """Return `url` with the scheme `postgresql+psycopg`, which names the driver that we install; libpq reads the rest.

    Raises:
        ValueError: libpq would not connect with it. The message names the parameter and never quotes a value.
    """
    scheme, rest = _split(url)
    if scheme.startswith("postgresql+") and scheme not in _POSTGRES:
        raise ValueError("names another driver than psycopg 3; write postgresql://")
    if scheme not in _POSTGRES:
        raise ValueError("is not a Postgres address; the dispatcher needs Postgres 14 or newer")
    return f"postgresql+psycopg://{libpq_address(rest)}"


def normal_redis_url(url: str) -> str:
    """Return `url` as redis-py reads it: `redis://`, `rediss://` (TLS, verified by default) or `unix://` of one server.

    Or `sentinel://`, `sentinels://` (TLS to sentinels and servers) of several sentinels, for `sentinels_of`.

    Doorbell, limiter and the worker's broker connection all read this one form, so a parameter has one meaning.

    Raises:
        ValueError: it is no such address, or has a parameter that is unknown, has an unusable value, or is not the
            URL's to say (timeouts and retries). The message names the parameter and never quotes a value.
    """
    scheme, rest = _split(url)
    _refuse_many(scheme, rest)
    address, _, query = rest.partition("?")
    if scheme in _SENTINEL:
        return f"{scheme}://{_sentinels(address)}{_redis_query(query, scheme)}"
    match _REDIS.get(scheme):
        case None:
            raise ValueError("is not a Redis address; write redis://, rediss://, sentinel:// or unix://")
        case "unix":
            if not rest.startswith("/") and "@/" not in rest:
                raise ValueError("names no socket; write unix:///path/of/redis.sock")
            return f"unix://{address}{_redis_query(query, 'unix')}"
        case normal:
            _check_server(f"{normal}://{rest}")
            return f"{normal}://{address}{_redis_query(query, normal)}"


@dataclass(frozen=True, slots=True, repr=False)  # they hold passwords
class Sentinels:
    """A `sentinel://` address taken apart.

    server      the URL that every server is spoken to by, as redis-py reads it; its host is not used
    sentinels   the URL of each sentinel, as redis-py reads it
    master      the name under which they watch the primary
    """

    server: str
    sentinels: tuple[str, ...]
    master: str


def sentinels_of(normal_url: str) -> Sentinels | None:
    """Return the sentinels of an address that `normal_redis_url` returned; None for one server."""
    scheme, rest = _split(normal_url)
    if scheme not in _SENTINEL:
        return None
    address, _, query = rest.partition("?")
    user, at, places = address.rpartition("@")
    hosts, _, database = places.partition("/")
    given = dict(parse_qsl(query))
    master, name, password = (given.pop(key, "") for key in _SENTINEL_PARAMETERS)
    tls = urlencode({key: value for key, value in given.items() if key.startswith("ssl_")})
    login = f"{quote(name, safe='')}:{quote(password, safe='')}@" if password else ""
    kind = _SENTINEL[scheme]
    return Sentinels(
        server=f"{kind}://{user}{at}primary/{database}?{urlencode(given)}",
        sentinels=tuple(f"{kind}://{login}{_with_port(host)}?{tls}" for host in hosts.split(",")),
        master=master,
    )


def redis_hosts(normal_url: str) -> tuple[str, ...]:
    """Return the hosts that an address names, of its sentinels where it names such; none for a socket."""
    several = sentinels_of(normal_url)
    found = (urlsplit(url).hostname for url in ((normal_url,) if several is None else several.sentinels))
    return tuple(host for host in found if host)


def _sentinels(address: str) -> str:
    user, at, places = address.rpartition("@")
    hosts, slash, database = places.partition("/")
    if ";" in hosts:
        raise ValueError("separates its sentinels by semicolons; write sentinel://host:26379,host:26379/0?master=NAME")
    for host in hosts.split(","):
        _check_server(f"redis://{host}")
    _check_server(f"redis://{user}{at}primary{slash}{database}")
    return address


def _with_port(host: str) -> str:
    return host if urlsplit(f"redis://{host}").port else f"{host}:{_SENTINEL_PORT}"


def _redis_query(query: str, scheme: str) -> str:
    several = scheme in _SENTINEL
    with_tls = "sentinels" if several else "rediss"
    known = {**_REDIS_PARAMETERS, **(_SENTINEL_PARAMETERS if several else {})}
    kept: dict[str, str] = {}
    for written, value in parse_qsl(query, keep_blank_values=True):
        name = _REDIS_SYNONYMS.get(written, _SENTINEL_SYNONYMS.get(written, written))
        if name in kept:
            raise ValueError(f"gives the parameter {name} twice")
        if name in _REDIS_OURS:
            raise ValueError(f"sets {name}, which the dispatcher bounds itself; remove it from the address")
        if name == "ssl":
            raise ValueError(f"sets ssl; write {with_tls}:// for TLS, or remove it")
        if name in _SENTINEL_PARAMETERS and not several:
            raise ValueError(f"sets {written} without sentinels; write sentinel:// or remove it")
        if name not in known:
            nearest = get_close_matches(name, known, n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else f"; known are {', '.join(sorted(known))}"
            raise ValueError(f"has a parameter that is not known{hint}")
        if name.startswith("ssl_") and scheme != with_tls:
            raise ValueError(f"sets {name} without TLS; write {with_tls}:// or remove it")
        accepted = known[name](value)
        if accepted is None:
            raise ValueError(f"has a value of {name} that cannot be used; {_REDIS_VALUES[name]}")
        kept[name] = accepted
    if several and "master" not in kept:
        raise ValueError("names no master; add ?master= and the name under which the sentinels watch it")
    if "sentinel_username" in kept and "sentinel_password" not in kept:
        raise ValueError("gives sentinel_username without sentinel_password; add it")
    return f"?{urlencode(kept)}" if kept else ""


def _filled(value: str) -> str | None:
    return value or None


def _file(value: str) -> str | None:
    return value if Path(value).is_file() else None


def _directory(value: str) -> str | None:
    return value if Path(value).is_dir() else None


def _verification(value: str) -> str | None:
    word = value.lower().removeprefix("cert_")  # Celery and Heroku write CERT_NONE
    return word if word in {"none", "optional", "required"} else None


def _yes_or_no(value: str) -> str | None:
    word = value.lower()
    return "True" if word in {"true", "1", "yes"} else "False" if word in {"false", "0", "no"} else None


def _whole_number(value: str) -> str | None:
    return value if re.fullmatch(r"[0-9]{1,5}", value) else None


def _tls_version(value: str) -> str | None:
    numbers = {"TLSV1_2": "771", "TLSV1_3": "772"}  # redis-py takes the number of `ssl.TLSVersion`
    word = value.upper().replace(".", "_")
    return numbers.get(word, value if value in numbers.values() else None)


_REDIS_PARAMETERS: Final[Mapping[str, Callable[[str], str | None]]] = {
    "client_name": _filled,
    "db": _whole_number,
    "health_check_interval": _whole_number,
    "password": _filled,
    "ssl_ca_certs": _file,
    "ssl_ca_path": _directory,
    "ssl_cert_reqs": _verification,
    "ssl_certfile": _file,
    "ssl_check_hostname": _yes_or_no,
    "ssl_ciphers": _filled,
    "ssl_keyfile": _file,
    "ssl_min_version": _tls_version,
    "ssl_password": _filled,
    "username": _filled,
}
_SENTINEL_PARAMETERS: Final = dict.fromkeys(("master", "sentinel_username", "sentinel_password"), _filled)
_SENTINEL_SYNONYMS: Final = dict.fromkeys(("master_name", "service_name", "sentinel_master"), "master")
_REDIS_SYNONYMS: Final = {"virtual_host": "db", "ssl_keyfile_password": "ssl_password"}
_REDIS_VALUES: Final = {
    **dict.fromkeys(
        ("client_name", "password", "ssl_ciphers", "ssl_password", "username", *_SENTINEL_PARAMETERS), "it is empty"
    ),
    **dict.fromkeys(("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"), "give the path of a PEM file that exists here"),
    "db": "give the number of a database",
    "health_check_interval": "give whole seconds",
    "ssl_ca_path": "give the path of a directory that exists here",
    "ssl_cert_reqs": "give required (the default), optional or none",
    "ssl_check_hostname": "give true or false",
    "ssl_min_version": "give TLSv1_2 or TLSv1_3",
}
_REDIS_OURS: Final = frozenset(
    {
        "max_connections", "protocol", "retry_on_error", "retry_on_timeout", "socket_connect_timeout",
        "socket_keepalive", "socket_read_size", "socket_timeout", "timeout",
    }
)  # fmt: skip


def _refuse_many(scheme: str, rest: str) -> None:
    """Celery cannot use a cluster as its broker, and would say so only by strange errors."""
    address, _, query = rest.partition("?")
    host = address.rpartition("@")[2]
    if scheme in _SENTINEL:
        return
    if "sentinel" in scheme:
        raise ValueError("names Redis sentinels in another form; write sentinel://host:26379,host:26379/0?master=NAME")
    # AWS names the entry to a cluster `clustercfg.…`.
    if (
        "cluster" in scheme
        or "cluster" in query.lower()
        or "," in host
        or ";" in host
        or host.startswith("clustercfg.")
    ):
        raise ValueError("names a Redis cluster or several servers, which Celery cannot use; give the address of one")


def _check_server(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("has no usable host and port; percent-encode / ? # @ : in the password") from None
    if not host:
        raise ValueError("names no host")
    if _REDIS_PATH.fullmatch(parts.path) is None:
        raise ValueError("has a path that is not the number of a database")


def _split(url: str) -> tuple[str, str]:
    found = _SCHEME.fullmatch(url)
    if found is None or not url.isprintable() or " " in url:
        raise ValueError("is not an address of the form scheme://user:password@host:port/name")
    return found["scheme"].lower(), found["rest"]
