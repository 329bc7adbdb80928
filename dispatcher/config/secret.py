"""A text that must not be seen: masked in `repr`, `str`, `format` and JSON, never pickled, read with `reveal()`."""

from typing import NoReturn

from pydantic import SecretStr


class Secret(SecretStr):
    """A token, or a URL that carries a password."""

    def reveal(self) -> str:
        """The text itself; keep it out of variables that a traceback with locals could print."""
        return self.get_secret_value()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled: it would end up in a file or a queue")

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: object) -> "Secret":
        return self
