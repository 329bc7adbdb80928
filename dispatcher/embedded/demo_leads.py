"""The rows of the demo's file. Nothing is judged here: what is wrong with a row, `submit` says.

A header `phone_number,campaign_id,…`, variables in the other columns, and contacts in columns like `contact1_phone` and
`contact1_name`.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

_PACKAGE: Final = Path(__file__).parent
_CONTACT: Final = re.compile(r"contact(\d+)_(.+)")


@dataclass(frozen=True, slots=True)
class LeadRow:
    """One line of the file. `lead` has the keys of `Lead`, with what the cells say, right or wrong."""

    line: int
    lead: Mapping[str, Any] = field(repr=False)  # a person's data


def example_file() -> Path:
    """The file of examples: inside the wheel, or in a checkout."""
    packaged = _PACKAGE / "leads.csv"
    return packaged if packaged.is_file() else _PACKAGE.parents[1] / "examples" / "leads.csv"


def read_rows(path: Path) -> Iterator[LeadRow]:
    """The rows of a CSV file, in order; empty cells are left out."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        for cells in reader:
            filled = {name: text for name, text in cells.items() if text}
            yield LeadRow(reader.line_num, _lead(filled))


def _lead(cells: Mapping[str, str]) -> dict[str, Any]:
    lead: dict[str, Any] = {"variables": {}}
    contacts: dict[int, dict[str, Any]] = {}
    for name, text in cells.items():
        contact = _CONTACT.fullmatch(name)
        if name == "phone_number":
            lead[name] = text
        elif name == "campaign_id":
            lead[name] = int(text) if text.isdecimal() else text
        elif contact is None:
            lead["variables"][name] = text
        else:
            person = contacts.setdefault(int(contact[1]), {"variables": {}})
            if contact[2] == "phone":
                person["phone_number"] = text
            else:
                person["variables"][contact[2]] = text
    if contacts:
        lead["secondary_contacts"] = [contacts[number] for number in sorted(contacts)]
    return lead
