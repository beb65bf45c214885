// Package client is the Go SDK of the object store: it speaks the HTTP API of Manta, to this module's manta/webapi or to
// an original Manta alike.
//
// Begin with [FromEnv], which reads the variables that the command-line tools use (MANTA_URL, MANTA_USER, MANTA_KEY_ID, …) and finds the key in an
// ssh-agent or in ~/.ssh; or fill in [Options] and call [New]. A [Client] may be used by any number of goroutines. Paths are absolute, as
// "/account/stor/dir/name", unescaped; "~~" stands for the client's own account.
//
//	c, err := client.FromEnv(os.Getenv)
//	out, err := c.PutObject(ctx, &client.PutObjectInput{Path: "~~/stor/hello", Body: strings.NewReader("hi")})
//	obj, err := c.GetObject(ctx, &client.GetObjectInput{Path: "~~/stor/hello"})
//	for entry, err := range c.List(ctx, &client.ListInput{Path: "~~/stor"}) { … }
//
// # Files
//
//	client.go      Options, New, Client
//	env.go         options from the environment, keys from files and agents
//	objects.go     PutObject, GetObject, HeadObject, DeleteObject, PutMetadata
//	directories.go PutDirectory, MakeAll, List, Walk, RemoveAll
//	links.go       PutLink
//	multipart.go   the operations of multipart upload
//	jobs.go        CreateJob and its builder, ListJobs
//	job.go         Job: input, status, waiting;  joblists.go: what came of it
//	transfer.go    Upload and Download: large files in parallel parts, with resume and progress
//	presign.go     SignURL;  token.go: CreateToken
//	wait.go        waiters
//	errors.go      codes, and how a refusal reaches the caller
//	stack.go       the smithy-go middleware stack; transport.go: retries below it
//
// # Errors
//
// A refusal by the server is an [*sdc.Error] with its code, inside a [smithy.OperationError]: compare with
// errors.Is(err, client.ErrNotFound) or ask errors.AsType[smithy.APIError] for the code. Content that does not have the check sum that was announced
// is [ErrChecksum].
//
// # Retries
//
// One layer retries: go-retryablehttp, below the stack, and only requests that may be repeated safely (no body or one that can be rewound, no
// condition, no POST but one that may be repeated). A download that breaks goes on where it stopped, with If-Match, so that it is never a mixture of two objects.
//
// Stability: experimental.
package client
