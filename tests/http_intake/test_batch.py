"""`POST /v1/leads/batch`: arrays and JSON Lines, what becomes of each item, and what a fault leaves."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.errors import StoreUnavailable
from dispatcher.http_intake.app import Bounds
from dispatcher.http_intake.bodies import UnreadableBody
from dispatcher.http_intake.reading import BodyBounds, Items
from dispatcher.intake.bulk import BatchCutShort, Bulk
from tests.http_intake.conftest import CAMPAIGNS, Served, serving

NUMBERS = [f"+120255501{n:02}" for n in range(100)]
LINES = {"Content-Type": "application/x-ndjson"}


def people(campaign: int, count: int) -> list[dict[str, Any]]:
    return [{"phone_number": number, "campaign_id": campaign} for number in NUMBERS[:count]]


def lines(items: list[Any]) -> bytes:
    return b"\n".join(json.dumps(item).encode() for item in items)


def ids_of(served: Served, campaign: int) -> set[str]:
    rows = served.rows.rows("SELECT id FROM dispatcher.leads WHERE campaign_id = :id", id=campaign)
    return {str(row.id) for row in rows}


@pytest.fixture(scope="module")
def small(module_database_url: str) -> Iterator[Served]:
    """An intake that stores four items at a time and takes twenty."""
    with serving(module_database_url, Bounds(batch=BodyBounds(20_000, 20), items=20, chunk=4)) as running:
        yield running


@pytest.mark.parametrize("as_lines", [False, True], ids=["array", "lines"])
def test_good_items_are_stored_and_bad_ones_are_told_by_their_index(
    small: Served, key: str, campaign: int, as_lines: bool
) -> None:
    items: list[Any] = people(campaign, 7)
    items[2] = {**items[2], "phone_number": "12"}
    items[4] = {**items[4], "campaign_id": next(CAMPAIGNS)}
    items[5] = items[0]
    items.append("no object")
    more = {"data": lines(items), "headers": LINES} if as_lines else {"json": items}
    answer = small.ask("POST", "/v1/leads/batch", key, **more)

    assert answer.status_code == 200
    told = answer.json()
    assert [one["index"] for one in told["items"]] == list(range(8))
    assert [one["result"] for one in told["items"]] == [
        "submitted", "submitted", "rejected", "submitted", "rejected", "duplicate", "submitted", "rejected",
    ]  # fmt: skip
    assert (told["submitted"], told["duplicate"], told["rejected"]) == (4, 1, 3)
    assert told["items"][2]["errors"][0]["pointer"] == "/phone_number"
    assert told["items"][4]["errors"][0]["pointer"] == "/campaign_id"
    assert told["items"][5]["duplicate_of"] == told["items"][0]["id"]
    stored = ids_of(small, campaign)
    assert stored == {one["id"] for one in told["items"] if "id" in one}
    assert len(stored) == 5


def test_the_same_batch_under_the_same_key_is_stored_once(small: Served, key: str, campaign: int) -> None:
    items = people(campaign, 6)

    def send() -> Any:
        return small.ask("POST", "/v1/leads/batch", key, json=items, headers={"Idempotency-Key": f"b{campaign}"}).json()

    first, again = send(), send()
    items[1] = {**items[1], "variables": {"a": 1}}
    changed = send()

    assert (first["submitted"], again["repeated"], changed["rejected"]) == (6, 6, 1)
    assert [one["id"] for one in first["items"]] == [one["id"] for one in again["items"]]
    assert first["batch_id"] == again["batch_id"]
    assert changed["items"][1]["errors"]


@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [
        (b"", 400, "ends before its array"),  # whether the last item is whole cannot be told
        (b',{"a"', 400, "not JSON"),
        (b"]]", 400, "after the end"),
        (b",]", 400, "followed by"),
        (b",\xff]", 400, "not UTF-8"),
        (b',{"a":1,"a":2}]', 400, "twice"),
        (b"," + b"[" * 9000, 400, "nested"),
        (b',"' + b"x" * 21_000 + b'"]', 413, "KiB"),
    ],
)
def test_what_arrived_before_a_fault_of_the_body_is_stored_and_told(
    small: Served, key: str, campaign: int, ending: bytes, status: int, said: str
) -> None:
    raw = json.dumps(people(campaign, 6)).encode()[:-1] + ending
    answer = small.ask("POST", "/v1/leads/batch", key, data=iter([raw]), headers={"Content-Type": "application/json"})

    assert answer.status_code == status
    assert said in answer.json()["detail"]
    stored = ids_of(small, campaign)
    assert stored == {one["id"] for one in answer.json()["items"]}
    assert status != 400 or len(stored) == (6 if ending else 5)


def test_a_bad_line_hinders_no_other(small: Served, key: str, campaign: int) -> None:
    good = [json.dumps(one).encode() for one in people(campaign, 2)]
    raw = b"\r\n".join([good[0], b"{nonsense", b'{"a":1,"a":2}', b"\xff\xfe", b"", b"NaN", good[1]])
    told = small.ask("POST", "/v1/leads/batch", key, data=raw, headers=LINES).json()

    assert [one["result"] for one in told["items"]] == ["submitted", *["rejected"] * 4, "submitted"]


def test_more_leads_than_a_batch_may_have_are_refused_with_what_was_stored(
    small: Served, key: str, campaign: int
) -> None:
    answer = small.ask("POST", "/v1/leads/batch", key, data=lines(people(campaign, 23)), headers=LINES)

    assert (answer.status_code, len(answer.json()["items"])) == (400, 20)
    assert "more than 20" in answer.json()["detail"]


def test_where_postgres_goes_away_the_chunks_before_are_told_and_the_repetition_adds_the_rest(
    small: Served, key: str, campaign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, calls = Bulk.store, []

    def failing(self: Bulk, items: Any, **more: Any) -> Any:
        calls.append(more["first_index"])
        if len(calls) == 2:
            raise BatchCutShort("Postgres is away.", more["batch_id"])
        return store(self, items, **more)

    def send() -> Any:
        headers = {"Idempotency-Key": f"cut{campaign}"}
        return small.ask("POST", "/v1/leads/batch", key, json=people(campaign, 6), headers=headers)

    monkeypatch.setattr(Bulk, "store", failing)
    cut, whole = send(), send()

    assert (cut.status_code, int(cut.headers["Retry-After"]) > 0, cut.json()["submitted"]) == (503, True, 4)
    assert issubclass(BatchCutShort, StoreUnavailable)
    assert (whole.json()["repeated"], whole.json()["submitted"]) == (4, 2)


def test_an_empty_batch_is_one(served: Served, key: str) -> None:
    for more in ({"json": []}, {"data": b"", "headers": LINES}, {"data": b"\n\n", "headers": LINES}):
        assert served.ask("POST", "/v1/leads/batch", key, **more).json()["items"] == []
    assert served.ask("POST", "/v1/leads/batch", key, json={}).status_code == 400


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(VALUES, max_size=6), st.integers(1, 40), st.booleans(), st.booleans())
def test_items_are_the_same_however_the_body_is_cut(
    items: list[Any], size: int, ascii_only: bool, as_lines: bool
) -> None:
    if as_lines:
        raw = "\n".join(json.dumps(one, ensure_ascii=ascii_only) for one in items).encode("utf-8", "replace")
        expected = [json.loads(line) for line in raw.split(b"\n") if line]
    else:
        raw = json.dumps(items, ensure_ascii=ascii_only, indent=1).encode("utf-8", "replace")
        expected = json.loads(raw)
    reader = Items("application/jsonl" if as_lines else "application/json")

    found: list[Any] = []
    for start in range(0, len(raw), size):
        found += reader.read(raw[start : start + size])
    found += reader.read(b"", last=True)

    assert found == expected
    assert [type(one) for one in found] == [type(one) for one in expected]


@pytest.mark.parametrize("filler", [b" ", b"9", b"[", b'"', b"a", b"1 "])
def test_an_item_without_end_is_refused_before_it_costs_time(filler: bytes) -> None:
    reader = Items("application/json")
    block = filler * (65_536 // len(filler))

    def take() -> None:
        list(reader.read(b"[1"))
        for _ in range(40):
            list(reader.read(block))

    with pytest.raises(UnreadableBody):
        take()


@given(st.binary(max_size=200), st.sampled_from(["application/json", "application/jsonl"]))
def test_any_bytes_are_items_or_refused(raw: bytes, kind: str) -> None:
    reader = Items(kind)
    try:
        list(reader.read(raw)) + list(reader.read(b"", last=True))
    except UnreadableBody as refused:
        assert str(refused)
