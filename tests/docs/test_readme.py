"""The README's Python runs as it stands, one block after the other."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psycopg

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_python_of_the_readme_runs(environment: Mapping[str, str], database_url: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE public.orders (id int, call_wanted bool)")
        connection.execute("INSERT INTO public.orders VALUES (7, true)")
        script = "\n".join(blocks).replace("postgresql+psycopg:///shop", database_url.replace("://", "+psycopg://", 1))

        ran = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        phones = connection.execute("SELECT right(phone_number, 2), state FROM dispatcher.leads ORDER BY id").fetchall()
        orders = connection.execute("SELECT call_wanted FROM public.orders").fetchall()

    assert (ran.returncode, ran.stderr) == (0, "")
    assert phones == [("00", "pending"), ("01", "pending")]
    assert orders == [(False,)]
