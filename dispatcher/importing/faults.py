"""The faults of a row: all of them at once, in the words of who has the file before them.

`Lead`, `SubmitOptions` and `submit_many` speak to a programmer; where their way out is code, it is put in other words.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from dispatcher.errors import FieldError, InvalidLead
from dispatcher.importing.cell import TIME_REMEDY
from dispatcher.leads import admission, options, variables
from dispatcher.leads import lead as leads

_REMEDIES: Final = {
    leads.CAMPAIGN_REMEDY: (
        "write the campaign's id as Voicery shows it, e.g. 42, or name the campaign of rows without one: --campaign"
    ),
    leads.FLAG_REMEDY: "write true or false, or leave it out for false",
    options.ID_REMEDY: "write a UUID, or leave it out",
    options.TIME_REMEDY: TIME_REMEDY,
    variables.OBJECT_REMEDY: 'write an object, e.g. {"customer_name": "Ada"}',
}
_CHANGED: Final = FieldError(
    "row",
    "was imported before, with other values: it, the mapping or a default has changed since",
    "import it as a batch of its own with --again, or under another id if it names one, if this person is to be called "
    "once more",
)
_TYPE: Final = re.compile(r"is of type (\w+), not (.+)")
_KINDS: Final = {
    "str": "text",
    "int": "a number",
    "float": "a number",
    "bool": "true or false",
    "NoneType": "null",
    "list": "a list",
    "dict": "an object",
    "an integer": "a whole number",
    "a bool": "true or false",
    "a mapping": "an object",
}


def all_of(own: Iterable[FieldError], lead: Mapping[str, Any], given: Mapping[str, Any]) -> list[FieldError]:
    """The faults that only a file can have, then those of the lead and its options; each field's own come first."""
    faults = list(own)
    named = {fault.field for fault in faults}
    for parse, value in ((leads.Lead.parse, lead), (options.SubmitOptions.parse, given)):
        try:
            parse(value)
        except InvalidLead as refusal:
            faults += [fault for fault in refusal.errors if fault.field not in named]
    return faults


def in_file_words(faults: Iterable[FieldError]) -> tuple[FieldError, ...]:
    """The same faults, said to who can change the file and not the program."""
    return tuple(map(_in_file_words, faults))


def _in_file_words(fault: FieldError) -> FieldError:
    if fault.remedy == admission.CHANGED_REMEDY or fault.fault == admission.CHANGED_UNDER_ID:
        return _CHANGED
    found = _TYPE.fullmatch(fault.fault)
    told = fault.fault if found is None else f"is {_kind(found[1])}, not {_kind(found[2])}"
    remedy = _REMEDIES.get(fault.remedy) or re.sub(r"^pass\b", "write", fault.remedy)
    return FieldError(fault.field, told, remedy)


def _kind(name: str) -> str:
    return _KINDS.get(name, name)
