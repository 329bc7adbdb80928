"""A batch of leads: read as it arrives, stored chunk by chunk, and what became of each item."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final
from uuid import NAMESPACE_URL, UUID, uuid5

import orjson
import uuid_utils.compat
from starlette.requests import Request
from starlette.responses import Response

from dispatcher.errors import InvalidLead
from dispatcher.http_intake import answers
from dispatcher.http_intake.access import Access, Start
from dispatcher.http_intake.bodies import JSON, UnreadableBody, lead_of
from dispatcher.http_intake.keys import ApiKey
from dispatcher.http_intake.problems import Problem, problem_of
from dispatcher.http_intake.reading import BATCH_ITEMS, CHUNK_ITEMS, BodyBounds, Items, blocks
from dispatcher.http_intake.scope import OUTSIDE, valid
from dispatcher.intake.bulk import BatchCutShort, Bulk, Chunk
from dispatcher.lead.candidate import Admission
from dispatcher.lead.lead import Lead
from dispatcher.lead.options import SubmitOptions

_CHUNK_BYTES: Final = 1024 * 1024
"""A chunk is stored at the latest after so much of the body: large leads take no more memory than small ones."""


class BatchRequest:
    """One request. Holds a chunk of items, and a line of JSON for each item that is done."""

    def __init__(
        self,
        bulk: Bulk,
        access: Access,
        start: Start,
        key: ApiKey,
        batch_id: UUID,
        *,
        most_items: int = BATCH_ITEMS,
        chunk_items: int = CHUNK_ITEMS,
    ) -> None:
        self._bulk = bulk
        self._access = access
        self._start = start
        self._key = key
        self._batch_id = batch_id
        self._most_items = most_items
        self._chunk_items = chunk_items
        self._waiting: list[object] = []
        self._done: list[bytes] = []
        self._counts = dict.fromkeys(("submitted", "duplicate", "blocked", "repeated", "rejected"), 0)

    async def run(self, request: Request, kind: str, bounds: BodyBounds) -> Response:
        """Return the results. Raises `Problem` with those of the items that are done."""
        try:
            fault = await self._stored(request, kind, bounds)
        finally:
            self._access.charge(self._key, max(0, len(self._done) - 1))  # one was taken when the request was admitted
        if fault is None:
            told = orjson.dumps(self._result())
            return Response(b'%s,"items":[%s]}' % (told[:-1], b",".join(self._done)), 200, None, JSON)
        problem = problem_of(fault)
        if problem is None:
            raise fault
        items = orjson.loads(b"[%s]" % b",".join(self._done))
        problem.more = {**problem.more, **self._result(), "items": items}
        raise problem

    async def _stored(self, request: Request, kind: str, bounds: BodyBounds) -> Exception | None:
        """Store the items; return why not all of them. What arrived whole before a fault of the body is stored."""
        items, size = Items(kind), 0
        fault: Exception | None = None
        try:
            async for block in blocks(request, bounds):
                size += len(block)
                self._take(items, block)
                if len(self._waiting) >= self._chunk_items or size >= _CHUNK_BYTES:
                    await self._store()
                    size = 0
            self._take(items, b"", last=True)
        except BatchCutShort as cut:
            return cut
        except (Problem, UnreadableBody) as refused:
            fault = refused
        try:
            await self._store()
        except BatchCutShort as cut:
            return cut
        return fault

    def _take(self, items: Items, block: bytes, *, last: bool = False) -> None:
        for item in items.read(block, last=last):
            if len(self._done) + len(self._waiting) >= self._most_items:
                fault = f"has more than {self._most_items} leads"
                raise UnreadableBody(fault, "send the others as a batch of their own")
            self._waiting.append(item)

    async def _store(self) -> None:
        while self._waiting:
            some, first = self._waiting[: self._chunk_items], len(self._done)
            chunk, admission = await asyncio.wrap_future(self._start(lambda: self._store_chunk(some, first)))  # noqa: B023 - awaited at once
            del self._waiting[: len(some)]
            for told in answers.items_of(chunk, admission, dict(enumerate(some, first))):
                self._counts[told["result"]] += 1
                self._done.append(orjson.dumps(told))

    def _store_chunk(self, items: list[object], first_index: int) -> tuple[Chunk, Admission]:
        return self._bulk.store(
            items, account=self._key.account, batch_id=self._batch_id, first_index=first_index, read=self._read
        )

    def _read(self, body: object) -> tuple[Lead, SubmitOptions]:
        """Return an item as `Bulk` takes it. Raises `InvalidLead`."""
        if isinstance(body, UnreadableBody):
            raise InvalidLead([body.as_field()])
        try:
            return valid(lead_of(body), self._key)
        except Problem:
            raise InvalidLead([OUTSIDE]) from None

    def _result(self) -> Mapping[str, Any]:
        return {"batch_id": str(self._batch_id), **self._counts}


def batch_id_of(idempotency_key: str | None) -> UUID:
    """Return the id that makes a repetition of the batch safe. `Bulk` tells the batches of accounts apart."""
    if idempotency_key is None:
        return uuid_utils.compat.uuid7()
    try:
        return UUID(idempotency_key)
    except ValueError:
        return uuid5(NAMESPACE_URL, f"dispatcher:batch:{idempotency_key}")
