"""What the attacks share: the console of tests/console, and a database with roles."""

from tests.console.conftest import admin, closed_seat, database, make_seat, operator, rows, seat, users, viewer
from tests.security.roles import installed, roles_url, world_as

__all__ = [
    "admin",
    "closed_seat",
    "database",
    "installed",
    "make_seat",
    "operator",
    "roles_url",
    "rows",
    "seat",
    "users",
    "viewer",
    "world_as",
]
