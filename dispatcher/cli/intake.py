"""`intake`: the HTTP API that takes leads."""

from typing import Annotated

import typer

from dispatcher.cli import arguments
from dispatcher.cli.processes import extra


def intake(
    host: Annotated[str, typer.Option("--host", help="Where to listen; beyond this machine it needs TLS.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=1, max=65_535, help="Port to listen on.")] = 8322,
    certificate: arguments.CertificateFile = None,
    key: arguments.KeyFile = None,
) -> None:
    """Serve the HTTP API that takes leads: POST /v1/leads. Keys are made by `dispatcher keys create`."""
    with extra("The HTTP intake", "intake"):
        from dispatcher.http_intake.serve import serve
    from dispatcher.config.settings import Settings
    from dispatcher.logs.setup import configure_from

    where = arguments.address(host, port, certificate, key)
    settings = Settings.from_environment()
    configure_from(settings)
    serve(settings, where, typer.echo)
