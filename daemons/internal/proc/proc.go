// Package proc is what every daemon's main does around its work: flags, signals, logs and exit codes.
//
// A daemon is a [Command] with subcommands, each a function that is given a context which ends at SIGINT or SIGTERM. Its errors are one
// line on standard error that names the cause; [Usage] errors exit 2, all others 1.
//
// Stability: internal to the daemons.
package proc

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// Env is what a command may touch of the process: tests give it buffers.
type Env struct {
	Name           string // of the program
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string
}

// A Command is one verb of a program. Args in its usage line are what stands after the verb.
type Command struct {
	Name    string // one word or two, as "account create"
	Args    string // for the usage line
	Summary string // one line
	Run     func(ctx context.Context, env *Env, args []string) error
}

// Usage is an error in how a command was called.
type Usage string

func (u Usage) Error() string { return string(u) }

// Main runs the program and returns its exit code. The first command is the one that runs when no verb is given.
func Main(env *Env, args []string, commands []Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal, when draining takes too long for the person who waits, ends the process at once.
	context.AfterFunc(ctx, stop)

	err := dispatch(ctx, env, args, commands)
	switch _, usage := errors.AsType[Usage](err); {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case usage:
		fmt.Fprintf(env.Stderr, "%s: %v\n", env.Name, err)
		return 2
	default:
		fmt.Fprintf(env.Stderr, "%s: %s\n", env.Name, oneLine(err))
		return 1
	}
}

// oneLine joins what errors.Join and its like put on several lines.
func oneLine(err error) string { return strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ") }

func dispatch(ctx context.Context, env *Env, args []string, commands []Command) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") && !slices.Contains([]string{"-h", "-help", "--help"}, args[0]) {
		return commands[0].Run(ctx, env, args)
	}
	if slices.Contains([]string{"help", "-h", "-help", "--help"}, args[0]) {
		help(env, commands)
		return nil
	}
	for words := min(2, len(args)); words > 0; words-- {
		name := strings.Join(args[:words], " ")
		for _, c := range commands {
			if c.Name == name {
				return c.Run(ctx, env, args[words:])
			}
		}
	}
	return Usage(fmt.Sprintf("no command %q (try: %s help)", args[0], env.Name))
}

func help(env *Env, commands []Command) {
	fmt.Fprintf(env.Stdout, "usage: %s COMMAND\n\n", env.Name)
	for _, c := range commands {
		fmt.Fprintf(env.Stdout, "  %-60s %s\n", strings.TrimSpace(c.Name+" "+c.Args), c.Summary)
	}
	fmt.Fprintf(env.Stdout, "\n%s COMMAND -h lists a command's flags.\n", env.Name)
}

// Flags returns a flag set whose errors come back as [Usage].
func Flags(env *Env, command string) *flag.FlagSet {
	fs := flag.NewFlagSet(env.Name+" "+command, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	return fs
}

// Parse parses flags that may stand before, between and after the positional arguments, and checks the number of the
// latter against names (a last name that ends in "..." takes any number).
func Parse(env *Env, fs *flag.FlagSet, args []string, names ...string) ([]string, error) {
	var positional []string
	for {
		if err := fs.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				fmt.Fprintf(env.Stdout, "usage: %s [flags] %s\n", fs.Name(), strings.Join(names, " "))
				fs.SetOutput(env.Stdout)
				fs.PrintDefaults()
				return nil, flag.ErrHelp
			}
			return nil, Usage(err.Error())
		}
		if args = fs.Args(); len(args) == 0 {
			break
		}
		positional = append(positional, args[0])
		args = args[1:]
	}
	variadic := len(names) > 0 && strings.HasSuffix(names[len(names)-1], "...")
	switch {
	case len(positional) < len(names) && !variadic:
		return nil, Usage(fmt.Sprintf("%s: missing %s", fs.Name(), names[len(positional)]))
	case len(positional) > len(names) && !variadic:
		return nil, Usage(fmt.Sprintf("%s: unexpected argument %q", fs.Name(), positional[len(names)]))
	}
	return positional, nil
}

// Strings is a flag that may be given several times.
type Strings []string

func (s *Strings) String() string     { return strings.Join(*s, ",") }
func (s *Strings) Set(v string) error { *s = append(*s, v); return nil }

// Logger returns the daemons' logger: JSON lines on w at the named level (debug, info, warn, error; "" is info).
func Logger(w io.Writer, level string) (*slog.Logger, error) {
	var l slog.Level
	if level != "" {
		if err := l.UnmarshalText([]byte(level)); err != nil {
			return nil, Usage(fmt.Sprintf("log level %q: want debug, info, warn or error", level))
		}
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l})), nil
}

// OS returns the environment of the real process.
func OS(name string) *Env {
	return &Env{Name: name, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv}
}
