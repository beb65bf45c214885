// Package pool keeps zones warm and hands them out at once (the job engine takes its zones here; the zone pool of Marlin's agents).
//
// Give [New] a [Factory], run [Pool.Run] for as long as the pool is to live, say with [Pool.Want] how many zones of a class stand
// ready, and take one with [Pool.Get]. The [Lease] is one tenant's: everything of one job and phase may run in it, one
// after another. [Lease.Return] brings the zone back, and it is reset in the background before anybody else gets it.
// [Machines] is the factory over any zones.Driver.
//
// Never give a zone to two tenants under one lease: only Return resets.
//
// The pool is bounded by Config.Max, zones that are out included. When it is full, a caller waits in turn, and zones of classes that
// nobody waits for make room. Works inside testing/synctest.
//
// Stability: experimental.
package pool
