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
	"syscall"

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

// verb is one row of the table of commands.
type verb struct {
	// usage is how it is called, which is also how it is parsed; see usage.go.
	name, usage, text string
	run               func(c *command, ctx context.Context, in call) error
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
		{"events", "[-fjr] [UUID]", "print what happens, a line each", (*command).events},
		{"get", "UUID", "print all of a zone as JSON", (*command).get},
		{"info", "UUID [TYPE...]", "ask a VM's emulator", (*command).info},
		{"kill", "[-s SIGNAL] UUID", "send a signal to the first program; -TERM and -15 do too", (*command).kill},
		{"list", "[-pH] [-o FIELD,...] [-s FIELD,...] [FIELD=VALUE...]", "print a table", (*command).list},
		{"lookup", "[-j|-1] [-o FIELD,...] [FIELD=VALUE...]", "print uuids of what matches", (*command).lookup},
		{"reboot", "[-F] [-t SECONDS] UUID", "stop and start", (*command).reboot},
		{"receive", "[-f FILE]", "make a zone of what send wrote", (*command).receive},
		{"reprovision", "[-f FILE] UUID", "give an OS zone another image", (*command).reprovision},
		{"rollback-snapshot", "UUID NAME", "go back to a snapshot", (*command).rollbackSnapshot},
		{"send", "[-m MARK] [-i MARK] UUID", "write a stopped zone to standard output; -m one that may run, -i what changed since", (*command).send},
		{"start", "UUID [OPTION=VALUE...]", "boot a zone; a VM takes order=, once=, cdrom=PATH,MODEL and disk=PATH,MODEL", (*command).start},
		{"stop", "[-F] [-t SECONDS] UUID", "shut a zone down", (*command).stop},
		{"sysrq", "UUID nmi|screenshot", "interrupt a VM, or write its screen to standard output as PPM", (*command).sysrq},
		{"update", "[-f FILE] UUID [PROPERTY=VALUE...]", "change properties", (*command).update},
		{"validate", "[-f FILE] create|update [BRAND]", "check a payload", (*command).validate},
		{"exec", "[-t] [-u UID] [-d DIR] [-e NAME=VALUE]... UUID PROGRAM [ARG...]", "run a program inside", (*command).exec},
		{"metrics", "UUID", "print meters as JSON", (*command).metrics},
		{"image", "VERB [ARG...]", "images, as imgadm: " + imageVerbs(), (*command).image},
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
	words := fs.Args()[1:]
	if name == "kill" {
		words = signalFlag(words)
	}
	in, err := parse(verbs[i].usage, words)
	if err == nil {
		err = verbs[i].run(c, ctx, in)
	}
	var usage usageError
	var code exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "vmadm: %s: %s\nusage: vmadm %s %s\n", name, usage, name, verbs[i].usage)
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

// maxPayload bounds a JSON payload.
const maxPayload = 16 << 20

// input opens a file, or standard input.
func (c *command) input(file string) (io.ReadCloser, error) {
	if file == "" || file == "-" {
		return io.NopCloser(c.stdin), nil
	}
	return os.Open(file)
}

// payload reads a file, or standard input.
func (c *command) payload(file string) ([]byte, error) {
	if file == "" && isTerminal(c.stdin) {
		return nil, usageError("give a payload with -f, or on standard input")
	}
	in, err := c.input(file)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, maxPayload+1))
	if err == nil && len(b) > maxPayload {
		err = fmt.Errorf("payload of more than %d bytes", maxPayload)
	}
	return b, err
}
