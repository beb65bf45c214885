package kvm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/kvm/qmp"
)

var _ zones.Interrupter = (*Driver)(nil)

// NMI implements zones.Interrupter.
func (d *Driver) NMI(ctx context.Context, id string) error {
	m, err := d.machines.Running("nmi", id)
	if err != nil {
		return err
	}
	return zones.OpError("nmi", id, m.execute(ctx, "inject-nmi", nil, nil))
}

// maxScreen bounds a picture: 4096 by 4096 points.
const maxScreen = 64 << 20

// Screenshot implements zones.Interrupter. A machine without a display adapter (vga none) gives zones.ErrNotSupported.
func (d *Driver) Screenshot(ctx context.Context, id string, w io.Writer) error {
	m, err := d.machines.Running("screenshot", id)
	if err != nil {
		return err
	}
	return zones.OpError("screenshot", id, m.screenshot(ctx, w))
}

// screenshot has QEMU write into memory of ours: it has no directory that it could write to.
func (m *machine) screenshot(ctx context.Context, w io.Writer) error {
	fd, err := unix.MemfdCreate("screen", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	screen := os.NewFile(uintptr(fd), "screen")
	defer screen.Close()
	// QEMU finds a file in its set by how it is to be opened.
	theirs, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer theirs.Close()
	c, end, err := m.session(ctx)
	if err != nil {
		return err
	}
	defer end()
	var set struct {
		ID int `json:"fdset-id"`
	}
	if err := c.ExecuteFile(ctx, "add-fd", nil, theirs, &set); err != nil {
		return err
	}
	err = c.Execute(ctx, "screendump", map[string]any{"filename": fmt.Sprintf("/dev/fdset/%d", set.ID)}, nil)
	if e, ok := errors.AsType[*qmp.Error](err); ok {
		err = fmt.Errorf("%w: the machine has no screen: %w", zones.ErrNotSupported, e)
	}
	err = errors.Join(err, c.Execute(ctx, "remove-fd", map[string]any{"fdset-id": set.ID}, nil))
	if err != nil {
		return err
	}
	if _, err := screen.Seek(0, io.SeekStart); err != nil {
		return err
	}
	n, err := io.Copy(w, io.LimitReader(screen, maxScreen))
	if err == nil && n == 0 {
		err = fmt.Errorf("%w: the screen is empty", zones.ErrNotSupported)
	}
	return err
}
