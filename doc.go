// Package mobula is the map of the module: SmartDataCenter and Manta for stock Linux, as importable packages.
//
// It exports nothing. Find the package for what you want to do:
//
//	I want to …                                             import …
//	talk to an object store from a program                  manta/client
//	serve the object store's HTTP API from my own process   manta/webapi
//	keep directories, objects and links as records          manta/namespace
//	run programs on objects where they lie                  manta/client (Job); to serve them: manta/jobs
//	test a program that makes jobs                          manta/jobs/jobstest
//	give people a terminal beside an object                 manta/sessions
//	keep the bytes of objects on one server                 storage/objfile, storage/nodehttp
//	write copies to several servers and read what is intact storage/durable, storage/picker
//	keep typed records with indexes, conditions and watch   storage/metastore (pebble, postgres, shard)
//	keep accounts, keys, roles; check signatures and rules  sdc/ufds, sdc/authcache, sdc/aperture
//	run OS containers and virtual machines on one server    zones, zones/host
//	write a driver for machines                             zones, zones/zonestest
//
// Imports run one way:
//
//	daemons, examples → manta → sdc → zones, storage → internal
//
// The programs under daemons wire these packages into a head node, storage nodes and, in one process, a whole data
// centre on a laptop: go run ./daemons/coal. ARCHITECTURE.md tells how the parts work together and why.
package mobula
