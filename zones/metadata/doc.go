// Package metadata is how a zone asks its host about itself: the guest metadata protocol, versions 1 and 2 (the metadata
// agent and mdata-client of SmartOS).
//
// The host's side: a [Source] stands for one zone's record; a [Server] answers for it, on a unix socket inside an OS
// container ([Server.Serve]) or as the client of a VM's second serial port ([Server.ServeSerial]). The guest's side: a [Client],
// and [GuestMain], which is mdata-get, mdata-put, mdata-list and mdata-delete for a program that is called by one of those
// names.
//
// What is read with `sdc:` in front is a property of the zone; keys that end in `_pw`, and keys of the namespaces that the
// operator keeps for himself, are internal metadata; all else is the customer's metadata. A guest can change the customer's
// and the `_pw` ones, within [Quota]. Never answer `sdc:` from all of a zone's record: much in it is not the tenant's to
// see, so only the properties listed in keys.go are.
//
// The files: frame.go (the wire), keys.go (which key is what), server.go, client.go, guest.go.
//
// Stability: experimental.
package metadata
