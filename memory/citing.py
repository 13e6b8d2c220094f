"""What was made of which events: citations, read in the order of events."""

from __future__ import annotations

from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, Select, Table, select

from persona_agent.memory.rows import Owner
from persona_agent.memory.schema import events
from persona_agent.memory.snapshot import key, of_owner

# Any, here: of columns, whose types the schema does not tell.
Citations: TypeAlias = "Select[str, str]"  # what cites, and what is cited


def citations(links: Table, citing: ColumnElement[Any]) -> Citations:
    """Return the query of what cites which events: `citing`, and the event, by rows of `links`."""
    return (
        select(citing, links.c.event)
        .join(
            events,
            (events.c.tenant == links.c.tenant)
            & (events.c.user == links.c.user)
            & (events.c.id == links.c.event),
        )
        .where(of_owner(links))
        .order_by(events.c.when, events.c.seq)
    )


def gathered(connection: Connection, query: Citations, owner: Owner) -> dict[str, list[str]]:
    """Return what each cites, in the order of the query."""
    found: dict[str, list[str]] = {}
    for citing, cited in connection.execute(query, key(owner)):
        found.setdefault(citing, []).append(cited)
    return found
