"""The faults the sandbox can show, and the rule that says which request meets which."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from dispatcher.errors import NotConfigured


class FaultName(StrEnum):
    """The value is what rules, the log and the manual say."""

    # no status line reaches the client
    HANG = "hang"  # silent for `seconds` (3600), then closed
    RESET = "reset"  # TCP RST
    CLOSE = "close"  # FIN, no answer
    GARBAGE = "garbage"  # bytes that are not HTTP
    LATE = "late"  # the lead is created `seconds` (5) later; meanwhile the client meets `answer` (hang)
    # the answer is spoiled on its way
    CUT_BODY = "cut-body"  # full Content-Length, half the body, then closed
    SLOW_HEADERS = "slow-headers"  # one byte every `interval_seconds` (0.5), from the status line on
    SLOW_BODY = "slow-body"  # the same, from the body on
    HUGE_BODY = "huge-body"  # a valid answer padded to `size_bytes` (64 MiB)
    BAD_GZIP = "bad-gzip"  # Content-Encoding: gzip over what is not gzip
    DELAY = "delay"  # the true answer, `seconds` (5) later
    # a 2xx that cannot be used as it stands
    NO_ID = "no-id"
    NOT_JSON = "not-json"
    WRONG_CAMPAIGN = "wrong-campaign"
    WRONG_NUMBER = "wrong-number"
    STRING_ID = "string-id"
    # another status
    INTERNAL_ERROR = "500"
    INTERNAL_ERROR_HTML = "500-html"
    BAD_GATEWAY = "502"
    UNAVAILABLE = "503"  # Retry-After: `retry_after` (1)
    GATEWAY_TIMEOUT = "504"
    UNAUTHORIZED = "401"
    NO_BALANCE = "402"  # `status` 422 gives the other form
    FORBIDDEN = "403"
    NOT_FOUND = "404"
    METHOD_NOT_ALLOWED = "405"
    UNPROCESSABLE = "422"
    THROTTLED = "429"  # Retry-After: `retry_after` (1); any text, so that absurd values can be tried
    REDIRECT = "redirect"  # `status` (302) to `location`
    DUPLICATE = "duplicate"  # refused as a duplicate although it is none
    ANSWER = "answer"  # exactly `status` (200), `headers`, `body`
    # of the list only
    STALE = "stale"  # leads younger than `seconds` (60) are missing
    SHIFTING_PAGES = "shifting-pages"  # every further page skips `rows` (1) rows; negative repeats them
    MISSING_CONTROLS = "missing-controls"  # leads whose creation was answered with a usable 2xx are missing
    BARE_LIST = "bare-list"  # `data` without the pagination fields
    CACHED_LIST = "cached-list"  # the list of the first such request, whatever was created since
    OTHER_FORM = "other-form"  # numbers are stored in another form: `body` national (default), mobile or spaced
    MASKED_NUMBERS = "masked-numbers"  # the last digits are not shown
    NO_VARIABLES = "no-variables"  # rows have no variables
    HIDDEN_STATUS = "hidden-status"  # leads of the status `body` (completed) are missing
    FILTER_IGNORED = "filter-ignored"  # `body`: phone_number (default) or campaign_id
    OWN_TOKEN = "own-token"  # noqa: S105 - only leads that were created with the token that asks
    HOLES = "holes"  # every lead whose id can be divided by `rows` + 1 is missing
    CUT_LIST = "cut-list"  # only the newest `rows` leads, and it counts no others
    OLDEST_FIRST = "oldest-first"
    SHUFFLED_LIST = "shuffled-list"
    DOUBLED_ROWS = "doubled-rows"
    SHORT_PAGES = "short-pages"  # a page lacks its last `rows` rows, which are counted
    WRONG_TOTAL = "wrong-total"  # `total` is `rows` too great
    FIRST_PAGE_ONLY = "first-page-only"  # whatever page is asked for, and it says so
    # of a creation
    MISFILED = "misfiled"  # created in the campaign after the one asked for; the client meets `answer` (hang)


class When(StrEnum):
    """Whether the fault strikes before the lead is created (it never is) or after."""

    BEFORE = "before"
    AFTER = "after"


LIST_FAULTS = frozenset(
    {
        FaultName.STALE,
        FaultName.SHIFTING_PAGES,
        FaultName.MISSING_CONTROLS,
        FaultName.BARE_LIST,
        FaultName.CACHED_LIST,
        FaultName.OTHER_FORM,
        FaultName.MASKED_NUMBERS,
        FaultName.NO_VARIABLES,
        FaultName.HIDDEN_STATUS,
        FaultName.FILTER_IGNORED,
        FaultName.OWN_TOKEN,
        FaultName.HOLES,
        FaultName.CUT_LIST,
        FaultName.OLDEST_FIRST,
        FaultName.SHUFFLED_LIST,
        FaultName.DOUBLED_ROWS,
        FaultName.SHORT_PAGES,
        FaultName.WRONG_TOTAL,
        FaultName.FIRST_PAGE_ONLY,
    }
)
CREATE_FAULTS = frozenset(
    {
        FaultName.LATE,
        FaultName.MISFILED,
        FaultName.NO_ID,
        FaultName.WRONG_CAMPAIGN,
        FaultName.WRONG_NUMBER,
        FaultName.STRING_ID,
        FaultName.DUPLICATE,
    }
)
REFUSALS = frozenset(
    {
        FaultName.UNAUTHORIZED,
        FaultName.NO_BALANCE,
        FaultName.FORBIDDEN,
        FaultName.NOT_FOUND,
        FaultName.METHOD_NOT_ALLOWED,
        FaultName.UNPROCESSABLE,
        FaultName.THROTTLED,
        FaultName.REDIRECT,
        FaultName.DUPLICATE,
        FaultName.LATE,
    }
)
SILENT = frozenset({FaultName.HANG, FaultName.RESET, FaultName.CLOSE, FaultName.GARBAGE})
LATE_ANSWERS = SILENT | {
    FaultName.INTERNAL_ERROR,
    FaultName.INTERNAL_ERROR_HTML,
    FaultName.BAD_GATEWAY,
    FaultName.UNAVAILABLE,
    FaultName.GATEWAY_TIMEOUT,
}


@dataclass(frozen=True, slots=True)
class Call:
    """The part of a request that rules look at."""

    method: str
    phone_number: str | None
    campaign_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Requests that match every given condition meet `fault`, from the `nth` match on, `times` times.

    `when` is `before` for refusals (401 … 429, redirect, duplicate) and `after` for all others unless given.
    `times` None means until the plan is cleared. `method` is GET for list faults and POST for others unless given.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    fault: FaultName
    when: When | None = None
    method: Literal["GET", "POST", "ANY"] | None = None
    phone: str | None = None  # regular expression, searched in the number as sent
    campaign: int | None = None
    nth: int = 1  # 1-based, counted over the requests that match the other conditions
    times: int | None = 1
    seconds: float | None = None
    interval_seconds: float = 0.5
    size_bytes: int = 64 * 1024 * 1024
    rows: int = 1
    retry_after: str | None = "1"  # as sent in the header; None leaves it out
    status: int | None = None
    location: str = ""
    body: str = ""
    headers: Mapping[str, str] | None = None
    answer: FaultName = FaultName.HANG

    def __post_init__(self) -> None:
        if self.nth < 1 or (self.times is not None and self.times < 1):
            raise NotConfigured(f"Fault rule {self.fault}: nth and times count from 1.")
        if self.fault in LIST_FAULTS and self.method in ("POST", "ANY"):
            raise NotConfigured(f"Fault rule {self.fault}: only the list (method GET) can show it.")
        if self.fault in CREATE_FAULTS and self.method in ("GET", "ANY"):
            raise NotConfigured(f"Fault rule {self.fault}: only a creation (method POST) can show it.")
        if self.fault is FaultName.REDIRECT and not self.location:
            raise NotConfigured("Fault rule redirect: say where to, with `location`.")
        if self.fault in (FaultName.LATE, FaultName.MISFILED) and self.answer not in LATE_ANSWERS:
            raise NotConfigured(f"Fault rule {self.fault}: `answer` is one of {', '.join(sorted(LATE_ANSWERS))}.")
        if self.phone is not None:
            try:
                re.compile(self.phone)
            except re.error as error:
                raise NotConfigured(f"Fault rule {self.fault}: `phone` is no regular expression ({error}).") from None

    @property
    def strikes_before(self) -> bool:
        """Whether the lead is left uncreated."""
        if self.when is not None:
            return self.when is When.BEFORE
        return self.fault in REFUSALS

    def matches(self, call: Call) -> bool:
        """Whether the request meets every condition; counting is the plan's business."""
        method = self.method or ("GET" if self.fault in LIST_FAULTS else "POST")
        if method not in ("ANY", call.method):
            return False
        if self.campaign is not None and self.campaign != call.campaign_id:
            return False
        return self.phone is None or re.search(self.phone, call.phone_number or "") is not None

    def seconds_or(self, default: float) -> float:
        """The given duration, else that of this fault."""
        return default if self.seconds is None else self.seconds


_RULES: TypeAdapter[list[Rule]] = TypeAdapter(list[Rule])


def rules_from_json(text: bytes | str) -> list[Rule]:
    """One rule or a list of rules. `NotConfigured` names what is wrong with them."""
    try:
        found: Any = TypeAdapter(Any).validate_json(text)
        return _RULES.validate_python(found if isinstance(found, list) else [found])
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors())
        raise NotConfigured(f"The fault rules were refused: {faults}.") from None


def rule_as_json(rule: Rule) -> dict[str, object]:
    """Only what differs from the default, so that a person can read it."""
    plain: dict[str, object] = TypeAdapter(Rule).dump_python(rule, mode="json", exclude_defaults=True)
    return plain
