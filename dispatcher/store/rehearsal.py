"""A store that does everything and keeps nothing: what `--dry-run` works on."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from dispatcher.store.database import Database, translated


class Rehearsal(Database):
    """Every transaction is rolled back: rules, constraints and races are the real ones, and so are the refusals.

    What it locks it holds for as long as the real thing would. Between two transactions it remembers nothing.
    """

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction that ends as if it had never been."""
        with translated(), self.engine.connect() as connection:
            try:
                yield connection
            finally:
                connection.rollback()

    @contextmanager
    def autocommit(self) -> Iterator[Connection]:
        """As `transaction`: a statement that would commit by itself is rolled back too."""
        with self.transaction() as connection:
            yield connection
