"""Which items of a batch become leads is decided in their order, without asking the store again."""

import pickle
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from dispatcher.errors import InvalidLead
from dispatcher.importing.importer import _InFlight
from dispatcher.importing.row import Row
from dispatcher.lead.candidate import Admission, BatchIds, Facts, Held, columns_of, decide, of_columns, read_items
from dispatcher.lead.lead import Lead, plain_lead

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ADA, BOB = "+12025550101", "+12025550102"
IDS = BatchIds.of("default", uuid.UUID(int=1))
OTHER = uuid.UUID(int=7)


def item(phone: str = ADA, allow: bool = False, **options: Any) -> Any:
    return {"phone_number": phone, "campaign_id": 42, "allow_dupplicate": allow}, options


def admit(*items: Any, **facts: Any) -> Admission:
    candidates, rejections = read_items(items, 0, IDS)
    assert not rejections
    return decide(candidates, Facts(NOW, **facts))


def originals(admission: Admission) -> list[int | None]:
    """For each new lead the index of the item that it duplicates."""
    return [
        None if new_lead.duplicate_of is None else new_lead.duplicate_of.int & 0xFF for new_lead in admission.new_leads
    ]


def test_the_first_of_a_person_is_the_one_that_is_called() -> None:
    assert originals(admit(item(), item(BOB), item(), item())) == [None, None, 0, 0]


def test_a_lead_that_allows_duplicates_neither_is_one_nor_makes_one() -> None:
    assert originals(admit(item(allow=True), item(), item(allow=True), item())) == [None, None, None, 1]


def test_a_live_lead_of_the_store_comes_first() -> None:
    [new_lead] = admit(item(), live={(42, ADA): OTHER}).new_leads
    assert new_lead.duplicate_of == OTHER


def test_a_key_comes_before_an_id_and_before_the_person() -> None:
    admission = admit(item(idempotency_key="k"), item(idempotency_key="k"), item(BOB, idempotency_key="k"))
    assert (len(admission.new_leads), len(admission.repeated)) == (1, 1)
    assert [(index, fault.field) for index, (fault,) in admission.rejections] == [(2, "idempotency_key")]


def test_an_id_given_twice_is_one_lead() -> None:
    admission = admit(item(id=OTHER), item(id=OTHER), item(BOB, id=OTHER))
    assert (len(admission.new_leads), admission.repeated) == (1, [OTHER])
    assert [(index, fault.field) for index, (fault,) in admission.rejections] == [(2, "id")]


def test_an_item_that_its_key_finds_leaves_its_id_free() -> None:
    candidates, _ = read_items([item()], 0, IDS)
    held = Held(uuid.UUID(int=9), candidates[0].payload_hash)
    admission = admit(item(id=OTHER, idempotency_key="k"), item(BOB, id=OTHER), keys={"k": held})
    assert (admission.repeated, [new_lead.candidate.id for new_lead in admission.new_leads]) == (
        [held.lead_id],
        [OTHER],
    )


def test_an_item_that_its_id_finds_leaves_its_key_free() -> None:
    candidates, _ = read_items([item()], 0, IDS)
    admission = admit(
        item(id=OTHER, idempotency_key="k"),
        item(BOB, idempotency_key="k"),
        ids={OTHER: Held(OTHER, candidates[0].payload_hash)},
    )
    assert (admission.repeated, len(admission.new_leads)) == ([OTHER], 1)


def test_times_are_by_the_clock_of_the_store() -> None:
    [new_lead] = admit(item(not_before=timedelta(hours=1), expires_at=timedelta(days=1))).new_leads
    assert (new_lead.due_at, new_lead.expires_at) == (NOW + timedelta(hours=1), NOW + timedelta(days=1))
    [past] = admit(item(not_before=NOW - timedelta(days=1))).new_leads
    assert past.due_at == NOW


def test_derived_ids_ascend_differ_and_say_their_version() -> None:
    ids = [IDS(index) for index in (0, 1, 255, 256, 2**40 - 1)]
    assert ids == sorted(ids)
    assert {one.version for one in ids} == {8}
    assert {one.variant for one in ids} == {uuid.RFC_4122}
    others = [BatchIds.of("default", uuid.UUID(int=2)), BatchIds.of("other", uuid.UUID(int=1))]
    assert len({IDS(0), *(other(0) for other in others)}) == 3


def test_rows_are_kept_only_until_their_chunk_is_done() -> None:
    rows = _InFlight(Row(line, "") for line in range(6))
    assert len(list(rows)) == 6
    rows.forget(4)
    assert (rows[4].line, len(rows._kept)) == (4, 2)


VALUES = [
    *(None, True, 0, -1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 1.0, 0.5, 1e300, float("nan")),
    *("", "x", "ü", "\0", "\\u0000", "\ud800", "x" * 16_370, "x" * 16_384, "\x01" * 2731, b"x"),
    *([], [1.0], {"b": 1.0, "a": "x"}, ("x",), {1}),
]
ITEMS = [
    *({"variables": {"b": value, "a": 1}} for value in VALUES),
    *({"variables": {"n": value}} for value in VALUES),
    *({"variables": {name: "x"}} for name in ("", "ü", "\0", "\ud800", 1, None)),
    *(
        {"variables": value}
        for value in (None, [], "x", {}, {f"n{n}": 1 for n in range(64)}, {f"n{n}": 1 for n in range(65)})
    ),
    *({"phone_number": value} for value in ("+1 202 555 0103", "+49 30 23125 001", "12", "", None, 12025550101)),
    *({"campaign_id": value} for value in (1, 0, -1, 2**63 - 1, 2**63, True, 42.0, "42", None)),
    *({"allow_dupplicate": value} for value in (True, False, None, 0, 1)),
    *({"allow_duplicate": value} for value in (True, None)),
    {"allow_dupplicate": False, "allow_duplicate": False},
    *({"secondary_contacts": value} for value in ([], None, [{"phone_number": BOB}], [{"phone_number": ADA}])),
    {"unknown": None},
    {1: 2},
]


@pytest.mark.parametrize("given", ITEMS, ids=range(len(ITEMS)))
@pytest.mark.parametrize("left_out", ["", "phone_number", "campaign_id"])
def test_an_item_that_is_read_in_one_pass_is_what_a_lead_of_its_own_is(
    given: dict[Any, Any], left_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispatcher.lead.variables.plain_json", lambda _: None)  # a lead of its own takes the long way
    item: dict[Any, Any] = {"phone_number": ADA, "campaign_id": 42, **given}
    item.pop(left_out, None)
    candidates, rejections = read_items([item], 0, IDS)
    try:
        lead = Lead.parse(item)
    except InvalidLead as refusal:
        assert (candidates, rejections) == ([], [(0, refusal.errors)])
        return
    [candidate] = candidates
    assert candidate.person == (lead.campaign_id, lead.phone_number)
    assert orjson.loads(candidate.variables) == lead.variables
    assert (candidate.allow_dupplicate, candidate.payload_hash) == (lead.allow_dupplicate, lead.payload_hash())
    assert [number for number, _ in candidate.contacts] == [one.phone_number for one in lead.secondary_contacts]


def test_what_most_items_are_is_read_in_one_pass() -> None:
    variables = {"z": "Zoë", "a": 12, "vip": True, "note": None}
    assert plain_lead({"phone_number": ADA, "campaign_id": 42, "variables": variables}) is not None
    assert plain_lead({"phone_number": ADA, "campaign_id": 42, "allow_dupplicate": True}) is not None


def test_the_faults_of_an_item_and_of_its_options_are_told_together() -> None:
    _, [(_, faults), (_, later)] = read_items(
        [({"phone_number": "12", "campaign_id": 42}, {"priority": 10}), item(priority=10)], 0, IDS
    )
    assert [fault.field for fault in (*faults, *later)] == ["phone_number", "priority", "priority"]


def test_candidates_are_the_same_after_they_were_handed_to_another_process() -> None:
    options = {"idempotency_key": "k", "priority": 3, "expires_at": NOW, "not_before": timedelta(hours=1)}
    lead, _ = item()
    contacts = [{"phone_number": BOB, "variables": {"a": 1}}]
    candidates, _ = read_items([lead | {"secondary_contacts": contacts}, (lead, options), item(id=OTHER)], 0, IDS)
    handed = pickle.loads(pickle.dumps(columns_of(candidates)))  # noqa: S301  (our own)
    assert of_columns(handed) == candidates
    assert of_columns(columns_of([])) == []
