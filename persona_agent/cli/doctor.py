"""The doctor: does every part work here, and if not, what to do."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import click
import numpy as np

from persona_agent.cli.loop import prove_loop
from persona_agent.cli.settings import Settings
from persona_agent.cli.unsafe import unsafe_address, unsafe_cache, unsafe_server
from persona_agent.errors import PersonaAgentError
from persona_agent.eval.movielens import data_folder
from persona_agent.memory.embed import open_embedder
from persona_agent.ports import LLM, SaltedLLM
from persona_agent.serve.config import load
from persona_agent.types import Message, ModelRequest, Record, Sampling

SENTENCES = ("I like tea.", "Tea is a drink I enjoy.", "The train leaves at nine.")


@dataclass(frozen=True, slots=True)
class Finding(Record):
    """One thing the doctor looked at: whether it works, and what was seen or went wrong.

    What works but is unsafe is a warning.
    """

    part: str
    ok: bool
    detail: str
    is_warning: bool = False

    def __str__(self) -> str:
        mark = "warn" if self.is_warning else "ok  " if self.ok else "FAIL"
        return f"{mark}  {self.part:<10} {self.detail}"


@click.command()
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False),
    help="A server's TOML file: tells what is unsafe in it, too.",
)
@click.pass_obj
def doctor(settings: Settings, config: str | None) -> None:
    """Try every part for real, prove the loop end to end, and warn of what is unsafe.

    The loop: a made-up person's ratings are remembered and recalled, a persona is aligned, a
    prediction is made, the person is forgotten; in a database in memory, with the embedder and the
    model that are named. Nothing is written to your database.
    """
    looks: tuple[tuple[str, Callable[[Settings], str]], ...] = (
        ("python", _python),
        ("database", _database),
        ("index", _index),
        ("embedder", _embedder),
        ("model", _model),
        ("demo data", _data),
    )
    findings = [_look(part, partial(look, settings)) for part, look in looks]
    works = {one.part: one.ok for one in findings}
    if works["model"] and works["embedder"] and works["index"]:
        findings.append(_look("loop", partial(_loop, settings)))
        findings += _warnings("endpoint", _unsafe_endpoint(settings))
    if config is not None:
        findings += _warnings("server", unsafe_server(load(config, environ=settings.environ)))
    settings.show(findings, "\n".join(map(str, findings)))
    failed = [one.part for one in findings if not one.ok]
    if failed:
        raise PersonaAgentError(
            f"not working: {', '.join(failed)}; the lines above tell the way out"
        )


def _look(part: str, look: Callable[[], str]) -> Finding:
    start = time.perf_counter()
    try:
        detail = look()
    except (PersonaAgentError, ValueError) as error:
        return Finding(part, False, str(error))
    return Finding(part, True, f"{detail} ({time.perf_counter() - start:.2f} s)")


def _warnings(part: str, found: Sequence[str]) -> list[Finding]:
    return [Finding(part, True, one, is_warning=True) for one in found]


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
    with _opened(settings) as llm:
        said, chosen = llm.complete(
            [
                ModelRequest((Message("user", "Say hello."),), Sampling(max_tokens=8)),
                ModelRequest((Message("user", "2, 4, 6, "),), choices=("8", "cat"), template=False),
            ]
        )
    for reply in (said, chosen):
        if reply.error is not None:
            raise PersonaAgentError(f"{settings.llm}: {reply.error}")
    ability = "with" if chosen.logprobs is not None else "without"
    return f"{settings.llm} answers, {ability} log-probabilities"


@contextmanager
def _opened(settings: Settings) -> Iterator[LLM]:
    llm = settings.model()
    try:
        yield llm
    finally:
        close = getattr(llm, "close", None)  # only a model that holds something has it
        if close is not None:
            close()


def _loop(settings: Settings) -> str:
    with _opened(settings) as llm:
        return prove_loop(llm, open_embedder(settings.embedder))


def _unsafe_endpoint(settings: Settings) -> list[str]:
    """Return what is unsafe about the endpoint; nothing where the model runs on this machine."""
    if not settings.llm.startswith("openai:"):
        return []
    with _opened(settings) as llm:
        address = str(getattr(llm, "base_url", ""))  # an endpoint's alone
        honours = isinstance(llm, SaltedLLM) and llm.honours_salt
    environ = settings.environ
    has_key = bool(environ.get("PERSONA_AGENT_LLM_API_KEY") or environ.get("OPENAI_API_KEY"))
    return unsafe_address(address, has_key=has_key) + unsafe_cache(
        settings.llm, honours_salt=honours
    )


def _data(settings: Settings) -> str:
    return f"MovieLens-100K in {data_folder().parent.parent.name}"
