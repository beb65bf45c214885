package ufds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// create puts a new record, or finds that it is there already. more adds what else belongs to the batch, and taken names the unique field that is another's.
func create[T noun](ctx context.Context, d *Directory, bucket, name string, value T, s stored[T], taken func(context.Context, T) error, more func(*change)) (T, error) {
	var none T
	c := new(change)
	if err := c.put(bucket, name, s, metastore.Absent(), nil); err != nil {
		return none, err
	}
	more(c)
	err := d.commit(ctx, c)
	switch {
	case errors.Is(err, errConflict):
		have, _, err := get[T](ctx, d, bucket, name, name)
		if err != nil {
			return none, err
		}
		if !same(have, value) {
			return none, errField("uuid", codeDuplicate, fmt.Sprintf("%q exists already", name))
		}
		return have, nil
	case errors.Is(err, metastore.ErrNotUnique):
		return none, taken(ctx, value)
	case err != nil:
		return none, err
	}
	return value, nil
}

// same reports whether two nouns say the same, times of creation and change aside.
func same[T noun](a, b T) bool {
	var fields [2]map[string]any
	for i, v := range []T{a, b} {
		raw, err := json.Marshal(v)
		if err != nil || json.Unmarshal(raw, &fields[i]) != nil {
			return false
		}
		delete(fields[i], "created_at")
		delete(fields[i], "updated_at")
	}
	return reflect.DeepEqual(fields[0], fields[1])
}

// clone copies a noun, lists and all, so that an edit cannot reach what it is compared with.
func clone[T noun](v T) (T, error) {
	var out T
	raw, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(raw, &out)
	}
	return out, err
}

// update reads, changes and writes back until nobody else was faster. more adds what else belongs to the batch.
func update[T noun](ctx context.Context, d *Directory, bucket, name, what string, edit func(*T) error, check func(old, v *T) error,
	encode func(T) stored[T], taken func(context.Context, T) error, more func(ctx context.Context, c *change, old, v *T) error) (T, error) {
	var result T
	err := retry(ctx, func() error {
		old, etag, err := get[T](ctx, d, bucket, name, what)
		if err != nil {
			return err
		}
		v, err := clone(old)
		if err != nil {
			return err
		}
		if err := edit(&v); err != nil {
			return err
		}
		if err := check(&old, &v); err != nil {
			return err
		}
		c := new(change)
		if err := c.put(bucket, name, encode(v), metastore.EtagIs(etag), nil); err != nil {
			return err
		}
		if more != nil {
			if err := more(ctx, c, &old, &v); err != nil {
				return err
			}
		}
		err = d.commit(ctx, c)
		if errors.Is(err, metastore.ErrNotUnique) {
			return taken(ctx, v)
		}
		result = v
		return err
	})
	if err != nil {
		var none T
		return none, err
	}
	return result, nil
}
