"""What docker-compose.yml, the Dockerfile and the files beside them promise, as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.load import load
from tests.deploy.containers import COMPOSE, House, project
from tests.deploy.images import stages
from tests.harness.sandbox import ROOT

SERVICES: dict[str, dict[str, Any]] = project()["services"]
TARGETS = {service["build"]["target"] for service in SERVICES.values() if "build" in service}
MAKE_SECRETS = [sys.executable, str(ROOT / "deploy" / "make_secrets.py")]
FILES = {
    "secret_key",
    "valkey_users",
    "redis_url",
    "flower_redis_url",
    "caller_redis_url",
    "flower_basic_auth",
    "north_clinic_vendor_api_key",
    "north_clinic_api_key",
}

each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


def test_the_house_is_complete_and_the_sandbox_comes_only_when_asked_for() -> None:
    assert set(SERVICES) == {"valkey", "worker", "watcher", "intake", "web", "flower", "sandbox"}
    assert [name for name, service in SERVICES.items() if "profiles" in service] == ["sandbox"]
    assert SERVICES["sandbox"]["profiles"] == ["demo"]


@each_service
def test_every_container_may_do_as_little_as_it_can(service: dict[str, Any]) -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"}
    assert "docker.sock" not in str(service)


@each_service
def test_every_container_is_watched_restarted_and_given_time_to_end(service: dict[str, Any]) -> None:
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert service["restart"] == "unless-stopped"
    assert re.fullmatch(r"\d+s", service["stop_grace_period"])


@each_service
def test_nothing_is_published_beyond_this_machine(service: dict[str, Any]) -> None:
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in service.get("ports", []))


def test_workers_can_be_many() -> None:
    assert not SERVICES["worker"].keys() & {"container_name", "ports", "hostname"}
    assert not SERVICES["valkey"].keys() & {"ports"}


def test_every_image_is_pinned_and_ours_carry_our_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for name, service in SERVICES.items():
        tag = service["image"].rpartition(":")[2]
        assert tag == version if "build" in service else re.fullmatch(r"\d+\.\d+\.\d+", tag), name


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no git checkout")
def test_every_secret_is_a_file_that_git_ignores() -> None:
    declared = project()["secrets"]
    for name, secret in declared.items():
        assert secret == {"file": f"./deploy/secrets/{name}"}
        ignored = subprocess.run(["git", "check-ignore", "--quiet", secret["file"]], cwd=ROOT, check=False)
        assert ignored.returncode == 0, name
    assert {name for service in SERVICES.values() for name in service.get("secrets", [])} == set(declared)


@each_service
def test_secrets_reach_a_container_as_files_and_only_its_own(service: dict[str, Any]) -> None:
    named = {value for key, value in service.get("environment", {}).items() if key.endswith("_FILE")}
    mounted = {f"/run/secrets/{name}" for name in service.get("secrets", [])}
    assert named == mounted - {"/run/secrets/valkey_users"}
    plain = [key for key in service.get("environment", {}) if re.search(r"(KEY|PASSWORD|TOKEN|AUTH|URL)$", key)]
    # Flower's key is none, as it says; the page's address is known to all who use it.
    assert plain in ([], ["CHARTPOST_SECRET_KEY"], ["CHARTPOST_WEB__URL"])


def test_flower_gets_neither_documents_nor_anybodys_keys() -> None:
    flower = SERVICES["flower"]
    assert flower["secrets"] == ["flower_redis_url", "flower_basic_auth"]
    assert flower["volumes"] == ["./deploy/flower:/etc/chartpost/flower:ro"]


def test_secrets_are_made_once_and_keep_their_values(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    make = [*MAKE_SECRETS, "--demo", "--folder", str(folder)]
    subprocess.run(make, check=True, capture_output=True)
    made = {path.name: path.read_text() for path in folder.iterdir()}
    subprocess.run(make, check=True, capture_output=True)
    assert {path.name: path.read_text() for path in folder.iterdir()} == made
    assert set(made) == FILES
    assert folder.stat().st_mode & 0o777 == 0o700


def test_without_the_demo_the_clinics_keys_are_asked_for_and_not_invented(tmp_path: Path) -> None:
    done = subprocess.run([*MAKE_SECRETS, "--folder", str(tmp_path)], check=True, capture_output=True, text=True)
    assert not (tmp_path / "north_clinic_api_key").exists()
    assert done.stdout.count("Still to be written by you") == 2


def test_the_acl_holds_digests_alone_and_does_not_cripple_the_default_user(tmp_path: Path) -> None:
    house = House(tmp_path)
    users = house.secret("valkey_users").splitlines()
    assert users[0] == "user default off ~* &* +@all"
    assert {line.split()[0] for line in users} == {"user"}
    for name in ("redis_url", "flower_redis_url", "caller_redis_url"):
        assert house.secret(name).partition("@")[0].rpartition(":")[2] not in house.secret("valkey_users")


@pytest.mark.parametrize("name", ["demo.toml", "chartpost.example.toml"])
def test_the_settings_beside_it_can_be_used_as_the_worker_gets_them(name: str, tmp_path: Path) -> None:
    house = House(tmp_path)
    environment = {key: house._here("worker", value) for key, value in house.environment("worker").items()}
    settings = load(ROOT / "deploy" / name, environment)
    assert settings.accounts["north_clinic"].provider == "pracsuite"
    assert settings.metrics.port
    assert not [warning for warning in settings.warnings if "CHARTPOST_" in warning]


# --- the Dockerfile ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_an_image_runs_as_the_user_that_its_services_name(target: str) -> None:
    users = {service["user"] for service in SERVICES.values() if service.get("build", {}).get("target") == target}
    assert users == {stages()[target].user}
    assert stages()[target].entrypoint


def test_images_come_from_a_pinned_python_and_the_product_is_the_default() -> None:
    bases = {stage.base for stage in stages().values()} - stages().keys()
    assert bases == {"python:3.11-slim-trixie"}
    assert list(stages())[-1] == "chartpost"


def test_everything_that_is_installed_is_named_with_its_hash_or_is_ours() -> None:
    commands = [part for stage in stages().values() for run in stage.each("RUN") for part in run.split("&&")]
    installs = [command for command in commands if "pip" in command]
    assert len(installs) >= 5
    assert all("--require-hashes" in command or "--no-index" in command for command in installs)
    assert not [command for command in commands if re.search(r"\b(curl|wget|apt-get)\b", command)]


def test_what_is_copied_is_there_and_nothing_else_is_sent_to_the_engine() -> None:
    admitted = {line[1:] for line in dockerignore() if line.startswith("!")}
    copied = {source for stage in stages().values() for line in stage.each("COPY") for source in sources(line)}
    assert dockerignore()[0] == "*"
    assert copied == admitted
    assert all((ROOT / source).exists() for source in copied)


def dockerignore() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def sources(copy: str) -> Iterator[str]:
    if not copy.startswith("--from"):
        yield from copy.split()[:-1]


def test_variables_have_defaults_so_that_the_demo_needs_none() -> None:
    assert not re.search(r"\$\{?\w+(?!\w*:-)\}", COMPOSE.read_text())
