"""The recommender as the agent's tools: titles and numbers, never an id; nothing seen; own users."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from persona_agent.agent import PersonaAgent
from persona_agent.bridge.bus import CandidateBus
from persona_agent.bridge.catalogue import Catalogue
from persona_agent.bridge.history import HistoryOf, ItemHistory, remembered
from persona_agent.bridge.tools import MOST_SHOWN, RecommenderTools
from persona_agent.llm import FakeLLM, LocalLLM
from persona_agent.recommend.ease import EASE
from persona_agent.recommend.explain import Explanation, Reason
from persona_agent.recommend.ids import IdMap
from persona_agent.recommend.item_table import ItemTable
from persona_agent.types import Interaction, ModelRequest, Scope

ALICE, BOB = Scope("alice"), Scope("bob")
NOIR = ItemHistory(("zq000", "zq001", "zq002"), ("zq003", "zq100"))
ID = re.compile(r"zq\d")
NUMBERED = re.compile(r"(\d+)\. (.+?) \((\d{4})\), ([\w-]+)")

Watch = Callable[..., Interaction]


def told(history: ItemHistory) -> HistoryOf:
    return lambda scope: history


@pytest.fixture
def tools(model: EASE, films: Catalogue) -> RecommenderTools:
    return RecommenderTools(model, films, told(NOIR))


def call(tools: RecommenderTools, name: str, scope: Scope = ALICE, **arguments: Any) -> str:
    (tool,) = [one for one in tools.all if one.name == name]
    return tool.call(scope, arguments)


def shown(text: str) -> list[tuple[int, str, int, str]]:
    return [(int(n), title, int(y), genre) for n, title, y, genre in NUMBERED.findall(text)]


def test_what_a_user_likes_leads_to_more_of_the_kind_and_nothing_seen(
    tools: RecommenderTools,
) -> None:
    rows = shown(call(tools, "recommend", k=5))
    assert [number for number, *_ in rows] == [1, 2, 3, 4, 5]
    assert {genre for *_, genre in rows} == {"Film-Noir"}
    everything = shown(call(tools, "recommend", k=MOST_SHOWN))
    seen = {"Ash Shadow", "Bay Shadow", "Cat Shadow", "Dew Shadow", "Ash Song"}
    assert len(everything) == MOST_SHOWN
    assert not seen & {title for _, title, *_ in everything}


def test_the_order_is_the_recommenders(tools: RecommenderTools, model: EASE) -> None:
    deny = list(NOIR.seen)
    ranked = model.recommend([list(NOIR.liked)], 6, deny=deny).lists()[0]
    titles = [tools.catalogue.titles[at] for at in tools.catalogue.items.positions(ranked)]
    assert [title for _, title, *_ in shown(call(tools, "recommend", k=6))] == titles


@pytest.mark.parametrize(
    ("wishes", "allowed"),
    [
        ({"must": {"genres": ["musical"]}}, lambda t, y, g: g == "Musical"),
        ({"must": {"from_year": 1952, "to_year": 1995}}, lambda t, y, g: 1952 <= y <= 1995),
        (
            {"must_not": {"genres": ["Film Noir"], "from_year": 1990}},
            lambda t, y, g: g == "Musical",
        ),
        ({"must": {"title": "planet"}}, lambda t, y, g: t.endswith("Planet")),
    ],
)
def test_wishes_are_kept(
    tools: RecommenderTools, wishes: dict[str, Any], allowed: Callable[..., bool]
) -> None:
    rows = shown(call(tools, "recommend", **wishes))
    assert rows
    assert all(allowed(*row[1:]) for row in rows)


def test_what_nothing_fits_or_nobody_knows_is_said(tools: RecommenderTools) -> None:
    nothing = call(tools, "recommend", must={"genres": ["Musical"], "from_year": 1990})
    assert nothing == "Nothing that this person has not seen fits."
    with pytest.raises(ValueError, match="no genre 'Western'; there are Film-Noir, Musical, Sci"):
        call(tools, "recommend", must={"genres": ["Western"]})
    with pytest.raises(ValueError, match="no film is called 'Zzz'"):
        call(tools, "explain", item="Zzz")
    with pytest.raises(ValueError, match="no film was shown as number 7"):
        call(tools, "explain", item=7)
    with pytest.raises(ValueError, match="nothing was found yet"):
        call(tools, "recommend", among_last=True)
    for wrong in ({"k": 21}, {"k": 0}, {"must": {"ids": ["zq000"]}}, {"persona": 1}):
        with pytest.raises(ValueError, match="wrong arguments for recommend"):
            call(tools, "recommend", **wrong)


def test_a_stranger_gets_what_is_popular_and_is_told_so(model: EASE, films: Catalogue) -> None:
    tools = RecommenderTools(model, films, told(ItemHistory(seen=("zq000", "of another shop"))))
    text = call(tools, "recommend", k=3)
    assert text.startswith("It is not known what this person likes")
    ranked = model.recommend([[]], 3, deny=["zq000"]).lists()[0]
    titles = [films.titles[at] for at in films.items.positions(ranked)]
    assert [title for _, title, *_ in shown(text)] == titles
    assert "is popular: " in call(tools, "explain", item=1)


def test_why_is_told_by_number_or_title_with_the_users_own_titles(tools: RecommenderTools) -> None:
    rows = shown(call(tools, "recommend", k=3))
    for number, title, year, _ in rows:
        said = call(tools, "explain", item=number)
        assert said.startswith(f"{title} ({year}), because you chose ")
        assert "Shadow" in said.split("because")[1]
        assert (
            said == call(tools, "explain", item=f"#{number}") == call(tools, "explain", item=title)
        )


def test_candidates_pass_from_tool_to_tool_outside_the_prompt(tools: RecommenderTools) -> None:
    call(tools, "similar", item="Ash Planet", k=1)
    alike = set(tools.bus.candidates(ALICE))
    rows = shown(call(tools, "recommend", among_last=True, must={"genres": ["Sci-Fi"]}, k=20))
    chosen = set(tools.bus.candidates(ALICE))
    assert len(rows) == len(chosen) == 11  # all but the one asked about
    assert chosen < alike
    rows = shown(call(tools, "recommend", among_last=True, must={"to_year": 1994}, k=20))
    assert rows
    assert all(genre == "Sci-Fi" and year <= 1994 for *_, year, genre in rows)
    assert set(tools.bus.candidates(ALICE)) < chosen


def test_similar_is_like_the_item_and_not_what_was_seen(tools: RecommenderTools) -> None:
    text = call(tools, "similar", item="Ash Song", k=4)
    assert text.startswith("Chosen by people who choose Ash Song (1950): 1. ")
    assert {genre for *_, genre in shown(text)} == {"Musical"}
    assert "Ash Song" not in text.split(": ", 1)[1]
    again = shown(call(tools, "similar", item=1, k=20))
    assert not {"Ash Shadow", "Dew Shadow"} & {title for _, title, *_ in again}


def test_no_id_is_ever_shown(tools: RecommenderTools) -> None:
    texts = [call(tools, "recommend", k=20), call(tools, "similar", item=3)]
    texts += [call(tools, "explain", item=number) for number in range(1, 21)]
    texts += [json.dumps(dict(tool.parameters)) + tool.description for tool in tools.all]
    assert not ID.search(" ".join(texts))


class Paths(EASE):
    """Explains itself by a path through nodes of which one has no name."""

    def explain(self, history: Any, item: str, *, top: int | None = 5) -> Explanation:
        reasons = (
            Reason("path", ("zq000", "m.02x", "m.0bogart", item), 0.5),
            Reason("path", ("m.02y",), 0.2),
        )
        return Explanation(item, 1.0, reasons)


def test_a_path_tells_only_what_has_a_name(model: EASE, films: Catalogue) -> None:
    paths = Paths(l2=2.0)
    paths._fitted = model._fitted
    tools = RecommenderTools(paths, films, told(NOIR), entities={"m.0bogart": "Bogart <b>"})
    said = call(tools, "explain", item="Elm Shadow")
    assert (
        said == "Elm Shadow (1944), by the path Ash Shadow (1940) - Bogart ‹b› - Elm Shadow (1944)."
    )


def test_items_without_a_title_are_never_shown(model: EASE, table: ItemTable) -> None:
    titles = tuple("" if number % 2 else one for number, one in enumerate(table.titles))
    half = Catalogue(model.items, ItemTable(table.ids, titles, table.genres, table.years))
    tools = RecommenderTools(model, half, told(NOIR))
    assert len(shown(call(tools, "recommend", k=20))) == 15  # 18 titled, of which 3 were seen
    said = call(tools, "explain", item=1)
    assert not ID.search(said)
    assert "Bay" not in said


def test_a_catalogue_of_another_model_is_refused(model: EASE, table: ItemTable) -> None:
    with pytest.raises(ValueError, match="the catalogue has 1 items and the model 36"):
        RecommenderTools(model, Catalogue(IdMap(["zq000"]), table), told(NOIR))


# --- with an agent ------------------------------------------------------------------------------


@pytest.fixture
def opened() -> Iterator[Callable[[Any], PersonaAgent]]:
    agents: list[PersonaAgent] = []

    def start(llm: Any) -> PersonaAgent:
        agents.append(PersonaAgent.open(":memory:", llm=llm, embedder="hash"))
        return agents[-1]

    yield start
    for agent in agents:
        agent.close()


def plays(*steps: tuple[str, dict[str, Any]]) -> FakeLLM:
    """A model that takes these steps, and then answers with what it was last shown."""

    def answer(request: ModelRequest) -> str:
        content = request.messages[-1].content
        done = content.count("You used the action")
        if done < len(steps):
            action, arguments = steps[done]
            return json.dumps({"action": action, "arguments": arguments})
        said = content.rsplit("<result>", 1)[1].split("</result>")[0].strip()
        return json.dumps({"action": "answer", "arguments": {"text": said}})

    return FakeLLM(answer)


def test_an_agent_recommends_from_its_own_memory_and_explains(
    opened: Callable[[Any], PersonaAgent], model: EASE, films: Catalogue, watch: Watch
) -> None:
    llm = plays(("recommend", {"k": 3}), ("explain", {"item": 2}))
    agent = opened(llm)
    agent.add([watch("zq000", 5), watch("zq001", 5, 1), watch("zq002", 1, 2)])
    agent.add([watch(f"zq2{n:02}", 5, n, user="bob") for n in range(3)])
    tools = RecommenderTools(model, films, remembered(agent.memory.store, films)).all
    answer = agent.ask("What should I watch?", user_id="alice", tools=tools)
    listed, why = answer.steps
    assert (listed.action, why.action) == ("recommend", "explain")
    assert listed.error is None
    assert {genre for *_, genre in shown(listed.result)} == {"Film-Noir"}
    assert answer.text == why.result
    assert "Ash Shadow" in why.result or "Bay Shadow" in why.result
    assert "Cat Shadow" not in listed.result + why.result  # seen, and not liked
    bobs = agent.ask("And I?", user_id="bob", tools=tools)
    assert {genre for *_, genre in shown(bobs.steps[0].result)} == {"Sci-Fi"}
    prompts = [message.content for one in llm.requests for message in one.messages]
    assert not ID.search(" ".join(prompts))


def test_what_the_model_gets_wrong_is_told_to_it_and_the_agent_goes_on(
    opened: Callable[[Any], PersonaAgent], model: EASE, films: Catalogue, watch: Watch
) -> None:
    llm = plays(("explain", {"item": "Dew Shadoww"}), ("recommend", {"k": 99}), ("recommend", {}))
    agent = opened(llm)
    agent.add([watch("zq000", 5)])
    tools = RecommenderTools(model, films, remembered(agent.memory.store, films)).all
    wrong, many, right = agent.ask("Well?", user_id="alice", tools=tools).steps
    assert "no film is called 'Dew Shadoww'; near it are Dew" in (wrong.error or "")
    assert "less than or equal to 20" in (many.error or "")
    assert len(shown(right.result)) == 10


def test_users_tenants_and_threads_do_not_mix(model: EASE, films: Catalogue) -> None:
    likes = {
        f"u{kind}": ItemHistory(tuple(f"zq{kind}{n:02}" for n in range(4))) for kind in range(3)
    }
    bus = CandidateBus(scopes=4)
    tools = RecommenderTools(model, films, lambda scope: likes[scope.user], bus=bus)
    kinds = ["Film-Noir", "Musical", "Sci-Fi"]

    def work(turn: int) -> bool:
        scope = Scope(f"u{turn % 3}", f"t{turn % 2}")
        rows = shown(tools.recommend(scope, 5))
        return {genre for *_, genre in rows} == {kinds[turn % 3]}

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(120)))
    assert len(bus) <= 4
    tools.forget(Scope("u0", "t0"))
    assert bus.candidates(Scope("u0", "t0")) == ()


@pytest.mark.real("model")
def test_the_embedded_model_calls_the_tool_and_answers(
    opened: Callable[[Any], PersonaAgent], model: EASE, films: Catalogue, watch: Watch
) -> None:
    with LocalLLM(slots=1, threads=1) as llm:
        agent = opened(llm)
        agent.add([watch("zq000", 5), watch("zq001", 5, 1)])
        tools = RecommenderTools(model, films, remembered(agent.memory.store, films)).all
        answer = agent.ask(
            "Recommend me three films, by the action recommend.",
            user_id="alice",
            tools=tools,
            max_steps=1,
            max_tokens=64,
        )
    assert answer.text
    for step in answer.steps:  # a small model need not choose well, but what it is told is sound
        assert step.error or not ID.search(step.result)
