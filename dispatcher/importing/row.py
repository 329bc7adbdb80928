"""A row of an imported file, with what is needed to say later where it stood and what it said."""

from dataclasses import dataclass

from dispatcher.errors import FieldError


@dataclass(frozen=True, slots=True)
class Row:
    """`line` is 1-based, the first of the row's; `text` as it stood; `cells` of a table, empty for a line of JSON.

    `fault` says why the row's cells cannot be told apart, or are not to be trusted.
    """

    line: int
    text: str
    cells: tuple[str, ...] = ()
    fault: FieldError | None = None

    def __repr__(self) -> str:
        return f"Row(line={self.line})"
