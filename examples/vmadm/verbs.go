package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
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

func (c *command) create(ctx context.Context, args []string) error {
	fs := newFlags()
	file := fs.String("f", "", "")
	rest, err := c.flags(fs, args)
	if err != nil || len(rest) > 0 {
		return errors.Join(err, usageError("takes no arguments"))
	}
	b, err := c.payload(*file)
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

func (c *command) get(ctx context.Context, args []string) error {
	id, err := uuidArg(args)
	if err != nil {
		return err
	}
	return c.with(ctx, func(s *server) error {
		z, err := s.Get(ctx, id)
		if err != nil {
			return err
		}
		return c.json(z)
	})
}

func (c *command) start(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return usageError("wants UUID")
	}
	id, err := uuidArg(args[:1])
	if err != nil {
		return err
	}
	var o host.StartOptions
	for _, a := range args[1:] {
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
	return c.changing(ctx, func(s *server) error {
		if err := s.Start(ctx, id, o); err != nil {
			return err
		}
		c.say("Successfully started VM %s", id)
		return nil
	})
}

// stopFlags parses [-F] [-t SECONDS] UUID.
func (c *command) stopFlags(args []string) (string, host.StopOptions, error) {
	fs := newFlags()
	force := fs.Bool("F", false, "")
	seconds := fs.Int("t", 0, "")
	rest, err := c.flags(fs, args)
	if err != nil {
		return "", host.StopOptions{}, err
	}
	if *seconds < 0 {
		return "", host.StopOptions{}, usageError("-t wants seconds")
	}
	id, err := uuidArg(rest)
	return id, host.StopOptions{Force: *force, Timeout: time.Duration(*seconds) * time.Second}, err
}

func (c *command) stop(ctx context.Context, args []string) error {
	id, o, err := c.stopFlags(args)
	if err != nil {
		return err
	}
	return c.with(ctx, func(s *server) error {
		if err := s.Stop(ctx, id, o); err != nil {
			return err
		}
		c.say("Successfully completed stop for VM %s", id)
		return nil
	})
}

func (c *command) reboot(ctx context.Context, args []string) error {
	id, o, err := c.stopFlags(args)
	if err != nil {
		return err
	}
	return c.changing(ctx, func(s *server) error {
		if err := s.Reboot(ctx, id, o); err != nil {
			return err
		}
		c.say("Successfully completed reboot for VM %s", id)
		return nil
	})
}

func (c *command) kill(ctx context.Context, args []string) error {
	name := "SIGKILL"
	// vmadm takes -TERM and -15 as kill(1) does.
	if len(args) == 2 && strings.HasPrefix(args[0], "-") && args[0] != "-s" {
		name, args = args[0][1:], args[1:]
	}
	fs := newFlags()
	fs.StringVar(&name, "s", name, "")
	rest, err := c.flags(fs, args)
	if err != nil {
		return err
	}
	id, err := uuidArg(rest)
	if err != nil {
		return err
	}
	sig, err := zones.ParseSignal(name)
	if err != nil {
		return err
	}
	return c.with(ctx, func(s *server) error {
		if err := s.Kill(ctx, id, sig); err != nil {
			return err
		}
		c.say("Successfully sent signal %s to VM %s", sig, id)
		return nil
	})
}

func (c *command) delete(ctx context.Context, args []string) error {
	id, err := uuidArg(args)
	if err != nil {
		return err
	}
	return c.with(ctx, func(s *server) error {
		if err := s.Delete(ctx, id); err != nil {
			return err
		}
		c.say("Successfully deleted VM %s", id)
		return nil
	})
}

func (c *command) update(ctx context.Context, args []string) error {
	fs := newFlags()
	file := fs.String("f", "", "")
	rest, err := c.flags(fs, args)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return usageError("wants UUID")
	}
	id, err := uuidArg(rest[:1])
	if err != nil {
		return err
	}
	var b []byte
	if len(rest) > 1 {
		if b, err = assignments(rest[1:]); err != nil {
			return err
		}
	} else if b, err = c.payload(*file); err != nil {
		return err
	}
	return c.with(ctx, func(s *server) error {
		if _, err := s.Update(ctx, id, b); err != nil {
			return err
		}
		c.say("Successfully updated VM %s", id)
		return nil
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
func (c *command) named(ctx context.Context, args []string, done string, f func(s *server, id, name string) error) error {
	if err := exactly(args, "UUID", "NAME"); err != nil {
		return err
	}
	id, err := uuidArg(args[:1])
	if err != nil {
		return err
	}
	return c.changing(ctx, func(s *server) error {
		if err := f(s, id, args[1]); err != nil {
			return err
		}
		c.say("Successfully %s snapshot %q for VM %s", done, args[1], id)
		return nil
	})
}

func (c *command) createSnapshot(ctx context.Context, args []string) error {
	return c.named(ctx, args, "created", func(s *server, id, name string) error { return s.CreateSnapshot(ctx, id, name) })
}

func (c *command) deleteSnapshot(ctx context.Context, args []string) error {
	return c.named(ctx, args, "deleted", func(s *server, id, name string) error { return s.DeleteSnapshot(ctx, id, name) })
}

func (c *command) rollbackSnapshot(ctx context.Context, args []string) error {
	return c.named(ctx, args, "rolled back to", func(s *server, id, name string) error { return s.RollbackSnapshot(ctx, id, name) })
}

func (c *command) reprovision(ctx context.Context, args []string) error {
	fs := newFlags()
	file := fs.String("f", "", "")
	rest, err := c.flags(fs, args)
	if err != nil {
		return err
	}
	id, err := uuidArg(rest)
	if err != nil {
		return err
	}
	b, err := c.payload(*file)
	if err != nil {
		return err
	}
	var p struct {
		ImageUUID string `json:"image_uuid"`
	}
	if err := json.Unmarshal(b, &p); err != nil || p.ImageUUID == "" {
		return usageError(`the payload is {"image_uuid": "UUID"}`)
	}
	return c.changing(ctx, func(s *server) error {
		if err := s.Reprovision(ctx, id, p.ImageUUID); err != nil {
			return err
		}
		c.say("Successfully reprovisioned VM %s", id)
		return nil
	})
}

func (c *command) send(ctx context.Context, args []string) error {
	id, err := uuidArg(args)
	if err != nil {
		return err
	}
	if isTerminal(c.stdout) {
		return usageError("standard output is a terminal; a zone goes to a file or another vmadm receive")
	}
	return c.with(ctx, func(s *server) error {
		if err := s.Send(ctx, id, c.stdout); err != nil {
			return err
		}
		c.say("Successfully sent VM %s", id)
		return nil
	})
}

func (c *command) receive(ctx context.Context, args []string) error {
	fs := newFlags()
	file := fs.String("f", "", "")
	rest, err := c.flags(fs, args)
	if err != nil || len(rest) > 0 {
		return errors.Join(err, usageError("takes no arguments"))
	}
	var in io.Reader = c.stdin
	if *file != "" && *file != "-" {
		f, err := os.Open(*file)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	c.wantVM = true // what arrives says so too late
	return c.with(ctx, func(s *server) error {
		z, err := s.Receive(ctx, in)
		if err != nil {
			return err
		}
		c.say("Successfully received VM %s", z.UUID)
		return nil
	})
}

func (c *command) info(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return usageError("wants UUID")
	}
	id, err := uuidArg(args[:1])
	if err != nil {
		return err
	}
	return c.with(ctx, func(s *server) error {
		m, err := s.Info(ctx, id, args[1:]...)
		if err != nil {
			return err
		}
		return c.json(m)
	})
}

func (c *command) metrics(ctx context.Context, args []string) error {
	id, err := uuidArg(args)
	if err != nil {
		return err
	}
	return c.with(ctx, func(s *server) error {
		m, err := s.Metrics(ctx, id)
		if err != nil {
			return err
		}
		return c.json(m)
	})
}

// validate answers VALID, or what is wrong as JSON, and 1.
func (c *command) validate(_ context.Context, args []string) error {
	fs := newFlags()
	file := fs.String("f", "", "")
	rest, err := c.flags(fs, args)
	if err != nil {
		return err
	}
	if len(rest) == 0 || len(rest) > 2 {
		return usageError("wants create or update, and a brand for update")
	}
	b, err := c.payload(*file)
	if err != nil {
		return err
	}
	switch rest[0] {
	case "create":
		_, err = zones.ParseSpec(b)
	case "update":
		if len(rest) != 2 {
			return usageError("update wants a brand")
		}
		_, err = zones.ParseUpdate(zones.Brand(rest[1]), b)
	default:
		return usageError(fmt.Sprintf("%q is neither create nor update", rest[0]))
	}
	if err == nil {
		_, err = fmt.Fprintf(c.stdout, "VALID %s payload\n", rest[0])
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

// events prints what happens: JSON with -j, from "ready" on with -r.
func (c *command) events(ctx context.Context, args []string) error {
	fs := newFlags()
	asJSON := fs.Bool("j", false, "")
	ready := fs.Bool("r", false, "")
	fs.Bool("f", false, "") // full, which we always are
	rest, err := c.flags(fs, args)
	if err != nil {
		return err
	}
	only := ""
	if len(rest) > 0 {
		if only, err = uuidArg(rest); err != nil {
			return err
		}
	}
	return c.with(ctx, func(s *server) error {
		for e, err := range s.Events(ctx) {
			if ctx.Err() != nil {
				return nil // interrupted, as it must be to end
			}
			if err != nil {
				return err
			}
			if e.Type == zones.EventReady && !*ready || only != "" && e.ZoneID != "" && e.ZoneID != only {
				continue
			}
			if *asJSON {
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
