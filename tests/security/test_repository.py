"""What is in the repository calls nobody and opens nothing: reserved numbers and made-up tokens only, in every file.

A number counts if a network could put a call through to it: one that its country's plan does not have does not.
"""

import math
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import phonenumbers
import pytest

ROOT = Path(__file__).parents[2]


def tracked() -> Iterator[tuple[str, str]]:
    """The name and text of each file of the repository; of an unpacked sdist, of each file."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=False, capture_output=True, text=True)
    names = listed.stdout.split("\0") if listed.returncode == 0 else [str(path) for path in ROOT.rglob("*")]
    for name in filter(None, names):
        path = ROOT / name
        if path.is_file() and path.suffix not in {".png", ".pyc"}:
            yield name, path.read_text(encoding="utf-8", errors="replace")


FILES = dict(tracked())


def test_the_files_are_found() -> None:
    assert len(FILES) > 300
    assert {"README.md", "examples/leads.csv", "tests/security/test_repository.py"} <= set(FILES)


# Numbers --------------------------------------------------------------------------------------------------------------

RESERVED = [
    re.compile(pattern)
    for pattern in (
        r"\+1[2-9]\d\d55501\d\d",  # North America: 555-0100 to 555-0199
        r"\+44(1(13|14|15|16|17|18|21|31|41|51|61)4960|1632960|1914980|207946|289649|292018|3069990|7700900|808157|909879)\d*",
        r"\+49(3023125|6990009|4066969|2214710|8999998|17139200|176040690)\d*",  # Germany
        r"\+33(19900|26191|35301|46571|53649|63998)\d{4}",  # France
        r"\+61([2378]5550|[2378]7010|491570|491571)\d*",  # Australia
    )
]
WITHOUT_A_RANGE = {
    "+12025550000": "an American number that ends as decimals do: 555-0000 is assigned to nobody",
    "+14792345678": "an American number that reads like a Norwegian one",
    "+16492661234": "New Zealand's below, by losing a digit",
    "+2250701234567": "Ivory Coast, whose numbers grew",
    "+32475123456": "Belgium",
    "+390612345678": "Italy, whose numbers keep their zero",
    "+390655550123": "Italy",
    "+4792345678": "Norway, without a trunk prefix",
    "+4915123456788": "Germany, a mobile number of eleven digits",
    "+4915123456789": "Germany, a mobile number of eleven digits",
    "+4916098765432": "Germany, a mobile number of eleven digits",
    "+4930901820123": "Germany, where a number reads like an American one",
    "+4930123456789": "Germany, two numbers in one",
    "+49301234500": "Germany, two numbers in one",
    "+49301234567": "Germany, whose numbers have many lengths",
    "+494915123456789": "Germany, with its country code twice",
    "+525512345678": "Mexico",
    "+525587654321": "Mexico",
    "+541112345678": "Argentina, without its 9",
    "+5491112345678": "Argentina, with its 9",
    "+5511987654321": "Brazil, with its 9",
    "+6492661234": "New Zealand",
    "+79123456789": "Russia, whose trunk prefix is an 8",
}
"""Numbers of tests about the forms of countries whose plan reserves none, or none of that length. No more may come."""
WRITTEN = re.compile(r"(?<![\w+])\+[1-9][0-9]{0,3}(?:[ ().\-/]{0,2}[0-9]){5,14}(?![0-9])")


def callable_numbers(text: str) -> set[str]:
    """The numbers with a plus in a text that a network may know, whatever stands between their digits."""
    found = set()
    for match in WRITTEN.finditer(text):
        try:
            number = phonenumbers.parse(match.group())
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(number):
            found.add(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))
    return found


def may_be_called(number: str) -> bool:
    return not any(pattern.fullmatch(number) for pattern in RESERVED)


def test_no_file_holds_a_number_that_somebody_may_answer() -> None:
    found = {
        name: strange
        for name, text in FILES.items()
        if not name.startswith("locks/")
        and (strange := {one for one in callable_numbers(text) if may_be_called(one)} - set(WITHOUT_A_RANGE))
    }
    assert found == {}, "use a number that is reserved for fiction"


def test_no_exception_outlives_its_use() -> None:
    used = {number for name, text in FILES.items() if name != Path(__file__).name for number in callable_numbers(text)}
    assert set(WITHOUT_A_RANGE) <= used


@pytest.mark.parametrize(
    "number", ["+1 " + "(202) 555-9999", "+44 20 7946 0018", "+49 171 39200-12", "+61 491 570 156"]
)
def test_a_number_is_seen_however_it_is_written(number: str) -> None:
    assert [may_be_called(one) for one in callable_numbers(f"call {number}.")] == [number.startswith("+1 ")]


# Secrets --------------------------------------------------------------------------------------------------------------

KNOWN_FORMS = {
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a key of AWS": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "a token of GitHub": r"\b(gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{60,})",
    "a token of GitLab": r"\bglpat-[\w-]{20,}",
    "a token of Slack": r"\bxox[abeoprs]-[\w-]{10,}|hooks\.slack\.com/services/T\w+/B\w+/\w{20,}",
    "a key of Stripe": r"\b[rs]k_live_[A-Za-z0-9]{16,}",
    "a key of Google": r"\bAIza[\w-]{35}\b",
    "a JSON web token": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
    "a token of a registry": r"\b(pypi-AgE[\w-]{20,}|npm_[A-Za-z0-9]{36})",
    "a hash of a password": r"\bscrypt\.\d+\.8\.1\.[\w+/=-]{16,}\.[\w+/=-]{32,}",
}
NAMED = re.compile(
    r"(?i)(?:token|secret|password|passwd|api_?key|private_?key|authorization)\w*[\"']?\s*[:=]+\s*[\"']?"
    r"(?:bearer )?(?P<value>[A-Za-z0-9+/_=.~-]{16,})"
)
RANDOM_BITS = 3.6
"""Bits a character: a random token of 16 characters has about 3.8, words have less."""


def bits(value: str) -> float:
    """Shannon's entropy of the characters."""
    return -sum(count / len(value) * math.log2(count / len(value)) for count in Counter(value).values())


def looks_random(value: str) -> bool:
    """Whether it has the letters and digits of a generated token, and none of a program's words."""
    mixed = re.search("[0-9]", value) and re.search("[A-Za-z]", value)
    words = re.search(r"[A-Za-z]{4,}[_.-][A-Za-z]{3,}|CANARY|(?i:example|0123456789|abcdef)", value)
    return bool(mixed) and not words and bits(value) >= RANDOM_BITS


def secrets(text: str) -> list[str]:
    known = [what for what, pattern in KNOWN_FORMS.items() if re.search(pattern, text)]
    return known + [f"a value of {one['value'][:4]}…" for one in NAMED.finditer(text) if looks_random(one["value"])]


def test_no_file_holds_a_secret() -> None:
    assert {name: found for name, text in FILES.items() if (found := secrets(text))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN RSA " + "PRIVATE KEY-----",
        "AKIA" + "Q7ZDP3X9TN2LRW5K",
        "ghp_" + "k3J9xQ7mZp2Lw8Rt5Vb1Nc6Yd4Hs0Fg3Ua9E",
        "VOICERY_API_TOKEN=" + "q8Zk2Xw9Lm4Rt7Vb",
        "'Authorization': 'Bearer " + "3f9aK2xQ7mZp8Lw5Rt1V'",
        "password = " + "tR8qvZ2kX9wL4mB7nC",
    ],
)  # fmt: skip
def test_a_secret_would_be_noticed(text: str) -> None:
    assert secrets(text)


def test_no_file_names_a_host_of_package_registries_or_a_path_of_a_machine() -> None:
    strange = re.compile(
        r"(?<!emit-)index-url|find-links|trusted-host|/opt/(pypi|wheels)|/work/(main|wt|base|shared)\b"
    )
    known = {"tests/security/test_repository.py", "tests/deployment/test_supply_chain.py"}
    assert [name for name, text in FILES.items() if name not in known and strange.search(text)] == []
