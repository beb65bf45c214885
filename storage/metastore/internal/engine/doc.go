// Package engine is what implementations of metastore.Store share, so that they cannot differ: checked schemas, the order-preserving
// encoding of indexed values, the evaluation of filters, the choice of an index, and the pages of a query.
//
// A store compiles each bucket with [Compile], prepares batches with [Prepare], takes a record's index entries from
// [Schema.Entries], and answers Find with [Find] over its own [Source].
//
// Stability: experimental.
package engine
