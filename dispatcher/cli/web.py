"""The command that serves the web console."""

from pathlib import Path
from typing import Annotated

import typer

from dispatcher.errors import NotConfigured


def console(
    host: Annotated[str, typer.Option("--host", help="Where to listen; others than this machine need a login.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=1, max=65_535, help="Port to listen on.")] = 8321,
    certificate: Annotated[
        Path | None, typer.Option("--tls-certificate", help="A PEM file: serve https.", exists=True, dir_okay=False)
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--tls-key", help="The certificate's key, PEM.", exists=True, dir_okay=False)
    ] = None,
    hash: Annotated[  # the option's name
        str | None,
        typer.Option("--hash", metavar="NAME:ROLE", help="Ask for a password, print a line for the users, and end."),
    ] = None,
) -> None:
    """Serve the web console. Without users it opens by a one-time link, printed here, and to this machine alone."""
    try:
        from dispatcher.console.origin import Certificate
        from dispatcher.console.people import Role, hash_password
        from dispatcher.console.serve import Address, serve
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.startswith("dispatcher"):
            raise
        raise NotConfigured("The console is an extra: pip install 'voicery-dispatcher[console]'.") from None
    from dispatcher.config.settings import Settings

    if hash is not None:
        name, _, role = hash.partition(":")
        if not name or role not in set(Role):
            raise typer.BadParameter(f"write NAME:ROLE with a role of {', '.join(Role)}", param_hint="--hash")
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        typer.echo(f"{name}:{role}:{hash_password(password)}")
        return
    if (certificate is None) != (key is None):
        raise typer.BadParameter("give both --tls-certificate and --tls-key, or neither", param_hint="--tls-key")
    tls = Certificate(certificate, key) if certificate is not None and key is not None else None
    serve(Settings.from_environment(), Address(host, port, tls), typer.echo)
