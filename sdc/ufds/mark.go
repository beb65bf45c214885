package ufds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// MarksBucket holds one record, a number that only grows. Whoever follows the directory and has seen it reach a mark has seen every
// change that was made before the mark.
const MarksBucket = "ufds_marks"

var markKey = metastore.Key{Name: "mark"}

// Mark puts a mark after all changes that have returned, and returns it: see authcache's WaitMark.
func (d *Directory) Mark(ctx context.Context) (int64, error) {
	for {
		var was int64
		r, err := d.store.Get(ctx, MarksBucket, markKey)
		switch {
		case errors.Is(err, metastore.ErrNotFound):
		case err != nil:
			return 0, fmt.Errorf("read mark: %w", err)
		default:
			if was, err = DecodeMark(r); err != nil {
				return 0, err
			}
		}
		value, err := json.Marshal(struct {
			Mark int64 `json:"mark"`
		}{was + 1})
		if err != nil {
			return 0, err
		}
		_, err = d.store.Commit(ctx, metastore.Batch{metastore.Put{Bucket: MarksBucket, Key: markKey, Value: value, If: metastore.EtagIs(r.Etag)}})
		if errors.Is(err, metastore.ErrConflict) {
			continue // somebody else's mark came between
		}
		if err != nil {
			return 0, fmt.Errorf("write mark: %w", err)
		}
		return was + 1, nil
	}
}

// DecodeMark reads the record of MarksBucket.
func DecodeMark(r metastore.Record) (int64, error) {
	var v struct {
		Mark int64 `json:"mark"`
	}
	if err := json.Unmarshal(r.Value, &v); err != nil {
		return 0, fmt.Errorf("read mark: %w", err)
	}
	return v.Mark, nil
}
