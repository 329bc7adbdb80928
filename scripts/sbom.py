"""Write locks/voicery-dispatcher.cdx.json, the bill of materials in the wheel, from locks/runtime.txt (`make locks`).

CycloneDX 1.6 (ECMA-424), in the place that PEP 770 gives it. It lists the versions that the tests ran with: the wheel
brings none of them along, and its metadata allows ranges. Without a time and a serial number, so that the same lock
makes the same file.
"""  # noqa: INP001  (a script)

import json
import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "locks" / "runtime.txt"
BILL = ROOT / "locks" / "voicery-dispatcher.cdx.json"

_PIN = re.compile(r"(?P<name>[a-z0-9.-]+)(?:\[[a-z0-9,-]+\])?==(?P<version>[^ ;]+)(?: ; (?P<marker>.+?))? \\")
_USED_BY = re.compile(r"    # (?:via|  ) *(?P<name>[a-z0-9.-]+)(?:\[[a-z0-9,-]+\])?(?: \(pyproject\.toml\))?")


def bill() -> str:
    """The bill as it should be."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    own = _component(project["name"], project["version"]) | {"licenses": [{"license": {"id": project["license"]}}]}
    components: dict[str, dict[str, Any]] = {}
    users: dict[str, set[str]] = {}
    name = ""
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        if found := _PIN.fullmatch(line):
            name = found["name"]
            components[name] = _component(name, found["version"])
            if found["marker"]:
                components[name]["properties"] = [{"name": "voicery-dispatcher:marker", "value": found["marker"]}]
            users[name] = set()
        elif found := _USED_BY.fullmatch(line):
            users[name].add(found["name"])
    known = {project["name"]: own, **components}
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": own | {"type": "application"}},
        "components": list(components.values()),
        "dependencies": [
            {
                "ref": component["bom-ref"],
                "dependsOn": [known[used]["bom-ref"] for used in sorted(users) if user in users[used]],
            }
            for user, component in known.items()
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def _component(name: str, version: str) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{version}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


if __name__ == "__main__":
    BILL.write_text(bill(), encoding="utf-8")
