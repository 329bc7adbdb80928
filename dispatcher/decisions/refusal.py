"""What a refusal says in words, wherever they stand, and whether it is Voicery's API that speaks.

Forms known: Laravel (`message`, `errors` by field), FastAPI (`detail` with `loc` and `msg`), Django REST (fields at the
top), RFC 9457 (`title`, `detail`, `errors` with `pointer`), JSON:API, Google (`error.details.fieldViolations`), lists
of texts, one text, plain text, and the title of a page. Every text is cut before any pattern sees it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Final

from dispatcher.decisions.reply import BodyFault, Reply

TEXT_MAX: Final = 2048
"""Characters of one foreign text that are looked at."""

_SENTENCE_MAX: Final = 300
_TITLE_MAX: Final = 120
_FIELD_MAX: Final = 100
_DEPTH: Final = 6
_TEXTS_MAX: Final = 50  # told by one answer
_ITEMS_MAX: Final = 200  # of one array or object

_LONG_NUMBER: Final = re.compile(r"\+?\d[\d\s()./,_*\u2010-\u2015\u2212-]{5,}\d")
_BEARER: Final = re.compile(r"(?i)\bbearer\s+\S+")
_RUN: Final = re.compile(r"[\w|.~-]{24,}")
_STEP: Final = re.compile(r"[./\[\]#]+")

_WORDS: Final = (
    "message", "msg", "error", "detail", "error_description", "error_message", "errormessage", "description", "reason",
    "explanation", "cause", "info", "hint", "title", "faultstring", "status_message", "statustext", "exception",
)  # fmt: skip
_BY_FIELD: Final = (
    "errors", "error", "detail", "details", "violations", "field_errors", "fielderrors", "fieldviolations", "fields",
    "validation_errors", "validationerrors", "invalid_params",
)  # fmt: skip
_ENVELOPES: Final = ("data", "response", "result", "status", "meta", "body")
_FIELD_NAMES: Final = ("field", "param", "path", "property", "attribute", "loc", "pointer", "name", "source")
_CODES: Final = ("error_code", "errorcode", "code", "error", "type", "reason")
_ABOVE_FIELDS: Final = frozenset({"", "body", "data", "attributes", "lead", "json", "non_field_errors", "__all__"})

_AROUND: Final = " .!:-\r\n\t"
_PHRASES: Final = frozenset({"", "unprocessable content", "content too large", "payload too large", "uri too long"}) | {
    status.phrase.lower() for status in HTTPStatus
}

OF_THE_LEAD: Final = frozenset({"phone_number", "campaign_id", "variables", "secondary_contacts", "allow_dupplicate"})
"""The fields of create-lead (Voicery's own page)."""

_OF_THE_CAMPAIGN: Final = frozenset({"campaign_id", "campaign"})
# Under the campaign's name too an answer may speak of one lead, e.g. of a number that the campaign has already.
_OF_ONE_LEAD: Final = re.compile(
    r"(?i)\b(?:phones?|numbers?|lead|contacts?|customer|person|variables?|already|duplicate)\b"
)

Told = tuple[str, str]
"""The field that a text is about, by its path (empty: none), and the text."""


def told(reply: Reply) -> list[Told]:
    """Return what an answer says, in the order of importance; nothing for a page."""
    if reply.body_fault is BodyFault.NOT_JSON:
        return [] if is_page(reply) or not reply.text.strip() else [("", reply.text[:TEXT_MAX])]
    texts = []
    for field, text in _walk(reply.body, "", _DEPTH):
        texts.append((field, text))
        if len(texts) == _TEXTS_MAX:
            break
    return texts


def general(texts: Iterable[Told], *, about: Iterable[str] = ()) -> list[str]:
    """Return the texts about no field, or about one of `about`.

    A text that repeats what is said of another field is left out: Laravel's `message` is the first of its `errors`.
    """
    texts = list(texts)
    others = tuple(text.rstrip(". ") for field, text in texts if field and field not in about)
    return [text for field, text in texts if field in about or (not field and not text.startswith(others))]


def is_of_the_campaign(texts: Iterable[Told]) -> bool:
    """Whether only the campaign is named, and no word speaks of the one lead: every lead of the campaign meets it."""
    texts = list(texts)
    fields = {field.partition(".")[0] for field, _ in texts if field}
    return bool(fields) and fields <= _OF_THE_CAMPAIGN and not any(_OF_ONE_LEAD.search(text) for _, text in texts)


def first_of_a_field(texts: Iterable[Told]) -> Told:
    """Return the first field that is named, and what is said of it as a sentence; empty texts if none is."""
    for field, text in texts:
        if field:
            steps = (sentence(step).rstrip(".") for step in field[:_FIELD_MAX].split("."))
            return ".".join(steps), sentence(text)
    return "", ""


def said(texts: Iterable[Told]) -> str:
    """Return the sentence to show of an answer, without numbers that could be a person's; empty if it says nothing."""
    spoken = [text for _, text in texts]
    telling = [text for text in spoken if not _only_names_a_status(text)]
    return sentence((telling or spoken)[0]) if spoken else ""


def matches(rule: re.Pattern[str], texts: Iterable[str]) -> bool:
    """Whether one of these texts matches a rule of the settings."""
    return any(rule.search(text) for text in texts)


def codes(reply: Reply) -> list[str]:
    """Return the error codes of an answer, `_` read as a space."""
    body = reply.body
    inner = body.get("error") if isinstance(body, Mapping) else None
    found = []
    for level in (body, inner):
        if isinstance(level, Mapping):
            known = _by_name(level)
            found += [known[name] for name in _CODES if name in known]
    return [code[:TEXT_MAX].replace("_", " ") for code in found if isinstance(code, str)]


def is_page(reply: Reply) -> bool:
    """Whether the body is HTML or XML, or says that it is: a page, which Voicery's API never sends."""
    if reply.body_fault is None:
        return False
    kind = reply.headers.get("content-type", "").lower()
    return "html" in kind or "xml" in kind or reply.text.lstrip("\ufeff \t\r\n").startswith("<")


def is_document(reply: Reply) -> bool:
    """Whether the body is a whole HTML page, not a stray tag before something else."""
    start = reply.text.lstrip("\ufeff \t\r\n")[:20].lower()
    return reply.body_fault is BodyFault.NOT_JSON and start.startswith(("<!doctype html", "<html"))


def stranger(reply: Reply) -> str:
    """Say what answered in the place of Voicery's API; empty if the answer may be the API's own.

    Such are pages, an empty body, and a text that only names the status: proxies, gateways, CDNs, firewalls.
    """
    server = sentence(reply.headers.get("server", "")[:40]).rstrip(".")
    place = f"HTTP {reply.status} from {server}" if server else f"HTTP {reply.status}"
    if is_page(reply):
        title = _title(reply.text)
        page = f"a page titled “{title}”" if title else "a page"
        return f"Not Voicery's API but {page} answered ({place})"
    if reply.body_fault is BodyFault.NOT_JSON and not reply.text.strip():
        return f"Not Voicery's API answered but something that says nothing ({place})"
    if reply.body_fault is BodyFault.NOT_JSON and _only_names_a_status(reply.text):
        return f"Not Voicery's API but a gateway answered ({place})"
    return ""


def unusable(reply: Reply) -> str:
    """Say why the body of a yes tells no id."""
    match reply.body_fault:
        case BodyFault.TRUNCATED:
            return "its answer was cut off"
        case BodyFault.OVERSIZE:
            return "its answer was larger than we read"
        case BodyFault.DEADLINE:
            return "its answer did not end in time"
        case BodyFault.ENCODING:
            return "its answer was encoded in a way that we did not ask for and cannot undo"
        case BodyFault.FRAMING:
            return "its answer announced two different lengths"
        case BodyFault.BUG:
            return "its answer could not be read because of an error of ours"
        case BodyFault.NOT_JSON if is_page(reply):
            return "its answer is a page"
        case BodyFault.NOT_JSON if not reply.text.strip():
            return "its answer is empty"
        case BodyFault.NOT_JSON | None:
            return "its answer is not the JSON that we know"


def sentence(text: str) -> str:
    """Return one printable line that ends as a sentence; long numbers and tokens masked, control characters dropped."""
    text = text[:TEXT_MAX]
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    line = _LONG_NUMBER.sub("•••", _RUN.sub(_masked, _BEARER.sub("•••", line)))
    if len(line) > _SENTENCE_MAX:
        line = line[: _SENTENCE_MAX - 1].rstrip() + "…"
    return line if line.endswith((".", "!", "?", "…")) else line + "."


def _masked(run: re.Match[str]) -> str:
    """Hide a long run of characters that has digits and letters, as a token has."""
    letters = any("a" <= char <= "z" for char in run[0].lower())
    return "•••" if letters and any(char.isdigit() for char in run[0]) else run[0]


def _walk(value: object, field: str, depth: int, *, listed: bool = False) -> Iterator[Told]:
    """Yield the texts of a value: of an object those under a known name, and then those by field.

    `listed`: it stands in a list, where an object may name the field that it is about.
    """
    if isinstance(value, str):
        if value.strip():
            yield field, value[:TEXT_MAX]
    elif depth == 0:
        return
    elif isinstance(value, list):
        for item in value[:_ITEMS_MAX]:
            yield from _walk(item, field, depth - 1, listed=True)
    elif isinstance(value, Mapping):
        known = _by_name(value)
        field = (_named(known) if listed else "") or field
        spoken = [name for name in _WORDS if name in known]
        for word in spoken:
            if not (word in _BY_FIELD and isinstance(known[word], Mapping)):
                yield from _walk(known[word], field, depth - 1)
        for key in _BY_FIELD:
            if key in known and (key not in spoken or isinstance(known[key], Mapping)):
                yield from _by_field(known[key], field, depth - 1)
        for envelope in _ENVELOPES:
            if isinstance(known.get(envelope), Mapping):
                yield from _walk(known[envelope], field, depth - 1)
        if not spoken and known.keys().isdisjoint(_BY_FIELD):
            # Fields at the top, each with a list of reasons; a text beside a field's name may be the lead's own value.
            lists = {name: given for name, given in value.items() if isinstance(given, list)}
            texts = {name: given for name, given in lists.items() if all(isinstance(one, str) for one in given)}
            yield from _by_field(texts, field, depth - 1)


def _by_field(value: object, field: str, depth: int) -> Iterator[Told]:
    """Yield the texts of what stands under `errors`: an object without known names is keyed by field."""
    if not isinstance(value, Mapping) or not _by_name(value).keys().isdisjoint((*_WORDS, *_BY_FIELD)):
        yield from _walk(value, field, depth)
    elif depth > 0:
        for name, reasons in list(value.items())[:_ITEMS_MAX]:
            path = _path(f"{field}.{str(name)[:TEXT_MAX]}")
            yield from _by_field(reasons, path, depth - 1)


def _named(known: Mapping[str, object]) -> str:
    """Return the path of the field that an object of an error list names; empty if it names none."""
    for name in _FIELD_NAMES:
        match known.get(name):
            case str() as path if name != "source":
                return _path(path[:TEXT_MAX])
            case list() as steps:
                return _path(".".join(str(step)[:100] for step in steps[:_ITEMS_MAX]))
            case {"pointer": str() as pointer} | {"parameter": str() as pointer}:
                return _path(pointer[:TEXT_MAX])
            case _:
                continue
    return ""


def _path(path: str) -> str:
    """Return a path with dots, without what stands above the lead's fields (`body.`, `#/data/attributes/`)."""
    steps = _STEP.split(path)
    while steps and steps[0].lower() in _ABOVE_FIELDS:
        steps = steps[1:]
    return ".".join(steps)


def _by_name(value: Mapping[object, object]) -> dict[str, object]:
    """Return the entries by the lower-case name that the lists above know."""
    return {str(name)[:40].lower().replace("-", "_"): one for name, one in list(value.items())[:_ITEMS_MAX]}


def _only_names_a_status(text: str) -> bool:
    """Whether a text is no more than `Bad Request`, `400 Bad Request` or `HTTP 400`."""
    rest = text[:100].lower().strip(_AROUND).removeprefix("http").strip(_AROUND)
    return (rest[3:] if rest[:3].isdecimal() else rest).strip(_AROUND) in _PHRASES


def _title(text: str) -> str:
    """Return the title of a page, or its first heading, as one line without its tags."""
    text = text[:TEXT_MAX]
    lower = text.lower()
    for tag in ("title", "h1"):
        start = lower.find(f"<{tag}")
        opened = lower.find(">", start)
        closed = lower.find(f"</{tag}", opened)
        if 0 <= start < opened < closed:
            return sentence(text[opened + 1 : closed])[:_TITLE_MAX].rstrip(".")
    return ""
