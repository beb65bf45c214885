package tools

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// An option is one that a program takes.
type option struct {
	names []string // one letter: -x; more: --name
	arg   string   // what its argument is called; "" for none
	help  string
	env   string // variable that it goes before
}

func flag(help string, names ...string) option { return option{names: names, help: help} }

func value(arg, help string, names ...string) option {
	return option{names: names, arg: arg, help: help}
}

// connection are the options that all clients of the store have.
var connection = []option{
	{names: []string{"account", "a"}, arg: "ACCOUNT", help: "account (login name)", env: "MANTA_USER"},
	{names: []string{"user", "subuser"}, arg: "USER", help: "user of the account (login name)", env: "MANTA_SUBUSER"},
	{names: []string{"role"}, arg: "ROLE,ROLE,...", help: "roles to assume", env: "MANTA_ROLE"},
	{names: []string{"keyId", "key", "k"}, arg: "FINGERPRINT", help: "key to sign with", env: "MANTA_KEY_ID"},
	{names: []string{"url", "u"}, arg: "URL", help: "the store", env: "MANTA_URL"},
	{names: []string{"insecure", "i"}, help: "do not check the store's certificate", env: "MANTA_TLS_INSECURE"},
	{names: []string{"verbose", "v"}, help: "ignored"},
}

// A setting is one option as it was given.
type setting struct{ name, value string } // name is the option's first

// parsed is a command line.
type parsed struct {
	settings []setting // in the order given
	args     []string
}

// has reports whether an option was given.
func (o *parsed) has(name string) bool { return len(o.all(name)) > 0 }

// get returns the last value of an option, "" if it was not given.
func (o *parsed) get(name string) string {
	if v := o.all(name); len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

func (o *parsed) all(name string) (values []string) {
	for _, s := range o.settings {
		if s.name == name {
			values = append(values, s.value)
		}
	}
	return values
}

// int returns an option that is a positive number, or its default.
func (o *parsed) int(name string, otherwise int) (int, error) {
	if !o.has(name) {
		return otherwise, nil
	}
	n, err := strconv.Atoi(o.get(name))
	if err != nil || n < 1 {
		return 0, fmt.Errorf("argument for %q is not a positive number: %q", dashes(name), o.get(name))
	}
	return n, nil
}

// headers reads options of the form "Name: value".
func (o *parsed) headers(name string) (http.Header, error) {
	h := http.Header{}
	for _, text := range o.all(name) {
		key, v, ok := strings.Cut(text, ":")
		if !ok || key == "" {
			return nil, fmt.Errorf("header must be in the form of \"[header]: value\": %q", text)
		}
		h.Add(key, strings.TrimSpace(v))
	}
	return h, nil
}

func dashes(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// parse reads a command line. With mixed, options may follow arguments.
func parse(args []string, options []option, mixed bool) (*parsed, error) {
	o := &parsed{}
	find := func(name string) *option {
		for i := range options {
			for _, n := range options[i].names {
				if n == name {
					return &options[i]
				}
			}
		}
		return nil
	}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			o.args = append(o.args, args...)
			return o, nil
		case strings.HasPrefix(arg, "--"):
			name, v, given := strings.Cut(arg[2:], "=")
			opt := find(name)
			if opt == nil || len(name) == 1 {
				return nil, fmt.Errorf("unknown option: %q", "--"+name)
			}
			switch {
			case opt.arg == "" && given:
				return nil, fmt.Errorf("option %q takes no argument", "--"+name)
			case opt.arg == "":
				v = "true"
			case !given && len(args) == 0:
				return nil, fmt.Errorf("option %q needs an argument", "--"+name)
			case !given:
				v, args = args[0], args[1:]
			}
			o.settings = append(o.settings, setting{opt.names[0], v})
		case len(arg) > 1 && arg[0] == '-':
			for rest := arg[1:]; rest != ""; {
				opt := find(rest[:1])
				if opt == nil {
					return nil, fmt.Errorf("unknown option: %q", "-"+rest[:1])
				}
				name, v := rest[:1], "true"
				rest = rest[1:]
				if opt.arg != "" {
					if rest == "" {
						if len(args) == 0 {
							return nil, fmt.Errorf("option %q needs an argument", "-"+name)
						}
						rest, args = args[0], args[1:]
					}
					v, rest = rest, ""
				}
				o.settings = append(o.settings, setting{opt.names[0], v})
			}
		case mixed:
			o.args = append(o.args, arg)
		default:
			o.args = append(o.args, arg)
			o.args = append(o.args, args...)
			return o, nil
		}
	}
	return o, nil
}

// clientOptions reads the command line of a client of the store. It reports an exit code when the program is to end at once.
func (p *process) clientOptions(extra string, own ...option) (o *parsed, code int, end bool) {
	return p.options(true, extra, own...)
}

// options is clientOptions for command lines in which options may follow arguments, mixed, or may not.
func (p *process) options(mixed bool, extra string, own ...option) (o *parsed, code int, end bool) {
	help := option{names: []string{"help", "h"}, help: "print this help and exit"}
	for _, opt := range own {
		for _, n := range opt.names {
			if n == "h" { // as for mls
				help.names = help.names[:1]
			}
		}
	}
	taken := map[string]bool{}
	for _, opt := range own {
		for _, n := range opt.names {
			taken[n] = true
		}
	}
	all := append([]option{help}, own...)
	for _, opt := range connection {
		var names []string
		for _, n := range opt.names {
			if !taken[n] {
				names = append(names, n)
			}
		}
		opt.names = names
		all = append(all, opt)
	}
	o, err := parse(p.args, all, mixed)
	if err != nil {
		return nil, p.usage(all, extra, err), true
	}
	if o.has("help") {
		return nil, p.usage(all, extra, nil), true
	}
	return o, 0, false
}

// usage shows how a client of the store is called, and returns the exit code for it.
func (p *process) usage(options []option, extra string, err error) int {
	w, code := p.stdout, 0
	if err != nil {
		w, code = p.stderr, 1
		p.say("%v", err)
	}
	fmt.Fprintf(w, "usage: %s [OPTIONS] %s\noptions:\n", p.name, extra)
	for _, opt := range options {
		showOption(w, opt)
	}
	return code
}

func showOption(w io.Writer, opt option) {
	var names []string
	for _, n := range opt.names {
		names = append(names, dashes(n))
	}
	head := strings.Join(names, ", ")
	if opt.arg != "" {
		head += " " + opt.arg
	}
	help := opt.help
	if opt.env != "" {
		help += " (or environment: " + opt.env + ")"
	}
	fmt.Fprintf(w, "    %-34s %s\n", head, help)
}

// taskOptions reads the command line of a program that has to do with tasks, by POSIX rules. letters are those of getopt: a colon after those with an argument.
func (p *process) taskOptions(letters, usage string) (o *parsed, ok bool) {
	var options []option
	for i := 0; i < len(letters); i++ {
		opt := option{names: []string{letters[i : i+1]}}
		if i+1 < len(letters) && letters[i+1] == ':' {
			opt.arg = "x"
			i++
		}
		options = append(options, opt)
	}
	o, err := parse(p.args, options, false)
	if err != nil {
		p.wrong(usage, err)
		return nil, false
	}
	return o, true
}

// wrong says how a program that has to do with tasks is called, and returns the exit code for that.
func (p *process) wrong(usage string, err error) int {
	if err != nil {
		p.say("%v", err)
	}
	fmt.Fprintln(p.stderr, usage)
	return 2
}
