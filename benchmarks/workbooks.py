"""How fast leads are read from a workbook, and in how much memory, beside the same leads as CSV.

    python -m benchmarks.workbooks

Each file is read by a process of its own, as an import does it: its digest, then its rows as leads. No database.
"""

import csv
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.workbooks import excel, ods

ROWS = (20_000, 200_000)
HEADER = ("phone_number", "campaign_id", "customer_name", "city", "plan", "note")


def rows(count: int) -> list[tuple[object, ...]]:
    """Leads with distinct texts, so that none is kept once for all."""
    return [
        HEADER,
        *(
            (f"+1202555{n % 100 + 100:04}", 42, f"Customer {n}", ("Berlin", "Köln", "Wien")[n % 3], "pro", f"Note {n}")
            for n in range(count)
        ),
    ]


def as_csv(given: list[tuple[object, ...]]) -> bytes:
    """The same leads as CSV."""
    text = io.StringIO()
    csv.writer(text).writerows(given)
    return text.getvalue().encode()


def peak_mb() -> float:
    """The most memory that this process has held; `ru_maxrss` would be that of its parent, too."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def read(path: str) -> None:
    """Read one file, and print what it took."""
    from dispatcher.importing.columns import ImportOptions
    from dispatcher.importing.lead_file import open_leads
    from dispatcher.importing.source import open_source

    held, before = peak_mb(), resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    with open_source(path) as source, open_leads(source, ImportOptions()) as file:
        count = sum(1 for row in file.rows if file.read(row))
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"rows": count, "seconds": seconds, "cpu": cpu, "mb": peak_mb() - held}))


def main() -> None:
    """Measure all, and print them as ratios to CSV."""
    print(f"{'rows':>8} {'file':>5} {'rows/s':>9} {'rows/CPU s':>11} {'of CSV':>7} {'MB more':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for count in ROWS:
            given, base = rows(count), 0.0
            for kind, write in (("csv", as_csv), ("xlsx", excel), ("ods", ods)):
                path = Path(folder) / f"leads.{kind}"
                path.write_bytes(write(given))
                command = [sys.executable, "-m", "benchmarks.workbooks", str(path)]
                told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
                rate = told["rows"] / told["cpu"]
                base = base or rate
                speed = told["rows"] / told["seconds"]
                print(f"{count:>8} {kind:>5} {speed:>9.0f} {rate:>11.0f} {rate / base:>6.2f}x {told['mb']:>8.1f}")


if __name__ == "__main__":
    if sys.argv[1:]:
        read(sys.argv[1])
    else:
        main()
