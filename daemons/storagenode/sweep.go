package main

import (
	"context"
	"fmt"

	"github.com/mobulacloud/mobula/daemons/internal/compute"
	"github.com/mobulacloud/mobula/daemons/internal/config"
	"github.com/mobulacloud/mobula/daemons/internal/proc"
	"github.com/mobulacloud/mobula/daemons/internal/statedir"
)

// sweep removes what tasks left on this machine when the node was killed, for those who will not start it again. A start does the same.
func sweep(ctx context.Context, env *proc.Env, args []string) error {
	cfg := defaults()
	fs := proc.Flags(env, "sweep")
	file := fs.String("config", "", "`file` with the configuration")
	dir := fs.String("dir", "", "`directory` of all state, in place of the configuration's")
	if _, err := proc.Parse(env, fs, args); err != nil {
		return err
	}
	if err := config.Load(*file, &cfg); err != nil {
		return err
	}
	if *dir != "" {
		cfg.Dir = *dir
	}
	state, err := statedir.Open(cfg.Dir, program)
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	defer state.Close()
	return compute.Remove(ctx, state.Path(computeDir), nil)
}
