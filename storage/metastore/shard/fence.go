package shard

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// A fence says what a shard does with writes to a virtual node. None at all is the same as owned: so it is before anything has moved.
type fence struct {
	State string `json:"state"`
	etag  string
}

const (
	stateOwned    = "owned"    // writes are welcome
	stateCopying  = "copying"  // writes are welcome, and are noted
	stateFrozen   = "frozen"   // no writes: the last of them are being copied
	stateIncoming = "incoming" // no writes yet: the virtual node is on its way here
	stateMoved    = "moved"    // no writes: it is elsewhere
)

func (f fence) writable() bool {
	return f.State == "" || f.State == stateOwned || f.State == stateCopying
}

func fenceKey(vnode int) metastore.Key { return metastore.Key{Name: "v" + strconv.Itoa(vnode)} }

// readFences reads all fences of a shard. There is one for each virtual node that ever moved from or to it.
func readFences(ctx context.Context, store metastore.Store) (map[int]fence, error) {
	fences := map[int]fence{}
	for r, err := range store.Find(ctx, bucketFence, metastore.Query{Partition: metastore.In(""), From: "v"}) {
		if err != nil {
			return nil, fmt.Errorf("read fences: %w", err)
		}
		if r.Key.Name[0] != 'v' {
			break
		}
		n, err := strconv.Atoi(r.Key.Name[1:])
		f := fence{etag: r.Etag}
		if err == nil {
			err = json.Unmarshal(r.Value, &f)
		}
		if err != nil {
			return nil, fmt.Errorf("decode fence %s: %w", r.Key.Name, err)
		}
		fences[n] = f
	}
	return fences, nil
}

// putFences returns the operations that set the fences of some virtual nodes.
func putFences(vnodes []int, state string) (b metastore.Batch) {
	value, _ := json.Marshal(fence{State: state}) // cannot fail
	for _, v := range vnodes {
		b = append(b, metastore.Put{Bucket: bucketFence, Key: fenceKey(v), Value: value})
	}
	return b
}
