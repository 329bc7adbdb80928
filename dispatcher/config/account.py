"""An account: one Voicery workspace, with its token and the base URL it may be sent to.

The token comes from the environment or, so that it can be rotated without a restart, from a file read at each use.
"""

import re
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from dispatcher.config.base_url import check_base_url
from dispatcher.config.secret import Secret
from dispatcher.errors import FieldError, NotConfigured
from dispatcher.leads.options import ACCOUNT_NAME, DEFAULT_ACCOUNT

DEFAULT_BASE_URL: Final = "https://app.voicery.ai/api"

_PRINTABLE: Final = re.compile(r"[!-~]{1,4096}")  # what can stand in a header without ending it
_NOT_ONE: Final = "is not a token: it is empty, or has spaces, line breaks or characters beyond ASCII"
_TOKEN_FILE_BYTES: Final = 8192


class AccountSettings(BaseModel):
    """What one account needs. A producer needs no token; a worker needs `token` or `token_file`, not both."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = DEFAULT_ACCOUNT
    token: Secret | None = None
    token_file: Path | None = None
    base_url: str = DEFAULT_BASE_URL

    @property
    def has_token(self) -> bool:
        """Whether a token is set; whether its file can be read is known only at use."""
        return self.token is not None or self.token_file is not None

    def read_token(self) -> str:
        """The token as of now; a file is read anew each time. Raises `NotConfigured`, never with the token in it."""
        if self.token_file is not None:
            return self._token_of(self.token_file)
        if self.token is not None:
            return self.token.reveal().strip()
        variable = self.variable("VOICERY_API_TOKEN")
        raise NotConfigured(f"{variable} is not set; create a token in Voicery's settings, then set it here.")

    def _token_of(self, path: Path) -> str:
        variable = self.variable("VOICERY_API_TOKEN_FILE")
        try:
            with path.open("rb") as file:
                token = file.read(_TOKEN_FILE_BYTES).decode("ascii", "replace").strip()
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise NotConfigured(f"{variable}: the file cannot be read ({why}); mount it or correct the path.") from None
        if _PRINTABLE.fullmatch(token) is None:
            token = ""  # tracebacks show local variables
            raise NotConfigured(f"{variable}: what the file holds {_NOT_ONE}; write the token into it, and only that.")
        return token

    def faults(self, *, allow_http: bool) -> list[FieldError]:
        """Everything that can be known to be wrong without opening a file or a socket."""
        faults = []
        token, base_url = self.variable("VOICERY_API_TOKEN"), self.variable("VOICERY_BASE_URL")
        if ACCOUNT_NAME.fullmatch(self.name) is None:
            faults.append(FieldError(token, "does not end in a name of an account", "use 1 to 40 of a-z, 0-9 and _"))
        if self.token is not None and self.token_file is not None:
            faults.append(FieldError(token, "is set beside the file", "set one of the two"))
        if self.token is not None and _PRINTABLE.fullmatch(self.token.reveal().strip()) is None:
            faults.append(FieldError(token, _NOT_ONE, "copy it again from Voicery's settings"))
        about_the_url = check_base_url(self.base_url, allow_http=allow_http)
        return faults + [FieldError(base_url, fault, f"the default is {DEFAULT_BASE_URL}") for fault in about_the_url]

    def variable(self, name: str) -> str:
        """The environment variable of this account: the default account's has no suffix."""
        return name if self.name == DEFAULT_ACCOUNT else f"{name}__{self.name.upper()}"
