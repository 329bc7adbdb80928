"""A class has a name of its own, so that whoever searches for it finds one definition."""

import ast
from collections import Counter
from pathlib import Path

import dispatcher

SHARED = {
    "Access",  # the HTTP intake and the console check their own requests
    "Client",  # protocols: what delivery and what look-ups need of one client
    "Guard",  # as `Access`
    "Intake",  # the endpoints over HTTP, and the use case below them
    "Result",  # of an attempt, and of a look-up that an operator asked for
    "Table",  # with encrypted columns, and of an imported file
}


def test_no_two_modules_give_a_public_class_the_same_name() -> None:
    trees = [ast.parse(path.read_text()) for path in Path(dispatcher.__file__).parent.rglob("*.py")]
    names = Counter(one.name for tree in trees for one in ast.walk(tree) if isinstance(one, ast.ClassDef))

    assert {name for name, count in names.items() if count > 1 and not name.startswith("_")} == SHARED
