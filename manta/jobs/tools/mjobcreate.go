package tools

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/mobulacloud/mobula/manta/client"
)

func createOptions() []option {
	return []option{
		value("NUM", "ignored", "batch", "b"), value("NUM", "ignored", "parallel", "p"),
		flag("wait for the job, then write its outputs", "cat-outputs", "o"), flag("wait for the job", "watch", "w"), flag("say nothing", "quiet", "q"),
		flag("end the input if there is none", "close"), flag("leave the input open", "open"), flag("show the job instead of making it", "dry-run"), value("NAME", "name of the job", "name", "n"),
		value("FILE", "read the job from FILE", "file", "f"), value("CMD", "map phase", "map", "m"), value("CMD", "reduce phase", "reduce", "r"),
		value("PATH", "object below /assets in the next phase", "asset", "assets", "s"), value("NUM", "reducers of the next phase", "count"), value("GB", "disk space of the next phase", "disk"),
		value("VERSION", "image of the next phase", "image"), value("CMD", "what the next phase runs first in a zone", "init"), value("MB", "memory of the next phase", "memory"),
	}
}

// jobCreate makes a job, gives it input from a stdin that is no terminal, and waits for it if asked.
func (p *process) jobCreate(c *client.Client, o *parsed) error {
	in, err := p.definition(o)
	if err != nil {
		return err
	}
	if o.has("dry-run") {
		b, err := json.MarshalIndent(map[string]any{"name": in.Name, "phases": in.Phases}, "", "    ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(p.stdout, "%s\n", b)
		return err
	}
	j, err := c.CreateJob(p.ctx, in)
	if err != nil {
		return err
	}
	if !o.has("cat-outputs") {
		fmt.Fprintln(p.stdout, j.ID)
	}
	switch {
	case !isTerminal(p.stdin):
		err = p.input(j, o.has("open") && !o.has("close"), o.has("quiet"))
	case o.has("close"):
		err = j.EndInput(p.ctx)
	case !o.has("open"):
		p.say("warning: input stream left open")
	}
	if err != nil || !o.has("watch") && !o.has("cat-outputs") {
		return err
	}
	s, err := j.Wait(p.ctx, client.WaitOptions{})
	if err != nil {
		return err
	}
	if n := s.Stats.Errors; n > 0 {
		plural := "s"
		if n == 1 {
			plural = ""
		}
		return fmt.Errorf("job %s had %d error%s", j.ID, n, plural)
	}
	if !o.has("cat-outputs") {
		return nil
	}
	if _, err := j.WaitArchived(p.ctx, client.WaitOptions{}); err != nil {
		return err
	}
	for path, err := range j.Outputs(p.ctx) {
		if err == nil {
			err = p.get(p.stdout, c, path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// definition puts a job together from a file, from options, or from an expression.
func (p *process) definition(o *parsed) (*client.CreateJobInput, error) {
	in := &client.CreateJobInput{Name: o.get("name")}
	next, err := client.Phase{}, error(nil)
	number := func(s setting) int {
		n, e := strconv.Atoi(s.value)
		if e != nil || n < 1 {
			err = errors.Join(err, fmt.Errorf("argument for %q is not a positive number: %q", dashes(s.name), s.value))
		}
		return n
	}
	for _, s := range o.settings {
		switch s.name {
		case "asset":
			next.Assets = append(next.Assets, s.value)
		case "count":
			next.Count = number(s)
		case "disk":
			next.Disk = number(s)
		case "image":
			next.Image = s.value
		case "init":
			next.Init = s.value
		case "memory":
			next.Memory = number(s)
		case "map", "reduce":
			next.Type, next.Exec = client.PhaseType(s.name), s.value
			if next.Type == client.Map {
				next.Count = 0
			}
			in.Phases = append(in.Phases, next)
			next = client.Phase{}
		}
	}
	switch {
	case err != nil:
		return nil, err
	case o.has("file"):
		b, err := os.ReadFile(o.get("file"))
		if err != nil {
			return nil, err
		}
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.DisallowUnknownFields()
		*in = client.CreateJobInput{}
		if err := dec.Decode(in); err != nil {
			return nil, fmt.Errorf("%s: %w", o.get("file"), err)
		}
		return in, nil
	case len(in.Phases) > 0 && len(o.args) > 0:
		return nil, errors.New("cannot use -m/-r along with a job expression (did you forget a \"-m\" or \"-r\"?)")
	case len(in.Phases) > 0:
		return in, nil
	case len(o.args) > 0:
		in.Phases = expression(o.args, next)
	}
	if len(in.Phases) == 0 {
		return nil, errors.New("at least one map or reduce task must be specified")
	}
	return in, nil
}

// expression reads commands between ^, which begins a map phase, and ^^, which begins a reduce phase; each further ^ is one more reducer. What
// like has beside its command is for every phase.
func expression(args []string, like client.Phase) (phases []client.Phase) {
	p := like
	p.Type, p.Count = client.Map, 0
	var words []string
	add := func() {
		if len(words) > 0 {
			p.Exec, words = strings.Join(words, " "), nil
			phases = append(phases, p)
		}
	}
	for _, arg := range args {
		switch {
		case arg == "^":
			add()
			p.Type, p.Count = client.Map, 0
		case len(arg) > 1 && strings.Trim(arg, "^") == "":
			add()
			p.Type, p.Count = client.Reduce, like.Count
			if n := len(arg) - 2; n > 0 {
				p.Count = n
			}
		default:
			words = append(words, arg)
		}
	}
	add()
	return phases
}
