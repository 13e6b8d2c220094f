"""Configuration: file, environment, arguments; unknown keys refused; secrets never shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from persona_agent.cli import cli
from persona_agent.errors import InputError
from persona_agent.serve.config import Config, load

SECRET = "a-secret-of-twenty-four-characters"


def test_an_argument_goes_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text('port = 1\nhost = "::1"\n[memory]\nsimilar = 3\nrecent = 1\n')
    environ = {"PERSONA_AGENT_SERVE_PORT": "2", "PERSONA_AGENT_SERVE_MEMORY__SIMILAR": "4"}
    found = load(file, environ=environ, given={"port": 3, "workers": None})
    assert (found.port, found.host, found.workers) == (3, "::1", 1)
    assert (found.memory.similar, found.memory.recent) == (4, 1)
    assert load(file, environ=environ).port == 2


@pytest.mark.parametrize(
    ("text", "environ", "why"),
    [
        ("prot = 1", {}, "prot: it is not known"),
        ("[memory]\nsimilr = 1", {}, "memory.similr: it is not known"),
        ("", {"PERSONA_AGENT_SERVE_PROT": "1"}, "prot: it is not known"),
        ("port = 99999", {}, "port: Input should be less than or equal to 65535"),
        ("port", {}, "is not TOML"),
        ('host = "0.0.0.0"\nauth = "off"', {}, "which others can reach"),
        ('admin_key = "short"', {}, "admin_key has 5 characters"),
        ('database = ":memory:"\nworkers = 2', {}, "cannot share"),
    ],
)
def test_what_is_wrong_is_named_and_no_value_is_told(
    tmp_path: Path, text: str, environ: dict[str, str], why: str
) -> None:
    file = tmp_path / "server.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=why) as told:
        load(file, environ=environ)
    assert "short" not in str(told.value)


def test_secrets_are_masked_wherever_they_are_shown() -> None:
    found = load(given={"api_key": SECRET, "admin_key": SECRET, "jwt": {"secret": SECRET}})
    assert SECRET not in json.dumps(found.shown()) + repr(found) + str(found)
    assert found.shown()["jwt"]["secret"] == "********"
    assert found.shown()["cache_key"] == ""


def test_the_command_shows_what_it_would_serve_with(tmp_path: Path) -> None:
    arguments = ["--json", "--db", "x.db", "serve", "--port", "7", "--show"]
    done = CliRunner().invoke(cli, arguments, env={"PERSONA_AGENT_SERVE_LLM": "openai:m"})
    shown = json.loads(done.output)
    assert (shown["database"], shown["port"], shown["llm"]) == ("x.db", 7, "openai:m")
    assert shown["embedder"] == Config().embedder


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    run = CliRunner().invoke
    base = ["--json", "--db", str(tmp_path / "k.db"), "--tenant", "acme"]
    made = json.loads(run(cli, [*base, "keys", "create", "--user", "ann"]).output)
    listed = run(cli, [*base, "keys", "list"]).output
    assert json.loads(listed)[0]["id"] == made["key"]["id"]
    assert made["token"] not in listed
    assert run(cli, [*base, "keys", "revoke", made["key"]["id"]]).exit_code == 0
    assert json.loads(run(cli, [*base, "keys", "list"]).output)[0]["revoked"] is not None
