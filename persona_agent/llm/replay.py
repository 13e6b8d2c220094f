"""Recording a model's traffic once, and answering from the record ever after."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from persona_agent.closing import Closing
from persona_agent.errors import BackendError, InputError
from persona_agent.llm.replies import failed
from persona_agent.ports import LLM
from persona_agent.types import ModelReply, ModelRequest, Usage, as_json


def fingerprint(request: ModelRequest) -> str:
    """Return what identifies a request: 32 hexadecimal digits of its canonical JSON's SHA-256.

    `purpose` and `cache_salt` are left out: neither changes what a model answers.
    """
    content = as_json(replace(request, purpose="", cache_salt=None))
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class RecordingLLM(Closing):
    """A model that answers like `inner` and appends each request and reply to a file.

    One line a request, JSON, flushed before the replies are returned; a batch that fails leaves
    no line. Implements the `LLM` port. Use as a context manager, or call `close`; `inner` stays
    open.
    """

    def __init__(self, inner: LLM, path: str | Path) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        # Opened for reading too, to see whether somebody stopped in the middle of a line.
        self._file = Path(path).open("a+b")  # noqa: SIM115 - closed by close
        if self._file.tell():
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":
                self._file.close()
                raise InputError(
                    f"the last line of {str(path)!r} is torn; remove it before recording more"
                )

    def complete(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
        """Return the inner model's replies, after writing them down."""
        replies = self._inner.complete(requests)
        lines = [
            json.dumps(
                {"hash": fingerprint(one), "request": one.to_json(), "reply": reply.to_json()},
                ensure_ascii=False,
            )
            for one, reply in zip(requests, replies, strict=True)
        ]
        with self._lock:
            self._file.write("".join(f"{line}\n" for line in lines).encode())
            self._file.flush()
        return replies

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ReplayLLM:
    """A model that answers from a file written by `RecordingLLM`, with no network.

    A request that was recorded several times gets the first reply, always. One that was not
    gets a reply with an error that names its purpose and hash. Raises BackendError if there is no
    file, and InputError naming the line if one cannot be read: a torn last line too, since
    what it held is lost.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._replies: dict[str, ModelReply] = {}
        try:
            raw = self._path.read_bytes()
        except OSError as error:
            reason = error.strerror or str(error)
            raise BackendError(
                f"the recording {str(path)!r} cannot be read: {reason}; make one with RecordingLLM"
            ) from error
        lines = raw.split(b"\n")
        for number, line in enumerate(lines, 1):
            if not line and number == len(lines):
                break
            digest, reply = _read(line, f"{path}, line {number}", last=number == len(lines))
            self._replies.setdefault(digest, reply)

    def complete(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
        """Return the recorded replies, in order."""
        return [self._reply(request) for request in requests]

    def _reply(self, request: ModelRequest) -> ModelReply:
        digest = fingerprint(request)
        if digest in self._replies:
            return self._replies[digest]
        return failed(
            BackendError(
                f"{str(self._path)!r} holds no reply to this request of purpose "
                f"{request.purpose!r}, hash {digest}; record again with RecordingLLM if the "
                "prompt changed on purpose"
            )
        )


def _read(line: bytes, where: str, *, last: bool) -> tuple[str, ModelReply]:
    try:
        entry: dict[str, Any] = json.loads(line)  # Any: JSON, checked by the constructors below
        return str(entry["hash"]), reply_of(entry["reply"])
    except (ValueError, KeyError, TypeError) as error:
        torn = "; it is torn: the recording stopped in the middle" if last else ""
        raise InputError(
            f"{where}: not a recorded reply ({type(error).__name__}: {error}){torn}; remove the "
            "line or record again"
        ) from error


def reply_of(written: Mapping[str, Any]) -> ModelReply:  # Any: JSON, checked by the constructors
    """Return the reply that `to_json` wrote; raises ValueError, KeyError or TypeError for other."""
    reply = dict(written)
    reply["usage"] = Usage(**reply["usage"])
    if reply["logprobs"] is not None:
        reply["logprobs"] = tuple(reply["logprobs"])
    reply["salvaged"] = tuple(reply.get("salvaged", ()))
    return ModelReply(**reply)
