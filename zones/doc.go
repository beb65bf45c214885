// Package zones is the contract for one machine, whatever runs it: an OS container or a hardware VM (vmadm on SmartOS).
//
// A [Spec] says what a zone should be, in vmadm's own property names; [ParseSpec] reads and checks a payload and
// reports every problem at once. A [Driver] runs one prepared [Machine] at a time and is what other people implement;
// zones/oci runs OS containers, zones/kvm hardware VMs, zones/zonestest keeps a behaving fake and the suite that proves
// a driver. Most programs want zones/host, which composes images, datasets, networks and drivers into all of vmadm's
// verbs, rather than a driver by itself.
//
// PROPERTIES.md lists every property and what is done with it; [Properties] gives the list to a program, [Capabilities.Supports] says what of a
// spec a driver does not serve.
//
// What never to do: give a driver a root file system, an interface or an id range that another running machine uses,
// or keep a running machine's only description in memory: the [Handle] that Start returns is stored by the caller, and
// after a restart [Driver.Recover] gets it back.
//
// Files: brand.go, spec.go (what is asked for), property.go and validate.go (names, types, limits), optional.go
// (what not every host serves), update.go (changes), zone.go and event.go (what is reported), driver.go, machine.go, exec.go, usage.go, extras.go (what a
// driver does), capabilities.go, errors.go, signal.go.
//
// Stability: experimental.
package zones
