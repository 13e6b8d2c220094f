"""The ports: what the programs need from outside, as narrow protocols over our own types.

Every port takes a batch and returns results in the same order and number; one item is a batch
of one. A deterministic implementation owes the law that a batch equals a map of singles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

from persona_agent.types import (
    FloatArray,
    Json,
    ModelReply,
    ModelRequest,
    RecallReply,
    RecallRequest,
    Scope,
)

# Scores pairs of a query and a text, one number a pair, higher for a better fit.
Reranker: TypeAlias = Callable[[Sequence[tuple[str, str]]], Sequence[float]]


class LLM(Protocol):
    """A language model."""

    def complete(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
        """Return one reply a request, in order.

        A request that cannot be answered yields a reply with `error`; it disturbs no other. An
        exception (BackendError) means that the engine as a whole is unusable.
        """
        ...


@runtime_checkable
class ConcurrentLLM(LLM, Protocol):
    """A model that works on many batches at once: a served one, or an engine that batches itself."""

    def submit(self, requests: Sequence[ModelRequest]) -> Future[list[ModelReply]]:
        """Return at once; the future yields what `complete` would.

        Cancelling the future cancels the requests where they run, and frees the engine.
        """
        ...


@runtime_checkable
class SaltedLLM(LLM, Protocol):
    """A model that keeps the prefix caches of different salts apart, or knows that it does not."""

    @property
    def honours_salt(self) -> bool:
        """Whether requests of different `cache_salt` reuse nothing of each other."""
        ...


class AdapterHost(Protocol):
    """Where a model runs that answers by adapters, which come and go while it runs."""

    def adapters(self) -> frozenset[str]:
        """Return the names of the adapters that are loaded."""
        ...

    def load_adapter(self, name: str, folder: Path) -> None:
        """Load the LoRA in a folder under a name; raises BackendError if that cannot be."""
        ...

    def unload_adapter(self, name: str) -> None:
        """Unload an adapter, so that nothing of it is left there."""
        ...


class Embedder(Protocol):
    """Turns texts into vectors of unit length."""

    @property
    def name(self) -> str:
        """What identifies the model; vectors of different names are never compared."""
        ...

    @property
    def dim(self) -> int:
        """The length of a vector."""
        ...

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return an array of shape (len(texts), dim), rows of Euclidean norm 1."""
        ...


class Memory(Protocol):
    """What programs recall from."""

    def recall(self, requests: Sequence[RecallRequest]) -> list[RecallReply]:
        """Return one reply a request, in order. An unknown user has no memories."""
        ...


class Forgetter(Protocol):
    """Something outside the database that knows of users, and must forget them with it."""

    def forget(self, scope: Scope) -> int:
        """Forget all about a user; return how many things went, 0 if there were none.

        It is called before the database forgets, so that the store may be asked what there is.
        What it raises stops the forgetting, which can be called again.
        """
        ...


class Tool(Protocol):
    """Something an agent may call while it works on an answer."""

    @property
    def name(self) -> str:
        """How the model calls it: letters, digits and underscores."""
        ...

    @property
    def description(self) -> str:
        """One sentence for the model: what it does and when to use it."""
        ...

    @property
    def parameters(self) -> Mapping[str, Json]:
        """A JSON schema of its arguments, of type object."""
        ...

    def call(self, scope: Scope, arguments: Mapping[str, Json]) -> str:
        """Return the result as text. Whatever it raises becomes the tool's error reply."""
        ...
