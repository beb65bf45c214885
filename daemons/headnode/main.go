// Headnode runs the management services of a data centre: accounts, the object store's front, and the door through which storage nodes
// join and report.
//
//	headnode up -config headnode.json     starts it in the foreground
//	headnode token NODE                   prints a token with which one storage node can join
//	headnode help                         lists everything else
//
// The configuration is one JSON object; "headnode defaults" prints it with every default.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/mobulacloud/mobula/daemons/internal/control"
	"github.com/mobulacloud/mobula/daemons/internal/proc"
	"github.com/mobulacloud/mobula/daemons/internal/statedir"
	"github.com/mobulacloud/mobula/storage/metastore/pebble"
)

const program = "headnode"

func main() {
	os.Exit(proc.Main(proc.OS(program), os.Args[1:], commands()))
}

func commands() []proc.Command {
	return slices.Concat([]proc.Command{
		{Name: "up", Args: "-config FILE", Summary: "start, in the foreground (also without a command)", Run: up},
		{Name: "defaults", Summary: "print the configuration's defaults", Run: printDefaults},
		{Name: "restore", Args: "FILE [-dir DIR]", Summary: "make a head node's embedded records out of a backup", Run: restore},
		{Name: "token", Args: "NODE", Summary: "print a token with which the storage node NODE can join, once, within the hour", Run: token},
	}, control.Commands(dirFlag), control.NodeCommands(dirFlag), control.AuthorityCommands(dirFlag), control.AuditCommands(dirFlag), control.RecordCommands(dirFlag))
}

// dirFlag adds -dir, which every command takes.
func dirFlag(env *proc.Env, fs control.FlagSet) *string {
	return fs.String("dir", defaults().Dir, "`directory` of all state")
}

func printDefaults(ctx context.Context, env *proc.Env, args []string) error {
	if _, err := proc.Parse(env, proc.Flags(env, "defaults"), args); err != nil {
		return err
	}
	e := json.NewEncoder(env.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(defaults())
}

// restore runs while the head node does not, on a directory without records.
func restore(ctx context.Context, env *proc.Env, args []string) error {
	fs := proc.Flags(env, "restore")
	dir := dirFlag(env, fs)
	args, err := proc.Parse(env, fs, args, "FILE")
	if err != nil {
		return err
	}
	backup, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer backup.Close()
	state, err := statedir.Open(*dir, program)
	if err != nil {
		return err
	}
	defer state.Close()
	return pebble.Restore(ctx, backup, state.Path("records"), pebble.Config{})
}

func token(ctx context.Context, env *proc.Env, args []string) error {
	fs := proc.Flags(env, "token")
	dir := dirFlag(env, fs)
	args, err := proc.Parse(env, fs, args, "NODE")
	if err != nil {
		return err
	}
	t, err := control.NewClient(*dir).CreateToken(ctx, args[0])
	if errors.Is(err, control.ErrNotRunning) {
		return fmt.Errorf("the head node is not running on %s", *dir)
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(env.Stdout, t.Token)
	return nil
}
