// Package metastoretest tests implementations of metastore.Store, and has a store in memory for tests of what stands on one.
//
// Call [TestStore] with a function that opens an empty store of yours, then [TestHistory], which runs random histories on it and on the
// store in memory, side by side. [NewMemory] is that store: simple enough to be believed, complete, and at home in a testing/synctest
// bubble. It forgets everything when the process ends, so it is not for production.
//
// Files: memory.go with memory_find.go and memory_watch.go is the store, suite.go with the files suite_*.go the suite, history.go the
// random histories.
//
// Stability: experimental.
package metastoretest
