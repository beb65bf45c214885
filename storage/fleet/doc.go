// Package fleet keeps track of the storage nodes: who they are, how full, whether they answer, and what the operator wants of them (minnow and its
// bucket manta_storage in the original).
//
// It has two sides. On the side of the records, a [Registry] takes the [Report] that each node sends every half minute and holds
// the operator's word on a node, its [State]; a node sends its reports with a [Reporter], in process or through [NewClient] to
// [NewHandler]. On the side of the users, a [Fleet] follows the records by watch, dials the nodes, notices failed calls at once,
// probes what is down until it answers, and is the Nodes of storage/durable.
//
// Call [NewRegistry] once where the records are, then [New] in every process that reads or writes objects, and keep [Fleet.Run] going.
//
// The life of a node: it reports and is running; draining, it takes no new copies; lost, its copies do not count any more and are to
// be re-created elsewhere (storage/durable.Repairer.Evacuate), though it may still be read if it answers; once nothing refers to
// it, it is removed and can never come back under its id. Never mark a node lost because it is down for an hour: it brings its
// copies back with it.
//
// Files: record.go (what is stored), registry.go (Registry), reporter.go, wire.go (HTTP), fleet.go with follow.go (Fleet), health.go
// (probing).
//
// Stability: experimental.
package fleet
