package host

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/metadata"
)

// source is a zone's record as its guest's metadata.
type source struct {
	h  *Host
	id string
}

func (s source) Zone(ctx context.Context) (*zones.Zone, error) {
	r, err := s.h.load(s.id)
	if err != nil {
		return nil, err
	}
	return &zones.Zone{Spec: *r.Spec.Clone(), Type: r.Spec.Brand.Type(), HVM: r.Spec.Brand.HVM(), ServerUUID: s.h.cfg.ServerUUID, State: zones.StateRunning}, nil
}

// Change waits for the verb under way, but not as long as a shutdown may take, which may be waiting for this very guest.
func (s source) Change(ctx context.Context, c metadata.Change) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	z, err := s.h.acquire(ctx, s.id)
	if err != nil {
		return err
	}
	defer z.unlock()
	m := &z.Spec.CustomerMetadata
	if c.Internal {
		m = &z.Spec.InternalMetadata
	}
	if *m == nil {
		*m = map[string]any{}
	}
	if c.Delete {
		delete(*m, c.Key)
	} else {
		(*m)[c.Key] = c.Value
	}
	return z.done()
}

// serveMetadata answers one running machine's guest until ctx ends.
func (h *Host) serveMetadata(ctx context.Context, r *record, d zones.Driver) error {
	id := r.Spec.UUID
	srv, err := metadata.New(metadata.Config{Source: source{h, id}, Datacenter: h.cfg.Datacenter, Logger: h.log.With("zone", id)})
	if err != nil {
		return err
	}
	if r.Spec.Brand.HVM() {
		m, ok := zones.As[zones.MetadataSerial](d)
		if !ok {
			return nil
		}
		return srv.ServeSerial(ctx, func(ctx context.Context) (net.Conn, error) { return m.MetadataConn(ctx, id) })
	}
	path := filepath.Join(h.runDir(id), "control", "metadata.sock")
	// Run has the agent's lock, so what is there is a dead one's, or that of a creator, who leaves it to Run.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // the directory may be a newer machine's by then
	if err := errors.Join(os.Chmod(path, 0o600), os.Chown(path, int(r.IDs.First), int(r.IDs.First))); err != nil {
		l.Close()
		return err
	}
	return srv.Serve(ctx, l)
}
