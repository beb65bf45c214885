// Package picker chooses the storage nodes for new copies from a snapshot of the fleet: the original's picker, later its storinfo service.
//
// It is pure: a [View] is built from [Report] values and a point in time, and [View.Choose] answers a [Request] with up to three
// disjoint tuples of nodes, to be tried one after another. Nothing here opens a connection, reads a clock or keeps a
// random source. [View.Explain] says for each node whether it was eligible and, if not, by which [Rule], so that an operator can ask
// "why not?".
//
// The rules are the original's: a node takes ordinary writes up to 90 % of its capacity and operators' up to 92 %, its
// report must not be too old, it must have room for all of the object, copies go round the datacentres in random order, and when
// several datacentres are required, a tuple spans at least two. Where the original draws among the fitting nodes evenly, this one
// draws in proportion to their free space and halves the chance of a node with each recent failure.
//
// Never keep a View for long: it judges the age of reports by the time it was built at. storage/fleet builds views from live
// records; storage/durable writes to what was chosen.
//
// Stability: experimental.
package picker
