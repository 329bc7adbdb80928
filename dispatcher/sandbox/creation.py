"""The body of a creation, checked as Laravel's validator would."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_E164 = re.compile(r"\+?[1-9]\d{6,14}")
_BOOLEANS: tuple[Any, ...] = (True, False, "0", "1")  # 0 and 1 equal False and True


@dataclass(frozen=True, slots=True)
class Contact:
    """A secondary contact as asked for."""

    phone_number: str
    variables: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Creation:
    """A valid request to create a lead."""

    campaign_id: int
    phone_number: str
    variables: Mapping[str, Any]
    allow_dupplicate: bool
    contacts: tuple[Contact, ...]


@dataclass(frozen=True, slots=True)
class Invalid:
    """Field → messages, in the order of the fields."""

    errors: Mapping[str, list[str]]

    @property
    def message(self) -> str:
        """The first message, and how many more there are, as Laravel sums them up."""
        messages = [message for of_field in self.errors.values() for message in of_field]
        more = len(messages) - 1
        return messages[0] + (f" (and {more} more error{'s' if more > 1 else ''})" if more else "")


def read_creation(body: object, campaigns: Mapping[int, str] | None) -> Creation | Invalid:
    """`campaigns` None means that every positive id exists. What is no JSON object counts as empty, as in Laravel."""
    fields = body if isinstance(body, dict) else {}
    errors: dict[str, list[str]] = {}
    phone_number = _phone_number(fields, "phone_number", errors)
    campaign_id = _campaign_id(fields.get("campaign_id"), campaigns, errors)
    variables = _variables(fields.get("variables"), "variables", errors)
    flag = fields.get("allow_dupplicate", False)
    if flag not in _BOOLEANS:
        errors["allow_dupplicate"] = ["The allow dupplicate field must be true or false."]
    contacts = _contacts(fields.get("secondary_contacts"), errors)
    if errors:
        return Invalid(errors)
    return Creation(campaign_id, phone_number, variables, flag in (True, "1"), contacts)


def _phone_number(fields: Mapping[str, Any], name: str, errors: dict[str, list[str]]) -> str:
    value = fields.get("phone_number")
    label = name.replace("_", " ")
    if value is None or value == "":
        errors[name] = [f"The {label} field is required."]
    elif not isinstance(value, str) or _E164.fullmatch(value) is None:
        errors[name] = [f"The {label} field format is invalid."]
    else:
        return value
    return ""


def _campaign_id(value: object, campaigns: Mapping[int, str] | None, errors: dict[str, list[str]]) -> int:
    if value is None or value == "":
        errors["campaign_id"] = ["The campaign id field is required."]
        return 0
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        errors["campaign_id"] = ["The campaign id field must be an integer."]
        return 0
    if value < 1 or (campaigns is not None and value not in campaigns):
        errors["campaign_id"] = ["The selected campaign id is invalid."]
    return value


def _variables(value: object, name: str, errors: dict[str, list[str]]) -> Mapping[str, Any]:
    if value is None or value == []:  # PHP writes an empty object as an empty array
        return {}
    if isinstance(value, dict):
        return value
    errors[name] = [f"The {name} field must be an array."]
    return {}


def _contacts(value: object, errors: dict[str, list[str]]) -> tuple[Contact, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        errors["secondary_contacts"] = ["The secondary contacts field must be an array."]
        return ()
    found = []
    for index, item in enumerate(value):
        fields = item if isinstance(item, dict) else {}
        where = f"secondary_contacts.{index}"
        phone_number = _phone_number(fields, f"{where}.phone_number", errors)
        found.append(
            Contact(
                phone_number,
                _variables(fields.get("variables"), f"{where}.variables", errors),
            )
        )
    return tuple(found)
