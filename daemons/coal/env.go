package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/mobulacloud/mobula/daemons/internal/control"
	"github.com/mobulacloud/mobula/daemons/internal/proc"
)

// printEnv prints export lines for a shell.
func printEnv(ctx context.Context, env *proc.Env, args []string) error {
	flags := proc.Flags(env, "env")
	dir := dirFlag(env, flags)
	if _, err := proc.Parse(env, flags, args); err != nil {
		return err
	}
	abs, err := filepath.Abs(*dir)
	if err != nil {
		return err
	}
	// The doors' file outlives the process: ask whether somebody is there.
	err = control.NewClient(abs).Call(ctx, http.MethodGet, "/ping", nil, nil)
	if errors.Is(err, control.ErrNotRunning) {
		return fmt.Errorf("coal is not running on %s (start it with: coal up -dir %s)", abs, abs)
	}
	if err != nil {
		return err
	}
	d, err := readDoors(abs)
	if err != nil {
		return err
	}
	if err := ensureSSHDir(env.Getenv("HOME")); err != nil {
		return err
	}
	for _, v := range []struct{ name, value string }{
		{"MANTA_URL", d.Manta}, {"MANTA_USER", demoLogin}, {"MANTA_KEY_ID", d.KeyID}, {"MANTA_V2_URL", d.MantaV2},
		{"SSH_AUTH_SOCK", filepath.Join(abs, "agent.sock")}, {"ADMIN_URL", d.Admin},
	} {
		if v.value != "" {
			fmt.Fprintf(env.Stdout, "export %s=%s\n", v.name, quote(v.value))
		}
	}
	return nil
}

// ensureSSHDir makes an empty ~/.ssh where there is none. The demo key is in the agent, but the Node.js tools give up when they cannot
// read that directory, before they have asked the agent.
func ensureSSHDir(home string) error {
	if home == "" {
		return nil
	}
	if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("the tools need a directory ~/.ssh, if only an empty one: %w", err)
	}
	return nil
}

// quote makes one word of a shell out of any text.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%_+=:,./-") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
