"""Phone numbers as people write them and programs export them: the same person, or a refusal that says why.

`PHONES=200 python -m pytest tests/world/test_phones.py -s` tries more numbers of each region.
"""

import os
import random
import sys
from collections import Counter
from collections.abc import Iterator

import phonenumbers
import pytest
from phonenumbers import PhoneNumber, PhoneNumberFormat, PhoneNumberType

from dispatcher.errors import FieldError, InvalidLead
from dispatcher.importing.columns import ImportOptions, columns_of
from dispatcher.importing.json_lines import json_leads
from dispatcher.importing.row import Row
from dispatcher.lead.candidate import BatchIds, read_items
from dispatcher.lead.lead import Lead
from dispatcher.lead.phone import Country, canonical_phone
from dispatcher.lead.written_number import EXAMPLE

ADA, BERLIN, ROME = "+12025550100", "+4915123456789", "+390612345678"
EACH = int(os.environ.get("PHONES", "3"))
"""Numbers of each region."""


def read(written: str, country: str | None = None, *, national: bool = False) -> str:
    """The number, or why it is refused. What is told shows nothing of the number."""
    found = canonical_phone(written, "phone_number", None if country is None else Country(country, national=national))
    if isinstance(found, str):
        return found
    told, digits = str(found).replace(EXAMPLE, ""), "".join(filter(str.isdecimal, written))
    assert all(digits[start : start + 5] not in told for start in range(len(digits) - 4))
    assert found.remedy
    return f"{found.fault}; {found.remedy}"


@pytest.mark.parametrize(
    ("written", "number"),
    [
        # Excel and Google Sheets mark text so; https://support.google.com/docs/answer/3540681
        ("'+4915123456789", BERLIN),
        ("\u2019+4915123456789", BERLIN),
        ('="+4915123456789"', BERLIN),
        ("=+4915123456789", BERLIN),
        ('"+4915123456789"', BERLIN),
        # pandas makes floats of a column with gaps; https://pandas.pydata.org/docs/user_guide/integer_na.html
        ("+4915123456789.0", BERLIN),
        ("+4915123456789,00", BERLIN),
        ("+4915123456789.000000", BERLIN),
        ("+4,915,123,456,789.00", BERLIN),
        ("+4.915.123.456.789,00", BERLIN),
        ("+4'915'123'456'789", BERLIN),
        ("+33.6.39.98.00.00", "+33639980000"),  # French pairs, which end as decimals do
        ("+1.202.555.0100", ADA),
        ("+1 202 555.0000", "+12025550000"),
        # Contacts of Windows and WhatsApp come with marks of direction; https://unicode.org/reports/tr9/
        ("\u202a+49 151 23456789\u202c", BERLIN),
        ("\u2066+49\u2069 151 23456789", BERLIN),
        ("\u202d+49 151 23456789\u202c", BERLIN),
        ("\ufeff+4915123456789", BERLIN),
        ("+49\u200b151\u206023456789\u00ad", BERLIN),
        ("+49\u00a0151\u202f234\u2009567\u300089", BERLIN),
        ("+49\u2010151\u2011234\u2212567\u201389", BERLIN),
        # Digits of other scripts are digits; https://www.unicode.org/reports/tr44/#General_Category_Values (Nd)
        ("+\u0664\u0669\u0661\u0665\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668\u0669", BERLIN),
        ("\uff0b\uff14\uff19\uff08\uff11\uff15\uff11\uff09\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19", BERLIN),
        ("+\u096a\u096f 151 23456789", BERLIN),
        # RFC 3966
        ("tel:+49-151-23456789", BERLIN),
        ("tel:0151-23456789;phone-context=+49", BERLIN),
        ("TEL:+4915123456789", BERLIN),
        ("Tel.: +49 151 23456789", BERLIN),
        ("p:+4915123456789", BERLIN),  # lead ads of Meta; see test_files.py
        ("whatsapp:+4915123456789", BERLIN),  # https://www.twilio.com/docs/whatsapp/api
        # ITU-T E.123: 00 is the recommended international prefix
        ("004915123456789", BERLIN),
        ("00 49 (0)151 23456789", BERLIN),
        ("+00 49 151 23456789", BERLIN),
        ("(0049) 151 23456789", BERLIN),
        ("(+49) 151 23456789", BERLIN),
        # DIN 5008 and its like write the trunk zero in parentheses; Italy dials it from abroad
        ("+49 (0)151 23456789", BERLIN),
        ("+49 ( 0 ) 151 / 23456789", BERLIN),
        ("+44 (0)20 7946 0000", "+442079460000"),
        ("+39 (0)6 1234 5678", ROME),
        ("+1 (0)202 555 0100", ADA),
        ("0039 06 1234 5678", ROME),
        ("+12025550100\r\n", ADA),
        ("\t+1 202 555 0100 ;", ADA),
    ],
)
def test_a_number_with_one_reading_is_read(written: str, number: str) -> None:
    assert read(written) == number


@pytest.mark.parametrize(
    ("written", "country", "number"),
    [
        ("4915123456789", "AT", BERLIN),  # no Austrian number is as long: the + was lost
        ("4915123456789.0", "AT", BERLIN),
        ("49 (0)151 23456789", "DE", BERLIN),
        ("(0)151 23456789", "DE", BERLIN),
        ("0151/23456789", "DE", BERLIN),
        ("0475/12/34/56", "BE", "+32475123456"),
        ("06.39.98.00.00", "FR", "+33639980000"),
        ("(202) 555-0100", "us", ADA),
        ("1 202 555 0100", "US", ADA),
        ("2025550100.0", "US", ADA),
        ("011 49 151 23456789", "US", BERLIN),  # how the United States dial abroad
        ("0011 64 9 266 1234", "AU", "+6492661234"),  # and Australia; 00 and then 1 would be a Caribbean number
        ("00442079460001", "DE", "+442079460001"),
        ("020 7946 0001", "GB", "+442079460001"),
        ("06 1234 5678", "IT", ROME),
        ("8 (912) 345-67-89", "RU", "+79123456789"),
        ("479-234-5678", "US", "+14792345678"),  # grouped as in the United States
        ("47 92 34 56 78", "US", "+4792345678"),  # and as in Norway
    ],
)
def test_a_country_completes_a_number_with_one_reading(written: str, country: str, number: str) -> None:
    assert read(written, country) == number


@pytest.mark.parametrize(
    ("written", "country", "readings"),
    [
        ("4915123456789", "DE", "DE (+49 and 11 digits) or DE (+49 and 13 digits)"),
        ("4915123456789.0", "DE", "DE (+49 and 11 digits) or DE (+49 and 13 digits)"),
        ("4.915.123.456.789,00", "DE", "DE (+49 and 11 digits) or DE (+49 and 13 digits)"),
        ("15123456789", "DE", "DE (+49 and 11 digits) or US (+1 and 10 digits)"),  # a spreadsheet dropped + or 0
        ("4792345678", "US", "NO (+47 and 8 digits) or US (+1 and 10 digits)"),
        ("6206179189.0", "HU", "HU (+36 and 9 digits) or ID (+62 and 7 digits)"),  # 06 is dialled before it
        ("06910930,00", "GA", "GA (+241 and 7 digits) or GA (+241 and 8 digits)"),
        ("3311234567.0", "IT", "IT (+39 and 10 digits) or IT (+39 and 11 digits)"),  # a mobile, or Varese without its 0
    ],
)
def test_a_number_with_two_readings_is_refused_with_both(written: str, country: str, readings: str) -> None:
    assert f"may be two numbers, {readings}; write it with + and the country code" in read(written, country)


def test_whoever_says_that_no_number_lost_its_plus_gets_the_national_reading() -> None:
    assert read("4792345678", "US", national=True) == "+14792345678"
    assert read("4915123456789", "DE", national=True) == "+494915123456789"
    assert read("004915123456789", "DE", national=True) == BERLIN
    assert read("4915123456789", "US", national=True).startswith("is no valid number of US; ")


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("4915123456789", "does not start with + and the country code"),
        ("+4915123456789/+4916098765432", "more than one number"),
        ("+49 151 23456789; +49 160 98765432", "more than one number"),
        ("+4915123456789, 030 1234567", "more than one number"),
        ("+4915123456789\n+4916098765432", "more than one number"),
        ("+49 151 23456789 or 0301234567", "more than one number"),
        ("+49 151 23456789 oder 0301234567", "more than one number"),
        ("+4915123456789 +4916098765432", "more than one number"),
        ("+4930 1234567/1234568", "more than one number"),
        ("+49301234567/89", "a / after which another number may begin"),
        ("+12025550100 ext. 7", "has an extension"),
        ("+12025550100x7", "has an extension"),
        ("+12025550100#7", "has an extension"),
        ("+12025550100,,7", "has an extension"),
        ("+7 912 345-67-89 доб. 12", "has an extension"),
        ("tel:+12025550100;ext=7", "has an extension"),
        ("tel:7042;phone-context=example.com", "inside of an organisation"),
        ("+1-800-FLOWERS", "contains letters"),
        ("+1202FLOWERS", "contains letters"),
        ("+4915123456789 (mobil)", "contains letters"),
        ("n/a", "has no digits"),
        ("+4.91512E+12", "scientific notation"),
        ("4,91512345678E+11", "scientific notation"),
        ("4E11", "scientific notation"),
        ("=HYPERLINK(12025550100)", "is a formula"),
        ("+49 30 123 45.00", "ends in .00, which may be the decimals"),
        ("+4915123456789.5", "has decimals, which may be digits of it"),
        ("+49151234567.89", "has decimals, which may be digits of it"),
        ("+49151234567,891", "has decimals, which may be digits of it"),
        ("0151 23456789 0160 98765432 1", "has too many digits"),
        ("+1202555\u202e0100", "shows its digits in reverse"),
        ("+1202555\x000100", "neither a digit nor a separator"),
        ("1+2025550100", "has a + that is not at its beginning"),
        ("1+202", "has a + that is not at its beginning"),
        ("*31#12025550100", "neither a digit nor a separator"),
        ("0011 64 9 266 1234", "is no valid number of "),  # not +1 649 266 1234, by losing a digit
        ("+1 1 555 555 0100", "has a digit too many"),
        ("+989699.0", "ends in .0, which may be the decimals"),
        ("\u200b", "is empty"),
    ],
)
def test_a_number_that_is_refused_is_refused_for_its_true_reason(written: str, why: str) -> None:
    for country in (None, "DE"):
        found = read(written, country)
        assert why in found or (country is not None and why.startswith("does not start"))


def test_the_one_rule_holds_in_submit_bulk_import_and_contacts() -> None:
    """A digit is never gained from `.0`: https://stackoverflow.com/q/17950374 (pandas)."""
    written = "+4915123456789.0"
    lead = {"phone_number": written, "campaign_id": 42}
    contact = {"phone_number": ADA, "campaign_id": 42, "secondary_contacts": [{"phone_number": written}]}
    columns = columns_of(("phone_number", "contact1_phone"), ImportOptions(campaign_id=42))
    line = json_leads(ImportOptions(campaign_id=42))

    assert Lead.parse(lead).phone_number == BERLIN
    assert Lead.parse(contact).secondary_contacts[0].phone_number == BERLIN
    [candidate], [] = read_items([lead], 0, BatchIds(0))
    assert candidate.phone_number == BERLIN
    given, _ = columns(Row(2, "", (ADA, written)))
    assert given["secondary_contacts"] == [{"phone_number": BERLIN, "variables": {}}]
    assert line(Row(1, f'{{"phone_number": "{written}"}}'))[0]["phone_number"] == BERLIN
    with pytest.raises(InvalidLead, match=r"secondary_contacts\[0\].phone_number: may hold more than one number"):
        Lead.parse({**contact, "secondary_contacts": [{"phone_number": f"{ADA}; {BERLIN}"}]})


def test_a_country_that_does_not_exist_is_refused() -> None:
    for code in ("XX", "", "GER", "49"):
        with pytest.raises(ValueError, match="two letters of a country"):
            Country(code)


# All regions ----------------------------------------------------------------------------------------------------------

REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)


def valid_number(region: str, rng: random.Random) -> PhoneNumber:
    """A number that is valid in the region: an example of it with other digits from some place on."""
    kinds = (PhoneNumberType.FIXED_LINE, PhoneNumberType.MOBILE, PhoneNumberType.VOIP, PhoneNumberType.TOLL_FREE)
    examples = [one for kind in kinds if (one := phonenumbers.example_number_for_type(region, kind)) is not None]
    while True:
        example = rng.choice(examples)
        digits = phonenumbers.national_significant_number(example)
        length = len(digits) + rng.choice((0, 0, 0, -1, 1))
        kept = digits[: rng.randrange(len(digits))]
        text = kept + "".join(rng.choice("0123456789") for _ in range(length - len(kept)))
        try:
            number = phonenumbers.parse(f"+{example.country_code}{text}")
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number_for_region(number, region):
            return number


def forms(number: PhoneNumber, region: str, other: str) -> Iterator[tuple[str, str, str | None]]:
    """How people write it: the form, the text, and the default country of the list that it stands in."""

    def formatted(form: int) -> str:
        return phonenumbers.format_number(number, form)

    e164, spaced = formatted(PhoneNumberFormat.E164), formatted(PhoneNumberFormat.INTERNATIONAL)
    national = formatted(PhoneNumberFormat.NATIONAL)
    bare, dialled = e164[1:], "".join(filter(str.isdecimal, national))
    yield from (("E.164", e164, country) for country in (None, other))
    yield "international", spaced, other
    yield from (("without +", bare, country) for country in (region, other, None))
    yield from (("international without +", spaced[1:], country) for country in (region, other))
    yield "national", national, region
    yield "national, digits only", dialled, region
    yield "national significant", phonenumbers.national_significant_number(number), region
    yield from (("00", f"00{bare}", country) for country in (None, region, other))
    yield "+00", f"+00{bare}", None
    yield "abroad", phonenumbers.format_out_of_country_calling_number(number, other), other
    yield from ((".0", f"{e164}.0", country) for country in (None, other))
    yield from ((".0 without +", f"{bare}.0", country) for country in (region, other))
    yield "as a float", f"{int(dialled)}.0", region
    yield ",00", f"{dialled},00", region
    yield "thousands", f"{int(bare):,}.00", region
    yield "RFC 3966", formatted(PhoneNumberFormat.RFC3966), other
    yield "(0)", f"+{number.country_code} (0){phonenumbers.national_significant_number(number)}", None
    yield "invisible", f"\u202a{spaced}\u202c", None


def test_in_no_region_another_person_is_called() -> None:
    """Numbering plans are those of https://github.com/google/libphonenumber, in their Python port."""
    seed = int(os.environ.get("PHONES_SEED", "1"))
    rng = random.Random(seed)
    same, refused, wrong = Counter[str](), Counter[str](), []
    for region in REGIONS:
        for _ in range(EACH):
            number = valid_number(region, rng)
            e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
            for form, text, code in forms(number, region, rng.choice(REGIONS)):
                found = canonical_phone(text, "phone_number", None if code is None else Country(code))
                if isinstance(found, FieldError):
                    refused[form] += 1
                elif found == e164:
                    same[form] += 1
                else:
                    wrong.append((form, text, code, found, e164))
    lines = [f"{form:24} {same[form]:7} the same person, {refused[form]:6} refused" for form in same | refused]
    tried = same.total() + refused.total() + len(wrong)
    lines.append(f"{len(REGIONS)} regions, seed {seed}: {tried} tried, {len(wrong)} wrong persons")
    sys.stdout.write("\n" + "\n".join(lines) + "\n")

    assert len(REGIONS) >= 240
    assert wrong == []
    assert refused["E.164"] + refused["RFC 3966"] + refused["00"] < 0.02 * same["E.164"]
    assert same["national"] > 0.95 * EACH * len(REGIONS)
