"""How long from an empty directory until Voicery has the first lead, and how many lines the user wrote, per example.

`python -m benchmarks.first_lead`: the package and the frameworks are installed; Postgres, Redis, a sandbox and a worker
run, as `dispatcher up` runs them. An example is copied into an empty directory and started as its docstring says; the
first request is sent as soon as it answers. The clock stops when the lead is accepted. The worker was just started, so
the first example waits for it, too.
"""

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from dispatcher.api import Dispatcher
from dispatcher.config.settings import Settings
from dispatcher.embedded.child import Child, Command
from dispatcher.embedded.embedded_server import LOOPBACK, accepts_connections, free_port
from dispatcher.embedded.stack import Stack
from dispatcher.embedded.up import SANDBOX, SANDBOX_TOKEN, WORKER

EXAMPLES = Path(__file__).parents[1] / "examples"
NUMBERS = (f"+1212555{number:04}" for number in itertools.count(100))  # another each time: one person is called once
PATIENCE_SECONDS = 60.0


class Start:
    """Starts one example in a directory of its own."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._directory = directory
        self._environment = environment

    def run(self, *argv: str, program: str = sys.executable, **more: str) -> str:
        """Run to the end; return what was printed. `more`: variables of the environment."""
        environment = {**self._environment, **more}
        done = subprocess.run(
            [program, *argv], cwd=self._directory, env=environment, check=True, capture_output=True, text=True
        )
        return done.stdout

    @contextmanager
    def server(self, *argv: str, ready: Callable[[], bool]) -> Iterator[None]:
        """Run until the end of the block, which begins when `ready` is true."""
        command = Command((sys.executable, *argv), self._directory / "log", self._environment, self._directory)
        with Child(command) as child:
            until(ready, child.log_tail)
            yield


def until(condition: Callable[[], bool], describe: Callable[[], str]) -> None:
    """Wait until it is true."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(describe())
        time.sleep(0.01)


def post(port: int, path: str, *, form: bool) -> Callable[[], bool]:
    """Return what posts an order, and says whether a server took it."""
    values = urlencode({"phone_number": next(NUMBERS)})

    url, body = f"http://{LOOPBACK}:{port}{path}", values.encode()
    if not form:
        url, body = f"{url}?{values}", b""

    def send() -> bool:
        try:
            with urlopen(url, body) as answer:  # noqa: S310 - our own server
                return bool(answer.status == 201)
        except URLError as error:
            if getattr(error, "code", None) is not None:
                raise
            return False  # it does not listen yet

    return send


BY_SQL = """
import os, psycopg, sys
with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
    connection.execute(open("shop.sql").read())
    connection.execute("INSERT INTO shop_orders (customer, phone_number) VALUES ('Ada', %s)", sys.argv[1:])
"""


def script(start: Start) -> None:
    """Run the script."""
    start.run("send.py")


def fastapi(start: Start) -> Iterator[None]:
    """Serve and post an order."""
    port = free_port()
    with start.server("-m", "uvicorn", "shop:app", "--port", str(port), ready=post(port, "/orders", form=False)):
        yield


def flask(start: Start) -> Iterator[None]:
    """Serve and post an order."""
    port = free_port()
    argv = ("-m", "flask", "--app", "shop", "run", "--port", str(port))
    with start.server(*argv, ready=post(port, "/orders", form=True)):
        yield


def django(start: Start) -> Iterator[None]:
    """Make the table, serve, and post an order."""
    port = free_port()
    start.run("shop.py", "migrate")
    argv = ("shop.py", "runserver", str(port), "--noreload")
    with start.server(*argv, ready=post(port, "/orders", form=True)):
        yield


def celery(start: Start) -> Iterator[None]:
    """Send a task, and run a worker."""
    start.run("-c", f"from shop import order_paid; order_paid.delay(7, '{next(NUMBERS)}')")
    with start.server("-m", "celery", "-A", "shop", "worker", "--pool", "solo", ready=lambda: True):
        yield


def sql(start: Start) -> None:
    """Make the table and its trigger, as psql would, and insert an order."""
    start.run("-c", BY_SQL, next(NUMBERS))


def http(start: Start) -> Iterator[None]:
    """Make a key, serve the intake, and send a lead by curl."""
    port = free_port()
    key = start.run("-m", "dispatcher", "keys", "create", "shop").strip()
    argv = ("-m", "dispatcher", "intake", "--port", str(port))
    with start.server(*argv, ready=lambda: accepts_connections(port)):
        start.run("send.sh", program="sh", INTAKE_KEY=key, INTAKE_URL=f"http://{LOOPBACK}:{port}")
        yield


WAYS: dict[str, Callable[[Start], Iterator[None] | None]] = {
    "script": script,
    "http": http,
    "asyncio": script,
    "fastapi": fastapi,
    "flask": flask,
    "django": django,
    "celery": celery,
    "sql": sql,
}


def lines(name: str) -> int:
    """Return the lines of an example that are neither empty nor only a comment or the docstring at the top."""
    own = sorted(path for kind in ("*.sql", "*.sh") for path in (EXAMPLES / name).glob(kind))
    text = "".join(path.read_text() for path in own) if own else python_of(name)
    return sum(1 for line in text.splitlines() if line.strip() and not line.strip().startswith(("#", "--")))


def python_of(name: str) -> str:
    """Return the text of an example's Python without the docstring at the top."""
    return (EXAMPLES / name).glob("*.py").__next__().read_text().split('"""', 2)[2]


def measure(name: str, stack: Stack, environment: dict[str, str], root: Path) -> float:
    """Return the seconds until the first lead of this example is accepted, counted from an empty directory."""
    # The owner's login, which may empty tables; an example has that of `stack.urls()`.
    queue = Dispatcher(Settings.from_environment({"DATABASE_URL": stack.postgres.url(), "REDIS_URL": "redis://-"}))
    with queue.database.transaction() as connection:
        connection.exec_driver_sql("TRUNCATE dispatcher.leads, dispatcher.idempotency_keys CASCADE")
        connection.exec_driver_sql("DROP TABLE IF EXISTS public.shop_orders")
    directory = root / name
    directory.mkdir(mode=0o755)
    began = time.perf_counter()
    for path in (EXAMPLES / name).glob("*.*"):
        shutil.copy(path, directory)
    running = WAYS[name](Start(directory, environment))
    if running is not None:
        next(running)
    until(lambda: queue.overview().counts["accepted"].value > 0, lambda: f"{name}: no lead was accepted")
    took = time.perf_counter() - began
    if running is not None:
        next(running, None)
    queue.close()
    return took


def main() -> None:
    """Measure each example once and print it beside the script's."""
    root = Path(tempfile.mkdtemp(prefix="first-lead-"))
    root.chmod(0o755)
    port = free_port()
    api = {"VOICERY_BASE_URL": f"http://{LOOPBACK}:{port}/api", "VOICERY_API_TOKEN": SANDBOX_TOKEN}
    try:
        with Stack(root / "store", dict(os.environ), durable=False) as stack:
            stack.run("sandbox", (*SANDBOX, "--port", str(port)))
            until(lambda: accepts_connections(port), lambda: "the sandbox did not start")
            stack.run("worker", WORKER, {**api, "DISPATCHER_RATE_LIMIT": "off"})
            environment = {
                **os.environ,
                **stack.urls(),
                "PYTHONPATH": str(EXAMPLES.parent),
                "PYTHONDONTWRITEBYTECODE": "1",
            }
            found = {name: measure(name, stack, environment, root) for name in WAYS}
        for name, seconds in found.items():
            print(f"{name:8}  {seconds:5.1f} s  {seconds / found['script']:4.1f} × the script  {lines(name):3} lines")
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
