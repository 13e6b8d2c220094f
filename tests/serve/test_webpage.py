"""The page as it is served: types, headers, the switch; nothing inline, nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import httpx
import pytest

from persona_agent.serve.webpage import TYPES, page_files
from tests.serve.conftest import Running

FILES = page_files()
LINKED = re.compile(r'(?:src|href)="(page/[^"]+)"')
IMPORTED = re.compile(r'(?:from|module:|import\()\s*"\./([^"]+)"')
ADDRESS = re.compile(r"https?://[^\s\"']+")
NAMESPACE = "http://www.w3.org/2000/svg"
MARKUP = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function")
INLINE = re.compile(
    r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)|javascript:", re.IGNORECASE
)


@pytest.fixture
def anybody(server: Running) -> Iterator[httpx.Client]:
    """A client without a key."""
    with server.client("") as opened:
        yield opened


def test_the_page_needs_no_key_and_comes_with_what_keeps_it_safe(anybody: httpx.Client) -> None:
    told = anybody.get("/")
    assert (told.status_code, told.headers["content-type"]) == (200, "text/html; charset=utf-8")
    rules = dict(rule.split(" ", 1) for rule in told.headers["content-security-policy"].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["require-trusted-types-for"] == "'script'"
    assert told.headers["x-content-type-options"] == "nosniff"
    assert told.headers["referrer-policy"] == "no-referrer"
    assert told.headers["x-frame-options"] == "DENY"


def test_its_files_have_their_types_and_may_be_kept_for_good(anybody: httpx.Client) -> None:
    linked = LINKED.findall(anybody.get("/").text)
    folder = linked[0].rpartition("/")[0]
    assert {one.rpartition("/")[0] for one in linked} == {folder}
    for name, file in FILES.items():
        if name == "index.html":
            continue
        told = anybody.get(f"/{folder}/{name}")
        assert (name, told.status_code, told.content) == (name, 200, file.body)
        assert told.headers["content-type"] == TYPES[name[name.index(".") :]]
        assert "immutable" in told.headers["cache-control"]
        assert "content-security-policy" in told.headers


def test_a_file_is_packed_for_those_who_take_it_so(anybody: httpx.Client) -> None:
    path = LINKED.findall(anybody.get("/").text)[0]
    packed = anybody.get(path, headers={"accept-encoding": "gzip"})
    plain = anybody.get(path, headers={"accept-encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.headers["vary"] == plain.headers["vary"] == "accept-encoding"
    assert packed.content == plain.content


def test_the_page_itself_is_asked_for_each_time_and_sent_when_it_changed(
    anybody: httpx.Client,
) -> None:
    first = anybody.get("/")
    assert first.headers["cache-control"] == "no-cache"
    again = anybody.get("/", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert anybody.head("/").status_code == 200


@pytest.mark.parametrize("path", ["0000000000000000/app.js", "{}/none.js", "{}/../app.py"])
def test_what_is_no_file_of_the_page_is_not_found(anybody: httpx.Client, path: str) -> None:
    folder = LINKED.findall(anybody.get("/").text)[0].split("/")[1]
    told = anybody.get("/page/" + path.format(folder))
    assert told.status_code == 404
    assert told.json()["error"]["type"] == "not_found_error"


def test_the_page_is_told_what_the_server_does(serve: Callable[..., Running]) -> None:
    with serve(auth="off", memory={"remember": False}).client("") as web:
        html = web.get("/").text
    for said in ('data-auth="off"', 'data-learns="no"', 'data-remembers="no"'):
        assert said in html
    assert 'data-recommends="no"' in html
    assert "$" not in html


def test_the_switch_turns_the_page_off(serve: Callable[..., Running]) -> None:
    folder = "page/x"
    with serve(page=False).client() as web:
        assert web.get("/").status_code == web.get(f"/{folder}/app.js").status_code == 404
        assert web.get("/v1/me").status_code == 200


def test_every_module_that_is_named_is_there_and_every_one_that_is_there_is_named() -> None:
    scripts = {name: file.body.decode() for name, file in FILES.items() if name.endswith(".js")}
    named = {one for text in scripts.values() for one in IMPORTED.findall(text)}
    assert named | {"app.js"} == set(scripts)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_has_nothing_inline_nothing_from_elsewhere_and_makes_no_markup(name: str) -> None:
    text = FILES[name].body.decode()
    assert [one for one in ADDRESS.findall(text) if one != NAMESPACE] == []
    if name.endswith(".js"):
        assert MARKUP.findall(text) == []
    if name.endswith((".html", ".svg")):
        assert INLINE.findall(text) == []
