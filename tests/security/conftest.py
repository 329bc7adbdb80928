"""What the attacks share: the console of tests/console, a database with roles, and the workers of tests/process."""

from tests.console.conftest import admin, closed_seat, database, make_seat, operator, rows, seat, users, viewer
from tests.process.conftest import rig, sandbox_options, start_sandbox
from tests.security.roles import installed, roles_url, world_as

__all__ = [
    "admin",
    "closed_seat",
    "database",
    "installed",
    "make_seat",
    "operator",
    "rig",
    "roles_url",
    "rows",
    "sandbox_options",
    "seat",
    "start_sandbox",
    "users",
    "viewer",
    "world_as",
]
