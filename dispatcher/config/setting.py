"""The declaration of one setting: its default, its form, what it does, its danger, and its bounds."""

from typing import Any, Final, NoReturn

from pydantic import Field, JsonValue, SecretStr


class Secret(SecretStr):
    """A token, or a URL that carries a password."""

    def reveal(self) -> str:
        """Return the text; keep it out of variables, which a traceback with locals could print."""
        return self.get_secret_value()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled: it would end up in a file or a queue")

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: object) -> "Secret":
        return self


DAY_SECONDS: Final = 86_400.0


def setting(default: object, expected: str, description: str, danger: str = "", **bounds: Any) -> Any:  # noqa: ANN401  (as pydantic's Field)
    """Declare a field of `Settings`. `expected` ends the sentence "give …"; `bounds` are pydantic's."""
    documentation: dict[str, JsonValue] = {"expected": expected, "danger": danger}
    return Field(default=default, description=description, json_schema_extra=documentation, **bounds)


def seconds(default: float, description: str, danger: str = "", *, greatest: float = DAY_SECONDS) -> Any:  # noqa: ANN401  (as above)
    """Declare a duration above zero, in seconds; fractions are allowed."""
    expected = f"a number of seconds above 0, up to {greatest:.0f}"
    return setting(float(default), expected, description, danger, gt=0, le=greatest, allow_inf_nan=False)


def days(default: float, description: str, danger: str = "") -> Any:  # noqa: ANN401  (as above)
    """Declare how long something is kept, in days."""
    expected = "a number of days, from 1 to 36500"
    return setting(float(default), expected, description, danger, ge=1, le=36_500, allow_inf_nan=False)


def count(default: int, description: str, danger: str = "", *, greatest: int) -> Any:  # noqa: ANN401  (as above)
    """Declare a whole number above zero."""
    return setting(default, f"a whole number from 1 to {greatest}", description, danger, ge=1, le=greatest)
