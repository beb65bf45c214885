
CREATE SCHEMA IF NOT EXISTS sample;
CREATE TABLE IF NOT EXISTS sample.meta (
	key text PRIMARY KEY,
	value text NOT NULL
);
CREATE TABLE IF NOT EXISTS sample.buckets (
	name text COLLATE "C" PRIMARY KEY,
	spec text NOT NULL
);
CREATE TABLE IF NOT EXISTS sample.records (
	bucket int NOT NULL,
	pp bytea NOT NULL, ph bytea NOT NULL, np bytea NOT NULL, nh bytea NOT NULL,
	prest bytea, nrest bytea,
	etag text NOT NULL,
	modified timestamptz NOT NULL,
	value json NOT NULL,
	PRIMARY KEY (bucket, pp, ph, np, nh)
);
CREATE TABLE IF NOT EXISTS sample.entries (
	idx int NOT NULL, val bytea NOT NULL,
	pp bytea NOT NULL, ph bytea NOT NULL, np bytea NOT NULL, nh bytea NOT NULL,
	PRIMARY KEY (idx, val, pp, ph, np, nh)
);
CREATE TABLE IF NOT EXISTS sample.partition_entries (
	idx int NOT NULL,
	pp bytea NOT NULL, ph bytea NOT NULL, val bytea NOT NULL, np bytea NOT NULL, nh bytea NOT NULL,
	PRIMARY KEY (idx, pp, ph, val, np, nh)
);
CREATE TABLE IF NOT EXISTS sample.uniques (
	idx int NOT NULL, val bytea NOT NULL,
	pp bytea NOT NULL, ph bytea NOT NULL, np bytea NOT NULL, nh bytea NOT NULL,
	PRIMARY KEY (idx, val)
);
CREATE TABLE IF NOT EXISTS sample.counters (
	bucket int NOT NULL,
	pp bytea NOT NULL, ph bytea NOT NULL, np bytea NOT NULL, nh bytea NOT NULL,
	prest bytea, nrest bytea,
	slot smallint NOT NULL,
	n bigint NOT NULL,
	PRIMARY KEY (bucket, pp, ph, np, nh, slot)
);
CREATE TABLE IF NOT EXISTS sample.changes (
	xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
	n int NOT NULL,
	bucket int NOT NULL,
	pp bytea NOT NULL, ph bytea NOT NULL, np bytea NOT NULL, nh bytea NOT NULL,
	prest bytea, nrest bytea,
	at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (xid, n)
);
