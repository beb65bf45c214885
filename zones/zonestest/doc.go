// Package zonestest helps to write and to use zone drivers: a conformance suite for authors, a behaving fake for users.
//
// A driver's test calls [TestDriver] and passes when the driver keeps every duty of zones.Driver that it does not
// declare itself unable to. Code that uses drivers takes a [World] and its [World.Driver]: machines that keep state, outlive a
// "restart", honour contexts, run a handful of programs and fail when told to. The fake passes the same suite.
//
// Never rely on the fake for isolation or speed; it has neither. Needs only the standard library, and works inside
// testing/synctest.
//
// Stability: experimental.
package zonestest
