"""Which token of an account this process uses: the first, or the second once Voicery has refused the first."""

from dispatcher.config.account import AccountSettings, Token
from dispatcher.errors import NotConfigured


class Tokens:
    """The tokens of one account, read anew at each use. Thread-safe.

    Each process learns for itself which token is refused, by its own requests. It forgets once all are refused, so that
    both are tried again behind the gate.
    """

    def __init__(self, account: AccountSettings) -> None:
        self._account = account
        self._refused: frozenset[str] = frozenset()  # fingerprints; replaced as a whole, so no lock is needed

    def current(self) -> Token:
        """Return the token to use now. Raises `NotConfigured` without a first one."""
        tokens = self._read()
        return next((token for token in tokens if token.fingerprint not in self._refused), tokens[0])

    def refused(self, token: Token) -> bool:
        """Note that Voicery has refused this token (HTTP 401). Return whether another one is used from now on."""
        refused = self._refused | {token.fingerprint}
        try:
            left = any(other.fingerprint not in refused for other in self._read())
        except NotConfigured:
            left = False
        self._refused = refused if left else frozenset()
        return left

    def _read(self) -> list[Token]:
        tokens = [Token.of(self._account.read_token())]
        try:
            second = self._account.read_next_token()
        except NotConfigured:  # delivery goes on with the first; `dispatcher doctor` says what is wrong with this one
            second = None
        return tokens if second is None else [*tokens, Token.of(second)]
