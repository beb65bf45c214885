package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/internal/engine"
)

// bucketSpec is a bucket as it is stored.
type bucketSpec struct {
	ID      uint32           `json:"id"`
	Bucket  metastore.Bucket `json:"bucket"`
	Indexes []indexSpec      `json:"indexes"` // as Bucket.Indexes

	// How far Reindex has come, while any index is being built.
	After metastore.Key `json:"after,omitzero"`
	Begun bool          `json:"begun,omitempty"`
	Total int           `json:"total,omitempty"`
	Done  int           `json:"done,omitempty"`
}

type indexSpec struct {
	ID       uint32 `json:"id"`
	Building bool   `json:"building,omitempty"`
}

// A bucket is a schema with its ids. It is immutable.
type bucket struct {
	bucketSpec
	schema *engine.Schema
}

// buckets is one generation of schemas, as this process knows it.
type buckets struct {
	generation string
	byName     map[string]*bucket
	byID       map[uint32]*bucket
}

func (b *buckets) schema(name string) *engine.Schema {
	if x := b.byName[name]; x != nil {
		return x.schema
	}
	return nil
}

func of(s *engine.Schema) *bucket { return s.Data.(*bucket) }

// errStale says that another process has changed schemas; reload and try again.
var errStale = errors.New("schemas have changed")

func newBucket(m bucketSpec) (*bucket, error) {
	schema, err := engine.Compile(m.Bucket)
	if err != nil {
		return nil, err
	}
	if len(m.Indexes) != len(schema.Indexes) {
		return nil, fmt.Errorf("metastore/postgres: corrupt bucket %s", m.Bucket.Name)
	}
	b := &bucket{m, schema}
	b.Bucket = schema.Bucket
	schema.Data = b
	for i, x := range m.Indexes {
		schema.Usable[i] = !x.Building
	}
	return b, nil
}

// reload reads all schemas.
func (s *Store) reload(ctx context.Context) error {
	return s.transact(ctx, func(tx pgx.Tx) error {
		all, err := s.loadBuckets(ctx, tx)
		if err == nil {
			s.buckets.Store(all)
		}
		return err
	})
}

func (s *Store) loadBuckets(ctx context.Context, tx pgx.Tx) (*buckets, error) {
	all := &buckets{byName: map[string]*bucket{}, byID: map[uint32]*bucket{}}
	// The generation first: should the schemas change in between, it is the one that shows as stale.
	if err := tx.QueryRow(ctx, s.sql.metaGet, "generation").Scan(&all.generation); err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, s.sql.bucketsAll)
	if err != nil {
		return nil, err
	}
	specs, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	for _, spec := range specs {
		var m bucketSpec
		if err := json.Unmarshal([]byte(spec), &m); err != nil {
			return nil, fmt.Errorf("metastore/postgres: corrupt bucket: %w", err)
		}
		b, err := newBucket(m)
		if err != nil {
			return nil, err
		}
		all.byName[b.Bucket.Name], all.byID[b.ID] = b, b
	}
	return all, nil
}

// restructure runs do alone, with the present schemas, and makes every process load them anew if do reports a change.
func (s *Store) restructure(ctx context.Context, do func(tx pgx.Tx, all *buckets) (changed bool, err error)) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return s.transact(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, s.locks+lockStructure); err != nil {
			return err
		}
		all, err := s.loadBuckets(ctx, tx)
		if err != nil {
			return err
		}
		changed, err := do(tx, all)
		if err != nil || !changed {
			return err
		}
		n, err := strconv.ParseUint(all.generation, 10, 64)
		if err != nil {
			return fmt.Errorf("metastore/postgres: corrupt generation: %w", err)
		}
		_, err = tx.Exec(ctx, s.sql.metaSet, "generation", strconv.FormatUint(n+1, 10))
		return err
	})
}

func (s *Store) saveBucket(ctx context.Context, tx pgx.Tx, m bucketSpec) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, s.sql.bucketSet, m.Bucket.Name, string(text))
	return err
}

// Define implements metastore.Store.
func (s *Store) Define(ctx context.Context, want metastore.Bucket) error {
	schema, err := engine.Compile(want)
	if err != nil {
		return err
	}
	err = s.restructure(ctx, func(tx pgx.Tx, all *buckets) (bool, error) {
		old := all.byName[want.Name]
		if old != nil {
			if done, err := engine.Supersedes(schema, old.schema); done || err != nil {
				return false, err
			}
		}
		var text string
		if err := tx.QueryRow(ctx, s.sql.metaGet, "next").Scan(&text); err != nil {
			return false, err
		}
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return false, fmt.Errorf("metastore/postgres: corrupt id: %w", err)
		}
		next := uint32(n)
		m := bucketSpec{Bucket: schema.Bucket, Indexes: make([]indexSpec, len(schema.Indexes))}
		dropped := map[uint32]bool{}
		building := false
		if old == nil {
			m.ID = next
			next++
		} else {
			m.ID = old.ID
			for _, x := range old.Indexes {
				dropped[x.ID] = true
			}
			if err := tx.QueryRow(ctx, s.sql.anyRecord, m.ID).Scan(&building); err != nil {
				return false, err
			}
		}
		for i, x := range schema.Indexes {
			if old != nil {
				if j, ok := old.schema.Index(x.Field); ok && old.schema.Indexes[j] == x {
					m.Indexes[i] = old.Indexes[j]
					delete(dropped, old.Indexes[j].ID)
					continue
				}
			}
			m.Indexes[i] = indexSpec{ID: next, Building: building}
			next++
		}
		for id := range dropped {
			if err := s.dropIndex(ctx, tx, id); err != nil {
				return false, err
			}
		}
		if _, err := tx.Exec(ctx, s.sql.metaSet, "next", strconv.FormatUint(uint64(next), 10)); err != nil {
			return false, err
		}
		return true, s.saveBucket(ctx, tx, m)
	})
	if err != nil {
		return err
	}
	return s.reload(ctx)
}

func (s *Store) dropIndex(ctx context.Context, tx pgx.Tx, id uint32) error {
	for _, query := range []string{s.sql.dropEntries, s.sql.dropPartitionEntries, s.sql.dropUniques} {
		if _, err := tx.Exec(ctx, query, id); err != nil {
			return err
		}
	}
	return nil
}

// Buckets implements metastore.Store.
func (s *Store) Buckets(ctx context.Context) ([]metastore.Bucket, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := s.reload(ctx); err != nil {
		return nil, err
	}
	var list []metastore.Bucket
	for _, b := range s.buckets.Load().byName {
		x := b.Bucket
		x.Indexes = slices.Clone(x.Indexes)
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b metastore.Bucket) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// Drop implements metastore.Store.
func (s *Store) Drop(ctx context.Context, name string) error {
	err := s.restructure(ctx, func(tx pgx.Tx, all *buckets) (bool, error) {
		b := all.byName[name]
		if b == nil {
			return false, nil
		}
		for _, query := range []string{s.sql.dropRecords, s.sql.dropCounters, s.sql.dropChanges} {
			if _, err := tx.Exec(ctx, query, b.ID); err != nil {
				return false, err
			}
		}
		for _, x := range b.Indexes {
			if err := s.dropIndex(ctx, tx, x.ID); err != nil {
				return false, err
			}
		}
		_, err := tx.Exec(ctx, s.sql.bucketDelete, name)
		return true, err
	})
	if err != nil {
		return err
	}
	return s.reload(ctx)
}

// reindexStep is how many records are done while commits wait.
const reindexStep = 500

// Reindex implements metastore.Store.
func (s *Store) Reindex(ctx context.Context, name string, n int) (left int, err error) {
	if n <= 0 {
		return 0, fmt.Errorf("%w: reindex of %d records", metastore.ErrInvalid, n)
	}
	for {
		done := false
		step := min(n, reindexStep)
		err := s.restructure(ctx, func(tx pgx.Tx, all *buckets) (changed bool, err error) {
			left, changed, err = s.reindexSome(ctx, tx, all, name, step)
			done = left == 0
			return changed && done, err
		})
		if err != nil {
			return 0, err
		}
		if done {
			return 0, s.reload(ctx)
		}
		if n -= step; n == 0 {
			return left, nil
		}
	}
}

func (s *Store) reindexSome(ctx context.Context, tx pgx.Tx, all *buckets, name string, n int) (left int, changed bool, err error) {
	b := all.byName[name]
	if b == nil {
		return 0, false, fmt.Errorf("%w: %.80q", metastore.ErrNoBucket, name)
	}
	m := b.bucketSpec
	m.Indexes = slices.Clone(m.Indexes)
	if !slices.ContainsFunc(m.Indexes, func(x indexSpec) bool { return x.Building }) {
		return 0, false, nil
	}
	request := engine.Request{Schema: b.schema, Scan: engine.Scan{Index: -1}, N: n}
	if m.Begun {
		request.Start = &engine.Cursor{Key: m.After}
	} else if err := tx.QueryRow(ctx, s.sql.countRecords, m.ID).Scan(&m.Total); err != nil {
		return 0, false, err
	}
	rows, done, err := s.page(ctx, tx, request)
	if err != nil {
		return 0, false, err
	}
	w := writes{s: s}
	claimed := map[string]claim{}
	for _, r := range rows {
		for _, e := range b.schema.FittingEntries(r.Record.Value) {
			if b.Indexes[e.Index].Building {
				w.entry(b, e, r.Record.Key, true)
				if b.schema.Indexes[e.Index].Unique {
					u := claim{b.Indexes[e.Index].ID, e.Value, r.Record.Key, &metastore.UniqueError{Op: -1, Bucket: name, Field: b.schema.Indexes[e.Index].Field, Key: r.Record.Key}}
					if other, twice := claimed[u.text()]; twice && other.key != u.key {
						return 0, false, u.err
					}
					claimed[u.text()] = u
				}
			}
		}
		m.After = r.Record.Key
	}
	if err := s.checkClaims(ctx, tx, claimed, nil); err != nil {
		return 0, false, err
	}
	batch := &pgx.Batch{}
	w.queue(batch)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return 0, false, err
	}
	m.Begun = true
	m.Done += len(rows)
	left = max(m.Total-m.Done, 1)
	if done {
		left = 0
		for i := range m.Indexes {
			m.Indexes[i].Building = false
		}
		m.After, m.Begun, m.Total, m.Done = metastore.Key{}, false, 0, 0
	}
	return left, true, s.saveBucket(ctx, tx, m)
}
