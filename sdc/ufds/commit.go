package ufds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// errConflict says that the state which a change was made from is no more: read it again.
var errConflict = errors.New("ufds: state has changed")

// A change is a batch that knows what each refusal of an operation means.
type change struct {
	batch   metastore.Batch
	refused []error // what it means that the operation's condition does not hold; nil is errConflict
}

func (c *change) add(op metastore.Op, refused error) {
	c.batch = append(c.batch, op)
	c.refused = append(c.refused, refused)
}

func (c *change) put(bucket, name string, value any, when metastore.Condition, refused error) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode record %q of %s: %w", name, bucket, err)
	}
	c.add(metastore.Put{Bucket: bucket, Key: metastore.Key{Name: name}, Value: raw, If: when}, refused)
	return nil
}

func (c *change) delete(bucket, name string, when metastore.Condition, refused error) {
	c.add(metastore.Delete{Bucket: bucket, Key: metastore.Key{Name: name}, If: when}, refused)
}

// exists refuses the change unless the record is there.
func (c *change) exists(bucket, name string, refused error) {
	c.add(metastore.Check{Bucket: bucket, Key: metastore.Key{Name: name}, If: metastore.Present()}, refused)
}

// A counter counts what refers to something, so that limits and deletes need no search and no lock.
type counter struct{ bucket, name string }

func usersOf(account string) counter    { return counter{UsersBucket, "users/" + account} }
func rolesOf(account string) counter    { return counter{RolesBucket, "roles/" + account} }
func policiesOf(account string) counter { return counter{PoliciesBucket, "policies/" + account} }
func keysOf(owner string) counter       { return counter{KeysBucket, "keys/" + owner} }

// membershipsOf counts the roles that something is a member of, attachmentsOf those that a policy is attached to.
func membershipsOf(member string) counter { return counter{RolesBucket, "member/" + member} }
func attachmentsOf(policy string) counter { return counter{RolesBucket, "policy/" + policy} }

func (c *change) count(n counter, delta int64) {
	c.add(metastore.Add{Bucket: n.bucket, Key: metastore.Key{Name: n.name}, Delta: delta}, nil)
}

// below refuses the change unless the counter is below a limit.
func (c *change) below(n counter, limit int, refused error) {
	c.add(metastore.CheckCounter{Bucket: n.bucket, Key: metastore.Key{Name: n.name}, Min: math.MinInt64, Max: int64(limit) - 1}, refused)
}

// is refuses the change unless the counter has the value.
func (c *change) is(n counter, value int64, refused error) {
	c.add(metastore.CheckCounter{Bucket: n.bucket, Key: metastore.Key{Name: n.name}, Min: value, Max: value}, refused)
}

func (d *Directory) read(ctx context.Context, n counter) (int64, error) {
	v, err := d.store.Counter(ctx, n.bucket, metastore.Key{Name: n.name})
	if err != nil {
		return 0, fmt.Errorf("read counter %q of %s: %w", n.name, n.bucket, err)
	}
	return v, nil
}

// commit carries the change out. A refusal comes back as the error that its operation was added with.
func (d *Directory) commit(ctx context.Context, c *change) error {
	_, err := d.store.Commit(ctx, c.batch)
	if e, ok := errors.AsType[*metastore.ConditionError](err); ok && e.Op < len(c.refused) {
		if refused := c.refused[e.Op]; refused != nil {
			return refused
		}
		return errConflict
	}
	return err
}

// attempts bounds how often a change is made again because somebody else was faster.
const attempts = 20

// retry calls try until it ends with anything but errConflict.
func retry(ctx context.Context, try func() error) error {
	for range attempts {
		if err := try(); !errors.Is(err, errConflict) {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return errBusy
}
