package kvm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/kvm/qmp"
)

// infoCommands are what vmadm info knows, and QEMU's commands for them.
var infoCommands = map[string]string{
	"block": "query-block", "blockstats": "query-blockstats", "chardev": "query-chardev", "cpus": "query-cpus-fast",
	"kvm": "query-kvm", "pci": "query-pci", "spice": "query-spice", "version": "query-version", "vnc": "query-vnc",
}

// Info implements zones.Informer. What this QEMU was built without is left out of "all".
func (d *Driver) Info(ctx context.Context, id string, types ...string) (map[string]any, error) {
	m, err := d.machines.Running("info", id)
	if err != nil {
		return nil, err
	}
	want := map[string]bool{} // and whether it was asked for by name
	for _, t := range types {
		if t == "all" {
			types = nil
			break
		}
		if infoCommands[t] == "" {
			return nil, zones.OpError("info", id, fmt.Errorf("%w: type %q", zones.ErrInvalid, t))
		}
		want[t] = true
	}
	if len(types) == 0 {
		clear(want)
		for t := range infoCommands {
			want[t] = false
		}
	}
	c, end, err := m.session(ctx)
	if err != nil {
		return nil, zones.OpError("info", id, err)
	}
	defer end()
	out := map[string]any{}
	for t, named := range want {
		var v any
		err := c.Execute(ctx, infoCommands[t], nil, &v)
		if e, ok := errors.AsType[*qmp.Error](err); ok && e.Class == "CommandNotFound" {
			if named {
				return nil, zones.OpError("info", id, fmt.Errorf("%w: %s", zones.ErrNotSupported, t))
			}
			continue
		}
		if err != nil {
			return nil, zones.OpError("info", id, err)
		}
		out[t] = v
	}
	return out, nil
}

// VNC connects to the machine's screen, keyboard and mouse: the connection speaks RFB. There is no password and no port; who
// has the driver has the screen.
func (d *Driver) VNC(ctx context.Context, id string) (net.Conn, error) {
	m, err := d.machines.Running("vnc", id)
	if err != nil {
		return nil, err
	}
	if m.rec.NoVNC {
		return nil, zones.OpError("vnc", id, fmt.Errorf("%w: vnc_port -1 turned it off", zones.ErrNotSupported))
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, zones.OpError("vnc", id, err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "vnc"), os.NewFile(uintptr(pair[1]), "vnc")
	defer ours.Close() // the connection has a descriptor of its own
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, zones.OpError("vnc", id, err)
	}
	const name = "mobula-vnc"
	c, end, err := m.session(ctx) // one for both commands: the name is its own
	if err != nil {
		conn.Close()
		return nil, zones.OpError("vnc", id, err)
	}
	defer end()
	err = c.ExecuteFile(ctx, "getfd", map[string]any{"fdname": name}, theirs, nil)
	if err == nil {
		err = c.Execute(ctx, "add_client", map[string]any{"protocol": "vnc", "fdname": name, "skipauth": true}, nil)
	}
	if err != nil {
		conn.Close()
		return nil, zones.OpError("vnc", id, err)
	}
	return conn, nil
}
