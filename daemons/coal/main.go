// Coal is a cloud on a laptop: a head node and its storage nodes in one process, on one directory, with nothing to install.
//
//	go run ./daemons/coal          starts it in the foreground
//	eval "$(coal env)"             lets the command-line tools of a shell talk to it
//	coal help                      lists everything else
//
// Everything it knows and makes is below its directory (-dir); coal destroy removes all of it.
package main

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"

	"github.com/mobulacloud/mobula/daemons/internal/compute"
	"github.com/mobulacloud/mobula/daemons/internal/control"
	"github.com/mobulacloud/mobula/daemons/internal/proc"
)

func main() {
	compute.Tool() // a task's zone knows this program by the names of its tools
	env := proc.OS("coal")
	os.Exit(proc.Main(env, os.Args[1:], commands()))
}

func commands() []proc.Command {
	return slices.Concat([]proc.Command{
		{Name: "up", Args: "[flags]", Summary: "start, in the foreground (also without a command)", Run: up},
		{Name: "env", Summary: "print what a shell needs: eval \"$(coal env)\"", Run: printEnv},
	}, control.Commands(dirFlag), control.NodeCommands(dirFlag), control.RecordCommands(dirFlag), []proc.Command{
		{Name: "destroy", Summary: "stop it and remove everything that it made", Run: destroy},
	})
}

// dirFlag adds -dir, which every command takes.
func dirFlag(env *proc.Env, fs control.FlagSet) *string {
	state := cmp.Or(env.Getenv("XDG_STATE_HOME"), filepath.Join(env.Getenv("HOME"), ".local", "state"))
	return fs.String("dir", filepath.Join(state, "mobula", "coal"), "`directory` of all state")
}
