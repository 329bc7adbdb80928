"""The control endpoint: change the faults of a running sandbox. Only for callers on this machine."""

import ipaddress
from urllib.parse import urlsplit

from aiohttp import web

from dispatcher.errors import NotConfigured
from dispatcher.sandbox.answer import SandboxAnswer, json_answer, no_route, wrong_method
from dispatcher.sandbox.book import LeadBook
from dispatcher.sandbox.delivery import whole
from dispatcher.sandbox.fault import rule_as_json, rules_from_json
from dispatcher.sandbox.plan import FaultPlan

CONTROL_PREFIX = "/_sandbox/"


class Control:
    """`POST /_sandbox/faults` adds rules, `DELETE` removes all, `GET /_sandbox/state` shows them. None is logged."""

    def __init__(self, plan: FaultPlan, book: LeadBook) -> None:
        self._plan = plan
        self._book = book

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer one control request; for other machines, and for pages of other sites, the path does not exist."""
        if not (_from_this_machine(request.remote) and _sent_here(request)):
            return whole(no_route(request.path))
        return whole(self._answer(request.method, request.path, await request.read()))

    def _answer(self, method: str, path: str, body: bytes) -> SandboxAnswer:
        match path, method:
            case "/_sandbox/faults", "POST":
                try:
                    self._plan.add(*rules_from_json(body))
                except NotConfigured as error:
                    return json_answer(422, {"message": str(error)})
                return json_answer(201, self._state())
            case "/_sandbox/faults", "DELETE":
                self._plan.clear()
                return json_answer(200, self._state())
            case "/_sandbox/state", "GET":
                return json_answer(200, self._state())
            case "/_sandbox/faults", _:
                return wrong_method(method, path, "POST, DELETE")
            case "/_sandbox/state", _:
                return wrong_method(method, path, "GET")
            case _:
                return no_route(path)

    def _state(self) -> dict[str, object]:
        faults = [{**rule_as_json(rule), "fired": fired} for rule, fired in self._plan.snapshot()]
        return {
            "leads": len(self._book),
            "next_id": self._book.next_id,
            "faults": faults,
        }


def _sent_here(request: web.BaseRequest) -> bool:
    """Return whether no page of another site caused the request: by its Host (DNS rebinding), and by its Origin.

    Any page that a browser on this machine shows could otherwise change the faults, or read the state.
    """
    hosts = request.headers.getall("Host", [])
    if len(hosts) != 1 or not _names_this_machine(hosts[0]):
        return False
    own = f"{request.scheme}://{hosts[0]}".lower()
    foreign = [one for one in request.headers.getall("Origin", []) if one.lower() != own]
    return not foreign and request.headers.get("Sec-Fetch-Site", "none") in {"none", "same-origin"}


def _names_this_machine(authority: str) -> bool:
    try:
        host = urlsplit(f"//{authority}").hostname
    except ValueError:
        return False
    return "@" not in authority and (host == "localhost" or _from_this_machine(host))


def _from_this_machine(remote: str | None) -> bool:
    try:
        return ipaddress.ip_address(remote or "").is_loopback
    except ValueError:
        return False
