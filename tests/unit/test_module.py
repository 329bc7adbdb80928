"""What `import dispatcher` offers, and that it costs its host nothing."""

import pickle
import subprocess
import sys
import threading
import time

import pytest

import dispatcher
from dispatcher.config.settings import Settings

FUNCTIONS = sorted(name for name in dispatcher.__all__ if name.islower())


def test_a_star_import_gives_every_name_and_help_lists_it() -> None:
    names: dict[str, object] = {}
    exec("from dispatcher import *", names)  # noqa: S102 - what a user may write

    assert set(dispatcher.__all__) <= set(names)
    assert set(dispatcher.__all__) <= set(dir(dispatcher))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'sumbit'"):
        _ = dispatcher.sumbit  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_pickled_by_its_name(name: str) -> None:
    function = getattr(dispatcher, name)

    assert pickle.loads(pickle.dumps(function)) is function  # noqa: S301 - our own bytes


def test_the_first_calls_of_many_threads_make_one_dispatcher(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Settings] = []

    def slowly() -> Settings:
        time.sleep(0.02)  # long enough for every thread to have found none
        made.append(Settings(database_url="postgresql://127.0.0.1:9/none"))
        return made[-1]

    monkeypatch.setattr(dispatcher, "_default", None)
    monkeypatch.setattr(Settings, "from_environment", slowly)
    ready = threading.Barrier(8)

    def call() -> None:
        ready.wait()
        with pytest.raises(dispatcher.StoreUnavailable):
            dispatcher.failed()

    threads = [threading.Thread(target=call) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert len(made) == 1


def test_importing_opens_no_socket_and_loads_no_other_package_and_configures_no_logging() -> None:
    script = (
        "import logging, socket, sys\n"
        "opened = []\n"
        "connect = socket.socket.connect\n"
        "socket.socket.connect = lambda *a: opened.append(a) or connect(*a)\n"
        "before = set(sys.modules)\n"
        "import dispatcher\n"
        "packages = {name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names\n"
        "print(sorted(packages), opened, logging.getLogger().handlers)\n"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert printed.strip() == "['dispatcher'] [] []"
