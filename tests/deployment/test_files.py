"""The deployment files say what their programs understand, and no secret."""

import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from dispatcher.config.environment import variable
from dispatcher.config.secret_files import secrets
from dispatcher.config.settings import Settings
from tests.deployment.files import (
    KUBERNETES,
    ROOT,
    commands,
    compose,
    dockerfile,
    example_variables,
    manifests,
    pods,
    units,
)


def test_the_compose_file_obeys_the_schema_of_the_compose_specification() -> None:
    checker = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec")
    checked = subprocess.run(
        [*checker, ROOT / "docker-compose.yml"], check=False, capture_output=True, text=True, timeout=60
    )
    assert checked.returncode == 0, checked.stdout


def test_every_service_waits_for_what_exists_and_every_volume_is_declared() -> None:
    file = compose()
    for name, service in file["services"].items():
        for needed, condition in service.get("depends_on", {}).items():
            other = file["services"][needed]
            assert condition["condition"] != "service_healthy" or "healthcheck" in other, (name, needed)
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in file["volumes"]


def test_everything_that_stays_has_a_health_check() -> None:
    services = compose()["services"]
    assert {name for name, service in services.items() if "healthcheck" not in service} == {"migrate"}


def test_redis_never_evicts_and_its_memory_is_bounded() -> None:
    command = compose()["services"]["redis"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert re.fullmatch(r"\d+mb", command[command.index("--maxmemory") + 1])


def test_no_file_holds_a_secret() -> None:
    services = compose()["services"]
    assert services["postgres"]["environment"]["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")
    address = services["worker"]["environment"]["DATABASE_URL"]
    assert address.startswith("postgresql://dispatcher:${POSTGRES_PASSWORD:?")
    example = example_variables()
    assert (example["POSTGRES_PASSWORD"], example["VOICERY_API_TOKEN"]) == ("", "")
    assert not [rest for name, rest in dockerfile() if name in ("ARG", "ENV") and re.search("(?i)token|password", rest)]


def test_the_sandbox_is_given_no_secret() -> None:
    sandbox = compose()["services"]["sandbox"]
    assert (sandbox["env_file"], sandbox["environment"]) == ([], {})


def test_an_image_gets_nothing_that_was_not_named() -> None:
    ignored, *admitted = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")
    ]
    assert ignored == "*"
    copied = {
        source for name, rest in dockerfile() if name == "COPY" and "--from" not in rest for source in rest.split()[:-1]
    }
    assert {line[1:] for line in admitted if line.startswith("!")} == copied


def test_the_images_do_not_run_as_root() -> None:
    users: dict[str, str] = {}
    stage = ""
    for name, rest in dockerfile():
        if name == "FROM":
            base, _, stage = rest.split()
            users[stage] = users.get(base, "root")
        if name == "USER":
            users[stage] = rest
    assert (users["runtime"], users["sandbox"]) == ("10001", "10001")
    assert stage == "runtime", "the last stage is what `docker build .` makes"


def test_the_image_has_a_python_that_is_supported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [image] = [rest for name, rest in dockerfile() if name == "ARG" and rest.startswith("PYTHON_IMAGE=")]
    version = image.removeprefix("PYTHON_IMAGE=python:").removesuffix("-slim")
    stages = [rest.split()[0] for name, rest in dockerfile() if name == "FROM"]
    assert set(stages) - {"build", "base"} == {"${PYTHON_IMAGE}"}
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]


def test_every_variable_of_the_example_exists_and_shows_its_default_or_a_value_that_works() -> None:
    given = {name: value for name, value in example_variables().items() if value and name != "POSTGRES_PASSWORD"}
    settings = Settings.from_environment(given)
    assert not settings.unknown_names
    assert settings.rate_limit == Settings.from_environment({}).rate_limit


@pytest.mark.parametrize("where", commands())
def test_no_command_names_a_secret(where: str) -> None:
    assert not re.search(r"(?i)token|password", " ".join(commands()[where]))


# Kubernetes and systemd ----------------------------------------------------------------------------------------------


def test_every_manifest_is_applied_and_no_name_is_used_twice() -> None:
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(path.name for path in KUBERNETES.glob("*.yaml") if path.stem != "kustomization")
    names = [(found["kind"], found["metadata"]["name"]) for found in manifests()]
    assert len(set(names)) == len(names)


def test_a_selector_selects_the_pods_it_is_meant_for() -> None:
    labels = {
        found["metadata"]["name"]: found["spec"]["template"]["metadata"]["labels"]
        for found in manifests()
        if found["kind"] in {"Deployment", "Job"}
    }
    for found in manifests():
        selector = found["spec"].get("selector")
        if selector is not None:
            assert labels[found["metadata"]["name"]].items() >= selector.get("matchLabels", selector).items()


@pytest.mark.parametrize("name", pods())
def test_a_pod_has_no_right_that_it_does_not_need(name: str) -> None:
    pod = pods()[name]
    [container] = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10001), "the image's"
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    rights = container["securityContext"]
    assert (rights["allowPrivilegeEscalation"], rights["readOnlyRootFilesystem"]) == (False, True)
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"].keys() == {"memory"}, "a limit of CPU stops a worker with leads in flight"


@pytest.mark.parametrize("name", pods())
def test_a_pod_finds_its_secrets_where_the_settings_look(name: str) -> None:
    pod = pods()[name]
    [container] = pod["containers"]
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    [settings] = [found for found in kustomization["configMapGenerator"] if found["name"] == "dispatcher"]
    given = dict(line.split("=", 1) for line in settings["literals"])
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted["credentials"] == given.pop("CREDENTIALS_DIRECTORY")
    assert container["envFrom"] == [{"configMapRef": {"name": "dispatcher"}}]
    assert "env" not in container, "a secret is a file, and a setting stands in the ConfigMap"
    assert not given.keys() & {*map(variable, secrets(Settings.model_fields)), "VOICERY_API_TOKEN"}
    assert not Settings.from_environment(given).unknown_names


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(s|min)?", text).groups()  # type: ignore[union-attr]
    return float(number) * (60 if unit == "min" else 1)


def test_a_stopping_worker_has_more_time_than_an_exchange() -> None:
    longest = Settings.from_environment({}).deadline_seconds
    assert seconds(compose()["services"]["worker"]["stop_grace_period"]) > longest
    assert pods()["worker"]["terminationGracePeriodSeconds"] > longest
    assert seconds(units()["worker"]["TimeoutStopSec"][0]) > longest
    assert units()["worker"]["KillMode"] == ["mixed"], "children are asked by their parent"


def test_two_workers_run_and_one_stays_while_nodes_are_emptied() -> None:
    [worker] = [
        found for found in manifests() if (found["kind"], found["metadata"]["name"]) == ("Deployment", "worker")
    ]
    [budget] = [found for found in manifests() if found["kind"] == "PodDisruptionBudget"]
    assert budget["spec"]["minAvailable"] < worker["spec"]["replicas"]


@pytest.mark.parametrize("name", units())
def test_a_unit_is_confined_and_reads_its_secrets_as_credentials(name: str) -> None:
    directives = units()[name]
    for directive in ("NoNewPrivileges", "PrivateTmp", "ProtectHome", "DynamicUser", "MemoryDenyWriteExecute"):
        assert directives[directive] == ["yes"], directive
    assert directives["ProtectSystem"] == ["strict"]
    assert directives["CapabilityBoundingSet"] == [""]
    assert "Environment" not in directives
    assert directives["EnvironmentFile"] == ["/etc/voicery-dispatcher/settings.env"]
    loaded = [credential.split(":")[0] for credential in directives["LoadCredential"]]
    assert not Settings.from_environment({f"{one}_FILE": "/dev/null" for one in loaded if "USERS" in one}).unknown_names
    assert {"DATABASE_URL"} <= set(loaded)
    assert all(one in {"DATABASE_URL", "REDIS_URL", "VOICERY_API_TOKEN", "DISPATCHER_CONSOLE_USERS"} for one in loaded)


@pytest.mark.parametrize(
    ("name", "needed"), [("worker", "migrate"), ("console", "migrate"), ("metrics", "migrate"), ("intake", "migrate")]
)
def test_what_needs_the_schema_starts_after_it(name: str, needed: str) -> None:
    assert f"voicery-dispatcher-{needed}.service" in " ".join(units()[name]["After"])
    assert compose()["services"][name]["depends_on"][needed] == {"condition": "service_completed_successfully"}
