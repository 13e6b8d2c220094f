"""What docs/deploy.md offers holds together: Compose, the manifest, and the server's own check."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from persona_agent.cli import cli
from persona_agent.cli.unsafe import unsafe_server
from persona_agent.serve.config import Config, load
from tests.snippets import NOTE, blocks

yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra docs")

ROOT = Path(__file__).parent.parent
BLOCKS = blocks(ROOT / "docs" / "deploy.md")
VARIABLE = re.compile(r"\$\{(\w+)(?::([?-])([^}]*))?\}")
SECRET = "a-secret-of-more-than-24-characters"


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return found


def filled(value: str) -> str:
    """Return a value with its variables filled in, as Compose does it with our .env."""
    return VARIABLE.sub(lambda one: one[3] if one[2] == "-" else SECRET, value)


def configured(environment: dict[str, str]) -> Config:
    return load(environ={key: filled(value) for key, value in environment.items()})


def test_the_server_takes_the_settings_that_compose_gives_it() -> None:
    found = configured(compose()["services"]["server"]["environment"])
    assert found.database == f"postgresql://persona:{SECRET}@postgres/persona"
    assert found.auth == "on"
    # Both inside the Compose network, which is the server's alone.
    unsafe = unsafe_server(found)
    assert len(unsafe) == 2
    assert all("encrypt" in one for one in unsafe)


def test_only_the_server_can_be_reached_and_only_from_this_machine() -> None:
    services = compose()["services"]
    assert set(services) == {"server", "postgres", "vllm"}
    published = {name: one["ports"] for name, one in services.items() if "ports" in one}
    assert published == {"server": ["127.0.0.1:8321:8321"]}


def test_every_secret_must_be_given_and_the_page_makes_it() -> None:
    text = (ROOT / "compose.yaml").read_text()
    needed = {name for name, kind, _ in VARIABLE.findall(text) if kind == "?"}
    assert {name for name, kind, _ in VARIABLE.findall(text) if not kind} == set()
    made = next(one.body for one in BLOCKS if "> .env" in one.body)
    assert needed == set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", made.split("; do")[0]))


def test_the_image_is_built_of_what_is_there() -> None:
    server = compose()["services"]["server"]
    recipe = server["build"]["dockerfile_inline"]
    for names in re.findall(r"^COPY (.+) \S+$", recipe, re.MULTILINE):
        assert all((ROOT / name).exists() for name in names.split())
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", recipe)
    project = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{one} = \[", project, re.MULTILINE) for one in extras.split(","))
    name, *arguments = server["command"]
    cli.commands[name].make_context(name, arguments)  # raises for an option that is not there


def test_volumes_and_dependencies_are_there() -> None:
    found = compose()
    for service in found["services"].values():
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in found["volumes"]
        for other in service.get("depends_on", {}):
            assert "healthcheck" in found["services"][other]


def test_the_manifest_gives_settings_that_the_server_takes() -> None:
    (manifest,) = (one.body for one in BLOCKS if one.kind == "yaml")
    deployment, service = yaml.safe_load_all(manifest)
    pod = deployment["spec"]["template"]
    assert service["spec"]["selector"] == pod["metadata"]["labels"]
    (container,) = pod["spec"]["containers"]
    found = configured({one["name"]: one["value"] for one in container["env"]})
    assert (found.host, found.port) == ("0.0.0.0", container["ports"][0]["containerPort"])
    assert service["spec"]["ports"][0]["targetPort"] == found.port
    name, *arguments = container["args"]
    cli.commands[name].make_context(name, arguments)
    routes = (ROOT / "persona_agent" / "serve" / "health.py").read_text()
    for probe in ("livenessProbe", "readinessProbe"):
        assert f'"{container[probe]["httpGet"]["path"]}"' in routes


def test_what_is_not_run_says_why() -> None:
    assert all(NOTE.fullmatch(one.note) for one in BLOCKS if one.note)
