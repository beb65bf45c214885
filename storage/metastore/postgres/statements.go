package postgres

import (
	"strings"

	"github.com/jackc/pgx/v5"
)

// statements are the fixed queries, with the schema's name filled in for "~".
type statements struct {
	metaGet, metaSet, metaDefault                        string
	foreignLog, clearLog, clearChanges                   string
	bucketsAll, bucketSet, bucketDelete                  string
	dropRecords, dropCounters, dropChanges               string
	dropEntries, dropPartitionEntries, dropUniques       string
	anyRecord, countRecords                              string
	get, counter                                         string
	lock, olds, bounds, owners                           string
	upsert, remove                                       string
	removeEntries, removePartitionEntries, removeUniques string
	insertEntries, insertPartitionEntries, insertUniques string
	addCounters, removeCounters, insertChanges, state    string
	changes, horizon, trim, notify                       string
}

const (
	key4        = `pp, ph, np, nh`
	keyMatch    = `t.pp = k.pp AND t.ph = k.ph AND t.np = k.np AND t.nh = k.nh`
	unnestKeys  = `unnest($1::int[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bytea[])`
	unnestEntry = `unnest($1::int[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[])`
)

func newStatements(schema string) statements {
	name := pgx.Identifier{schema}.Sanitize()
	q := func(query string) string { return strings.ReplaceAll(query, "~.", name+".") }
	return statements{
		metaGet:     q(`SELECT value FROM ~.meta WHERE key = $1`),
		metaSet:     q(`UPDATE ~.meta SET value = $2 WHERE key = $1`),
		metaDefault: q(`INSERT INTO ~.meta (key, value) VALUES ($1, $2) ON CONFLICT DO NOTHING`),

		foreignLog:   q(`SELECT EXISTS (SELECT 1 FROM ~.changes WHERE xid >= pg_snapshot_xmax(pg_current_snapshot()))`),
		clearLog:     q(`UPDATE ~.meta SET value = CASE key WHEN 'log' THEN $1 ELSE '0' END WHERE key IN ('log', 'floor')`),
		clearChanges: q(`DELETE FROM ~.changes`),

		bucketsAll:   q(`SELECT spec FROM ~.buckets`),
		bucketSet:    q(`INSERT INTO ~.buckets (name, spec) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET spec = excluded.spec`),
		bucketDelete: q(`DELETE FROM ~.buckets WHERE name = $1`),

		dropRecords:          q(`DELETE FROM ~.records WHERE bucket = $1`),
		dropCounters:         q(`DELETE FROM ~.counters WHERE bucket = $1`),
		dropChanges:          q(`DELETE FROM ~.changes WHERE bucket = $1`),
		dropEntries:          q(`DELETE FROM ~.entries WHERE idx = $1`),
		dropPartitionEntries: q(`DELETE FROM ~.partition_entries WHERE idx = $1`),
		dropUniques:          q(`DELETE FROM ~.uniques WHERE idx = $1`),

		anyRecord:    q(`SELECT EXISTS (SELECT 1 FROM ~.records WHERE bucket = $1)`),
		countRecords: q(`SELECT count(*) FROM ~.records WHERE bucket = $1`),

		// One row always: the generation must come even if the record is not there.
		get: q(`SELECT g.value, t.etag, t.modified, t.value::text FROM ~.meta g LEFT JOIN ~.records t
			ON t.bucket = $1 AND t.pp = $2 AND t.ph = $3 AND t.np = $4 AND t.nh = $5 WHERE g.key = 'generation'`),
		counter: q(`SELECT g.value, (SELECT coalesce(sum(t.n), 0)::bigint FROM ~.counters t
			WHERE t.bucket = $1 AND t.pp = $2 AND t.ph = $3 AND t.np = $4 AND t.nh = $5) FROM ~.meta g WHERE g.key = 'generation'`),

		// In the order of the array, which is everybody's.
		lock: q(`SELECT count(CASE WHEN x THEN pg_advisory_xact_lock(k)::text ELSE pg_advisory_xact_lock_shared(k)::text END) FROM unnest($1::bigint[], $2::bool[]) AS l (k, x)`),
		olds: q(`SELECT k.i, t.etag, CASE WHEN k.need THEN t.value::text END
			FROM unnest($1::int[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bool[]) WITH ORDINALITY AS k (bucket, pp, ph, np, nh, need, i)
			JOIN ~.records t ON t.bucket = k.bucket AND ` + keyMatch),
		bounds: q(`SELECT k.i, coalesce(sum(t.n), 0)::bigint, count(t.n) FROM ` + unnestKeys + ` WITH ORDINALITY AS k (bucket, pp, ph, np, nh, i)
			LEFT JOIN ~.counters t ON t.bucket = k.bucket AND ` + keyMatch + ` GROUP BY k.i ORDER BY k.i`),
		owners: q(`SELECT k.i, t.pp, t.ph, t.np, t.nh FROM unnest($1::int[], $2::bytea[]) WITH ORDINALITY AS k (idx, val, i)
			JOIN ~.uniques t ON t.idx = k.idx AND t.val = k.val`),

		upsert: q(`INSERT INTO ~.records (bucket, ` + key4 + `, prest, nrest, etag, modified, value)
			SELECT bucket, ` + key4 + `, prest, nrest, etag, modified, value::json FROM
			unnest($1::int[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[], $7::bytea[], $8::text[], $9::timestamptz[], $10::text[]) AS k (bucket, ` + key4 + `, prest, nrest, etag, modified, value)
			ON CONFLICT (bucket, ` + key4 + `) DO UPDATE SET etag = excluded.etag, modified = excluded.modified, value = excluded.value`),
		remove: q(`DELETE FROM ~.records t USING ` + unnestKeys + ` AS k (bucket, ` + key4 + `) WHERE t.bucket = k.bucket AND ` + keyMatch),

		removeEntries:          q(`DELETE FROM ~.entries t USING ` + unnestEntry + ` AS k (idx, ` + key4 + `, val) WHERE t.idx = k.idx AND t.val = k.val AND ` + keyMatch),
		removePartitionEntries: q(`DELETE FROM ~.partition_entries t USING ` + unnestEntry + ` AS k (idx, ` + key4 + `, val) WHERE t.idx = k.idx AND t.val = k.val AND ` + keyMatch),
		removeUniques:          q(`DELETE FROM ~.uniques t USING ` + unnestEntry + ` AS k (idx, ` + key4 + `, val) WHERE t.idx = k.idx AND t.val = k.val AND ` + keyMatch),

		insertEntries:          q(`INSERT INTO ~.entries (idx, ` + key4 + `, val) SELECT * FROM ` + unnestEntry + ` AS k ON CONFLICT DO NOTHING`),
		insertPartitionEntries: q(`INSERT INTO ~.partition_entries (idx, ` + key4 + `, val) SELECT * FROM ` + unnestEntry + ` AS k ON CONFLICT DO NOTHING`),
		insertUniques: q(`INSERT INTO ~.uniques (idx, ` + key4 + `, val) SELECT * FROM ` + unnestEntry + ` AS k
			ON CONFLICT (idx, val) DO UPDATE SET pp = excluded.pp, ph = excluded.ph, np = excluded.np, nh = excluded.nh`),

		addCounters: q(`INSERT INTO ~.counters AS t (bucket, ` + key4 + `, prest, nrest, slot, n)
			SELECT bucket, ` + key4 + `, prest, nrest, $9, n FROM
			unnest($1::int[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[], $7::bytea[], $8::bigint[]) AS k (bucket, ` + key4 + `, prest, nrest, n)
			ON CONFLICT (bucket, ` + key4 + `, slot) DO UPDATE SET n = t.n + excluded.n`),
		removeCounters: q(`DELETE FROM ~.counters t USING ` + unnestKeys + ` AS k (bucket, ` + key4 + `) WHERE t.bucket = k.bucket AND ` + keyMatch),
		insertChanges: q(`INSERT INTO ~.changes (n, bucket, ` + key4 + `, prest, nrest)
			SELECT i, bucket, ` + key4 + `, prest, nrest FROM
			unnest($1::int[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[], $7::bytea[]) WITH ORDINALITY AS k (bucket, ` + key4 + `, prest, nrest, i)`),
		state: q(`SELECT pg_current_snapshot()::text, coalesce(pg_current_xact_id_if_assigned()::text, '0')`),

		horizon: q(`SELECT pg_current_snapshot()::text, (SELECT value FROM ~.meta WHERE key = 'floor'), (SELECT value FROM ~.meta WHERE key = 'generation')`),
		changes: q(`SELECT c.xid::text, c.n, c.bucket, c.pp, c.ph, c.np, c.nh, c.prest, c.nrest, t.etag, t.modified, t.value::text
			FROM (SELECT * FROM ~.changes
				WHERE xid >= pg_snapshot_xmin($1::text::pg_snapshot) AND (xid, n) > ($3::text::xid8, $4)
					AND NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot) AND pg_visible_in_snapshot(xid, $2::text::pg_snapshot)
				ORDER BY xid, n LIMIT $5) c
			LEFT JOIN ~.records t ON t.bucket = c.bucket AND t.pp = c.pp AND t.ph = c.ph AND t.np = c.np AND t.nh = c.nh
			ORDER BY c.xid, c.n`),
		trim: q(`WITH old AS (DELETE FROM ~.changes WHERE at < now() - $1::interval AND xid < pg_snapshot_xmin(pg_current_snapshot()) RETURNING xid)
			SELECT coalesce(max(xid)::text, '0') FROM old`),
		notify: q(`SELECT pg_notify($1, '')`),
	}
}
