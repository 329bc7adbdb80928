"""How alike two spellings of a number are: what a list shows may be the number that was sent."""

import pytest

from dispatcher.decisions.likeness import Likeness, likeness

MX, US, DE, AR, BR, CI = (
    "+525512345678",
    "+12025550101",
    "+4915123456789",
    "+541112345678",
    "+5511987654321",
    "+2250701234567",
)

FORMS = {
    Likeness.SAME: [
        (DE, "+٤٩١٥١٢٣٤٥٦٧٨٩"),  # the digits of another script
        (DE, "４９１５１２３４５６７８９"),
        (MX, MX),
        (MX, "525512345678"),
        (MX, "0052 55 1234-5678"),
        (US, "tel:+1 (202) 555-0101"),
    ],
    Likeness.ALIKE: [
        (MX, "+5215512345678"),  # the 1 that Mexico dropped in 2019
        ("+5215512345678", "+525512345678"),
        (DE, "015123456789"),
        (DE, "+49015123456789"),  # a trunk zero kept behind the country
        (DE, "+49 (0) 1512 3456789"),
        (US, "2025550101"),
        (US, "5550101"),
        (US, "550101"),
        (US, "+012025550101"),  # a zero where the country begins
        (US, "+1202555010199999"),
        (US, "99991202555010199"),  # more digits than any number has, and ours among them
        (US, "01112025550101"),  # with the prefix that leads out of the country
        (AR, "+5491112345678"),
        ("+5491112345678", "011 15 1234-5678"),
        (BR, "+551187654321"),  # the 9 that Brazil put before mobile numbers
        (CI, "+22501234567"),
        (US, "+120255501"),  # cut off
        (US, "+12025550101/+12025550177"),  # a second number in the same cell
        (US, "2025550177 / 2025550101"),
        (US, "+12025550177\n+12025550101"),
        (US, "+12025550101 5"),  # an extension behind it
        (US, "+12025550101-0"),
    ],
    Likeness.UNREADABLE: [
        (US, ""),
        (US, "***"),
        (US, "+1202555••••"),
        (US, "1.2E+10"),
        (US, "hidden"),
        (US, "0101"),
        (US, "50101"),
    ],
    Likeness.OTHER: [
        (US, "+12025550102"),
        (US, "+120255501012"),  # the list matches partially: a longer number that holds ours is another person's
        (US, "+9912025550101"),
        (DE, "+4915123456788"),
        (MX, "+525587654321"),
        (US, "50102"),
        (US, "550102"),
        (US, "120255501010000"),  # as many digits as a number may have: another one
        (US, "+12025550102/+12025550177"),
        (US, "120255501012"),
    ],
}
CASES = [(sent, shown, expected) for expected, pairs in FORMS.items() for sent, shown in pairs]


@pytest.mark.parametrize(("sent", "shown", "expected"), CASES)
def test_a_number_is_recognised_in_its_forms(sent: str, shown: str, expected: Likeness) -> None:
    assert likeness(shown, sent) is expected
