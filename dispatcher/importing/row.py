"""A row of an imported file, with what is needed to say later where it stood and what it said."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """`line` is 1-based, the first of the row's; `text` as it stood; `cells` of a table, empty for a line of JSON."""

    line: int
    text: str
    cells: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Row(line={self.line})"
