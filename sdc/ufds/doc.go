// Package ufds is the directory of accounts: accounts, their users, keys, roles and policies (UFDS in the original).
//
// Open it with [New] on a metastore, call [Directory.Setup] once at start, then create, get, change and delete. Every change is one atomic batch, so it is
// there wholly or not at all, and holds on its return; whoever watches the store (sdc/authcache does) sees it at once.
//
// The directory keeps itself whole: a login is taken once, members and policies of a role exist, and what something else still refers to is not deleted.
// Several directories may work on one store at the same time, in this process or in others. Never write to its buckets by other means.
//
// Errors are [*sdc.Error]s with CloudAPI's codes: MissingParameter, InvalidArgument and InUse are 409, ResourceNotFound is 404. All problems of an input
// are reported at once, in Fields.
//
// Files: directory.go opens, records.go says how things are stored, accounts.go, users.go, keys.go, roles.go and policies.go hold one noun
// each, validate.go what makes them valid, commit.go how a change is made.
//
// Stability: experimental.
package ufds
