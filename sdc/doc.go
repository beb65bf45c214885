// Package sdc holds the nouns of a data centre (SmartDataCenter in the original), one file each, and the error that every service answers with.
//
// A noun here is a plain value: what a service stores, hands to another service and shows at its door. Behaviour is in the service that owns
// the noun; accounts and everything below them belong to sdc/ufds. Start there to change one, and with sdc/authcache to ask who a caller is and
// what the caller may do.
//
// Values that a service hands out from memory (sdc/authcache does) are shared by all callers: read them, never write to them.
//
//	account.go  Account, Person and the groups that give an account more rights
//	user.go     User, a person below an account
//	key.go      Key, an SSH public key of an account or a user
//	role.go     Role, what ties members to policies
//	policy.go   Policy, a list of rules in the language of sdc/aperture
//	error.go    Error, the one error type for all services
//
// Stability: experimental.
package sdc
