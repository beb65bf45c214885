package control

import (
	"context"
	"net/http"
	"path/filepath"

	"github.com/mobulacloud/mobula/daemons/internal/proc"
	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/shard"
)

// Records serves the part of the API that looks after the store of records: backups of the embedded one, the layout of a ring.
type Records struct {
	Store metastore.Store
}

// A backuper is a store that can copy itself while it is used.
type backuper interface {
	BackupFile(ctx context.Context, path string) error
}

// Routes adds the API to a mux.
func (s *Records) Routes(mux *http.ServeMux) {
	route := func(pattern string, handle func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			out, err := handle(r)
			Reply(w, out, err)
		})
	}
	route("POST /records/backup", s.backup)
	ring := func(do func(*shard.Store, *http.Request) (any, error)) func(*http.Request) (any, error) {
		return func(r *http.Request) (any, error) {
			ring, ok := s.Store.(*shard.Store)
			if !ok {
				return nil, &sdc.Error{Code: "InvalidState", Message: "the records are in one store, not on a ring of several", Status: http.StatusConflict}
			}
			return do(ring, r)
		}
	}
	route("GET /records/layout", ring(func(ring *shard.Store, r *http.Request) (any, error) { return ring.Layout(r.Context()) }))
	// Moves go on when the one who asked for them leaves: their steps are records, but somebody has to take them.
	route("POST /records/rebalance", ring(func(ring *shard.Store, r *http.Request) (any, error) {
		return nil, ring.Rebalance(context.WithoutCancel(r.Context()))
	}))
	route("POST /records/drain/{shard}", ring(func(ring *shard.Store, r *http.Request) (any, error) {
		return nil, ring.Drain(context.WithoutCancel(r.Context()), r.PathValue("shard"))
	}))
	route("POST /records/resume", ring(func(ring *shard.Store, r *http.Request) (any, error) {
		return nil, ring.Resume(context.WithoutCancel(r.Context()))
	}))
}

// NewBackup asks for a backup in a file on the daemon's machine.
type NewBackup struct {
	File string `json:"file"`
}

func (s *Records) backup(r *http.Request) (any, error) {
	var in NewBackup
	if err := Decode(r, &in); err != nil {
		return nil, err
	}
	b, ok := s.Store.(backuper)
	if !ok {
		return nil, &sdc.Error{Code: "InvalidState", Message: "the records are in PostgreSQL: back them up by its own means", Status: http.StatusConflict}
	}
	if !filepath.IsAbs(in.File) {
		return nil, &sdc.Error{Code: "InvalidArgument", Message: "file must be an absolute path", Status: http.StatusConflict}
	}
	return nil, b.BackupFile(r.Context(), in.File)
}

// RecordCommands returns the commands that look after the store of records.
func RecordCommands(dirFlag func(env *proc.Env, fs FlagSet) *string) []proc.Command {
	c := commands{dirFlag}
	return []proc.Command{
		{Name: "records backup", Args: "FILE", Summary: "copy the embedded store of records to a file, while it is used", Run: c.backup},
		{Name: "records layout", Summary: "print the layout of a ring of shards as JSON", Run: c.show("records layout", "/records/layout")},
		{Name: "records rebalance", Summary: "give every shard an equal share, while the ring is used", Run: c.ring("rebalance")},
		{Name: "records drain", Args: "SHARD", Summary: "move everything off a shard, so that it can be left out", Run: c.ring("drain", "SHARD")},
		{Name: "records resume", Summary: "complete moves that were cut off", Run: c.ring("resume")},
	}
}

func (c commands) backup(ctx context.Context, env *proc.Env, args []string) error {
	fs := proc.Flags(env, "records backup")
	dir := c.dirFlag(env, fs)
	args, err := proc.Parse(env, fs, args, "FILE")
	if err != nil {
		return err
	}
	file, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	return call(ctx, env, *dir, http.MethodPost, "/records/backup", NewBackup{File: file}, nil)
}

func (c commands) ring(verb string, args ...string) func(context.Context, *proc.Env, []string) error {
	return func(ctx context.Context, env *proc.Env, argv []string) error {
		fs := proc.Flags(env, "records "+verb)
		dir := c.dirFlag(env, fs)
		argv, err := proc.Parse(env, fs, argv, args...)
		if err != nil {
			return err
		}
		path := "/records/" + verb
		for _, a := range argv {
			path += fill("/%s", []string{a})
		}
		return call(ctx, env, *dir, http.MethodPost, path, nil, nil)
	}
}
