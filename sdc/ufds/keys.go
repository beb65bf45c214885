package ufds

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/mobulacloud/mobula/internal/httpsig"
	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// AddKey gives an account or user (owner is its uuid) a key, as a line of an authorized_keys file or PEM. An empty name means the MD5 fingerprint. It may be repeated: the same
// key under the same name is returned as it is. Another key of that name, or that key by another name, is InvalidArgument (409).
func (d *Directory) AddKey(ctx context.Context, owner, name, text string) (sdc.Key, error) {
	var p problems
	p.uuid("owner", owner)
	var public *httpsig.PublicKey
	if strings.TrimSpace(text) == "" {
		p.add("key", codeMissing, "key is required")
	} else {
		var err error
		if public, err = httpsig.ParsePublicKey(text); err != nil {
			p.add("key", codeInvalid, "key is invalid: "+err.Error())
		} else if name == "" {
			name = public.MD5()
		}
	}
	if public != nil || name != "" {
		p.name(name, "")
	}
	if err := p.err(); err != nil {
		return sdc.Key{}, err
	}
	k := sdc.Key{Owner: owner, Name: name, Fingerprint: public.MD5(), SHA256: public.SHA256(), OpenSSH: public.OpenSSH(), Created: stamp()}
	bucket, err := d.ownerBucket(ctx, owner)
	if err != nil {
		return sdc.Key{}, err
	}
	c := new(change)
	if err := c.put(KeysBucket, KeyName(owner, k.Fingerprint), keyRecord(k), metastore.Absent(), nil); err != nil {
		return sdc.Key{}, err
	}
	c.exists(bucket, owner, errNotFound("owner "+owner))
	c.below(keysOf(owner), d.limits.Keys, errField("key", codeLimit, fmt.Sprintf("there are %d keys, which is the limit", d.limits.Keys)))
	c.count(keysOf(owner), 1)
	err = d.commit(ctx, c)
	switch {
	case errors.Is(err, errConflict):
		have, err := d.Key(ctx, owner, k.Fingerprint)
		if err != nil {
			return sdc.Key{}, err
		}
		if have.Name != name {
			return sdc.Key{}, errField("key", codeDuplicate, fmt.Sprintf("key exists already, under the name %q", have.Name))
		}
		return have, nil
	case errors.Is(err, metastore.ErrNotUnique):
		return sdc.Key{}, errField("name", codeDuplicate, fmt.Sprintf("another key has the name %q", name))
	case err != nil:
		return sdc.Key{}, err
	}
	return k, nil
}

// ownerBucket tells whether a uuid is an account's or a user's.
func (d *Directory) ownerBucket(ctx context.Context, uuid string) (string, error) {
	for _, bucket := range []string{AccountsBucket, UsersBucket} {
		_, err := d.store.Get(ctx, bucket, metastore.Key{Name: uuid})
		if err == nil {
			return bucket, nil
		}
		if !errors.Is(err, metastore.ErrNotFound) {
			return "", fmt.Errorf("read owner %s: %w", uuid, err)
		}
	}
	return "", errNotFound("account or user " + uuid)
}

// Key returns a key of an owner by its name or its fingerprint (MD5, or SHA256:…).
func (d *Directory) Key(ctx context.Context, owner, nameOrFingerprint string) (sdc.Key, error) {
	for k, err := range d.Keys(ctx, owner) {
		if err != nil {
			return sdc.Key{}, err
		}
		if k.Name == nameOrFingerprint || k.Fingerprint == nameOrFingerprint || "MD5:"+k.Fingerprint == nameOrFingerprint || k.SHA256 == nameOrFingerprint {
			return k, nil
		}
	}
	return sdc.Key{}, errNotFound("key " + nameOrFingerprint)
}

// Keys yields the keys of an account or user, by fingerprint.
func (d *Directory) Keys(ctx context.Context, owner string) iter.Seq2[sdc.Key, error] {
	return list[sdc.Key](ctx, d, KeysBucket, "owner", owner)
}

// DeleteKey removes a key by its name or fingerprint.
func (d *Directory) DeleteKey(ctx context.Context, owner, nameOrFingerprint string) error {
	return retry(ctx, func() error {
		k, err := d.Key(ctx, owner, nameOrFingerprint)
		if err != nil {
			return err
		}
		c := new(change)
		c.delete(KeysBucket, KeyName(owner, k.Fingerprint), metastore.Present(), nil)
		c.count(keysOf(owner), -1)
		return d.commit(ctx, c)
	})
}

// dropKeys adds to a change that an owner's keys go.
func (d *Directory) dropKeys(ctx context.Context, c *change, owner string) error {
	n, err := d.read(ctx, keysOf(owner))
	if err != nil || n == 0 {
		c.is(keysOf(owner), 0, nil)
		return err
	}
	c.is(keysOf(owner), n, nil)
	c.count(keysOf(owner), -n)
	c.add(metastore.DeleteMany{Bucket: KeysBucket, Query: metastore.Query{
		Partition: metastore.In(""), Filter: metastore.Eq{Field: "owner", Value: owner}, Limit: metastore.MaxBatchOps}}, nil)
	return nil
}
