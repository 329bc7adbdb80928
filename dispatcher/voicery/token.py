"""The bearer token: read at each use, so that a rotated one works without a restart, and shown to nobody."""

from collections.abc import Callable
from typing import NoReturn, Protocol

import requests
from requests.auth import AuthBase

from dispatcher.errors import NotConfigured


class Secret(Protocol):
    """What pydantic's `SecretStr` offers."""

    def get_secret_value(self) -> str:
        """The secret itself."""
        ...


class BearerAuth(AuthBase):
    """Sets `Authorization: Bearer <token>` (RFC 6750) on a request; raises `NotConfigured` for an unusable token."""

    def __init__(self, token: Callable[[], str] | Secret) -> None:
        self._read = token if callable(token) else token.get_secret_value
        self._header()

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Set the header, with the token as it is now."""
        request.headers["Authorization"] = self._header()
        return request

    def _header(self) -> str:
        token = self._read()
        if not token:
            raise NotConfigured("There is no Voicery API token; set VOICERY_API_TOKEN or VOICERY_API_TOKEN_FILE.")
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise NotConfigured(
                "The Voicery API token holds a line break, a space or a character outside ASCII; "
                "check VOICERY_API_TOKEN or the file that VOICERY_API_TOKEN_FILE names."
            )
        return f"Bearer {token}"

    def __repr__(self) -> str:
        return "BearerAuth(token=**********)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a token is not pickled")
