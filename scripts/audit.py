"""Ask PyPI's advisory database about every version in locks/: `make audit`.

Exit code 0: none is known to be vulnerable, or the database cannot be had, which is said; 1: the advisories are listed;
2: the question itself failed. What the database does not know is never taken for sound: it is named.
"""  # noqa: INP001  (a script)

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LOCKS = Path(__file__).parent.parent / "locks"
ASK = (sys.executable, "-m", "pip_audit")
_OPTIONS = ("--require-hashes", "--disable-pip", "--progress-spinner", "off", "--format", "json")
_NOT_REACHED = re.compile(r"(?i)connect|redirecting|resolve|timed out|ServiceError|HTTPError")
_SKIPPED = "make audit: skipped, nothing was checked: the advisory database cannot be had from here"


def main(ask: Sequence[str] = ASK) -> int:
    """Ask, say what came, and return the exit code."""
    answers: dict[str, dict[str, Any]] = {}
    for lock in sorted(LOCKS.glob("*.txt")):  # one after the other: two may hold different versions of a package
        asked = subprocess.run(
            [*ask, *_OPTIONS, "--requirement", str(lock)], check=False, capture_output=True, text=True
        )
        try:
            answers |= {
                f"{one['name']} {one.get('version', '')}": one for one in json.loads(asked.stdout)["dependencies"]
            }
        except (ValueError, KeyError):
            why = (asked.stderr.strip().splitlines() or ["no answer"])[-1][:200]
            if _NOT_REACHED.search(asked.stderr) is None:
                print(f"make audit: pip-audit cannot read {lock.name}: {why}")
                return 2
            print(f"{_SKIPPED} ({why}).")
            return 0
    known = {which: one for which, one in answers.items() if "skip_reason" not in one}
    unknown = sorted(one["name"] for one in answers.values() if "skip_reason" in one)
    if not known:
        print(f"{_SKIPPED} (it knows none of the {len(unknown)} packages).")
        return 0
    advisories = [(which, advisory) for which, one in known.items() for advisory in one["vulns"]]
    for which, advisory in advisories:
        print(f"{which}: {advisory['id']}, mended in {', '.join(advisory['fix_versions']) or 'no version yet'}")
    if unknown:
        print(f"Not checked, since the database does not know them: {', '.join(unknown)}")
    print(f"{len(known)} packages checked, {len(advisories)} advisories.")
    return 1 if advisories else 0


if __name__ == "__main__":
    sys.exit(main())
