package tools

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mobulacloud/mobula/manta/client"
)

// A command is one of mjob's.
type command struct {
	name, args, help string
	options          []option
	run              func(*process, *client.Client, *parsed) error
}

// commands of mjob.
func commands() []command {
	parallel := value("NUM", "ignored", "parallel", "p")
	lists := []option{parallel}
	return []command{
		{"addinputs", "JOB...", "add the lines of stdin to the input of jobs, and end it", []option{value("NUM", "ignored", "batch", "b"), flag("leave the input open", "open", "o"), parallel},
			(*process).jobAddInputs},
		{"cancel", "JOB...", "end jobs", lists, each(func(p *process, j *client.Job) error { return j.Cancel(p.ctx) })},
		{"close", "JOB...", "end the input of jobs", lists, each(func(p *process, j *client.Job) error { return j.EndInput(p.ctx) })},
		{"create", "[EXPRESSION]", "make a job, of -m and -r or of commands between ^ (map) and ^^ (reduce)", createOptions(), (*process).jobCreate},
		{"errors", "JOB...", "show errors", lists, each((*process).jobErrors)},
		{"failures", "JOB...", "show inputs that came to nothing", lists, each(func(p *process, j *client.Job) error { return p.show(j.Failures(p.ctx)) })},
		{"get", "JOB...", "show how jobs are", lists, each((*process).jobGet)},
		{"inputs", "JOB...", "show inputs", lists, each(func(p *process, j *client.Job) error { return p.show(j.Inputs(p.ctx)) })},
		{"list", "", "list jobs", []option{value("NAME", "only jobs of that name", "name", "n"), flag("use a long listing format", "long", "l"), value("running", "only jobs in that state", "state", "s"), parallel},
			(*process).jobList},
		{"outputs", "JOB...", "show outputs", lists, each(func(p *process, j *client.Job) error { return p.show(j.Outputs(p.ctx)) })},
		{"watch", "JOB...", "wait until jobs are done", lists, each(func(p *process, j *client.Job) error {
			_, err := j.Wait(p.ctx, client.WaitOptions{})
			return err
		})},
	}
}

// mjob makes jobs and shows what came of them.
func mjob(p *process) int {
	all := commands()
	var name string
	if len(p.args) > 0 {
		name = p.args[0]
	}
	i := slices.IndexFunc(all, func(c command) bool { return c.name == name })
	if i < 0 {
		w, code := p.stderr, 1
		switch name {
		case "help", "-h", "--help":
			w, code = p.stdout, 0
		case "":
		case "share", "cost":
			p.say("%s is not here", name)
		default:
			p.say("unknown command: %q", name)
		}
		fmt.Fprintln(w, "usage: mjob COMMAND [OPTIONS] [ARGUMENTS...]\ncommands:")
		for _, c := range all {
			fmt.Fprintf(w, "    %-10s %-13s %s\n", c.name, c.args, c.help)
		}
		return code
	}
	c := all[i]
	p.name, p.args = "mjob "+c.name, p.args[1:]
	// What follows the first word of an expression belongs to its commands.
	o, code, end := p.options(c.name != "create", c.args, c.options...)
	if end {
		return code
	}
	store, err := p.client(o)
	if err == nil && strings.HasPrefix(c.args, "JOB") && len(o.args) == 0 {
		err = errors.New("at least one JobId must be specified")
	}
	if err == nil {
		err = c.run(p, store, o)
	}
	if err != nil {
		p.say("error: %s", describe(err))
		return 1
	}
	return 0
}

// each runs a function for every job that is named.
func each(one func(*process, *client.Job) error) func(*process, *client.Client, *parsed) error {
	return func(p *process, c *client.Client, o *parsed) error {
		for _, id := range o.args {
			if err := one(p, c.OpenJob(id)); err != nil {
				return err
			}
		}
		return nil
	}
}

func (p *process) show(list func(func(string, error) bool)) error {
	out := p.output()
	for line, err := range list {
		if err != nil {
			return errors.Join(err, out.Flush())
		}
		fmt.Fprintln(out, line)
	}
	return out.Flush()
}

func (p *process) jobErrors(j *client.Job) error {
	out := p.output()
	for e, err := range j.Errors(p.ctx) {
		if err == nil {
			err = printJSON(out, e)
		}
		if err != nil {
			return errors.Join(err, out.Flush())
		}
	}
	return out.Flush()
}

func (p *process) jobGet(j *client.Job) error {
	s, err := j.Status(p.ctx)
	if err != nil {
		return err
	}
	return printJSON(p.stdout, s)
}

func (p *process) jobList(c *client.Client, o *parsed) error {
	in := &client.ListJobsInput{Name: o.get("name"), Running: o.get("state") == "running"}
	if s := o.get("state"); s != "" && s != "running" {
		return fmt.Errorf("invalid state: %s", s)
	}
	out := p.output()
	for e, err := range c.ListJobs(p.ctx, in) {
		if err != nil {
			return errors.Join(err, out.Flush())
		}
		fmt.Fprint(out, e.ID)
		if o.has("long") {
			fmt.Fprint(out, " ", e.Created.UTC().Format("2006-01-02T15:04:05.000Z"))
		}
		fmt.Fprintln(out)
	}
	return out.Flush()
}

func (p *process) jobAddInputs(c *client.Client, o *parsed) error {
	if len(o.args) != 1 {
		// Each job's input is a request that reads stdin as it goes.
		return errors.New("inputs can be added to one job at a time")
	}
	return p.input(c.OpenJob(o.args[0]), o.has("open"), false)
}

// input gives a job the lines of stdin.
func (p *process) input(j *client.Job, open, quiet bool) error {
	n := 0
	var readErr error
	err := j.AddInputs(p.ctx, func(yield func(string) bool) {
		for line, err := range lines(p.stdin) {
			if readErr = err; err != nil {
				return
			}
			if line = strings.TrimSuffix(line, "\r"); line == "" {
				continue
			}
			if !yield(line) {
				return
			}
			n++
		}
	})
	if err != nil {
		return err
	}
	if readErr != nil {
		return readErr
	}
	if !quiet {
		plural := "s"
		if n == 1 {
			plural = ""
		}
		fmt.Fprintf(p.stderr, "added %d input%s to %s\n", n, plural, j.ID)
	}
	if open {
		return nil
	}
	return j.EndInput(p.ctx)
}
