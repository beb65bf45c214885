package tools

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mobulacloud/mobula/manta/client"
	"github.com/mobulacloud/mobula/manta/sessions/slave"
	"github.com/mobulacloud/mobula/sdc"
)

// Self is the name by which the binary that has the programs is known: "mtools NAME ARGUMENTS…" is the same as "NAME ARGUMENTS…".
const Self = "mtools"

// A program is what one name stands for.
type program struct {
	name string
	run  func(*process) int
}

// programs by name. A function, so that a daemon which is none of them pays nothing for it.
func programs() []program {
	return []program{
		{"ctrun", ctrun},
		{"maggr", maggr},
		{"mcat", mcat},
		{slave.Name, func(p *process) int { return slave.Main(p.args) }}, // what mlogin's jobs run
		{"mfind", mfind},
		{"mget", mget},
		{"minfo", minfo},
		{"mjob", mjob},
		{"mln", mln},
		{"mls", mls},
		{"mmkdir", mmkdir},
		{"mpipe", mpipe},
		{"mput", mput},
		{"mrm", mrm},
		{"mrmdir", mrmdir},
		{"msign", msign},
		{"msplit", msplit},
		{"mtee", mtee},
	}
}

// Names returns the programs' names, in order: each is to be a link to the binary, in a directory of a zone's PATH. Those that
// programs expect at a fixed place are named by [Places].
func Names() []string {
	var names []string
	for _, p := range programs() {
		names = append(names, p.name)
	}
	return names
}

// Places returns absolute paths at which programs of the original's image are expected, with their names.
func Places() map[string]string { return map[string]string{"/usr/bin/ctrun": "ctrun"} }

// Is reports whether a process with this argument 0 is to be one of the programs.
func Is(arg0 string) bool {
	name := filepath.Base(arg0)
	// All names begin with m or are the two below; a daemon's own name hardly ever passes, so that the list is not even made.
	if !strings.HasPrefix(name, "m") && name != "ctrun" {
		return false
	}
	return name == Self || slices.ContainsFunc(programs(), func(p program) bool { return p.name == name })
}

// Main is the main function of the program that args[0] names, and returns its exit code: 0 for success, 1 for a failure, 2 for wrong
// usage of a program that has to do with tasks. Its input, output and environment are the process's.
func Main(args []string) int {
	p := &process{name: filepath.Base(args[0]), args: args[1:], stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv, ctx: context.Background()}
	return p.main()
}

// A process is one run of a program.
type process struct {
	name   string
	args   []string // without the name
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	getenv func(string) string
	ctx    context.Context // of the run: there is only one call
}

func (p *process) main() int {
	if p.name == Self {
		if len(p.args) == 0 {
			fmt.Fprintf(p.stderr, "usage: %s PROGRAM [ARGUMENT...]\nprograms: %s\n", Self, strings.Join(Names(), " "))
			return 2
		}
		p.name, p.args = p.args[0], p.args[1:]
	}
	for _, prog := range programs() {
		if prog.name == p.name {
			return prog.run(p)
		}
	}
	fmt.Fprintf(p.stderr, "%s: no program %q\n", Self, p.name)
	return 2
}

// say tells people something.
func (p *process) say(format string, args ...any) {
	fmt.Fprintf(p.stderr, p.name+": "+format+"\n", args...)
}

// fail says what went wrong and returns the exit code for it.
func (p *process) fail(err error) int {
	p.say("%s", describe(err))
	return 1
}

// describe shows a refusal of the store as the original's clients do, by its name and message, and other errors as they are.
func describe(err error) string {
	if e, ok := errors.AsType[*sdc.Error](err); ok {
		return strings.TrimSuffix(e.Code, "Error") + "Error: " + e.Message
	}
	return err.Error()
}

// output gives a buffered standard output, which flush writes out.
func (p *process) output() *bufio.Writer { return bufio.NewWriterSize(p.stdout, 64<<10) }

// client makes a client as the environment and the common options say.
func (p *process) client(o *parsed, fns ...func(*client.Options)) (*client.Client, error) {
	getenv := func(name string) string {
		for _, opt := range connection {
			if opt.env == name && o != nil && o.has(opt.names[0]) {
				return strings.Join(o.all(opt.names[0]), ",")
			}
		}
		return p.getenv(name)
	}
	return client.FromEnv(getenv, fns...)
}

// path makes an absolute path of an argument: "~~" is the account's own tree, and what does not begin with a slash is below its stor directory.
func (p *process) path(c *client.Client, arg string) string {
	if arg == "" || arg[0] == '/' || arg == "~~" || strings.HasPrefix(arg, "~~/") {
		return arg
	}
	return "~~/stor/" + arg
}
