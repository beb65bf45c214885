package metadata

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// GuestPrograms are the names under which [GuestMain] works.
var GuestPrograms = []string{"mdata-get", "mdata-put", "mdata-list", "mdata-delete"}

// Sockets are where a guest looks for its host, in this order, before it tries the second serial port.
var Sockets = []string{"/.zonecontrol/metadata.sock", "/native/.zonecontrol/metadata.sock"}

// Exit codes of the guest programs, as mdata-client has them.
const (
	exitOK       = 0
	exitNotFound = 1
	exitError    = 2
	exitUsage    = 3
)

// GuestMain is the program that args[0] names (by its last part): mdata-get KEY, mdata-put KEY [VALUE], mdata-list,
// mdata-delete KEY. Without a VALUE, mdata-put takes what is on stdin. It answers the exit code: 0, 1 for a key that is not
// there, 2 for an error, 3 for wrong usage. A process that is bound into zones calls it from main:
//
//	if slices.Contains(metadata.GuestPrograms, filepath.Base(os.Args[0])) {
//		os.Exit(metadata.GuestMain(os.Args, os.Stdin, os.Stdout, os.Stderr))
//	}
func GuestMain(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return guestMain(args, stdin, stdout, stderr, dialHost)
}

func guestMain(args []string, stdin io.Reader, stdout, stderr io.Writer, dial func(context.Context) (io.ReadWriteCloser, error)) int {
	name := "mdata"
	if len(args) > 0 {
		name = path.Base(args[0])
		args = args[1:]
	}
	usage := func(form string) int {
		fmt.Fprintf(stderr, "Usage: %s %s\n", name, form)
		return exitUsage
	}
	fail := func(err error) int {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return exitError
	}
	var run func(ctx context.Context, c *Client) error
	switch name {
	case "mdata-get":
		if len(args) != 1 {
			return usage("<keyname>")
		}
		run = func(ctx context.Context, c *Client) error {
			value, err := c.Get(ctx, args[0])
			if err == nil {
				_, err = io.WriteString(stdout, value+"\n")
			}
			return err
		}
	case "mdata-put":
		if len(args) != 1 && len(args) != 2 {
			return usage("<keyname> [ <value> ]")
		}
		var value string
		if len(args) == 2 {
			value = args[1]
		} else {
			b, err := io.ReadAll(io.LimitReader(stdin, MaxValue+1))
			if err != nil {
				return fail(err)
			}
			value = string(b)
		}
		if len(value) > MaxValue {
			return fail(fmt.Errorf("value is above %d bytes", MaxValue))
		}
		run = func(ctx context.Context, c *Client) error { return c.Put(ctx, args[0], value) }
	case "mdata-list":
		if len(args) != 0 {
			return usage("")
		}
		run = func(ctx context.Context, c *Client) error {
			list, err := c.Keys(ctx)
			for _, k := range list {
				if err == nil {
					_, err = fmt.Fprintln(stdout, k)
				}
			}
			return err
		}
	case "mdata-delete":
		if len(args) != 1 {
			return usage("<keyname>")
		}
		run = func(ctx context.Context, c *Client) error { return c.Delete(ctx, args[0]) }
	default:
		fmt.Fprintf(stderr, "%s: not one of %s\n", name, strings.Join(GuestPrograms, ", "))
		return exitUsage
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := dial(ctx)
	if err != nil {
		return fail(err)
	}
	c, err := NewClient(ctx, conn)
	if err != nil {
		return fail(err)
	}
	defer c.Close()
	err = run(ctx, c)
	if errors.Is(err, ErrNotFound) {
		fmt.Fprintf(stderr, "No metadata for '%s'\n", args[0])
		return exitNotFound
	}
	if err != nil {
		return fail(err)
	}
	return exitOK
}

// hostWait is how long a guest waits for the host to listen: a zone's first programs may run before it does.
const hostWait = 10 * time.Second

// dialHost connects to the host from inside a zone, and waits for it where it is to be.
func dialHost(ctx context.Context) (io.ReadWriteCloser, error) {
	for began := time.Now(); ; {
		conn, err := dialOnce(ctx)
		if err == nil || !expected() || time.Since(began) > hostWait {
			return conn, err
		}
		select {
		case <-time.After(50 * time.Millisecond): // the host's directory is not this side's to watch
		case <-ctx.Done():
			return nil, err
		}
	}
}

// expected reports whether this is a zone that a host is to answer on a socket.
func expected() bool {
	return slices.ContainsFunc(Sockets, func(p string) bool {
		st, err := os.Stat(path.Dir(p))
		return err == nil && st.IsDir()
	})
}

func dialOnce(ctx context.Context) (io.ReadWriteCloser, error) {
	var errs []error
	for _, p := range Sockets {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", p)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	conn, err := dialSerial(ctx)
	if err == nil {
		return conn, nil
	}
	return nil, errors.Join(append(errs, err)...)
}
