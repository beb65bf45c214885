package ufds

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// A Config says how to open a [Directory].
type Config struct {
	// Store keeps the records. Required.
	Store metastore.Store

	// Limits bound what one account may have.
	Limits Limits
}

// Limits bound what one account may have. Zero fields mean the defaults below; reaching a limit is InvalidArgument (409).
type Limits struct {
	Users    int // of an account; 10,000
	Roles    int // of an account; 1,000
	Policies int // of an account; 1,000
	Keys     int // of an account or a user; 100
	Rules    int // of a policy; 1,000
	Members  int // of a role; 2,000, which is also the most
	Attached int // policies of a role; 500, which is also the most
}

// Every member and policy of a role costs two operations of the batch that writes it.
var defaultLimits = Limits{Users: 10000, Roles: 1000, Policies: 1000, Keys: 100, Rules: 1000, Members: 2000, Attached: 500}

// A Directory keeps accounts and what belongs to them. Its methods may be called by any number of goroutines at once.
//
// Create takes a uuid of the caller's choice in the noun, or makes one. With one it is safe to repeat: when the very same thing is there already, that is returned. Update
// calls change with the present state and stores what it leaves behind; change may be called again when somebody else was faster, and an error of it ends the
// update. uuid, owner and time of creation cannot be changed. Delete of what is not there is ResourceNotFound, so that after a lost answer it means done.
type Directory struct {
	store  metastore.Store
	limits Limits
}

// New checks a configuration and returns the directory in the store. Call Setup before anything else.
func New(cfg Config) (*Directory, error) {
	if cfg.Store == nil {
		return nil, errors.New("ufds: Config.Store is required")
	}
	l := cfg.Limits
	for _, f := range []struct {
		name string
		v    *int
		def  int
		most int
	}{
		{"Users", &l.Users, defaultLimits.Users, 1 << 30}, {"Roles", &l.Roles, defaultLimits.Roles, 1 << 30},
		{"Policies", &l.Policies, defaultLimits.Policies, 1 << 30}, {"Keys", &l.Keys, defaultLimits.Keys, 5000},
		{"Rules", &l.Rules, defaultLimits.Rules, 10000}, {"Members", &l.Members, defaultLimits.Members, defaultLimits.Members},
		{"Attached", &l.Attached, defaultLimits.Attached, defaultLimits.Attached},
	} {
		if *f.v == 0 {
			*f.v = f.def
		}
		if *f.v < 0 || *f.v > f.most {
			return nil, fmt.Errorf("ufds: Limits.%s must be between 1 and %d", f.name, f.most)
		}
	}
	return &Directory{store: cfg.Store, limits: l}, nil
}

// Setup makes the buckets. It may be repeated, also by several programs at once.
func (d *Directory) Setup(ctx context.Context) error {
	for _, b := range Buckets() {
		if err := d.store.Define(ctx, b); err != nil {
			return fmt.Errorf("set up directory of accounts: %w", err)
		}
	}
	return nil
}

// get reads one record. what names it in the error when it is not there.
func get[T noun](ctx context.Context, d *Directory, bucket, name, what string) (value T, etag string, err error) {
	r, err := d.store.Get(ctx, bucket, metastore.Key{Name: name})
	if errors.Is(err, metastore.ErrNotFound) || errors.Is(err, metastore.ErrInvalid) {
		return value, "", errNotFound(what)
	}
	if err != nil {
		return value, "", fmt.Errorf("read %s: %w", what, err)
	}
	value, err = Decode[T](r)
	return value, r.Etag, err
}

// byAlias finds the record with a unique name.
func byAlias[T noun](ctx context.Context, d *Directory, bucket, alias, what string) (value T, err error) {
	q := metastore.Query{Partition: metastore.In(""), Filter: metastore.Eq{Field: aliasField, Value: alias}, Limit: 1}
	for r, err := range d.store.Find(ctx, bucket, q) {
		if err != nil {
			return value, fmt.Errorf("find %s: %w", what, err)
		}
		return Decode[T](r)
	}
	return value, errNotFound(what)
}

// list yields the records with a value in an indexed field; all of them for an empty field.
func list[T noun](ctx context.Context, d *Directory, bucket, field, value string) iter.Seq2[T, error] {
	q := metastore.Query{Partition: metastore.In("")}
	if field != "" {
		q.Filter = metastore.Eq{Field: field, Value: value}
	}
	return func(yield func(T, error) bool) {
		for r, err := range d.store.Find(ctx, bucket, q) {
			var v T
			if err == nil {
				v, err = Decode[T](r)
			}
			if !yield(v, err) || err != nil {
				return
			}
		}
	}
}

// stamp returns the time that is stored, in milliseconds as the original has it.
func stamp() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

func newUUID() string { return uuid.NewString() }
