"""The tables of the store, and the check that a database holds them in this version.

Tenant and user are part of every primary key. Only types that SQLite and PostgreSQL share: text,
64-bit integers, floats, bytes. Times are microseconds since 1970 in UTC; structured values are JSON text.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    insert,
    inspect,
    select,
)

from persona_agent.errors import StoreError

SCHEMA_VERSION = 6
VERSION_KEY = "schema_version"
FIRST_TABLES = {"meta", "users", "events", "vectors", "changes", "personas", "alignments"}

TABLES = MetaData()

meta = Table(
    "meta",
    TABLES,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

# `next_seq` numbers all writes to a user's events, so it orders them and tells a cache whether it
# is current. Every write bumps it first: on PostgreSQL this row's lock makes one user's writers
# take turns. `epoch` is a random number, new when a forgotten user comes back, whose numbers
# begin again. `fact_seq` counts the writes to the user's facts, and is 0 before there are any.
users = Table(
    "users",
    TABLES,
    Column("tenant", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("next_seq", BigInteger, nullable=False),
    Column("event_count", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("fact_seq", BigInteger, nullable=False, server_default="0"),
    PrimaryKeyConstraint("tenant", "user"),
)


def _of_user() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["tenant", "user"], ["users.tenant", "users.user"])


events = Table(
    "events",
    TABLES,
    Column("tenant", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("when", BigInteger, nullable=False),
    Column("agent", Text),
    Column("run", Text),
    Column("role", Text, nullable=False),
    Column("query", Text, nullable=False),
    Column("response", Text),
    Column("outcome", Text),
    Column("item", Text),
    Column("options", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("trust", Text, nullable=False, server_default="user"),  # who vouches: see TRUST
    PrimaryKeyConstraint("tenant", "user", "id"),
    _of_user(),
    Index("events_in_order", "tenant", "user", "when", "seq"),
)
_OUTCOMES = events.c.outcome.is_not(None)
Index(  # what personas are made from; a chat may have a hundred thousand events and none of these
    "events_labelled",
    events.c.tenant,
    events.c.user,
    events.c.when,
    events.c.seq,
    sqlite_where=_OUTCOMES,
    postgresql_where=_OUTCOMES,
)

vectors = Table(
    "vectors",
    TABLES,
    Column("tenant", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("embedder", Text, nullable=False),
    Column("vector", LargeBinary, nullable=False),  # float32, little-endian
    PrimaryKeyConstraint("tenant", "user", "event", "embedder"),
    ForeignKeyConstraint(
        ["tenant", "user", "event"],
        ["events.tenant", "events.user", "events.id"],
        ondelete="CASCADE",
    ),
)

# The log of each user's writes. `action` is ADD, UPDATE, DELETE, or EMBED for a vector that came
# later. `old` is the content that an UPDATE replaced, as JSON; what it was replaced with is the
# next one's `old`, or the event itself, so nothing is kept twice.
changes = Table(
    "changes",
    TABLES,
    Column("tenant", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("event", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("old", Text),
    PrimaryKeyConstraint("tenant", "user", "seq"),
    _of_user(),
    Index("changes_of_event", "tenant", "user", "event"),
)

personas = Table(
    "personas",
    TABLES,
    Column("tenant", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("parent", Integer),
    Column("created", BigInteger, nullable=False),
    Column("origin", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("document", Text, nullable=False),
    Column("scores", Text, nullable=False),
    PrimaryKeyConstraint("tenant", "user", "version"),
    _of_user(),
)

alignments = Table(
    "alignments",
    TABLES,
    Column("tenant", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("updated", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "user", "name"),
    _of_user(),
)

# What is believed about a user. `valid_until` is null while it holds; `superseded_by` then names
# the fact that took its place: both stay.
facts = Table(
    "facts",
    TABLES,
    Column("tenant", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("confidence", Double, nullable=False),
    Column("valid_from", BigInteger, nullable=False),
    Column("valid_until", BigInteger),
    Column("superseded_by", Text),
    Column("created", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "user", "id"),
    _of_user(),
)

evidence = Table(
    "evidence",
    TABLES,
    Column("tenant", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("fact", Text, nullable=False),
    PrimaryKeyConstraint("tenant", "user", "event", "fact"),
    ForeignKeyConstraint(
        ["tenant", "user", "fact"], ["facts.tenant", "facts.user", "facts.id"], ondelete="CASCADE"
    ),
    ForeignKeyConstraint(
        ["tenant", "user", "event"], ["events.tenant", "events.user", "events.id"]
    ),
    Index("evidence_of_fact", "tenant", "user", "fact"),
)

fact_vectors = Table(
    "fact_vectors",
    TABLES,
    Column("tenant", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("fact", Text, nullable=False),
    Column("embedder", Text, nullable=False),
    Column("vector", LargeBinary, nullable=False),  # as in `vectors`
    PrimaryKeyConstraint("tenant", "user", "fact", "embedder"),
    ForeignKeyConstraint(
        ["tenant", "user", "fact"], ["facts.tenant", "facts.user", "facts.id"], ondelete="CASCADE"
    ),
)

# What a model says of many events, in lines: of a long event, a group, the person. What stands in
# the tree of the latest is open; `superseded_by` names the person's summary that was made instead.
summaries = Table(
    "summaries",
    TABLES,
    Column("tenant", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("id", Text, nullable=False),  # of what it was made of
    Column("level", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("valid_from", BigInteger, nullable=False),
    Column("valid_until", BigInteger),
    Column("superseded_by", Text),
    Column("created", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "user", "id"),
    _of_user(),
    Index("summaries_by_level", "tenant", "user", "level", "valid_from"),
)


def _of_summary(column: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["tenant", "user", column], ["summaries.tenant", "summaries.user", "summaries.id"]
    )


summary_events = Table(
    "summary_events",
    TABLES,
    Column("tenant", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("summary", Text, nullable=False),
    PrimaryKeyConstraint("tenant", "user", "event", "summary"),
    _of_summary("summary"),
    ForeignKeyConstraint(
        ["tenant", "user", "event"], ["events.tenant", "events.user", "events.id"]
    ),
    Index("events_of_summary", "tenant", "user", "summary"),
)

summary_parts = Table(
    "summary_parts",
    TABLES,
    Column("tenant", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("part", Text, nullable=False),
    Column("summary", Text, nullable=False),
    PrimaryKeyConstraint("tenant", "user", "part", "summary"),
    _of_summary("summary"),
    _of_summary("part"),
    Index("parts_of_summary", "tenant", "user", "summary"),
)

# How often an event was recalled, and when last. Counted in memory and written now and then.
retrievals = Table(
    "retrievals",
    TABLES,
    Column("tenant", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("times", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "user", "event"),
    ForeignKeyConstraint(
        ["tenant", "user", "event"],
        ["events.tenant", "events.user", "events.id"],
        ondelete="CASCADE",
    ),
)

# The outbox: work that a write asks for, in the write's own transaction. It is about the events
# numbered `first_seq` to `last_seq`. `state` is waiting, running, retry or dead; what is done is
# deleted. One job of a kind waits for a user: a further write widens it.
jobs = Table(
    "jobs",
    TABLES,
    Column("tenant", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due", BigInteger, nullable=False),  # when it may run; of a running one, its lease's end
    Column("worker", Text),
    Column("error", Text),
    Column("created", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "user", "id"),
    _of_user(),
    Index("jobs_due", "state", "due"),
)
_WAITS = jobs.c.state == "waiting"
Index(
    "jobs_waiting",
    jobs.c.tenant,
    jobs.c.user,
    jobs.c.kind,
    unique=True,
    sqlite_where=_WAITS,
    postgresql_where=_WAITS,
)

# What was answered to a write that carried a key, so that the same write again gets it again.
receipts = Table(
    "receipts",
    TABLES,
    Column("tenant", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "user", "key"),
    _of_user(),
)

# Adapters, `memory.adapters`: weights made of events. `user` is null for a cohort's; `start` names
# the one it began with; `digest` is empty until it is ready. Its folder is named as it is.
adapters = Table(
    "adapters",
    TABLES,
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("user", Text),
    Column("method", Text, nullable=False),
    Column("base", Text, nullable=False),
    Column("base_hash", Text, nullable=False),
    Column("start", Text),
    Column("options", Text, nullable=False),
    Column("scores", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("state", Text, nullable=False),  # making or ready
    Column("created", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "name"),
    Index("adapters_of_user", "tenant", "user"),
)

# Of which events, with which content, an adapter was made. There is no key to `events`: an event
# that goes takes the adapter along, see `lineage`.
adapter_events = Table(
    "adapter_events",
    TABLES,
    Column("tenant", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("adapter", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("hash", Text, nullable=False),
    PrimaryKeyConstraint("tenant", "user", "adapter", "event"),
    ForeignKeyConstraint(
        ["tenant", "adapter"], ["adapters.tenant", "adapters.name"], ondelete="CASCADE"
    ),
    _of_user(),
    Index("events_of_adapter", "tenant", "adapter"),
    Index("adapters_of_event", "tenant", "user", "event"),
)

# Folders of adapters that are no more: their files are to be removed.
leftovers = Table(
    "leftovers",
    TABLES,
    Column("folder", Text, primary_key=True),
    Column("since", BigInteger, nullable=False),
)

# Whom we were told to forget: a keyed hash of tenant and user, when, and the receipt. It names
# nobody, and it outlives the user's rows.
tombstones = Table(
    "tombstones",
    TABLES,
    Column("id", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("receipt", Text, nullable=False),
)

# Who may speak to the server, and for whom. The secret itself is nowhere: `hash` is its SHA-256.
# `user` is null where the key is not bound to one. `scopes` are what it may do besides.
api_keys = Table(
    "api_keys",
    TABLES,
    Column("tenant", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("user", Text),
    Column("name", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("scopes", Text, nullable=False),  # names, separated by spaces
    Column("created", BigInteger, nullable=False),
    Column("revoked", BigInteger),
    PrimaryKeyConstraint("tenant", "id"),
    Index("api_keys_by_id", "id", unique=True),
)

# Work that somebody asked for and may ask about: it stays when it is done. `state` is queued,
# running, done or failed; `due` is when a running one counts as abandoned by its `worker`.
operations = Table(
    "operations",
    TABLES,
    Column("tenant", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due", BigInteger, nullable=False),
    Column("worker", Text),
    Column("options", Text, nullable=False),
    Column("progress", Text, nullable=False),
    Column("result", Text),
    Column("error", Text),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "user", "id"),
    _of_user(),
    Index("operations_due", "state", "due"),
)


def is_ready(connection: Connection, place: str) -> bool:
    """Return whether the tables are there, in this version or older; false for an empty database.

    Raises StoreError for a newer database or one of another program; `place` names it. An older
    one is for `migrations.upgrade`.
    """
    present = set(inspect(connection).get_table_names())
    ours = set(TABLES.tables)
    if not present & ours:
        if present and connection.dialect.name == "sqlite":  # PostgreSQL is shared by many
            raise StoreError(
                f"{place} is a database of another program: it has tables "
                f"{', '.join(sorted(present)[:5])}; give a new file"
            )
        return False
    found = None
    if meta.name in present:
        columns = {column["name"] for column in inspect(connection).get_columns(meta.name)}
        if columns == {"key", "value"}:
            query = select(meta.c.value).where(meta.c.key == VERSION_KEY)
            found = connection.execute(query).scalar()
    if found is None or not found.isdecimal():
        raise StoreError(
            f"{place} has tables of our names but no schema version (found {found!r}); it is not "
            "a persona_agent database: give a new file, or on PostgreSQL another database or "
            "schema (?options=-csearch_path=NAME)"
        )
    if int(found) > SCHEMA_VERSION:
        raise StoreError(
            f"{place} has schema version {found}; this package knows up to {SCHEMA_VERSION}. "
            "Upgrade it: pip install --upgrade persona-agent-framework"
        )
    needed = ours if int(found) == SCHEMA_VERSION else FIRST_TABLES
    if int(found) < 1 or not needed <= present:
        missing = ", ".join(sorted(needed - present)) or "none"
        raise StoreError(
            f"{place} has schema version {found}, tables missing: {missing}; it is not whole. "
            "Restore it from a backup, or give a new file"
        )
    return True


def version_of(connection: Connection) -> int:
    """Return the schema version of a database that `is_ready`."""
    found = connection.execute(select(meta.c.value).where(meta.c.key == VERSION_KEY)).scalar_one()
    return int(found)


def create(connection: Connection) -> None:
    """Create the tables and note their version, in the connection's transaction."""
    TABLES.create_all(connection)
    version = {"key": VERSION_KEY, "value": str(SCHEMA_VERSION)}
    connection.execute(insert(meta), version)
