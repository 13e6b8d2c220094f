"""Commands on the store itself: verify, forget, export, import, jobs, stats, audit."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from persona_agent.cli.settings import Settings
from persona_agent.cli.train import FOLDER, SERVED, files_of, forgetters
from persona_agent.errors import InputError, StoreError
from persona_agent.llm import open_llm
from persona_agent.memory.audit import audit as look_over
from persona_agent.memory.audit import redact
from persona_agent.memory.audit import stats as figures
from persona_agent.memory.fact_rows import JOB
from persona_agent.memory.forget import Vacuum
from persona_agent.memory.forget import forget as forget_user
from persona_agent.memory.generations import active_label
from persona_agent.memory.handlers import KINDS, handlers
from persona_agent.memory.index import Index
from persona_agent.memory.index_file import index_path
from persona_agent.memory.jobs import Job, Jobs, State, run_jobs
from persona_agent.memory.store import Store
from persona_agent.memory.transfer import export as lines_of
from persona_agent.memory.transfer import import_
from persona_agent.memory.verify import files_of as files_beside
from persona_agent.memory.verify import verify as check
from persona_agent.types import Scope

STATES = click.Choice(["waiting", "running", "retry", "dead"])


@click.command()
@click.option("--canary", multiple=True, help="A text that must not be anywhere; may be repeated.")
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Look for canaries in all files under it. Default: the database's own files.",
)
@click.option(
    "--adapters",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder of adapters.  [default: beside the database's file]",
)
@click.pass_obj
def verify(
    settings: Settings, canary: Sequence[str], folder: Path | None, adapters: Path | None
) -> None:
    """Check that the store agrees with itself and its saved index, and that nothing is left of
    what was forgotten.
    """
    with Store.open(settings.db) as store:
        files: list[Path] = []
        if folder is not None:
            files = [one for one in folder.rglob("*") if one.is_file()]
        elif store.database.path is not None:
            files = files_beside(store.database.path)
        label = active_label(store)
        index = None
        if store.database.path is not None and label is not None:
            index = Index(label, file=index_path(store.database.path))
        check_files = None
        if adapters is not None or store.database.path is not None:
            check_files = files_of(store, settings, adapters).problems
        found = check(
            store,
            canaries=canary,
            files=files,
            check_index=None if index is None else index.verify,
            check_files=check_files,
        )
    settings.show(found)
    if not found.ok:
        raise StoreError("not in order: restore a backup, or forget again what was found")


@click.command()
@click.argument("user")
@click.option("--dry-run", is_flag=True, help="Tell what would go, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--vacuum",
    type=click.Choice(["plain", "full"]),
    default="plain",
    show_default=True,
    help="On PostgreSQL: full takes the bytes away, too, and locks the tables meanwhile.",
)
@FOLDER
@SERVED
@click.pass_obj
def forget(
    settings: Settings,
    user: str,
    dry_run: bool,
    yes: bool,
    vacuum: Vacuum,
    folder: Path | None,
    served: str | None,
) -> None:
    """Forget all about USER: memories, vectors, facts, personas, adapters. Prints a receipt."""
    scope = Scope(user, settings.tenant)
    with Store.open(settings.db) as store:
        if not dry_run and not yes:
            click.confirm(f"Forget all about {user!r}? It cannot be undone.", abort=True, err=True)
        receipt = forget_user(
            store,
            scope,
            datetime.now(UTC),
            dry_run=dry_run,
            vacuum=vacuum,
            forgetters=forgetters(store, settings, folder, served),
        )
    settings.show(receipt)
    if not receipt.log_emptied:
        raise StoreError("deleted text is still in the write-ahead log: forget again")


@click.command()
@click.argument("user")
@click.argument("file", type=click.Path(dir_okay=False), default="-")
@click.pass_obj
def export(settings: Settings, user: str, file: str) -> None:
    """Write all that is kept about USER to FILE, as JSONL ("-" is standard output)."""
    with Store.open(settings.db) as store:
        scope = Scope(user, settings.tenant)
        if not store.count(scope):
            raise InputError(f"nothing is stored about user {user!r}")
        text = "".join(f"{line}\n" for line in lines_of(store, scope))
    if file == "-":
        click.echo(text, nl=False)
        return
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}") from error


@click.command("import")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--user", help="Whose it becomes. Default: whose it was, in its tenant.")
@click.option("--trusted", is_flag=True, help="Nobody can have changed the file: believe it.")
@click.pass_obj
def import_command(settings: Settings, file: str, user: str | None, trusted: bool) -> None:
    """Store what `export` wrote to FILE. What is there already is skipped."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 (byte {error.start}); convert it") from error
    scope = Scope(user, settings.tenant) if user else None
    with Store.open(settings.db) as store:
        # not splitlines, which cuts at characters that JSON leaves as they are
        done = import_(store, text.split("\n"), datetime.now(UTC), scope=scope, trusted=trusted)
    told = f"{done.events} memories, {done.facts} facts, {done.summaries} summaries"
    settings.show(done, f"{told}, {done.personas} personas")


@click.group()
def jobs() -> None:
    """Work that waits: see it, do it, let it be tried again."""


@jobs.command("list")
@click.option("--state", type=STATES)
@click.pass_obj
def jobs_list(settings: Settings, state: State | None) -> None:
    """List the jobs there are, oldest first."""
    with Store.open(settings.db) as store:
        found = Jobs(store).list(state=state)
    settings.show(found, "\n".join(map(_line, found)) or "no jobs")


@jobs.command("retry")
@click.argument("ids", nargs=-1)
@click.pass_obj
def jobs_retry(settings: Settings, ids: tuple[str, ...]) -> None:
    """Let dead jobs run again: those of these IDS, or all."""
    with Store.open(settings.db) as store:
        count = Jobs(store).retry(datetime.now(UTC), list(ids) or None)
    settings.show({"retried": count}, f"{count} jobs will run again")


@jobs.command("request")
@click.argument("users", nargs=-1)
@click.option("--kind", type=click.Choice(KINDS), default=JOB, show_default=True)
@click.pass_obj
def jobs_request(settings: Settings, users: tuple[str, ...], kind: str) -> None:
    """Ask for a job about all memories of each of USERS, or of all users."""
    with Store.open(settings.db) as store:
        names = list(users) or store.users(settings.tenant)
        now = datetime.now(UTC)
        count = sum(Jobs(store).request(Scope(name, settings.tenant), kind, now) for name in names)
    settings.show({"requested": count}, f"{count} jobs wait")


@jobs.command("run")
@click.option("--limit", type=click.IntRange(1), help="Stop after so many.")
@click.pass_obj
def jobs_run(settings: Settings, limit: int | None) -> None:
    """Do the jobs that are due, with --llm. Several processes may do so at once."""
    model = open_llm(settings.llm, base_url=settings.base_url)
    with Store.open(settings.db) as store:
        ran = run_jobs(store, handlers(model), limit=limit)
    lines = [f"{one.end:<6} {_line(one.job)} {one.error or ''}".rstrip() for one in ran]
    settings.show(ran, "\n".join(lines) or "no job is due")
    if failed := [one for one in ran if one.end in ("retry", "dead")]:
        raise StoreError(f"{len(failed)} of {len(ran)} jobs failed; see jobs list")


@click.command()
@click.pass_obj
def stats(settings: Settings) -> None:
    """Show how much is stored, and how many jobs wait."""
    with Store.open(settings.db) as store:
        settings.show(figures(store))


@click.command()
@click.option("--redact", "cut", is_flag=True, help="Take the secrets out, of the history, too.")
@FOLDER
@click.pass_obj
def audit(settings: Settings, cut: bool, folder: Path | None) -> None:
    """Look through this tenant's memories for secrets, repetitions, boilerplate, and what is never
    recalled. Adapters that learned a secret that is taken out go with it.
    """
    with Store.open(settings.db) as store:
        found = list(look_over(store, settings.tenant))
        if cut:
            for one in found:
                if one.kind.startswith("secret:"):
                    redact(store, one, datetime.now(UTC))
            if folder is not None or store.database.path is not None:
                files_of(store, settings, folder).sweep()
    settings.show(found, "\n".join(map(str, found)) or "nothing found")


def _line(job: Job) -> str:
    error = f": {job.error}" if job.error else ""
    who = f"{job.scope.user} (tenant {job.scope.tenant})"
    return f"{job.id} {job.kind} of {who}, {job.state}, {job.attempts} attempts{error}"


COMMANDS = (verify, forget, export, import_command, jobs, stats, audit)
