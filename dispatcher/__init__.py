"""A durable, queue-backed lead dispatcher for Voicery: no lead lost, nobody called twice because of us.

    import dispatcher

    lead = dispatcher.Lead(phone_number="+14155550100", campaign_id=42, variables={"customer_name": "Ada"})
    dispatcher.submit(lead)

The functions are the methods of one `Dispatcher`, made from the environment's settings at the first call;
`Dispatcher(settings)` has the same methods with explicit settings. Importing this opens no socket and configures no
logging.
"""

import functools
import importlib
import inspect
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dispatcher.api import Dispatcher
    from dispatcher.config.settings import Settings
    from dispatcher.errors import (
        DispatcherError,
        FieldError,
        IdempotencyConflict,
        InvalidLead,
        LeadNotFound,
        NotAllowed,
        NotConfigured,
        SchemaOutOfDate,
        StoreUnavailable,
    )
    from dispatcher.lead.contact import Contact
    from dispatcher.lead.lead import Lead
    from dispatcher.lead.options import BatchResult, Submission
    from dispatcher.operator.failures import FailedLead
    from dispatcher.operator.lead_record import LeadRecord

    __version__: str

    _any = Dispatcher(Settings())  # never made: the types of its methods are those of the functions
    asubmit = _any.asubmit
    asubmit_many = _any.asubmit_many
    warm_up = _any.warm_up
    submit = _any.submit
    submit_many = _any.submit_many
    get = _any.get
    failed = _any.failed
    replay = _any.replay
    resolve = _any.resolve
    cancel = _any.cancel
    pause = _any.pause
    resume = _any.resume
    block = _any.block
    unblock = _any.unblock
    is_blocked = _any.is_blocked

__all__ = [
    "BatchResult",
    "Contact",
    "Dispatcher",
    "DispatcherError",
    "FailedLead",
    "FieldError",
    "IdempotencyConflict",
    "InvalidLead",
    "Lead",
    "LeadNotFound",
    "LeadRecord",
    "NotAllowed",
    "NotConfigured",
    "SchemaOutOfDate",
    "Settings",
    "StoreUnavailable",
    "Submission",
    "asubmit",
    "asubmit_many",
    "block",
    "cancel",
    "failed",
    "get",
    "is_blocked",
    "pause",
    "replay",
    "resolve",
    "resume",
    "submit",
    "submit_many",
    "unblock",
    "warm_up",
]

_MODULES = {
    "BatchResult": "lead.options",
    "Contact": "lead.contact",
    "Dispatcher": "api",
    "FailedLead": "operator.failures",
    "Lead": "lead.lead",
    "LeadRecord": "operator.lead_record",
    "Settings": "config.settings",
    "Submission": "lead.options",
}
"""Where the classes are; the errors are in `errors`, and the other names are methods of `Dispatcher`."""

_lock = threading.Lock()
_default: "Dispatcher | None" = None


def __getattr__(name: str) -> Any:  # noqa: ANN401 - as a module has it
    """Import a name at its first use: the command line and a producer load only what they need."""
    if name == "__version__":
        return globals().setdefault(name, _installed_version())
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in {"asubmit", "asubmit_many"}:  # loads nothing else here, because this may be the thread of an event loop
        found = _coroutine_function(getattr(importlib.import_module("dispatcher.asynchronous").AsyncProducer, name))
    elif name.islower():
        found = _function(getattr(importlib.import_module("dispatcher.api").Dispatcher, name))
    else:
        found = getattr(importlib.import_module(f"dispatcher.{_MODULES.get(name, 'errors')}"), name)
    return globals().setdefault(name, found)


def _installed_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("voicery-dispatcher")
    except PackageNotFoundError:
        return "0+unknown"  # a checkout on the path that is not installed


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _function(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that calls this method of the default dispatcher; its text and signature are the method's."""

    @functools.wraps(method)
    def function(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - the method's own
        return method(_default_dispatcher(), *arguments, **options)

    return _described(function, method)


def _coroutine_function(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same for a coroutine method. Where there is no default dispatcher yet, a thread makes it."""

    @functools.wraps(method)
    async def function(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - the method's own
        if _default is None:
            import asyncio

            await asyncio.to_thread(_default_dispatcher)
        return await method(_default_dispatcher(), *arguments, **options)

    return _described(function, method)


def _described(function: Callable[..., Any], method: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(method)
    parameters = list(signature.parameters.values())[1:]  # without `self`
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    function.__module__, function.__qualname__ = __name__, method.__name__
    return function


def _default_dispatcher() -> "Dispatcher":
    global _default  # noqa: PLW0603 - made once, under the lock
    if _default is None:
        from dispatcher.api import Dispatcher as Made
        from dispatcher.config.settings import Settings as Read

        with _lock:
            if _default is None:
                _default = Made(Read.from_environment())
    return _default
