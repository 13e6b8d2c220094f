"""The doctor: does every part work here, and if not, what to do."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import click
import numpy as np

from persona_agent.cli.settings import Settings
from persona_agent.errors import PersonaAgentError
from persona_agent.eval.movielens import data_folder
from persona_agent.memory.embed import open_embedder
from persona_agent.types import Message, ModelRequest, Record, Sampling

SENTENCES = ("I like tea.", "Tea is a drink I enjoy.", "The train leaves at nine.")


@dataclass(frozen=True, slots=True)
class Finding(Record):
    """One thing the doctor looked at: whether it works, and what was seen or went wrong."""

    part: str
    ok: bool
    detail: str


@click.command()
@click.pass_obj
def doctor(settings: Settings) -> None:
    """Try every part for real: database, index, embedder, model, demo data."""
    looks: tuple[tuple[str, Callable[[Settings], str]], ...] = (
        ("python", _python),
        ("database", _database),
        ("index", _index),
        ("embedder", _embedder),
        ("model", _model),
        ("demo data", _data),
    )
    findings = [_look(part, look, settings) for part, look in looks]
    rows = [f"{'ok  ' if one.ok else 'FAIL'}  {one.part:<10} {one.detail}" for one in findings]
    settings.show(findings, "\n".join(rows))
    failed = [one.part for one in findings if not one.ok]
    if failed:
        raise PersonaAgentError(
            f"not working: {', '.join(failed)}; the lines above tell the way out"
        )


def _look(part: str, look: Callable[[Settings], str], settings: Settings) -> Finding:
    start = time.perf_counter()
    try:
        detail = look(settings)
    except (PersonaAgentError, ValueError) as error:
        return Finding(part, False, str(error))
    return Finding(part, True, f"{detail} ({time.perf_counter() - start:.2f} s)")


def _python(settings: Settings) -> str:
    return f"{platform.python_version()} on {platform.machine()}"


def _database(settings: Settings) -> str:
    with settings.open(model=False) as agent:
        return f"{settings.db}: {len(agent.users())} users"


def _index(settings: Settings) -> str:
    for name in ("faiss-cpu", "faiss-gpu"):
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    raise PersonaAgentError('no FAISS; pip install "persona-agent-framework[cpu]"')


def _embedder(settings: Settings) -> str:
    embedder = open_embedder(settings.embedder)
    a, b, c = embedder.embed(SENTENCES)
    near, far = float(np.dot(a, b)), float(np.dot(a, c))
    if near <= far:
        raise PersonaAgentError(
            f"{embedder.name} finds unlike sentences more alike ({far:.2f}) than like ones "
            f"({near:.2f}); choose another embedder"
        )
    return f"{embedder.name}, {embedder.dim} dimensions"


def _model(settings: Settings) -> str:
    llm = settings.model()
    try:
        said, chosen = llm.complete(
            [
                ModelRequest((Message("user", "Say hello."),), Sampling(max_tokens=8)),
                ModelRequest((Message("user", "2, 4, 6, "),), choices=("8", "cat"), template=False),
            ]
        )
    finally:
        close = getattr(llm, "close", None)  # only a model that holds something has it
        if close is not None:
            close()
    for reply in (said, chosen):
        if reply.error is not None:
            raise PersonaAgentError(f"{settings.llm}: {reply.error}")
    ability = "with" if chosen.logprobs is not None else "without"
    return f"{settings.llm} answers, {ability} log-probabilities"


def _data(settings: Settings) -> str:
    return f"MovieLens-100K in {data_folder().parent.parent.name}"
