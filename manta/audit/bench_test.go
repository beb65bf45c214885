package audit

import (
	"context"
	"fmt"
	"iter"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/durable"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/pebble"
)

// BenchmarkRound goes round over 100,000 objects in two copies, as fast as records and listings come.
func BenchmarkRound(b *testing.B) {
	const objects = 100_000
	ctx := context.Background()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	store, err := pebble.Open("records", pebble.Config{FS: vfs.NewMem()})
	must(err)
	defer store.Close()
	ns, err := namespace.New(namespace.Config{Store: store})
	must(err)
	must(ns.Define(ctx))
	nodes := listed{infos: make([]storage.Info, objects)}
	var batch metastore.Batch
	for i := range nodes.infos {
		id := storage.ObjectID{Owner: uuid.MustParse(owner), Object: uuid.UUID{byte(i >> 16), byte(i >> 8), byte(i), 15: byte(i)}}
		nodes.infos[i] = storage.Info{ID: id, Size: 1}
		batch = append(batch, metastore.Put{Bucket: namespace.Bucket, Key: metastore.Key{Partition: string(stor), Name: fmt.Sprintf("object-%08d", i)},
			Value: fmt.Appendf(nil, `{"mtime":1,"objectId":%q,"contentLength":1,"contentMD5":"AAAAAAAAAAAAAAAAAAAAAA==","sharks":[{"datacenter":"dc","manta_storage_id":"1"},{"datacenter":"dc","manta_storage_id":"2"}]}`, id.Object)})
		if len(batch) == 1000 {
			_, err := store.Commit(ctx, batch)
			must(err)
			batch = batch[:0]
		}
	}
	a, err := New(Config{Namespace: ns, Store: store, Nodes: nodes, Names: func() []string { return []string{"1", "2"} }, Repair: reader{}, Settle: 1, Rate: -1})
	must(err)
	must(a.Define(ctx))
	b.ReportAllocs()
	for b.Loop() {
		must(a.RunOnce(ctx))
	}
	b.ReportMetric(float64(objects*b.N)/b.Elapsed().Seconds(), "objects/s")
	if m := a.Metrics(); m.Orphans+m.Missing+m.Wrong+m.Strays != 0 || m.Entries < objects {
		b.Errorf("metrics: %+v", m)
	}
}

type none = storage.Node

// listed is every node: one that only lists.
type listed struct {
	none
	infos []storage.Info
}

func (n listed) Node(string) (storage.Node, error) { return n, nil }
func (n listed) Standing(string) durable.Standing  { return durable.Up }
func (n listed) Usage(context.Context) (storage.Usage, error) {
	return storage.Usage{Objects: int64(len(n.infos))}, nil
}

func (n listed) List(_ context.Context, after storage.ObjectID) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for _, info := range n.infos {
			if info.ID.Compare(after) > 0 && !yield(info, nil) {
				return
			}
		}
	}
}
