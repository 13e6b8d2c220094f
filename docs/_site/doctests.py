"""For the documentation site: doctests in docstrings become blocks of code, as Markdown has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import griffe


class Doctests(griffe.Extension):
    """Puts a fence around every run of lines that begins with `>>>`, up to the next empty line."""

    # Any: griffe passes its own context, which is not needed here
    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite an object's docstring, if it has one."""
        if obj.docstring is not None:
            obj.docstring.value = "\n".join(fenced(obj.docstring.value))


def fenced(text: str) -> Iterator[str]:
    """Yield the lines of a docstring with its doctests in fences."""
    is_code = False
    for line in text.splitlines():
        if line.startswith(">>>") and not is_code:
            yield "```pycon"
            is_code = True
        elif is_code and not line.strip():
            yield "```"
            is_code = False
        yield line
    if is_code:
        yield "```"
