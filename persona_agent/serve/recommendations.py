"""Recommendations, and why."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, JsonValue

from persona_agent.serve.errors import ApiError
from persona_agent.serve.given import Given, Id, Text
from persona_agent.serve.request import CallerDep, scope_for, service_of
from persona_agent.serve.schemas import ERRORS
from persona_agent.serve.service import Service

if TYPE_CHECKING:  # the extra `recommend`: a server without a recommender does without
    from persona_agent.bridge.catalogue import Wish
    from persona_agent.chat.session import Exchange
    from persona_agent.serve.shop import Shop

router = APIRouter(prefix="/v1/recommendations", tags=["recommendations"])

RESPONSES = {**ERRORS, 501: {"description": "This server has no recommender."}}


class WishGiven(Given):
    """What items must be, or must not be."""

    genres: list[Text] = Field(default=[], max_length=20)
    from_year: int | None = Field(default=None, ge=-9999, le=9999)
    to_year: int | None = Field(default=None, ge=-9999, le=9999)
    title: Text = ""

    def wish(self) -> Wish:
        """Return it as the catalogue takes it."""
        from persona_agent.bridge.catalogue import Wish  # an extra

        return Wish(
            genres=tuple(self.genres),
            from_year=self.from_year,
            to_year=self.to_year,
            title=self.title,
        )


class RecommendGiven(Given):
    """For whom, how many, and of what kind."""

    user_id: Id | None = None
    k: int = Field(default=10, ge=1, le=100)
    must: WishGiven | None = None
    must_not: WishGiven | None = None


class ExplainGiven(Given):
    """Which item, by its id, for whom."""

    user_id: Id | None = None
    item: Id


class OfferTold(BaseModel):
    """A recommended item, and why."""

    item: str
    title: str
    year: int
    genres: list[str]
    score: float
    why: str


class Offers(BaseModel):
    """Recommended items, best first."""

    results: list[OfferTold]


class ReasonTold(BaseModel):
    """A reason: its part of the score, the ids that it rests on, and what they are called.

    A path has a relation between each two ids, and says of each whether it is an item.
    """

    kind: Literal["item", "popularity", "persona", "path"]
    ids: list[str]
    titles: list[str]
    weight: float
    relations: list[str]
    nodes: list[Literal["item", "entity"]]


class Why(BaseModel):
    """Why an item suits: a sentence, and the reasons it is made of, strongest first."""

    item: str
    title: str
    score: float
    sentence: str
    reasons: list[ReasonTold]


class DialogueGiven(Given):
    """What the person said, and the state that the answer before came with; neither to begin."""

    user_id: Id | None = None
    text: Annotated[Text, Field(max_length=4000)] | None = None
    state: dict[str, JsonValue] | None = None


class DialogueTold(BaseModel):
    """What is said, the state to send with the next words, and what was kept of these."""

    say: str
    state: dict[str, JsonValue]
    learned: dict[str, JsonValue]


@router.post("", responses=RESPONSES)
async def recommend(request: Request, caller: CallerDep, given: RecommendGiven) -> Offers:
    """Recommend what the user has not seen, by what memory says the user likes."""
    service, scope = service_of(request), scope_for(request, caller, given.user_id)
    shop = _shop(service)
    must, must_not = (None if one is None else one.wish() for one in (given.must, given.must_not))
    found = await service.call(shop.recommend, scope, given.k, must, must_not)
    return Offers(results=[OfferTold.model_validate(one.to_json()) for one in found])


@router.post("/explain", responses=RESPONSES)
async def explain(request: Request, caller: CallerDep, given: ExplainGiven) -> Why:
    """Tell why an item suits the user: which own items, which taste, which path."""
    service, scope = service_of(request), scope_for(request, caller, given.user_id)
    shop = _shop(service)
    found = await service.call(shop.explain, scope, given.item)
    return Why.model_validate(
        {
            "item": found.item,
            "title": shop.title(found.item),
            "score": found.score,
            "sentence": shop.sentence(found),
            "reasons": [
                {**dataclasses.asdict(one), "titles": shop.titles(one)} for one in found.reasons
            ],
        }
    )


@router.post("/dialogue", responses=RESPONSES)
async def dialogue(request: Request, caller: CallerDep, given: DialogueGiven) -> DialogueTold:
    """Ask or recommend: the next turn of a conversation, whose state the client keeps.

    What the person says of items is remembered, so that the next conversation begins there.
    """
    service, scope = service_of(request), scope_for(request, caller, given.user_id)
    shop = _shop(service)
    from persona_agent.chat.state import ChatState  # an extra

    def work() -> Exchange:
        state = None if given.state is None else ChatState.of(given.state)
        agent = service.agent(scope.tenant)
        session = agent.chat(shop.domain, user_id=scope.user, agent_id=scope.agent, state=state)
        return session.start() if given.text is None else session.say(given.text)

    found = await service.call(work)
    return DialogueTold.model_validate(
        {"say": str(found), "state": found.state.to_json(), "learned": found.learned.to_json()}
    )


def _shop(service: Service) -> Shop:
    if service.shop is None:
        raise ApiError(
            501,
            "this server has no recommender; its operator can set recommend.folder and "
            "recommend.items",
            kind="server_error",
            code="no_recommender",
        )
    return service.shop
