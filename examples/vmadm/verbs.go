package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/host"
)

func (c *command) say(format string, args ...any) { fmt.Fprintf(c.stderr, format+"\n", args...) }

func (c *command) json(v any) error {
	e := json.NewEncoder(c.stdout)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// on opens the server and runs a verb on a zone, and says so when it is done. Verbs after which zones may run have somebody look after them.
func (c *command) on(ctx context.Context, in call, runs bool, done string, f func(s *server) error) error {
	open := c.with
	if runs {
		open = c.changing
	}
	return open(ctx, func(s *server) error {
		if err := f(s); err != nil {
			return err
		}
		c.say("Successfully %s VM %s", done, in.uuid)
		return nil
	})
}

func (c *command) create(ctx context.Context, in call) error {
	b, err := c.payload(in.value('f', ""))
	if err != nil {
		return err
	}
	spec, err := zones.ParseSpec(b)
	if err != nil {
		return err
	}
	c.wantVM = spec.Brand.HVM()
	return c.changing(ctx, func(s *server) error {
		z, err := s.Create(ctx, spec)
		if err != nil {
			return err
		}
		c.say("Successfully created VM %s", z.UUID)
		return nil
	})
}

func (c *command) get(ctx context.Context, in call) error {
	return c.with(ctx, func(s *server) error {
		z, err := s.Get(ctx, in.uuid)
		if err != nil {
			return err
		}
		return c.json(z)
	})
}

func (c *command) start(ctx context.Context, in call) error {
	var o host.StartOptions
	for _, a := range in.args {
		k, v, ok := strings.Cut(a, "=")
		if !ok {
			return usageError(fmt.Sprintf("%q is not name=value", a))
		}
		path, model, _ := strings.Cut(v, ",")
		switch k {
		case "order":
			o.Boot.Order = v
		case "once":
			o.Boot.Once = v
		case "cdrom", "disk":
			d := zones.Disk{Path: path, Model: model, Format: "raw", Media: k, ReadOnly: k == "cdrom"}
			o.Boot.Extra = append(o.Boot.Extra, d)
		default:
			return usageError(fmt.Sprintf("unknown option %q", k))
		}
	}
	return c.on(ctx, in, true, "started", func(s *server) error { return s.Start(ctx, in.uuid, o) })
}

// stopOptions are those of stop and reboot.
func stopOptions(in call) (host.StopOptions, error) {
	seconds, err := strconv.ParseUint(in.value('t', "0"), 10, 31)
	if err != nil {
		return host.StopOptions{}, usageError("-t wants seconds")
	}
	return host.StopOptions{Force: in.has('F'), Timeout: time.Duration(seconds) * time.Second}, nil
}

func (c *command) stop(ctx context.Context, in call) error {
	o, err := stopOptions(in)
	if err != nil {
		return err
	}
	return c.on(ctx, in, false, "completed stop for", func(s *server) error { return s.Stop(ctx, in.uuid, o) })
}

func (c *command) reboot(ctx context.Context, in call) error {
	o, err := stopOptions(in)
	if err != nil {
		return err
	}
	return c.on(ctx, in, true, "completed reboot for", func(s *server) error { return s.Reboot(ctx, in.uuid, o) })
}

// signalFlag takes -TERM and -15 for -s, as kill(1) does.
func signalFlag(args []string) []string {
	if len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' && args[0][1] != 's' && args[0] != "--" {
		return append([]string{"-s", args[0][1:]}, args[1:]...)
	}
	return args
}

func (c *command) kill(ctx context.Context, in call) error {
	sig, err := zones.ParseSignal(in.value('s', "SIGKILL"))
	if err != nil {
		return err
	}
	return c.on(ctx, in, false, "sent signal "+string(sig)+" to", func(s *server) error { return s.Kill(ctx, in.uuid, sig) })
}

func (c *command) delete(ctx context.Context, in call) error {
	return c.on(ctx, in, false, "deleted", func(s *server) error { return s.Delete(ctx, in.uuid) })
}

func (c *command) update(ctx context.Context, in call) error {
	b, err := assignments(in.args)
	if len(in.args) == 0 {
		b, err = c.payload(in.value('f', ""))
	}
	if err != nil {
		return err
	}
	return c.on(ctx, in, false, "updated", func(s *server) error {
		_, err := s.Update(ctx, in.uuid, b)
		return err
	})
}

// assignments turns property=value arguments into a payload. What reads as a number, a truth, null, a list or an object is one.
func assignments(args []string) ([]byte, error) {
	m := map[string]any{}
	for _, a := range args {
		k, v, ok := strings.Cut(a, "=")
		if !ok || k == "" {
			return nil, usageError(fmt.Sprintf("%q is not property=value", a))
		}
		var x any
		if json.Unmarshal([]byte(v), &x) == nil {
			m[k] = json.RawMessage(v)
		} else {
			m[k] = v
		}
	}
	return json.Marshal(m)
}

// named runs a verb on a zone and a snapshot.
func (c *command) named(ctx context.Context, in call, done string, f func(s *server, id, name string) error) error {
	return c.on(ctx, in, true, fmt.Sprintf("%s snapshot %q for", done, in.args[0]), func(s *server) error { return f(s, in.uuid, in.args[0]) })
}

func (c *command) createSnapshot(ctx context.Context, in call) error {
	return c.named(ctx, in, "created", func(s *server, id, name string) error { return s.CreateSnapshot(ctx, id, name) })
}

func (c *command) deleteSnapshot(ctx context.Context, in call) error {
	return c.named(ctx, in, "deleted", func(s *server, id, name string) error { return s.DeleteSnapshot(ctx, id, name) })
}

func (c *command) rollbackSnapshot(ctx context.Context, in call) error {
	return c.named(ctx, in, "rolled back to", func(s *server, id, name string) error { return s.RollbackSnapshot(ctx, id, name) })
}

func (c *command) reprovision(ctx context.Context, in call) error {
	b, err := c.payload(in.value('f', ""))
	if err != nil {
		return err
	}
	var p struct {
		ImageUUID string `json:"image_uuid"`
	}
	if err := json.Unmarshal(b, &p); err != nil || p.ImageUUID == "" {
		return usageError(`the payload is {"image_uuid": "UUID"}`)
	}
	return c.on(ctx, in, true, "reprovisioned", func(s *server) error { return s.Reprovision(ctx, in.uuid, p.ImageUUID) })
}

func (c *command) send(ctx context.Context, in call) error {
	if isTerminal(c.stdout) {
		return usageError("standard output is a terminal; a zone goes to a file or another vmadm receive")
	}
	return c.on(ctx, in, false, "sent", func(s *server) error {
		return s.Send(ctx, in.uuid, c.stdout, host.SendOptions{Since: in.value('i', ""), Mark: in.value('m', "")})
	})
}

func (c *command) receive(ctx context.Context, in call) error {
	from, err := c.input(in.value('f', ""))
	if err != nil {
		return err
	}
	defer from.Close()
	c.wantVM = true // what arrives says so too late
	return c.with(ctx, func(s *server) error {
		z, err := s.Receive(ctx, from)
		if err != nil {
			return err
		}
		c.say("Successfully received VM %s", z.UUID)
		return nil
	})
}

func (c *command) info(ctx context.Context, in call) error {
	return c.with(ctx, func(s *server) error {
		m, err := s.Info(ctx, in.uuid, in.args...)
		if err != nil {
			return err
		}
		return c.json(m)
	})
}

func (c *command) sysrq(ctx context.Context, in call) error {
	what := host.Sysrq(in.args[0])
	if what == host.SysrqScreenshot && isTerminal(c.stdout) {
		return usageError("standard output is a terminal; a picture goes to a file")
	}
	return c.on(ctx, in, false, "requested "+in.args[0]+" of", func(s *server) error { return s.Sysrq(ctx, in.uuid, what, c.stdout) })
}

func (c *command) metrics(ctx context.Context, in call) error {
	return c.with(ctx, func(s *server) error {
		m, err := s.Metrics(ctx, in.uuid)
		if err != nil {
			return err
		}
		return c.json(m)
	})
}

// validate answers VALID, or what is wrong as JSON, and 1.
func (c *command) validate(_ context.Context, in call) error {
	b, err := c.payload(in.value('f', ""))
	if err != nil {
		return err
	}
	switch what, more := in.args[0], in.args[1:]; {
	case what == "create":
		_, err = zones.ParseSpec(b)
	case what == "update" && len(more) == 1:
		_, err = zones.ParseUpdate(zones.Brand(more[0]), b)
	default:
		return usageError("wants create, or update and a brand")
	}
	if err == nil {
		_, err = fmt.Fprintf(c.stdout, "VALID %s payload\n", in.args[0])
		return err
	}
	var ve *zones.ValidationError
	if !errors.As(err, &ve) {
		return err
	}
	if err := c.json(ve); err != nil {
		return err
	}
	return exitCode(1)
}

// events prints what happens: JSON with -j, from "ready" on with -r. -f, full, is what we always are.
func (c *command) events(ctx context.Context, in call) error {
	return c.with(ctx, func(s *server) error {
		for e, err := range s.Events(ctx) {
			if ctx.Err() != nil {
				return nil // interrupted, as it must be to end
			}
			if err != nil {
				return err
			}
			if e.Type == zones.EventReady && !in.has('r') || in.uuid != "" && e.ZoneID != "" && e.ZoneID != in.uuid {
				continue
			}
			if in.has('j') {
				b, err := json.Marshal(e)
				if err != nil {
					return err
				}
				fmt.Fprintf(c.stdout, "%s\n", b)
				continue
			}
			line := fmt.Sprintf("[%s] %s %s", e.Date.Format("15:04:05.000"), e.ZoneID, e.Type)
			for _, ch := range e.Changes {
				line += fmt.Sprintf(" %s: %s -> %s", strings.Join(ch.Path, "."), host.Text(ch.From), host.Text(ch.To))
			}
			fmt.Fprintln(c.stdout, line)
		}
		return nil
	})
}
