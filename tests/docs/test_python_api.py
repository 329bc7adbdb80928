"""The text of the Python API: whole, the same for functions and methods, and its examples run."""

import doctest
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest

import dispatcher
from dispatcher.config.urls import normal_database_url
from dispatcher.operator.failure_filter import FailureFilter
from dispatcher.store.database import Database
from tests.support.rows import Rows

FUNCTIONS = sorted(name for name in dispatcher.__all__ if name.islower())
METHODS = sorted(
    name for name, member in inspect.getmembers(dispatcher.Dispatcher, inspect.isfunction) if name[0] != "_"
)


@pytest.fixture
def stores(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The stores that the examples take from the environment, with one failed lead in campaign 7."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(dispatcher, "_default", None)
    database = Database(normal_database_url(environment["DATABASE_URL"]))
    Rows(database).failed(campaign_id=7, message="Voicery refused the lead.")
    database.close()
    yield
    if dispatcher._default is not None:
        dispatcher._default.close()


def text_of(name: str) -> str:
    return inspect.getdoc(getattr(dispatcher.Dispatcher, name)) or ""


def section(text: str, name: str) -> str:
    found = re.search(rf"^{name}:\n((?:    .*\n?|\n)+)", text, re.MULTILINE)
    return found[1] if found else ""


@pytest.mark.parametrize("name", [*METHODS, "Dispatcher"])
def test_the_examples_run(name: str, stores: None) -> None:
    subject: Any = dispatcher.Dispatcher if name == "Dispatcher" else getattr(dispatcher.Dispatcher, name)
    (example,) = doctest.DocTestFinder(recurse=False).find(subject, name, globs={"dispatcher": dispatcher})
    assert example.examples, f"{name} has no example"
    told: list[str] = []

    doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(example, out=told.append)

    assert "".join(told) == ""


@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_is_explained(name: str) -> None:
    method = getattr(dispatcher.Dispatcher, name)
    explained = re.findall(r"^    (\w+): ", section(text_of(name), "Args"), re.MULTILINE)
    parameters = [one for one in inspect.signature(method).parameters if one != "self"]
    if "filters are those of `failed`" in text_of(name) or "filters of `failed`" in text_of(name):
        parameters = [one for one in parameters if one not in FailureFilter.names()]

    assert sorted(explained) == sorted(parameters)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in {"close", "importer", "rate_use"}])
def test_every_error_is_named(name: str) -> None:
    assert re.search(r"^    StoreUnavailable: \S", section(text_of(name), "Raises"), re.MULTILINE)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_has_the_text_and_the_signature_of_the_method(name: str) -> None:
    function, method = getattr(dispatcher, name), getattr(dispatcher.Dispatcher, name)
    _, *parameters = inspect.signature(method).parameters.values()

    assert inspect.getdoc(function) == text_of(name)
    assert list(inspect.signature(function).parameters.values()) == parameters
    assert (function.__module__, function.__qualname__) == ("dispatcher", name)


@pytest.mark.parametrize("name", ["failed", "failed_groups", "failed_ids"])
def test_the_filters_are_keyword_parameters(name: str) -> None:
    given = inspect.signature(getattr(dispatcher.Dispatcher, name)).parameters
    filters = [one for one in given.values() if one.name not in {"self", "limit"}]

    assert [(one.name, one.default) for one in filters] == [(one.name, one.default) for one in fields(FailureFilter)]
    assert {one.kind for one in filters} == {inspect.Parameter.KEYWORD_ONLY}
