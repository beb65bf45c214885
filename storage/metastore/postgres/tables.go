package postgres

// format is the version of these tables.
const format = "1"

// tables makes the schema; %s is its quoted name.
//
// Keys are four columns: a partition and a name, each its first 700 bytes (pp, np) and, if it is longer, its SHA-256 (ph, nh; else empty). Those
// four fit into an index entry, identify the key and order it as Key.Compare does; the rest of a long one is in prest and nrest. A value
// in an index is bytes that compare as the values do.
const tables = `
CREATE SCHEMA IF NOT EXISTS %[1]s;
CREATE TABLE IF NOT EXISTS %[1]s.meta (
	key text PRIMARY KEY,
	value text NOT NULL
);
CREATE TABLE IF NOT EXISTS %[1]s.buckets (
	name text COLLATE "C" PRIMARY KEY,
	spec text NOT NULL
);
CREATE TABLE IF NOT EXISTS %[1]s.records (
	bucket int NOT NULL,
	pp bytea NOT NULL, ph bytea NOT NULL, np bytea NOT NULL, nh bytea NOT NULL,
	prest bytea, nrest bytea,
	etag text NOT NULL,
	modified timestamptz NOT NULL,
	value json NOT NULL,
	PRIMARY KEY (bucket, pp, ph, np, nh)
);
CREATE TABLE IF NOT EXISTS %[1]s.entries (
	idx int NOT NULL, val bytea NOT NULL,
	pp bytea NOT NULL, ph bytea NOT NULL, np bytea NOT NULL, nh bytea NOT NULL,
	PRIMARY KEY (idx, val, pp, ph, np, nh)
);
CREATE TABLE IF NOT EXISTS %[1]s.partition_entries (
	idx int NOT NULL,
	pp bytea NOT NULL, ph bytea NOT NULL, val bytea NOT NULL, np bytea NOT NULL, nh bytea NOT NULL,
	PRIMARY KEY (idx, pp, ph, val, np, nh)
);
CREATE TABLE IF NOT EXISTS %[1]s.uniques (
	idx int NOT NULL, val bytea NOT NULL,
	pp bytea NOT NULL, ph bytea NOT NULL, np bytea NOT NULL, nh bytea NOT NULL,
	PRIMARY KEY (idx, val)
);
CREATE TABLE IF NOT EXISTS %[1]s.counters (
	bucket int NOT NULL,
	pp bytea NOT NULL, ph bytea NOT NULL, np bytea NOT NULL, nh bytea NOT NULL,
	prest bytea, nrest bytea,
	slot smallint NOT NULL,
	n bigint NOT NULL,
	PRIMARY KEY (bucket, pp, ph, np, nh, slot)
);
CREATE TABLE IF NOT EXISTS %[1]s.changes (
	xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
	n int NOT NULL,
	bucket int NOT NULL,
	pp bytea NOT NULL, ph bytea NOT NULL, np bytea NOT NULL, nh bytea NOT NULL,
	prest bytea, nrest bytea,
	at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (xid, n)
);
`
