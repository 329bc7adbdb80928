"""The clients of one process: for each account the one of the token that it uses."""

from dispatcher.config.account import Token
from dispatcher.config.settings import Settings
from dispatcher.voicery.client import VoiceryClient
from dispatcher.voicery.tokens import Tokens


class Clients:
    """Makes them from the settings, when they are first asked for. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tokens: dict[str, Tokens] = {}
        self._made: dict[str, tuple[str, VoiceryClient]] = {}  # the client of the token that was asked for last

    def tokens(self, account: str) -> Tokens:
        """Return what says which token of the account is used, the same at each call. Raises `NotConfigured`."""
        if account not in self._tokens:
            return self._tokens.setdefault(account, Tokens(self._settings.account(account)))
        return self._tokens[account]

    def client(self, account: str, token: Token | None = None) -> VoiceryClient:
        """Return the client of an account that sends this token, or the current one. Raises `NotConfigured`.

        The same token has the same client, with its connections. Evidence belongs to a token, so none changes within a
        run: what is written into a file meanwhile counts from the next run on.
        """
        token = token or self.tokens(account).current()
        known = self._made.get(account)
        if known is None or known[0] != token.fingerprint:
            client = self._make(account, token)
            if known is not None:
                known[1].close()  # its idle connections: an exchange that runs keeps its own
            known = self._made[account] = (token.fingerprint, client)
        return known[1]

    def close(self) -> None:
        """Close the idle connections."""
        for _, client in tuple(self._made.values()):
            client.close()

    def _make(self, account: str, token: Token) -> VoiceryClient:
        settings = self._settings
        return VoiceryClient(
            base_url=settings.account(account).base_url,
            token=token.secret,
            connect_timeout_seconds=settings.connect_timeout_seconds,
            read_timeout_seconds=settings.read_timeout_seconds,
            deadline_seconds=settings.deadline_seconds,
            proxy=settings.proxy.reveal() if settings.proxy else None,
            ca_bundle=str(settings.ca_bundle) if settings.ca_bundle else None,
            allow_http=settings.allow_http,
        )
