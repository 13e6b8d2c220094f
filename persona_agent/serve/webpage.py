"""The page for people: its files, as they lie in the package, and the headers that keep it safe.

The files' address holds a digest of all of them, so that browsers keep them for good and never mix
two versions. All of it is open: what the page shows, it asks of the API with the reader's own key.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import PurePath
from string import Template

from fastapi import APIRouter, Request
from fastapi.responses import Response

from persona_agent.serve.config import Config
from persona_agent.serve.errors import ApiError

INDEX = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
SAFETY = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
KEPT = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of the page: its bytes, its media type, and the bytes packed for the way."""

    body: bytes
    kind: str
    packed: bytes

    @classmethod
    def of(cls, body: bytes, kind: str) -> PageFile:
        """Return the file of these bytes."""
        return cls(body, kind, gzip.compress(body, mtime=0))

    def response(self, request: Request, headers: Mapping[str, str]) -> Response:
        """Return the file as the client takes it."""
        sent = {**SAFETY, "vary": "accept-encoding", **headers}
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(self.body, headers=sent, media_type=self.kind)
        return Response(
            self.packed, headers={**sent, "content-encoding": "gzip"}, media_type=self.kind
        )


def page_files() -> dict[str, PageFile]:
    """Return the page's files by their names, as they are installed."""
    found = {}
    for one in files("persona_agent.serve").joinpath("page").iterdir():
        kind = TYPES.get(PurePath(one.name).suffix)
        if kind is not None:
            found[one.name] = PageFile.of(one.read_bytes(), kind)
    return found


def page_router(config: Config) -> APIRouter:
    """Return the routes of the page: `/`, and its files under an address that changes with them."""
    known = page_files()
    index = known.pop(INDEX)
    digest = hashlib.sha256()
    for name in sorted(known):
        digest.update(name.encode() + b"\0" + known[name].body + b"\0")
    folder = digest.hexdigest()[:16]
    told = {
        "folder": f"page/{folder}",
        "auth": config.auth,
        "learns": _word(config.learn.enabled),
        "recommends": _word(bool(config.recommend.folder)),
        "noun": escape(config.recommend.noun),
        "remembers": _word(config.memory.remember),
    }
    filled = PageFile.of(Template(index.body.decode()).substitute(told).encode(), index.kind)
    tag = f'W/"{hashlib.sha256(filled.body).hexdigest()[:16]}"'
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=["GET", "HEAD"])
    async def page(request: Request) -> Response:
        headers = {"cache-control": "no-cache", "etag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return filled.response(request, headers)

    @router.api_route("/page/{digest}/{name}", methods=["GET", "HEAD"])
    async def page_file(request: Request, digest: str, name: str) -> Response:
        if digest != folder or name not in known:
            raise ApiError(
                404,
                "the page has no such file; load it again",
                kind="not_found_error",
                code="not_found",
            )
        return known[name].response(request, {"cache-control": KEPT})

    return router


def _word(is_on: bool) -> str:
    return "yes" if is_on else "no"
