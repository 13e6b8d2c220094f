"""The action space: any Python function as a tool of the agent."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from pydantic import ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError

from persona_agent.types import Json, Scope

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
MAX_DEPTH = 60  # of a schema; what is deeper refers to itself


class FunctionTool:
    """A Python function as a tool: its name, docstring and annotations describe it to the model.

    Arguments the model gives are checked and converted by the annotations before the call. A
    parameter named `scope` is given the caller's Scope and is not shown to the model. Raises
    ValueError for a function without a docstring, with parameters that cannot be described, or
    that must be awaited.
    """

    # Any: a user's function may take and return whatever it likes
    def __init__(self, function: Callable[..., Any], *, name: str | None = None) -> None:
        self.name = name or str(getattr(function, "__name__", ""))  # a partial has no name
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
        if inspect.iscoroutinefunction(function):
            raise ValueError(
                f"tool {self.name!r} is async; give a function that returns its result"
            )
        self.description = " ".join(text.split("\n\n")[0].split())
        self._function = function
        try:
            signature = inspect.signature(function, eval_str=True)
        except (NameError, TypeError) as error:
            raise ValueError(f"tool {self.name!r} cannot be described: {error}") from error
        self._wants_scope = "scope" in signature.parameters
        self._names: dict[str, str] = {}
        fields: dict[str, Any] = {}  # Any: pydantic's own form of a field
        for parameter in signature.parameters.values():
            if parameter.name == "scope":
                continue
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise ValueError(
                    f"tool {self.name!r} takes {str(parameter).split(':')[0]!r}, which cannot be "
                    "given by name; name its parameters"
                )
            kind = str if parameter.annotation is parameter.empty else parameter.annotation
            default = ... if parameter.default is parameter.empty else parameter.default
            field = f"p{len(fields)}"  # so that a parameter may be called "schema" or "_x"
            fields[field] = (kind, Field(default, alias=parameter.name))
            self._names[field] = parameter.name
        try:
            self._model = create_model(self.name, __config__=ConfigDict(extra="forbid"), **fields)
            schema = self._model.model_json_schema()
        except PydanticUserError as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"tool {self.name!r} cannot be described: {reason}") from error
        definitions = schema.pop("$defs", {})
        self.parameters = cast("Mapping[str, Json]", _inlined(schema, definitions, self.name))

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
        given = {name: getattr(checked, field) for field, name in self._names.items()}
        if self._wants_scope:
            given["scope"] = scope
        return str(self._function(**given))


# Any: a JSON schema, as pydantic gives it
def _inlined(schema: Any, definitions: Mapping[str, Any], tool: str, depth: int = 0) -> Any:
    """Return a schema without references, as it must be to become a part of another."""
    if depth > MAX_DEPTH:
        raise ValueError(f"tool {tool!r} takes a type that holds itself; take a plainer one")
    if isinstance(schema, list):
        return [_inlined(one, definitions, tool, depth + 1) for one in schema]
    if not isinstance(schema, dict):
        return schema
    rest = {key: value for key, value in schema.items() if key != "$ref"}
    if "$ref" in schema:
        rest = {**definitions[schema["$ref"].removeprefix("#/$defs/")], **rest}
        return _inlined(rest, definitions, tool, depth + 1)
    return {key: _inlined(value, definitions, tool, depth + 1) for key, value in rest.items()}
