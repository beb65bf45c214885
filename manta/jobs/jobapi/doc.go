// Package jobapi is the part of the HTTP front door that makes compute jobs, takes their input and shows what came of them (the jobs routes of Muskie in the
// original).
//
// [New] checks a [Config]; its [API.Routes] go into webapi.Config.Routes. Nothing here runs a job: a request changes or reads records, and a supervisor that
// watches them does the rest. A job's own directories are made before the answer that names it.
//
// Listings of /:login/jobs and of what lies below a job's directory are the store's own and stay so; only live/… and queries for a state or a name
// are answered here. The routes below live answer as long as there are records of the job, then with 404, and clients go on with the archive.
//
//	api.go     Config, the table of routes     input.go   live/in, with queue.go
//	create.go  POST of a job                   list.go    listings
//	job.go     which job, and whether it may   status.go  status, cancel, what came of it
//
// Stability: experimental.
package jobapi
