"""How an account is bound to the base URL where its leads were accepted first."""

from urllib.parse import urlsplit

from dispatcher.config.base_url import is_loopback


def binding_of(base_url: str) -> str:
    """The base URL as an account is bound to it. A sandbox may come back on another port of this machine."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    where = host if is_loopback(host) else parts.netloc.lower()
    return f"{parts.scheme}://{where}{parts.path.rstrip('/')}"
