"""`intake`: the HTTP API that takes leads."""

from pathlib import Path
from typing import Annotated

import typer

from dispatcher.cli.serve import extra


def intake(
    host: Annotated[str, typer.Option("--host", help="Where to listen; beyond this machine it needs TLS.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=1, max=65_535, help="Port to listen on.")] = 8322,
    certificate: Annotated[
        Path | None, typer.Option("--tls-certificate", help="A PEM file: serve https.", exists=True, dir_okay=False)
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--tls-key", help="The certificate's key, PEM.", exists=True, dir_okay=False)
    ] = None,
) -> None:
    """Serve the HTTP API that takes leads: POST /v1/leads. Keys are made by `dispatcher keys create`."""
    with extra("The HTTP intake", "intake"):
        from dispatcher.http_intake.serve import serve
        from dispatcher.web.server import Address, certificate_of
    from dispatcher.config.settings import Settings
    from dispatcher.logs.setup import configure_from

    try:
        tls = certificate_of(certificate, key)
    except ValueError as fault:
        raise typer.BadParameter(str(fault), param_hint="--tls-key") from None
    settings = Settings.from_environment()
    configure_from(settings)
    serve(settings, Address(host, port, tls), typer.echo)
