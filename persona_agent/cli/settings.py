"""What every command is given, and how it shows results and progress."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from persona_agent.agent import PersonaAgent
from persona_agent.llm import open_llm
from persona_agent.ports import LLM
from persona_agent.types import as_json

Command = TypeVar("Command", bound=Callable[..., Any])  # Any: whatever click decorates


def data_folder(text: str, *, required: bool = False) -> Callable[[Command], Command]:
    """Return the option `--data`, which every study of real data has; `text` says what is in it."""
    return click.option(
        "--data",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        envvar="PERSONA_AGENT_DATA",
        show_envvar=True,
        required=required,
        help=text,
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """The options before the command: database, model, embedder, tenant, form of output."""

    db: str
    llm: str
    embedder: str
    base_url: str | None
    threads: int | None
    tenant: str
    as_json: bool

    @classmethod
    def of(cls, given: Mapping[str, object]) -> Settings:
        """Return the settings that click collected."""
        return cls(
            db=cast(str, given["db"]),
            llm=cast(str, given["llm"]),
            embedder=cast(str, given["embedder"]),
            base_url=cast("str | None", given["base_url"]),
            threads=cast("int | None", given["threads"]),
            tenant=cast(str, given["tenant"]),
            as_json=bool(given["as_json"]),
        )

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment, where an endpoint's address and key are looked up."""
        return os.environ

    def model(self) -> LLM:
        """Return the model that is named."""
        return open_llm(
            self.llm, base_url=self.base_url, threads=self.threads, environ=self.environ
        )

    def open(self, *, model: LLM | bool = True) -> PersonaAgent:
        """Return the agent, with the model that is given or named.

        Without `model` none is loaded, and using one is an error.
        """
        named = self.llm if model else None
        return PersonaAgent.open(
            self.db,
            llm=named if isinstance(model, bool) else model,
            embedder=self.embedder,
            base_url=self.base_url,
            threads=self.threads,
            environ=self.environ,
            tenant=self.tenant,
        )

    def show(self, value: object, text: str | None = None) -> None:
        """Print a result: as JSON if asked, else as `text`, or as it prints itself."""
        if self.as_json:
            click.echo(json.dumps(as_json(value), ensure_ascii=False))
        else:
            click.echo(str(value) if text is None else text)


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Give progress bars on standard error, so that standard output stays the result."""
    with Progress(
        TextColumn("{task.description:<34}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=False,
    ) as progress:
        yield progress
