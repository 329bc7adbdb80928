"""An attribute that is built when it is first read."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class LazyPart(Generic[T]):
    """An attribute of an object that is built when it is first read, once, whichever thread reads it.

    Building connects to nothing, so no lock is held, which a fork could copy locked: where two threads build at the
    same time, both get the one that was stored first.
    """

    def __init__(self, build: Callable[[Any], T]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    def __get__(self, whole: object, _owner: type) -> T:
        # Stored under its own name, it hides this descriptor from then on.
        stored: T = whole.__dict__.setdefault(self._name, self._build(whole))
        return stored
