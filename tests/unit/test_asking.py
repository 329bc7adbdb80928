"""What a caller is told when the rate allows no look-up."""

from dispatcher.errors import DispatcherError
from dispatcher.resolution.asking import NoPermit


def test_no_permit_is_an_error_that_says_when_to_ask_again() -> None:
    refusal = NoPermit(12.4)

    assert isinstance(refusal, DispatcherError)
    assert str(refusal) == "The rate limit allows no look-up for another 12 s; ask again then."
