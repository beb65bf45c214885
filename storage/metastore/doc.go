// Package metastore keeps typed records: JSON objects in buckets with indexed fields, compare-and-swap, atomic batches,
// counters and a watch of changes. It follows Moray, SmartDataCenter's key/value store.
//
// [Store] is the contract; open one of its implementations and call [Store.Define] for each of your buckets, every time your
// program starts. Then [Store.Commit] writes, [Store.Get] and [Store.Find] read, and [Store.Watch] tells what changed.
// [Table] is the same for one bucket and one Go type.
//
//   - metastore/pebble is embedded: a directory, nothing to install. It is the default.
//   - metastore/postgres keeps everything in a PostgreSQL database.
//   - metastore/shard spreads partitions over several stores.
//   - metastore/metastoretest has the conformance suite and an in-memory store for tests.
//
// Never assume that two partitions are on one shard without asking [Store.Colocated], and never write a record back
// without its etag unless losing a concurrent change is what you mean.
//
// Files: store.go is the contract, bucket.go schemas, filter.go with parse.go and format.go the filter language, order.go
// the order of keys, errors.go what callers act on, table.go the typed view.
//
// Stability: experimental.
package metastore
