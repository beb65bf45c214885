//go:build cgo

package oci

import (
	"context"
	"io"
	"net"
	"time"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/oci/internal/zinit"
)

// Console implements zones.Consoler.
func (d *Driver) Console(ctx context.Context, id string) (io.ReadWriteCloser, error) {
	m, err := d.machines.Running("console", id)
	if err != nil {
		return nil, err
	}
	c, err := m.dial(ctx)
	if err != nil {
		return nil, zones.OpError("console", id, err)
	}
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	_ = c.SetDeadline(time.Now().Add(patience))
	if err = send(c, zinit.Header{Type: zinit.MsgConsole}, nil); err == nil {
		_, _, err = receive(c)
	}
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		c.Close()
		return nil, zones.OpError("console", id, err)
	}
	_ = c.SetDeadline(time.Time{})
	return &console{UnixConn: c, m: m}, nil
}

// console is the raw connection; it can be resized beside itself.
type console struct {
	*net.UnixConn
	m *machine
}

// Resize implements zones.ConsoleResizer.
func (c *console) Resize(s zones.Size) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return zones.OpError("resize", c.m.rec.ID,
		c.m.control(ctx, zinit.Header{Type: zinit.MsgResize, A: uint32(s.Rows), B: uint32(s.Cols)}, nil))
}
