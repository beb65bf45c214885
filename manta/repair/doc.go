// Package repair keeps every object's copies whole: it knows which entries of the namespace lie where, so that storage/durable can re-create what was
// damaged and move what a lost node held (the rebalancer and the audit in the original).
//
// Make one with [New], give [Service.Damaged] to storage/durable and [Service.NodeDamaged] to storage nodes, and keep [Service.Run] going. When a node is lost for
// good, mark it so in storage/fleet and call [Service.Evacuate]. Never remove a node before an evacuation of it has come back without error.
//
// Stability: experimental.
package repair
