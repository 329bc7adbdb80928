"""One request from its arrival to its answer: admit, find the fault, act, log, answer."""

import asyncio
import dataclasses
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from dispatcher.sandbox.answer import (
    LeadWriter,
    SandboxAnswer,
    duplicate_refused,
    invalid,
    no_route,
    throttled,
    too_large,
    unauthenticated,
    wrong_method,
)
from dispatcher.sandbox.book import Creation, Invalid, LeadBook, StoredLead, read_creation
from dispatcher.sandbox.control import CONTROL_PREFIX, Control
from dispatcher.sandbox.delivery import deliver
from dispatcher.sandbox.fault import SILENT, Call, FaultName, Rule
from dispatcher.sandbox.lies import Asking
from dispatcher.sandbox.listing import LeadPages
from dispatcher.sandbox.log import Effect, Line, RequestLog
from dispatcher.sandbox.options import DuplicateForm, SandboxOptions
from dispatcher.sandbox.plan import Chaos, FaultPlan, FaultSource, SuffixFaults
from dispatcher.sandbox.ratelimit import SlidingLog, parse_rate_limit
from dispatcher.sandbox.spoiling import spoil

CREATE_PATH = "/api/user/lead"
LIST_PATH = "/api/user/leads"
_MEANWHILE = frozenset({FaultName.LATE, FaultName.MISFILED})  # the client meets the rule's `answer`


@dataclass(frozen=True, slots=True)
class Deed:
    """The result of a creation."""

    answer: SandboxAnswer
    effect: Effect = Effect.NONE
    lead_id: int | None = None


class SandboxApp:
    """The HTTP application. Book and log change without an await between, so a lost client leaves both right."""

    def __init__(
        self,
        options: SandboxOptions,
        log: RequestLog,
        history: Iterable[Line],
        plan: FaultPlan,
    ) -> None:
        self._options = options
        self._log = log
        self.book = LeadBook(options.known_variables, options.utc_offset_hours)
        self._writer = LeadWriter(options, self.book)
        self._list = LeadPages(self.book, self._writer)
        windows = parse_rate_limit(options.rate_limit)
        self._limiter = SlidingLog(windows) if windows else None
        sources: list[FaultSource] = [plan]
        if options.phone_suffixes:
            sources.append(SuffixFaults())
        if options.chaos:
            sources.append(Chaos(options.chaos, options.seed, options.chaos_late_seconds))
        self._plan = plan
        self._sources = tuple(sources)
        self._control = Control(plan, self.book) if options.control else None
        self._late: set[asyncio.Task[None]] = set()
        self._requests = 0
        self._restore(history)

    def calm(self) -> None:
        """Stop all faults, by rule and by chance."""
        self._plan.clear()
        self._sources = (self._plan,)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request. The log has its line before the first byte of the answer leaves."""
        if self._control is not None and request.path.startswith(CONTROL_PREFIX):
            return await self._control.handle(request)
        self._requests += 1
        number = self._requests
        try:
            raw = await request.read()
        except web.HTTPRequestEntityTooLarge:
            self._record(number, request, None, 413)
            return await deliver(request, too_large(), None)
        except BaseException:  # the client left in the middle of its body
            self._record(number, request, None, None)
            raise
        body = _parse(raw)
        token = _bearer_token(request)
        limits: dict[str, str] = {}
        refusal = self._refuse(token, limits) or _misdirected(request)
        if refusal is not None:
            self._record(number, request, body, refusal.status)
            return await deliver(request, _with_headers(refusal, limits), None)
        rule = self._fault_for(request, body)
        if request.method == "POST":
            deed = self._create(number, request, body, rule)
            if deed.effect is Effect.CREATED and deed.lead_id is not None:
                self.book.note_token(deed.lead_id, token)
        else:
            url = f"{request.scheme}://{request.host}{LIST_PATH}"
            deed = Deed(self._list.answer(request.query, url, rule, Asking(token, time.time())))
        honest = rule is None
        if rule is not None:
            wire = dataclasses.replace(rule, fault=rule.answer) if rule.fault in _MEANWHILE else rule
            answer = spoil(
                wire,
                deed.answer,
                request.method,
                request.path,
                self._options.duplicate_form,
            )
            deed = dataclasses.replace(deed, answer=answer)
            silent = wire.fault in SILENT
            self._record(
                number,
                request,
                body,
                None if silent else answer.status,
                deed,
                rule.fault,
            )
            rule = wire
        else:
            self._record(number, request, body, deed.answer.status, deed)
        if honest and deed.effect is Effect.CREATED and deed.lead_id is not None:
            self.book.mark_answered(deed.lead_id)
        if self._options.latency_seconds:
            await asyncio.sleep(self._options.latency_seconds)
        return await deliver(request, _with_headers(deed.answer, limits), rule)

    async def aclose(self) -> None:
        """Creations that are still to come never do: the server they would happen in is gone."""
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)

    def _refuse(self, token: str, limits: dict[str, str]) -> SandboxAnswer | None:
        """Return the refusal, if any; `limits` receives the rate limit headers. A bad token uses no permit."""
        if not token or (self._options.token is not None and token != self._options.token):
            return unauthenticated()
        if self._limiter is None:
            return None
        verdict = self._limiter.take(token, time.monotonic())
        limits["X-RateLimit-Limit"] = str(verdict.limit)
        limits["X-RateLimit-Remaining"] = str(verdict.remaining if verdict.allowed else 0)
        limits["X-RateLimit-Reset"] = str(int(time.time()) + verdict.reset_seconds)
        return None if verdict.allowed else throttled(verdict.reset_seconds)

    def _fault_for(self, request: web.BaseRequest, body: object) -> Rule | None:
        source: Any = request.query if request.method == "GET" else body
        fields = source if hasattr(source, "get") else {}
        phone_number, campaign_id = (
            fields.get("phone_number"),
            str(fields.get("campaign_id")),
        )
        call = Call(
            request.method,
            phone_number if isinstance(phone_number, str) else None,
            int(campaign_id) if campaign_id.isdecimal() else None,
        )
        for faults in self._sources:
            rule = faults.pick(call)
            if rule is not None:
                return rule
        return None

    def _create(self, number: int, request: web.BaseRequest, body: object, rule: Rule | None) -> Deed:
        creation = read_creation(body, self._options.campaigns)
        if isinstance(creation, Invalid):
            return Deed(invalid(creation))
        if rule is not None and rule.fault is FaultName.DUPLICATE:
            return Deed(duplicate_refused(self._options.duplicate_form), Effect.REFUSED)
        if rule is not None and rule.strikes_before:
            if rule.fault is FaultName.LATE:
                self._create_late(number, request, body, creation, rule.seconds_or(5.0))
            return Deed(self._writer.created(self.book.draft(creation, time.time())))
        if rule is not None and rule.fault is FaultName.MISFILED:
            creation = dataclasses.replace(creation, campaign_id=creation.campaign_id + 1)
        return self._enter(creation)

    def _enter(self, creation: Creation) -> Deed:
        existing = self._blocking(creation)
        if existing is None:
            lead = self.book.draft(creation, time.time())
            self.book.keep(lead)
            return Deed(self._writer.created(lead), Effect.CREATED, lead.id)
        if self._options.duplicate_form is DuplicateForm.EXISTING:
            return Deed(self._writer.existing(existing), Effect.FOUND, existing.id)
        return Deed(duplicate_refused(self._options.duplicate_form), Effect.REFUSED)

    def _blocking(self, creation: Creation) -> StoredLead | None:
        if creation.allow_dupplicate:
            return None
        return self.book.same_number(creation.campaign_id, creation.phone_number)

    def _create_late(
        self,
        number: int,
        request: web.BaseRequest,
        body: object,
        creation: Creation,
        seconds: float,
    ) -> None:
        async def later() -> None:
            await asyncio.sleep(seconds)
            deed = self._enter(creation)
            effect = Effect.LATE if deed.effect is Effect.CREATED else deed.effect
            self._record(
                number,
                request,
                body,
                None,
                dataclasses.replace(deed, effect=effect),
                FaultName.LATE,
            )

        task = asyncio.get_running_loop().create_task(later())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    def _record(
        self,
        number: int,
        request: web.BaseRequest,
        body: object,
        status: int | None,
        deed: Deed | None = None,
        fault: FaultName | None = None,
    ) -> None:
        effect, lead_id = (deed.effect, deed.lead_id) if deed else (Effect.NONE, None)
        path = request.path_qs
        self._log.append(
            Line(
                time.time(),
                number,
                request.method,
                path,
                body,
                status,
                lead_id,
                effect,
                fault,
            )
        )

    def _restore(self, history: Iterable[Line]) -> None:
        for entry in history:
            self._requests = max(self._requests, entry.request)
            if entry.created_id is None:
                continue
            creation = read_creation(entry.body, None)
            if isinstance(creation, Creation):
                self.book.restore(creation, entry.created_id, entry.at)
                if entry.fault is None:
                    self.book.mark_answered(entry.created_id)


def _parse(raw: bytes) -> object:
    """Return the parsed JSON, or the text where it is none, for the log."""
    if not raw:
        return None
    try:
        found: object = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw.decode("utf-8", "replace")
    return found


def _bearer_token(request: web.BaseRequest) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _misdirected(request: web.BaseRequest) -> SandboxAnswer | None:
    allowed = {CREATE_PATH: "POST", LIST_PATH: "GET"}.get(request.path)
    if allowed is None:
        return no_route(request.path)
    return None if request.method == allowed else wrong_method(request.method, request.path, allowed)


def _with_headers(answer: SandboxAnswer, headers: dict[str, str]) -> SandboxAnswer:
    return dataclasses.replace(answer, headers={**answer.headers, **headers}) if headers else answer
