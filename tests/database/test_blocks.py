"""The list of persons who must not be called, on a real Postgres."""

from sqlalchemy import text

from dispatcher.store.database import Database
from dispatcher.store.pseudonym import Pseudonyms, digest_sql

KEY = "0123456789abcdef0123456789abcdef"
NUMBER = "+12025550123"


def test_sql_computes_the_pseudonym_of_python_and_nothing_without_a_key(database: Database) -> None:
    statement = text(f"SELECT {digest_sql('CAST(:phone AS text)')}")
    with database.transaction() as connection:
        for key in (KEY, KEY * 5):
            pseudonyms = Pseudonyms(key)
            computed = connection.execute(statement, {"phone": NUMBER, **pseudonyms.pads()}).scalar()
            assert bytes(computed) == pseudonyms.digest(NUMBER)
        assert connection.execute(statement, {"phone": NUMBER, **Pseudonyms(None).pads()}).scalar() is None
