"""What is installed is what was locked, and the bill of materials lists it."""

import json
import re
import runpy
import sys
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.deployment.files import ROOT, dockerfile, pins, requirements

LOCKS = sorted(path.stem for path in (ROOT / "locks").glob("*.txt"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
DEVELOPMENT = PYPROJECT["dependency-groups"]["dev"]
BILL = ROOT / "locks" / "voicery-dispatcher.cdx.json"


# The locks ------------------------------------------------------------------------------------------------------------


def wanted(*extras: str) -> list[Requirement]:
    """What `pip install '.[extras]'` asks for."""
    asked = [*PROJECT["dependencies"], *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]
    return [Requirement(line) for line in asked]


def unmet(asked: Iterable[Requirement], lock: str) -> list[str]:
    found = pins(lock)
    return [
        str(requirement)
        for requirement in asked
        if (version := found.get(canonicalize_name(requirement.name))) is None
        or not requirement.specifier.contains(Version(version), prereleases=True)
    ]


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("runtime", ()),
        ("image", ("console", "intake", "metrics")),
        ("sandbox", ("console", "intake", "metrics", "sandbox")),
    ],
)
def test_a_lock_holds_all_that_the_project_asks_for(lock: str, extras: tuple[str, ...]) -> None:
    assert unmet(wanted(*extras), lock) == [], "run `make locks`"


def test_the_lock_of_development_holds_every_extra_and_the_group_of_development() -> None:
    asked = [*wanted(*PROJECT["optional-dependencies"]), *(Requirement(line) for line in DEVELOPMENT)]  # PEP 735
    assert unmet(asked, "dev") == [], "run `make locks`"


@pytest.mark.parametrize("lock", ["build", "tools"])
def test_a_lock_of_tools_holds_what_is_asked_for(lock: str) -> None:
    asked = [Requirement(line) for line in (ROOT / "locks" / f"{lock}.in").read_text().splitlines()]
    assert unmet(asked, lock) == [], "run `make locks`"


def test_the_build_backend_is_the_locked_one() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert (ROOT / "locks" / "build.in").read_text().splitlines() == asked


def test_a_requirement_that_no_lock_holds_would_be_noticed() -> None:
    assert unmet([Requirement("celery>=99"), Requirement("left-pad")], "runtime") == ["celery>=99", "left-pad"]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_is_pinned_and_hashed_and_no_host_is_named(lock: str) -> None:
    for requirement, rest in requirements(lock):
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement.name
        assert requirement.url is None
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", rest), requirement.name
    text = (ROOT / "locks" / f"{lock}.txt").read_text()
    assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host", text)


@pytest.mark.parametrize("lock", ["runtime", "image", "sandbox", "build"])
def test_what_is_deployed_is_what_the_tests_ran_with(lock: str) -> None:
    tested = pins("dev")
    assert {name: tested.get(name) for name in pins(lock)} == pins(lock)


def test_the_image_installs_nothing_without_its_hash() -> None:
    installs = [rest for name, rest in dockerfile() if name == "RUN" and " install " in rest and "pip" in rest]
    assert len(installs) >= 4
    for install in installs:
        ours = install.endswith("--no-deps /wheels/*.whl")
        assert ours or re.search(r"--require-hashes --requirement locks/\w+\.txt$", install), install
    assert all("--no-build-isolation" in rest for name, rest in dockerfile() if name == "RUN" and "pip wheel" in rest)


def test_the_image_says_what_it_is() -> None:
    [labels] = [rest for name, rest in dockerfile() if name == "LABEL"]
    told = dict(re.findall(r'org\.opencontainers\.image\.([a-z.]+)="([^"]*)"', labels))
    assert (told["title"], told["version"], told["licenses"]) == (PROJECT["name"], PROJECT["version"], "MIT")
    assert told["revision"] == "${REVISION}"
    [image] = [rest.partition("=")[2] for name, rest in dockerfile() if rest.startswith("PYTHON_IMAGE=")]
    assert told["base.name"] == f"docker.io/library/{image}"


# The bill of materials ------------------------------------------------------------------------------------------------


def test_the_bill_of_materials_is_current() -> None:
    assert runpy.run_path(str(ROOT / "scripts" / "sbom.py"))["bill"]() == BILL.read_text(), "run `make locks`"


def test_the_bill_of_materials_lists_the_locked_versions_and_who_needs_them() -> None:
    bill = json.loads(BILL.read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert {one["name"]: one["version"] for one in bill["components"]} == pins("runtime")
    assert bill["metadata"]["component"]["version"] == PROJECT["version"]
    needs = {one["ref"]: one["dependsOn"] for one in bill["dependencies"]}
    assert len(needs[bill["metadata"]["component"]["bom-ref"]]) >= len(PROJECT["dependencies"])
    assert {ref for refs in needs.values() for ref in refs} == {one["bom-ref"] for one in bill["components"]}


# make audit -----------------------------------------------------------------------------------------------------------


def vulnerable(name: str, *ids: str) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "vulns": [{"id": one, "fix_versions": ["1.1"]} for one in ids]}


SKIPPED = {"name": "celery", "skip_reason": "not found"}
AUDITS: dict[str, tuple[list[dict[str, Any]] | None, str, int, str]] = {
    "sound": ([vulnerable("celery")], "", 0, "1 packages checked, 0 advisories."),
    "vulnerable": ([vulnerable("celery", "PYSEC-1")], "", 1, "celery 1.0: PYSEC-1, mended in 1.1"),
    "partly unknown": ([vulnerable("kombu"), SKIPPED], "", 0, "database does not know them: celery"),
    "all unknown": ([SKIPPED], "", 0, "skipped, nothing was checked"),
    "no way there": (None, "ERROR: Could not connect to the feed", 0, "skipped, nothing was checked"),
    "a bad lock": (None, "ERROR: cannot parse the file", 2, "pip-audit cannot read build.txt"),
}  # fmt: skip


@pytest.mark.parametrize("case", AUDITS)
def test_an_audit_says_what_it_found_or_that_it_found_nothing_out(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers, errors, code, told = AUDITS[case]
    pip_audit = tmp_path / "pip_audit.py"
    out = "" if answers is None else json.dumps({"dependencies": answers})
    pip_audit.write_text(
        f"import sys; sys.stdout.write({out!r}); sys.stderr.write({errors!r}); sys.exit(bool({out!r}))"
    )
    main: Callable[..., int] = runpy.run_path(str(ROOT / "scripts" / "audit.py"))["main"]
    assert main([sys.executable, str(pip_audit)]) == code
    assert told in capsys.readouterr().out
