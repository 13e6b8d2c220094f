"""Any Python function as a tool: described to the model, its arguments checked."""

from __future__ import annotations

import asyncio
import enum
import json
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from persona_agent.tools import FunctionTool
from persona_agent.types import Scope

ALICE = Scope("alice")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Place(BaseModel):
    city: str
    colour: Colour


class Tree(BaseModel):
    children: list[Tree]


class Opaque:
    pass


def weather(city: str, days: int = 1) -> str:
    """Tells the weather
    of a city.

    This is for programmers.
    """
    return f"{city}: {'sun ' * days}"


def test_a_function_is_described_by_its_name_docstring_and_annotations() -> None:
    tool = FunctionTool(weather)
    assert (tool.name, tool.description) == ("weather", "Tells the weather of a city.")
    assert tool.parameters["required"] == ["city"]
    assert tool.parameters["additionalProperties"] is False
    properties: Any = tool.parameters["properties"]
    assert {name: one["type"] for name, one in properties.items()} == {
        "city": "string",
        "days": "integer",
    }
    json.dumps(tool.parameters)


def test_arguments_are_checked_and_converted_before_the_call() -> None:
    tool = FunctionTool(weather)
    assert tool.call(ALICE, {"city": "Oslo", "days": "2"}) == "Oslo: sun sun "
    assert tool.call(ALICE, {"city": "Oslo"}) == "Oslo: sun "


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "wrong arguments for weather: city: Field required"),
        ({"city": "Oslo", "days": "many"}, "days: Input should be a valid integer"),
        ({"city": "Oslo", "wind": 1}, "wind: Extra inputs are not permitted"),
        ({"city": None}, "city: Input should be a valid string"),
        ({"p0": "Oslo"}, "city: Field required"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments: Any, says: str) -> None:
    with pytest.raises(ValueError, match="wrong arguments for weather") as caught:
        FunctionTool(weather).call(ALICE, arguments)
    assert says in str(caught.value)


def test_the_scope_is_the_callers_and_the_model_can_neither_see_nor_give_it() -> None:
    def orders(scope: Scope, limit: int) -> str:
        """Lists orders."""
        return f"{scope.user} {limit}"

    tool = FunctionTool(orders)
    assert set(tool.parameters["properties"]) == {"limit"}  # type: ignore[arg-type]
    assert tool.call(ALICE, {"limit": 3}) == "alice 3"
    with pytest.raises(ValueError, match="scope: Extra inputs are not permitted"):
        tool.call(ALICE, {"limit": 3, "scope": {"user": "bob"}})


def test_rich_types_are_described_without_references_and_given_as_such() -> None:
    def visit(place: Place, how: Literal["bus", "train"], tags: list[str] | None = None) -> str:
        """Visits."""
        return f"{place.city} {place.colour is Colour.RED} {how} {tags}"

    tool = FunctionTool(visit)
    assert "$ref" not in json.dumps(tool.parameters)
    assert '"enum": ["red", "blue"]' in json.dumps(tool.parameters)
    given = {"place": {"city": "Rome", "colour": "red"}, "how": "bus"}
    assert tool.call(ALICE, given) == "Rome True bus None"


def test_a_parameter_may_have_any_name() -> None:
    def convert(
        schema: str, json: str, _x: int, *, copy: bool = False, model_config: int = 1
    ) -> str:
        """Converts."""
        return f"{schema} {json} {_x} {copy} {model_config}"

    tool = FunctionTool(convert)
    assert tool.call(ALICE, {"schema": "a", "json": "b", "_x": 1, "copy": True}) == "a b 1 True 1"
    with pytest.raises(ValueError, match="schema: Field required"):
        tool.call(ALICE, {"json": "b", "_x": 1})


def test_a_parameter_without_annotation_is_text_and_a_result_becomes_text() -> None:
    def length(text) -> int:  # type: ignore[no-untyped-def]
        """Counts."""
        return len(text)

    assert FunctionTool(length).call(ALICE, {"text": "four"}) == "4"


def test_methods_and_named_partials_are_tools() -> None:
    class Shop:
        def price(self, item: str) -> float:
            """Prices an item."""
            return 2.5 * len(item)

    assert FunctionTool(Shop().price).call(ALICE, {"item": "ab"}) == "5.0"
    tool = FunctionTool(partial(weather, days=2), name="two_days")
    assert tool.call(ALICE, {"city": "Oslo"}) == "Oslo: sun sun "


def undocumented(x: int) -> int:
    return x


def varied(*numbers: int) -> int:
    """Sums."""
    return sum(numbers)


def keyed(**numbers: int) -> int:
    """Sums."""
    return sum(numbers.values())


def positional(x: int, /) -> int:
    """Returns it."""
    return x


def opaque(x: Opaque) -> int:
    """Counts."""
    return 1


def unresolved(x: Missing) -> int:  # type: ignore[name-defined]  # noqa: F821
    """Counts."""
    return 1


def recursive(tree: Tree) -> int:
    """Counts."""
    return len(tree.children)


async def waiting(x: int) -> int:
    """Waits."""
    await asyncio.sleep(0)
    return x


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (undocumented, "has no docstring"),
        (varied, "name its parameters"),
        (keyed, "name its parameters"),
        (positional, "name its parameters"),
        (opaque, "cannot be described: Unable to generate"),
        (unresolved, "name 'Missing' is not defined"),
        (recursive, "holds itself"),
        (waiting, "is async"),
        (lambda x: x, "tool name '<lambda>' must be letters"),
        (partial(weather, days=2), "tool name '' must be letters"),
    ],
)
def test_what_cannot_be_described_is_refused_with_the_reason(
    function: Callable[..., Any], says: str
) -> None:
    with pytest.raises(ValueError, match="tool") as caught:
        FunctionTool(function)
    assert says in str(caught.value)


@pytest.mark.parametrize("name", ["two words", "1st", "a-b", "x" * 65, "é"])
def test_a_name_a_model_could_not_call_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="letters, digits and underscores"):
        FunctionTool(weather, name=name)
