package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"

	"github.com/mobulacloud/mobula/daemons/internal/compute"
	"github.com/mobulacloud/mobula/daemons/internal/control"
	"github.com/mobulacloud/mobula/daemons/internal/proc"
	"github.com/mobulacloud/mobula/daemons/internal/statedir"
)

// destroy stops the coal on a directory and removes everything it made there.
func destroy(ctx context.Context, env *proc.Env, args []string) error {
	flags := proc.Flags(env, "destroy")
	dir := dirFlag(env, flags)
	if _, err := proc.Parse(env, flags, args); err != nil {
		return err
	}
	abs, err := filepath.Abs(*dir)
	if err != nil {
		return err
	}
	err = control.NewClient(abs).Call(ctx, http.MethodPost, "/shutdown", nil, nil)
	if err != nil && !errors.Is(err, control.ErrNotRunning) {
		return fmt.Errorf("stop coal: %w", err)
	}
	return statedir.Remove(ctx, abs, program, func() error { return compute.Remove(ctx, filepath.Join(abs, computeDir), nil) })
}
