package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/metadata"
)

func main() {
	// The same program is the guests' mdata-get and its kin.
	if slices.Contains(metadata.GuestPrograms, filepath.Base(os.Args[0])) {
		os.Exit(metadata.GuestMain(os.Args, os.Stdin, os.Stdout, os.Stderr))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// command is one invocation: what is global, and the streams.
type command struct {
	dir     string
	pool    string
	noAgent bool
	verbose bool
	wantVM  bool // a VM is about to be made

	stdin          io.Reader
	stdout, stderr io.Writer
}

// exitCode ends the program with a code and without a message.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// usageError is a wrong call: its message and the usage, exit code 2.
type usageError string

func (e usageError) Error() string { return string(e) }

type verb struct {
	name, args, text string
	run              func(c *command, ctx context.Context, args []string) error
}

// verbs is in the order of vmadm's manual, additions last.
var verbs []verb

func init() {
	verbs = []verb{
		{"create", "[-f FILE]", "make a zone of a JSON payload, from standard input without -f", (*command).create},
		{"create-snapshot", "UUID NAME", "freeze a zone's root or disks", (*command).createSnapshot},
		{"console", "UUID", "attach to the console; CTRL-] leaves", (*command).console},
		{"delete", "UUID", "end and remove a zone", (*command).delete},
		{"delete-snapshot", "UUID NAME", "forget a snapshot", (*command).deleteSnapshot},
		{"events", "[-jr] [UUID]", "print what happens, a line each", (*command).events},
		{"get", "UUID", "print all of a zone as JSON", (*command).get},
		{"info", "UUID [TYPE...]", "ask a VM's emulator", (*command).info},
		{"kill", "[-s SIGNAL] UUID", "send a signal to the first program", (*command).kill},
		{"list", "[-pH] [-o FIELD,...] [-s FIELD,...] [FIELD=VALUE...]", "print a table", (*command).list},
		{"lookup", "[-j|-1] [-o FIELD,...] [FIELD=VALUE...]", "print uuids of what matches", (*command).lookup},
		{"reboot", "[-F] [-t SECONDS] UUID", "stop and start", (*command).reboot},
		{"receive", "[-f FILE]", "make a zone of what send wrote", (*command).receive},
		{"reprovision", "[-f FILE] UUID", "give an OS zone another image", (*command).reprovision},
		{"rollback-snapshot", "UUID NAME", "go back to a snapshot", (*command).rollbackSnapshot},
		{"send", "UUID", "write a stopped zone to standard output", (*command).send},
		{"start", "UUID [order=X] [once=X] [cdrom=PATH,MODEL] [disk=PATH,MODEL]", "boot a zone", (*command).start},
		{"stop", "[-F] [-t SECONDS] UUID", "shut a zone down", (*command).stop},
		{"update", "[-f FILE] UUID [PROPERTY=VALUE...]", "change properties", (*command).update},
		{"validate", "create|update [BRAND] [-f FILE]", "check a payload", (*command).validate},
		{"exec", "[-t] [-u UID] [-d DIR] [-e NAME=VALUE] UUID PROGRAM [ARG...]", "run a program inside", (*command).exec},
		{"metrics", "UUID", "print meters as JSON", (*command).metrics},
		{"image", "list|show|import|install|container|create|delete|verify ...", "images, as imgadm", (*command).image},
		{"destroy", "", "remove every zone and image, and what they stand on", (*command).destroy},
		{"agent", "", "look after running zones; started when needed", (*command).agent},
	}
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := &command{stdin: stdin, stdout: stdout, stderr: stderr}
	fs := flag.NewFlagSet("vmadm", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() { usage(stderr) }
	dir := os.Getenv("MOBULA_ZONES_DIR")
	if dir == "" {
		dir = "/var/lib/mobula-zones"
	}
	fs.StringVar(&c.dir, "dir", dir, "where all state is")
	fs.StringVar(&c.pool, "pool", "", "kind of a new dataset pool: btrfs or overlay")
	fs.BoolVar(&c.noAgent, "no-agent", false, "leave metadata and ends to somebody else")
	fs.BoolVar(&c.verbose, "v", false, "log to standard error")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	name := fs.Arg(0)
	switch name {
	case "recv":
		name = "receive"
	case "destroy-vm":
		name = "delete"
	case "", "help":
		usage(stderr)
		return 2
	}
	i := slices.IndexFunc(verbs, func(v verb) bool { return v.name == name })
	if i < 0 {
		fmt.Fprintf(stderr, "vmadm: there is no command %q\n", name)
		usage(stderr)
		return 2
	}
	err := verbs[i].run(c, ctx, fs.Args()[1:])
	var usage usageError
	var code exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage), errors.Is(err, flag.ErrHelp):
		if usage != "" {
			fmt.Fprintf(stderr, "vmadm: %s: %s\n", name, usage)
		}
		fmt.Fprintf(stderr, "usage: vmadm %s %s\n", name, verbs[i].args)
		return 2
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return 130
	}
	fmt.Fprintf(stderr, "vmadm: %v\n", err)
	return 1
}

func usage(w io.Writer) {
	fmt.Fprintln(w, "usage: vmadm [-dir DIR] [-pool btrfs|overlay] [-no-agent] [-v] COMMAND ...")
	for _, v := range verbs {
		fmt.Fprintf(w, "  %-18s %s\n", v.name, v.text)
	}
}

// flags parses a command's flags wherever they stand among its arguments, as vmadm does, and gives the rest.
func (c *command) flags(fs *flag.FlagSet, args []string) ([]string, error) {
	fs.SetOutput(io.Discard)
	var rest []string
	for len(args) > 0 {
		if err := fs.Parse(args); err != nil {
			return nil, usageError(err.Error())
		}
		if fs.NArg() == 0 {
			break
		}
		rest = append(rest, fs.Arg(0))
		args = fs.Args()[1:]
	}
	return rest, nil
}

func newFlags() *flag.FlagSet {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.Usage = func() {}
	return fs
}

// exactly checks the number of arguments.
func exactly(args []string, names ...string) error {
	if len(args) != len(names) {
		return usageError("wants " + strings.Join(names, " "))
	}
	return nil
}

// uuidArg checks a command's one argument.
func uuidArg(args []string) (string, error) {
	if err := exactly(args, "UUID"); err != nil {
		return "", err
	}
	if !zones.ValidID(args[0]) {
		return "", usageError(fmt.Sprintf("%.60q is not a uuid", args[0]))
	}
	return args[0], nil
}

// maxPayload bounds a JSON payload.
const maxPayload = 16 << 20

// payload reads a file, or standard input.
func (c *command) payload(file string) ([]byte, error) {
	in := c.stdin
	if file != "" && file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	} else if isTerminal(c.stdin) {
		return nil, usageError("give a payload with -f, or on standard input")
	}
	b, err := io.ReadAll(io.LimitReader(in, maxPayload+1))
	if err == nil && len(b) > maxPayload {
		err = fmt.Errorf("payload of more than %d bytes", maxPayload)
	}
	return b, err
}
