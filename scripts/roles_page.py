"""Write the table of docs/roles.md from dispatcher/store/rights.py: `python scripts/roles_page.py`."""  # noqa: INP001  (a script)

from pathlib import Path

from dispatcher.store.rights import RIGHTS, Part, rights_of

PAGE = Path(__file__).parent.parent / "docs" / "roles.md"
_BEGIN = "<!-- Generated from dispatcher/store/rights.py by scripts/roles_page.py; change it there. -->\n"
_END = "<!-- end -->"
_PARTS = [part for part in Part if part is not Part.OWNER]
_SHORT = {"SELECT": "S", "INSERT": "I", "UPDATE": "U", "DELETE": "D"}


def page() -> str:
    """The page as it should be."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    after = rest.partition(_END)[2]
    return f"{before}{_BEGIN}\n{_table()}\n{_END}{after}"


def _table() -> str:
    rows = [f"| | {' | '.join(_PARTS)} |", f"|---|{'---|' * len(_PARTS)}"]
    rows += [f"| `{table}` | {' | '.join(_cell(table, part) for part in _PARTS)} |" for table in RIGHTS]
    return "\n".join(rows) + "\n"


def _cell(table: str, part: Part) -> str:
    return " ".join(
        _SHORT[right.privilege] + ("*" if right.columns else "") for right in rights_of(part) if right.table == table
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
