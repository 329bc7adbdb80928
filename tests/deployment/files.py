"""The deployment files, read as the programs they are for read them."""

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"


def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def procfile() -> dict[str, list[str]]:
    """Each process type and its command."""
    lines = (ROOT / "Procfile").read_text().splitlines()
    return {name: shlex.split(command) for name, command in (line.split(":", 1) for line in lines if line)}


def manifests() -> list[dict[str, Any]]:
    """Each object of the Kubernetes manifests."""
    names = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    return [found for name in names for found in yaml.safe_load_all((KUBERNETES / name).read_text())]


def pods() -> dict[str, dict[str, Any]]:
    """The pod of each workload, by its name."""
    workloads = [found for found in manifests() if found["kind"] in {"Deployment", "Job"}]
    return {found["metadata"]["name"]: found["spec"]["template"]["spec"] for found in workloads}


def units() -> dict[str, dict[str, list[str]]]:
    """The directives of each systemd unit, by the last part of its name."""
    found: dict[str, dict[str, list[str]]] = {}
    for path in sorted((ROOT / "deploy" / "systemd").glob("*.service")):
        directives = found.setdefault(path.stem.removeprefix("voicery-dispatcher-"), {})
        for line in path.read_text().splitlines():
            name, equals, value = line.partition("=")
            if equals and not line.startswith("#"):
                directives.setdefault(name, []).append(value)
    return found


def dockerfile() -> list[tuple[str, str]]:
    """Each instruction and its arguments."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def commands() -> dict[str, list[str]]:
    """Every command of ours that a deployment starts, by where it stands."""
    services = compose()["services"]
    ours = {name: service for name, service in services.items() if "build" in service}
    found = {f"docker-compose.yml {name}": [str(part) for part in service["command"]] for name, service in ours.items()}
    found |= {f"Procfile {name}": command for name, command in procfile().items()}
    for name, pod in pods().items():
        [container] = pod["containers"]
        found[f"deploy/kubernetes {name}"] = container["command"]
    for name, directives in units().items():
        [command] = directives["ExecStart"]
        found[f"deploy/systemd {name}"] = shlex.split(command.removeprefix("/opt/voicery-dispatcher/bin/"))
    images = [json.loads(rest) for name, rest in dockerfile() if name == "CMD"]
    return found | {f"Dockerfile {number}": command for number, command in enumerate(images, 1)}


def example_variables() -> dict[str, str]:
    """Each variable of `.env.example`, also those that are commented out."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    matches = [re.fullmatch(r"#?([A-Z][A-Z0-9_]*)=(.*)", line) for line in lines]
    return {match[1]: match[2] for match in matches if match}


def requirements(lock: str) -> list[tuple[Requirement, str]]:
    """Each requirement of a lock, and its hashes and comments as they are written."""
    lines = (ROOT / "locks" / f"{lock}.txt").read_text().splitlines()
    starts = [number for number, line in enumerate(lines) if line and line[0] not in "# "]
    blocks = [lines[start:end] for start, end in pairwise([*starts, len(lines)])]
    return [(Requirement(block[0].removesuffix(" \\")), "\n".join(block[1:])) for block in blocks]


def pins(lock: str) -> dict[str, str]:
    """The version of each package of a lock."""
    return {
        canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
        for requirement, _ in requirements(lock)
    }
