"""What `import dispatcher` offers, and that it costs its host nothing."""

import subprocess
import sys

import dispatcher


def test_every_exported_name_exists_and_the_list_is_sorted() -> None:
    assert [name for name in dispatcher.__all__ if not hasattr(dispatcher, name)] == []
    assert dispatcher.__all__ == sorted(dispatcher.__all__, key=lambda name: (name.islower(), name))


def test_importing_opens_no_socket_and_loads_no_framework_and_configures_no_logging() -> None:
    script = (
        "import logging, socket, sys\n"
        "opened = []\n"
        "connect = socket.socket.connect\n"
        "socket.socket.connect = lambda *a: opened.append(a) or connect(*a)\n"
        "import dispatcher\n"
        "heavy = {'celery', 'sqlalchemy', 'requests', 'redis', 'psycopg'} & set(sys.modules)\n"
        "print(sorted(heavy), opened, logging.getLogger().handlers)\n"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert printed.strip() == "[] [] []"
