"""The action space: any Python function as a tool of the agent."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from pydantic import ConfigDict, ValidationError, create_model

from persona_agent.types import Json, Scope

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class FunctionTool:
    """A Python function as a tool: its name, docstring and annotations describe it to the model.

    Arguments the model gives are checked and converted by the annotations before the call. A
    parameter named `scope` is given the caller's Scope and is not shown to the model. Raises
    ValueError for a function without a docstring, or with parameters that cannot be described.
    """

    # Any: a user's function may take and return whatever it likes
    def __init__(self, function: Callable[..., Any], *, name: str | None = None) -> None:
        self.name = name or function.__name__
        if not NAME.fullmatch(self.name):
            raise ValueError(
                f"tool name {self.name!r} must be letters, digits and underscores, at most 64; "
                "give one with name="
            )
        text = inspect.getdoc(function)
        if not text:
            raise ValueError(
                f"tool {self.name!r} has no docstring; the model reads its first line to know "
                "when to use it"
            )
        self.description = " ".join(text.split("\n\n")[0].split())
        self._function = function
        signature = inspect.signature(function, eval_str=True)
        self._wants_scope = "scope" in signature.parameters
        fields: dict[str, Any] = {}  # Any: pydantic's own form of a field
        for parameter in signature.parameters.values():
            if parameter.name == "scope":
                continue
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise ValueError(f"tool {self.name!r} takes *{parameter.name}; name its parameters")
            kind = str if parameter.annotation is parameter.empty else parameter.annotation
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[parameter.name] = (kind, default)
        self._model = create_model(self.name, __config__=ConfigDict(extra="forbid"), **fields)
        self.parameters = cast("Mapping[str, Json]", self._model.model_json_schema())

    def call(self, scope: Scope, arguments: Mapping[str, Json]) -> str:
        """Return what the function returns, as text; raises ValueError for wrong arguments."""
        try:
            checked = self._model.model_validate(dict(arguments))
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, one['loc'])) or 'arguments'}: {one['msg']}"
                for one in error.errors()
            )
            raise ValueError(f"wrong arguments for {self.name}: {problems}") from error
        given = {name: getattr(checked, name) for name in type(checked).model_fields}
        if self._wants_scope:
            given["scope"] = scope
        return str(self._function(**given))
