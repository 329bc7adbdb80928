"""Run the intake: what it may listen on, and its services."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from starlette.types import ASGIApp

from dispatcher.config.settings import Settings
from dispatcher.config.urls import is_loopback
from dispatcher.errors import NotConfigured
from dispatcher.http_intake.app import Intake, build
from dispatcher.http_intake.reading import BATCH_SECONDS
from dispatcher.web.connections import Limits
from dispatcher.web.server import Address, behind, listening, run
from dispatcher.wiring import Services

PORT: Final = 8322

LIMITS: Final = Limits(body_seconds=BATCH_SECONDS + 15, answer_seconds=60.0, per_source=100)
"""The body's deadline is kept by the application, which answers 408; this one ends what it does not read."""


def application(settings: Settings, address: Address) -> ASGIApp:
    """Return the intake. Raises `NotConfigured` where keys and numbers would travel readable."""
    proxies = settings.intake_trusted_proxies
    if not is_loopback(address.host) and address.certificate is None and not proxies:
        raise NotConfigured(
            f"The intake does not listen on {address.host} without TLS, because keys and numbers would travel readable:"
            " give --tls-certificate and --tls-key, or name the proxies that end TLS in"
            " DISPATCHER_INTAKE_TRUSTED_PROXIES."
        )
    settings.require_database_url()
    settings.require_redis_url()
    intake = Intake(Services(settings, name="dispatcher-intake"))
    return behind(build(intake, secure=address.certificate is not None), proxies)


def serve(settings: Settings, address: Address, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; requests that have begun are finished. Raises `CannotListen`."""
    app = application(settings, address)
    scheme = "https" if address.certificate else "http"
    limits = replace(LIMITS, proxies=settings.intake_trusted_proxies)
    with listening("The HTTP intake", address) as listener:
        say(f"The intake is at {scheme}://{address.host}:{address.port}; its description at /docs")
        run(app, address, limits, connections=None, listener=listener)
