"""Where the console may be reached: names a browser may use, and whether that is safe without a login.

On this machine plain http is fine; from elsewhere there must be users and TLS, here or in a proxy.
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from dispatcher.config.base_url import is_loopback
from dispatcher.errors import NotConfigured


@dataclass(frozen=True, slots=True)
class Origin:
    """`origins` as browsers send them; `hosts` are their `Host` headers; `secure` means TLS on every way in."""

    origins: frozenset[str]
    hosts: frozenset[str]
    secure: bool
    public: str
    """The one to print."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate chain and its key, both PEM files."""

    chain: Path
    key: Path


def reached_at(
    host: str, port: int, *, public: str | None = None, certificate: Certificate | None = None, users: bool
) -> Origin:
    """Decide. Raises `NotConfigured` where the console would be open to strangers, or its cookies readable."""
    scheme = "https" if certificate is not None else "http"
    if not is_loopback(host) and not users:
        raise NotConfigured(
            f"The console does not listen on {host} without a login: set DISPATCHER_CONSOLE_USERS or "
            "DISPATCHER_CONSOLE_USERS_FILE (`dispatcher console --hash NAME:ROLE` writes a line), or use 127.0.0.1."
        )
    if public is None and not is_loopback(host):
        raise NotConfigured(
            f"Listening on {host} the console has to know its own name: set DISPATCHER_CONSOLE_ORIGIN to where "
            "browsers reach it, e.g. https://leads.example.com."
        )
    if public is None:
        names = ["127.0.0.1", "localhost", "[::1]"]
        shown = f"[{host}]" if ":" in host else host
        origins = [f"{scheme}://{name}:{port}" for name in dict.fromkeys([shown, *names])]
        return Origin(frozenset(origins), frozenset(map(_host, origins)), scheme == "https", origins[0])
    origin = _normal(public)
    if not origin.startswith("https://") and not is_loopback(urlsplit(origin).hostname or ""):
        raise NotConfigured(
            "DISPATCHER_CONSOLE_ORIGIN must be https, or http on this machine: "
            "passwords and numbers would travel readable."
        )
    if not users and not is_loopback(urlsplit(origin).hostname or ""):
        raise NotConfigured("A console that others reach needs users: set DISPATCHER_CONSOLE_USERS.")
    return Origin(frozenset({origin}), frozenset({_host(origin)}), origin.startswith("https://"), origin)


def _normal(origin: str) -> str:
    parts = urlsplit(origin)
    standard = {"https": 443, "http": 80}[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + ("" if parts.port in (None, standard) else f":{parts.port}")


def _host(origin: str) -> str:
    return origin.split("://", 1)[1]
