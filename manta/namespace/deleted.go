package namespace

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// A Deleted is a line of the delete log: bytes to which one entry less refers. It was written in the batch that took the entry away.
type Deleted struct {
	ObjectID string          `json:"objectId"`
	Owner    string          `json:"creator"` // account under which the bytes are filed
	Size     int64           `json:"contentLength"`
	Sharks   []storage.Shark `json:"sharks"`
	LinkID   string          `json:"linkId,omitempty"`
	Time     int64           `json:"time"` // of the deletion, milliseconds

	key metastore.Key
}

// When returns the time of the deletion.
func (d *Deleted) When() time.Time { return time.UnixMilli(d.Time) }

// deletedOp returns the operation that logs a deletion, for a batch in the partition that held the entry; nil where there are no bytes.
func (n *Namespace) deletedOp(e *manta.Entry) metastore.Op {
	if e == nil || e.Type != manta.TypeObject || len(e.Sharks) == 0 {
		return nil
	}
	d := Deleted{
		ObjectID: e.ObjectID, Owner: e.BytesOwner(), Size: e.Size, Sharks: e.Sharks, LinkID: e.LinkID,
		Time: n.now().UnixMilli(),
	}
	v, err := json.Marshal(&d)
	if err != nil {
		panic(err) // strings and numbers
	}
	// The name's tail keeps apart two deletions of one snaplinked object in one directory.
	name := d.ObjectID + "/" + strconv.FormatInt(d.Time, 10) + "/" + e.Key.Name()
	if len(name) > metastore.MaxKeyPart {
		name = name[:metastore.MaxKeyPart]
	}
	return metastore.Put{Bucket: DeletedBucket, Key: metastore.Key{Partition: string(e.Key.Dir()), Name: name}, Value: v}
}

// Deletions yields the delete log up to a time, oldest first. The sequence ends after an error, which is its last element.
func (n *Namespace) Deletions(ctx context.Context, until time.Time) iter.Seq2[*Deleted, error] {
	return func(yield func(*Deleted, error) bool) {
		q := metastore.Query{OrderBy: "time", Filter: metastore.Le{Field: "time", Value: float64(until.UnixMilli())}}
		for rec, err := range n.store.Find(ctx, DeletedBucket, q) {
			var d Deleted
			if err == nil {
				err = json.Unmarshal(rec.Value, &d)
			}
			if err != nil {
				yield(nil, fmt.Errorf("read delete log: %w", err))
				return
			}
			d.key = rec.Key
			if !yield(&d, nil) {
				return
			}
		}
	}
}

// Referenced reports whether an entry still refers to the bytes of a deletion. The answer "no" stays true once the deletion is older than any
// request that was under way when it happened: nobody can link to what has no entry.
func (n *Namespace) Referenced(ctx context.Context, d *Deleted) (bool, error) {
	if d.LinkID == "" {
		return false, nil
	}
	q := metastore.Query{Filter: metastore.Eq{Field: "linkId", Value: d.LinkID}, Limit: 1}
	for _, err := range n.store.Find(ctx, Bucket, q) {
		if err != nil {
			return false, fmt.Errorf("look for links to %s: %w", d.ObjectID, err)
		}
		return true, nil
	}
	return false, nil
}

// Forget removes a line of the delete log. It may be repeated.
func (n *Namespace) Forget(ctx context.Context, d *Deleted) error {
	_, err := n.store.Commit(ctx, metastore.Batch{metastore.Delete{Bucket: DeletedBucket, Key: d.key}})
	if err != nil {
		return fmt.Errorf("remove %s from delete log: %w", d.ObjectID, err)
	}
	return nil
}
