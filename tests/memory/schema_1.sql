-- The tables of schema version 1, as SQLite makes them; PostgreSQL says BYTEA for BLOB.

CREATE TABLE meta (
	"key" TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);

CREATE TABLE users (
	tenant TEXT NOT NULL, 
	"user" TEXT NOT NULL, 
	next_seq BIGINT NOT NULL, 
	event_count BIGINT NOT NULL, 
	epoch BIGINT NOT NULL, 
	created BIGINT NOT NULL, 
	PRIMARY KEY (tenant, "user")
);

CREATE TABLE alignments (
	tenant TEXT NOT NULL, 
	"user" TEXT NOT NULL, 
	name TEXT NOT NULL, 
	state TEXT NOT NULL, 
	updated BIGINT NOT NULL, 
	PRIMARY KEY (tenant, "user", name), 
	FOREIGN KEY(tenant, "user") REFERENCES users (tenant, "user")
);

CREATE TABLE changes (
	tenant TEXT NOT NULL, 
	"user" TEXT NOT NULL, 
	seq BIGINT NOT NULL, 
	event TEXT NOT NULL, 
	action TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	old TEXT, 
	PRIMARY KEY (tenant, "user", seq), 
	FOREIGN KEY(tenant, "user") REFERENCES users (tenant, "user")
);

CREATE INDEX changes_of_event ON changes (tenant, "user", event);

CREATE TABLE events (
	tenant TEXT NOT NULL, 
	"user" TEXT NOT NULL, 
	id TEXT NOT NULL, 
	seq BIGINT NOT NULL, 
	"when" BIGINT NOT NULL, 
	agent TEXT, 
	run TEXT, 
	role TEXT NOT NULL, 
	"query" TEXT NOT NULL, 
	response TEXT, 
	outcome TEXT, 
	item TEXT, 
	options TEXT NOT NULL, 
	metadata TEXT NOT NULL, 
	hash TEXT NOT NULL, 
	created BIGINT NOT NULL, 
	PRIMARY KEY (tenant, "user", id), 
	FOREIGN KEY(tenant, "user") REFERENCES users (tenant, "user")
);

CREATE INDEX events_in_order ON events (tenant, "user", "when", seq);

CREATE INDEX events_labelled ON events (tenant, "user", "when", seq) WHERE outcome IS NOT NULL;

CREATE TABLE personas (
	tenant TEXT NOT NULL, 
	"user" TEXT NOT NULL, 
	version INTEGER NOT NULL, 
	parent INTEGER, 
	created BIGINT NOT NULL, 
	origin TEXT NOT NULL, 
	note TEXT NOT NULL, 
	document TEXT NOT NULL, 
	scores TEXT NOT NULL, 
	PRIMARY KEY (tenant, "user", version), 
	FOREIGN KEY(tenant, "user") REFERENCES users (tenant, "user")
);

CREATE TABLE vectors (
	tenant TEXT NOT NULL, 
	"user" TEXT NOT NULL, 
	event TEXT NOT NULL, 
	embedder TEXT NOT NULL, 
	vector BLOB NOT NULL, 
	PRIMARY KEY (tenant, "user", event, embedder), 
	FOREIGN KEY(tenant, "user", event) REFERENCES events (tenant, "user", id) ON DELETE CASCADE
);

INSERT INTO meta (key, value) VALUES ('schema_version', '1');
