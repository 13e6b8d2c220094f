"""The command line: what it prints, what it exits with, and that every error tells the way out."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import click
import pytest
from click.testing import CliRunner, Result

from persona_agent.cli import cli, main

ODD_IDS = ["o'brien", 'a"b', "a/../b", "龍🐉", "tab\tnew\nline", "[red]x[/]", "esc\x1b[31m"]
RATED = [
    {
        "user": "alice",
        "id": f"e{i}",
        "when": 1_700_000_000 + 3600 * i,
        "query": f"film number {i}",
        "outcome": i % 5 + 1,
    }
    for i in range(30)
]


class _Main:
    """The whole command as CliRunner takes it: with `main`'s exit codes and messages."""

    name = "persona-agent"

    def main(self, args: Sequence[str], prog_name: str | None = None, **_: Any) -> None:
        main(args)


class Run:
    """Runs commands on one database; the model is not needed unless it is named."""

    def __init__(self, folder: Path) -> None:
        self.db = folder / "persona.db"

    def __call__(
        self, *arguments: str, stdin: str | bytes | None = None, **environ: str | None
    ) -> Result:
        runner = CliRunner(env={"PERSONA_AGENT_EMBEDDER": "hash", **environ})
        given = ["--db", str(self.db), *arguments]
        return runner.invoke(cast(click.Command, _Main()), given, input=stdin)

    def json(self, *arguments: str, **more: Any) -> Any:
        done = self("--json", *arguments, **more)
        assert done.exit_code == 0, done.output
        assert done.stdout.count("\n") == 1
        return json.loads(done.stdout)

    def fails(self, says: str, *arguments: str, **more: Any) -> Result:
        """Run what must fail: exit code 1, one line of reason, the same as JSON, no traceback."""
        done = self(*arguments, **more)
        assert done.exit_code == 1, done.output
        assert done.stderr.strip().splitlines()[-1].strip()
        assert "error: " in done.stderr
        assert "Traceback" not in done.output
        assert says in done.stderr
        told = json.loads(self("--json", *arguments, **more).stderr.strip().splitlines()[-1])
        assert says in told["error"]["message"]
        assert set(told["error"]) == {"type", "message"}
        return done


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Give the command on an empty database."""
    return Run(tmp_path)


@pytest.fixture
def known(run: Run) -> Run:
    """Give the command on a database that knows alice's 30 ratings."""
    done = run("add", stdin="\n".join(map(json.dumps, RATED)))
    assert (done.exit_code, done.stdout) == (0, "30 added, 0 updated, 0 skipped\n"), done.output
    return run


class Stub:
    """An OpenAI-compatible endpoint on loopback; `seen` holds the bodies and keys it was sent."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stub.seen.append(body)
                stub.keys.append(self.headers["Authorization"])
                raw = json.dumps(_reply(body)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.options = (
            "--llm",
            "openai:stub",
            "--base-url",
            f"http://127.0.0.1:{self._server.server_port}/v1",
        )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _reply(body: dict[str, Any]) -> dict[str, Any]:
    prompt = body["messages"][-1]["content"]
    text = "Tea, of course."
    if "lines" in json.dumps(body.get("response_format")):
        text = '{"lines": ["likes long films"]}'
    elif "choice" in json.dumps(body.get("response_format")):
        text = '{"choice": "3"}'
    elif prompt.endswith(("Rating:", "Rating: ")):
        text = "3"
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}


@pytest.fixture
def stub() -> Iterator[Stub]:
    """Give an endpoint that answers."""
    server = Stub()
    yield server
    server.close()


# --- memories -------------------------------------------------------------------------------


def test_add_reads_jsonl_csv_and_standard_input(run: Run, tmp_path: Path) -> None:
    lines = tmp_path / "a.jsonl"
    lines.write_bytes(b'\xef\xbb\xbf{"user": "bob", "query": "caf\xc3\xa9"}\r\n')
    table = tmp_path / "b.CSV"
    table.write_text("user,query,outcome\ncarol,tea,4.0\n")
    assert run.json("add", str(lines))["added"] == 1
    assert run.json("add", str(table))["added"] == 1
    assert run.json("add", "--user", "dave", stdin=b'\xef\xbb\xbf{"query": "x"}')["added"] == 1
    assert run.json("add", "-", "--format", "csv", stdin="user,query\nerin,y\n")["added"] == 1
    assert run.json("users") == ["bob", "carol", "dave", "erin"]
    found = run.json("search", "bob", "café")["results"]
    assert [hit["interaction"]["query"] for hit in found] == ["café"]


def test_adding_again_skips_and_says_why(known: Run) -> None:
    again = "\n".join(map(json.dumps, RATED))
    summary = known.json("add", stdin=again)
    assert {name: summary[name] for name in ("added", "updated", "skipped", "unread")} == {
        "added": 0,
        "updated": 0,
        "skipped": 30,
        "unread": [],
    }
    assert summary["results"][0] == {
        "id": "e0",
        "event": "SKIP",
        "reason": "duplicate of e0",
        "codes": ["duplicate"],
    }
    assert "  e0: duplicate of e0" in known("add", stdin=again).stdout


def test_a_malformed_line_stores_nothing_unless_told_to_keep_going(run: Run) -> None:
    text = '{"user": "bob", "query": "good"}\n{"user": "bob"\n{"user": "bob", "when": "soon"}\n'
    done = run.fails("line 2: not JSON", "add", stdin=text)
    assert "line 3: 'soon' is not a time" in done.stderr
    assert "nothing was stored; mend the lines, or use --keep-going" in done.stderr
    assert run.json("users") == []
    done = run("--json", "add", "--keep-going", stdin=text)
    assert done.exit_code == 1
    summary = json.loads(done.stdout)
    assert summary["added"] == 1
    assert [one["line"] for one in summary["unread"]] == [2, 3]
    assert "the other lines were stored" in done.stderr
    assert run.json("users") == ["bob"]


def test_only_ten_of_many_bad_lines_are_told(run: Run) -> None:
    done = run.fails("line 1: not JSON", "add", stdin="{\n" * 25)
    assert "line 10:" in done.stderr
    assert "line 11:" not in done.stderr
    assert "and 15 more" in done.stderr


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "nope.jsonl cannot be read: No such file"), (b"\xff\xfe{", "is not UTF-8 (byte 0)")],
)
def test_a_file_that_cannot_be_read_is_an_error(
    run: Run, tmp_path: Path, content: bytes | None, says: str
) -> None:
    path = tmp_path / "nope.jsonl"
    if content is not None:
        path.write_bytes(content)
    run.fails(says, "add", str(path))


def test_an_empty_file_adds_nothing_and_is_no_error(run: Run) -> None:
    assert run("add", stdin="").stdout == "0 added, 0 updated, 0 skipped\n"


@pytest.mark.parametrize("user", ODD_IDS)
def test_odd_user_ids_go_through(run: Run, user: str) -> None:
    run.json("add", stdin=json.dumps({"user": user, "id": user, "query": "likes tea"}))
    assert run.json("users") == [user]
    assert run.json("search", user, "tea")["results"][0]["interaction"]["id"] == user
    assert run.json("persona", "set", user, "--line", "likes tea")["scope"]["user"] == user
    run.fails("has no persona version 9", "persona", "rollback", user, "9")


def test_search_prints_scores_and_respects_its_number(known: Run) -> None:
    done = known("search", "alice", "film number 3", "-k", "2")
    assert done.exit_code == 0
    first, second = done.stdout.splitlines()
    assert first.endswith("film number 3 4")
    assert float(first.split()[0]) >= float(second.split()[0])
    done = known.fails("nothing is stored about user 'bob'; add", "search", "bob", "x")
    assert done.stdout == ""


# --- personas -------------------------------------------------------------------------------


def test_a_persona_is_set_shown_locked_diffed_and_rolled_back(known: Run) -> None:
    start = known.json("persona", "show", "alice")
    assert (start["version"], start["origin"]) == (0, "start")
    assert known("persona", "history", "alice").stdout == "no version is stored yet\n"
    made = known.json("persona", "set", "alice", "--line", "likes tea", "--line", "hates war")
    assert [line["text"] for line in made["lines"]] == ["likes tea", "hates war"]
    shown = known("persona", "lock", "alice", "likes tea").stdout
    assert "* likes tea  [user]" in shown
    line = shown.split("\n")[1].split("*")[0].strip()
    known.fails("is locked; unlock it", "persona", "set", "alice", "--line", "other")
    assert "locked" in known("persona", "diff", "alice").stdout
    assert known("persona", "unlock", "alice", line).exit_code == 0
    change = known.json("persona", "diff", "alice", "1", "2")
    assert [one["text"] for one in change["added"]] == ["likes tea", "hates war"]
    back = known.json("persona", "rollback", "alice", "1")
    assert back["lines"] == start["lines"]
    history = known.json("persona", "history", "alice")
    assert [one["version"] for one in history] == [1, 2, 3, 4, 5]
    assert "rollback" in known("persona", "history", "alice").stdout
    known.fails("no line 'nope' in version 5", "persona", "lock", "alice", "nope")
    known.fails("has no persona version 9; it has 1, 2", "persona", "rollback", "alice", "9")


def test_lines_are_set_from_a_file(known: Run, tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("likes tea\n\nhates war\n", encoding="utf-8")
    made = known.json("persona", "set", "alice", "--file", str(path))
    assert [line["text"] for line in made["lines"]] == ["likes tea", "hates war"]
    known.fails("cannot be read", "persona", "set", "alice", "--file", str(tmp_path / "nope"))
    known.fails("holds a link", "persona", "set", "alice", "--line", "see https://x.example")
    assert known.json("persona", "show", "alice") == made
    assert known("persona", "set", "alice").exit_code == 2


@pytest.mark.parametrize("verb", ["show", "history", "diff", "lock", "unlock", "rollback", "set"])
def test_a_persona_of_a_stranger_is_an_error(known: Run, verb: str) -> None:
    more = {"lock": ["x"], "unlock": ["x"], "rollback": ["1"], "set": ["--line", "x"]}
    known.fails(
        "nothing is stored about user 'bob'; add", "persona", verb, "bob", *more.get(verb, [])
    )
    assert known.json("users") == ["alice"]


# --- with a model ---------------------------------------------------------------------------


def test_ask_answers_through_the_endpoint_that_is_named(known: Run, stub: Stub) -> None:
    done = known(*stub.options, "ask", "alice", "What to drink?", OPENAI_API_KEY="k")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("Tea, of course.\n[persona version ")
    asked = stub.seen[-1]
    assert asked["model"] == "stub"
    assert asked["messages"][-1]["content"].endswith("What to drink?")
    answer = known.json(*stub.options, "ask", "alice", "Again?", "--max-tokens", "9")
    assert answer["text"] == "Tea, of course."
    assert set(answer) == {
        "text",
        "scope",
        "persona_version",
        "memories",
        "steps",
        "usage",
        "facts",
        "known",
        "thought",
    }
    assert stub.seen[-1]["max_tokens"] == 9


def test_the_key_and_the_address_are_read_from_the_environment(known: Run, stub: Stub) -> None:
    url = stub.options[3]
    done = known(
        "--llm",
        "openai:stub",
        "ask",
        "alice",
        "Hi?",
        PERSONA_AGENT_LLM_BASE_URL=url,
        PERSONA_AGENT_LLM_API_KEY="sesame",
    )
    assert done.exit_code == 0, done.output
    assert stub.keys[-1] == "Bearer sesame"


def test_align_takes_its_options_and_tells_how_it_ended(known: Run, stub: Stub) -> None:
    options = ("--rounds", "1", "--recent", "2", "--held-out", "4", "--risk", "0.2", "--seed", "3")
    shown = known.json(*stub.options, "align", "alice", *options)
    (one,) = shown["results"]
    assert (one["user"], one["error"], one["alignment"]["rounds"]) == ("alice", None, 1)
    assert shown["cost"]["users"] == 1
    assert shown["cost"]["requests"] >= one["alignment"]["usage"]["requests"] > 0
    again = known(*stub.options, "align", "--all", *options)
    assert again.exit_code == 0
    assert "0 users" in again.stdout.splitlines()[-1]  # found done: it cost nothing
    assert again.stdout.startswith("alice: unchanged after 1 rounds")


def test_who_cannot_be_aligned_is_named_and_the_others_are(known: Run, stub: Stub) -> None:
    known.json("add", stdin='{"user": "bob", "query": "x", "outcome": 3}')
    done = known("--json", *stub.options, "align", "bob", "alice", "carol", "--rounds", "1")
    assert done.exit_code == 1
    shown = json.loads(done.stdout)["results"]
    assert [one["error"] is None for one in shown] == [False, True, False]
    assert "'bob' has 1 interactions with an outcome; aligning needs 20" in shown[0]["error"]
    assert "UnknownUser" in shown[2]["error"]
    last = json.loads(done.stderr.strip().splitlines()[-1])
    assert last["error"]["message"] == "2 of 3 users could not be aligned"


@pytest.mark.real("ray")
def test_a_fleet_on_ray_aligns_everybody_and_tells_what_it_cost(known: Run, stub: Stub) -> None:
    aligning = ("align", "--all", "--rounds", "1", "--engine", "ray", "--workers", "1")
    known.json("add", stdin='{"user": "bob", "query": "x", "outcome": 3}')
    done = subprocess.run(
        [str(Path(sys.executable).with_name("persona-agent")), "--json", *stub.options, *aligning],
        env={**os.environ, "PERSONA_AGENT_DB": str(known.db), "PERSONA_AGENT_EMBEDDER": "hash"}
        | {"PERSONA_AGENT_LLM_API_KEY": "sesame"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    shown = json.loads(done.stdout)
    alice, bob = shown["results"]
    assert (alice["user"], alice["error"], alice["alignment"]["rounds"]) == ("alice", None, 1)
    assert "'bob' has 1 interactions with an outcome" in bob["error"]
    assert shown["cost"]["users"] == 1
    assert 0 < shown["cost"]["requests"] <= len(stub.seen)
    assert set(stub.keys) == {"Bearer sesame"}  # it reached the worker
    assert "1 of 2 users could not be aligned" in done.stderr
    assert "worker 1 (process" in done.stderr


def test_without_ray_the_way_out_is_told(known: Run, tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text("raise ImportError('no ray here')")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("persona-agent")), *"align --all --engine ray".split()],
        env={**os.environ, "PERSONA_AGENT_DB": str(known.db), "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert 'pip install "persona-agent-framework[ray]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_an_option_of_ray_is_refused_without_it(known: Run) -> None:
    done = known("align", "--all", "--workers", "3")
    assert done.exit_code == 2
    assert "--workers is an option of --engine ray" in done.stderr


def test_aligning_asks_for_users_or_all(known: Run) -> None:
    for arguments in (["align"], ["align", "alice", "--all"]):
        done = known(*arguments)
        assert done.exit_code == 2
        assert "name users, or give --all" in done.stderr


# --- what goes wrong ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--llm", "gpt"), "there is no model backend 'gpt' (in 'gpt'); known: local, gguf:PATH"),
        (("--llm", "openai:"), "names no model; write openai:MODEL"),
        (("--llm", "gguf:/nope.gguf"), "/nope.gguf"),
    ],
)
def test_a_part_that_is_not_there_is_an_error_with_the_way_out(
    known: Run, options: tuple[str, str], says: str
) -> None:
    known.fails(says, *options, "ask", "alice", "Hi?")


def test_an_embedder_that_is_not_there_is_an_error_with_the_way_out(known: Run) -> None:
    known.fails("there is no embedder 'nope'; use minilm", "--embedder", "nope", "users")


@pytest.mark.real("model")
def test_a_model_file_that_is_none_is_an_error(known: Run, tmp_path: Path) -> None:
    path = tmp_path / "corrupt.gguf"
    path.write_bytes(b"GGUF" + bytes(range(256)) * 8)
    known.fails("corrupt.gguf", "--llm", f"gguf:{path}", "ask", "alice", "Hi?")


def test_an_endpoint_that_is_down_is_an_error_with_its_address(known: Run) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    done = known("--llm", "openai:stub", "--base-url", url, "ask", "alice", "Hi?")
    assert done.exit_code == 1
    assert f"nothing answers at {url}" in done.stderr
    assert "Traceback" not in done.output
    assert known.json("persona", "history", "alice") == []


def _newer(path: Path) -> None:
    raw = sqlite3.connect(path)
    raw.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    raw.commit()
    raw.close()


def test_a_database_of_a_newer_version_is_refused_and_left_alone(known: Run) -> None:
    _newer(known.db)
    before = known.db.read_bytes()
    known.fails("pip install --upgrade", "users")
    known.fails("version 99", "add", "--user", "x", stdin='{"query": "x"}')
    assert known.db.read_bytes() == before


def test_a_folder_or_a_file_of_something_else_is_no_database(tmp_path: Path, run: Run) -> None:
    run.fails("is a folder; give the path of a file in it", "--db", str(tmp_path), "users")
    path = tmp_path / "notes.txt"
    path.write_text("dear diary, " * 200)
    run.fails("is not a database", "--db", str(path), "users")
    assert path.read_text() == "dear diary, " * 200
    run.fails("there is no folder", "--db", str(tmp_path / "no" / "x.db"), "users")


def test_a_locked_database_is_an_error_and_nothing_is_stored(known: Run) -> None:
    holder = sqlite3.connect(known.db, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    done = known("add", "--user", "bob", stdin='{"query": "x"}')
    holder.execute("ROLLBACK")
    holder.close()
    assert done.exit_code == 1
    assert "is locked: another process holds a write" in done.stderr
    assert "Traceback" not in done.output
    assert known.json("users") == ["alice"]


READ_ONLY = """
import os, sys
from persona_agent.cli import main
import persona_agent.agent, sqlalchemy.dialects.sqlite.pysqlite  # loads what nobody may read
os.setgid(65534); os.setuid(65534)
main(["--db", sys.argv[1], "--embedder", "hash", "users"])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to become another account")
def test_a_read_only_database_is_an_error() -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o777)
        run = Run(folder)
        assert run("users").exit_code == 0
        run.db.chmod(0o444)
        done = subprocess.run(
            [sys.executable, "-c", READ_ONLY, str(run.db)],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        shutil.rmtree(folder)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "read-only" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_is_one_line_however_long_and_is_not_read_as_markup(run: Run) -> None:
    user = "[bold]" + "x" * 300
    done = run.fails(user, "search", user, "tea")
    assert done.stderr.count("\n") == 1


# --- the command itself ---------------------------------------------------------------------


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    if isinstance(command, click.Group):
        for name, one in command.commands.items():
            found += _commands(one, (*path, name))
    return found


@pytest.mark.parametrize("path", _commands(cli), ids=" ".join)
def test_every_command_explains_itself_and_names_its_options(
    run: Run, path: tuple[str, ...]
) -> None:
    command: click.Command = cli
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    done = run(*path, "--help")
    assert done.exit_code == 0
    assert command.help
    assert command.help.split("\n")[0].split(".")[0].split()[0] in done.stdout
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[0] in done.stdout
    assert not run.db.exists()


def test_the_commands_are_those_that_were_promised() -> None:
    assert set(cli.commands) >= set("demo add ask align persona search doctor bench users".split())
    persona = cli.commands["persona"]
    assert isinstance(persona, click.Group)
    assert set(persona.commands) >= set("show history diff rollback lock unlock set".split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["--nope"],
        ["search", "alice"],
        ["search", "a", "b", "-k", "0"],
        ["align", "a", "--risk", "0.9"],
    ],
)
def test_a_wrong_command_line_exits_with_2_and_shows_the_usage(
    run: Run, arguments: list[str]
) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert "Usage: persona-agent" in done.stderr
    assert not run.db.exists()


def test_tenants_are_told_apart(known: Run) -> None:
    assert known.json("--tenant", "acme", "users") == []
    known.fails("nothing is stored", "--tenant", "acme", "persona", "show", "alice")


def test_the_installed_command_runs_and_fails_in_one_line(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("persona-agent")

    def call(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [command, "--embedder", "hash", *arguments],
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    added = call("add", "--user", "zoë", stdin='{"query": "tea"}\n')
    assert (added.returncode, added.stdout, added.stderr) == (
        0,
        "1 added, 0 updated, 0 skipped\n",
        "",
    )
    assert call("users").stdout == "zoë\n"
    failed = call("persona", "show", "nobody")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == (
        "error: nothing is stored about user 'nobody'; add interactions first\n"
    )
