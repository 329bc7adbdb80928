"""What the attacks share: the console of tests/console."""

from tests.console.conftest import admin, closed_seat, database, make_seat, operator, rows, seat, users, viewer

__all__ = ["admin", "closed_seat", "database", "make_seat", "operator", "rows", "seat", "users", "viewer"]
