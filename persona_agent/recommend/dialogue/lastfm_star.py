"""Last.FM*: artists, their tags, and who listens to whom, as dialogue studies use it.

Files as MCMIPL published them, its pickles written as JSON with names from HetRec Last.FM: see
`read`. Source: Lei et al. (2020), SCPR: Interactive Path Reasoning on Graph for Conversational
Recommendation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona_agent.errors import InputError
from persona_agent.recommend.data import Interactions
from persona_agent.recommend.dialogue.table import AttributeTable
from persona_agent.recommend.ids import IdMap

OTHER = "other"  # the kind of a tag that belongs to none of the coarse ones


@dataclass(frozen=True, slots=True, eq=False)
class LastFMStar:
    """The table of artists and tags, and three parts of who listens to whom.

    `friends` are pairs of users and `liked` pairs of user and tag, as ids. The three parts share
    the table's items and one map of users.
    """

    table: AttributeTable
    train: Interactions
    valid: Interactions
    test: Interactions
    friends: tuple[tuple[str, str], ...]
    liked: tuple[tuple[str, str], ...]


def read(folder: str | Path) -> LastFMStar:
    """Return Last.FM* from its folder: review_dict_{train,valid,test}.json and json/*.json.

    The kinds of tags are the 33 coarse ones of LastFM; a tag may have several. Raises InputError
    if a file is missing or is not what it should be.
    """
    home = Path(folder)
    tags = _read(home / "json" / "item_attributes.json")
    coarse = _read(home / "json" / "coarse33_names.json")
    kinds = {
        tag: tuple(coarse[str(one)] for one in found) or (OTHER,)
        for tag, found in _read(home / "json" / "attribute_to_coarse33.json").items()
    }
    table = AttributeTable.of(
        ((item, str(tag)) for item, found in tags.items() for tag in found),
        kinds=kinds,
        item_names=_read(home / "json" / "item_names.json"),
        attribute_names=_read(home / "json" / "attribute_names.json"),
        items=tags,
    )
    friends = _read(home / "json" / "user_friends.json")
    users = IdMap(friends, "user")
    train, valid, test = (
        _part(_read(home / f"review_dict_{part}.json"), users, table.items)
        for part in ("train", "valid", "test")
    )
    liked = _read(home / "json" / "user_like_attributes.json")
    return LastFMStar(table, train, valid, test, _pairs(friends), _pairs(liked))


def _read(path: Path) -> Mapping[str, Any]:  # Any: lists of numbers or names
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a file of Last.FM*: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds a {type(found).__name__}; an object is due")
    return found


def _pairs(found: Mapping[str, list[int]]) -> tuple[tuple[str, str], ...]:
    return tuple((one, str(other)) for one, others in found.items() for other in others)


def _part(found: Mapping[str, list[int]], users: IdMap, items: IdMap) -> Interactions:
    pairs = _pairs(found)
    made = Interactions.of([one for one, _ in pairs], [one for _, one in pairs])
    user, item = users.positions(made.users), items.positions(made.items)
    return Interactions(users, items, user[made.user], item[made.item], made.values)
