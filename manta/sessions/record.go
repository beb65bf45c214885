package sessions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/mobulacloud/mobula/storage/metastore"
)

const sessionBucket = "medusa_sessions"

// record says which front door has a session. Its partition is the session's id. Format 1; a later one would say so in a field "format".
type record struct {
	Format  int       `json:"format,omitempty"`
	ID      string    `json:"session_id"`
	Address string    `json:"address"` // of the front door's Handler
	Account string    `json:"account"`
	Created time.Time `json:"created"`
}

func recordKey(id string) metastore.Key { return metastore.Key{Partition: id, Name: "session"} }

// Define makes the bucket of sessions, or brings it up to date.
func (r *Reflector) Define(ctx context.Context) error {
	if err := r.cfg.Store.Define(ctx, metastore.Bucket{Name: sessionBucket, Version: 1}); err != nil {
		return fmt.Errorf("define bucket of sessions: %w", err)
	}
	return nil
}

// where returns the record of a session and its etag, or metastore.ErrNotFound.
func (r *Reflector) where(ctx context.Context, id string) (record, string, error) {
	rec, err := r.cfg.Store.Get(ctx, sessionBucket, recordKey(id))
	if err != nil {
		return record{}, "", err
	}
	where, err := decode(rec)
	return where, rec.Etag, err
}

func decode(rec metastore.Record) (where record, err error) {
	if err = json.Unmarshal(rec.Value, &where); err == nil && where.Format > 1 {
		err = fmt.Errorf("record of a newer format %d", where.Format)
	}
	if err != nil {
		err = fmt.Errorf("decode record of session %s: %w", rec.Key.Partition, err)
	}
	return where, err
}

// claim records that a session is here. One that this front door had when it died is no hindrance.
func (r *Reflector) claim(ctx context.Context, id, account string) (etag string, err error) {
	have, seen, err := r.where(ctx, id)
	switch {
	case err == nil && have.Address != r.cfg.Address:
		return "", errExists
	case err != nil && !errors.Is(err, metastore.ErrNotFound):
		return "", err
	}
	value, err := json.Marshal(record{ID: id, Address: r.cfg.Address, Account: account, Created: time.Now().UTC()})
	if err != nil {
		return "", err
	}
	result, err := r.cfg.Store.Commit(ctx, metastore.Batch{metastore.Put{Bucket: sessionBucket, Key: recordKey(id), Value: value, If: metastore.EtagIs(seen)}})
	if errors.Is(err, metastore.ErrConflict) {
		return "", errExists
	}
	if err != nil {
		return "", fmt.Errorf("record session %s: %w", id, err)
	}
	return result.Etags[0], nil
}

// forget removes the record of a session that was claimed with an etag.
func (r *Reflector) forget(ctx context.Context, id, etag string) error {
	_, err := r.cfg.Store.Commit(ctx, metastore.Batch{metastore.Delete{Bucket: sessionBucket, Key: recordKey(id), If: metastore.EtagIs(etag)}})
	if errors.Is(err, metastore.ErrConflict) {
		return nil // somebody else's by now
	}
	return err
}

// sweep removes records of sessions that this front door had when it died.
func (r *Reflector) sweep(ctx context.Context) error {
	for rec, err := range r.cfg.Store.Find(ctx, sessionBucket, metastore.Query{Scan: true}) {
		if err != nil {
			return fmt.Errorf("look for old sessions: %w", err)
		}
		where, err := decode(rec)
		if err != nil {
			return err
		}
		if where.Address != r.cfg.Address || r.find(where.ID) != nil {
			continue
		}
		if err := r.forget(ctx, where.ID, rec.Etag); err != nil {
			return fmt.Errorf("remove old session: %w", err)
		}
	}
	return nil
}
