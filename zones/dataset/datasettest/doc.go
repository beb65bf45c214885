// Package datasettest proves an implementation of dataset.Pool: [TestPool] runs every duty that the interface's comment
// states, skipping only what the pool's capabilities leave out; [TestHistory] compares a pool with a model over random verbs.
//
// It needs what the pool needs to mount a tree, which for the pools of this project is root.
//
// Stability: experimental.
package datasettest
