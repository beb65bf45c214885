package overlay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/dataset/archive"
	"github.com/mobulacloud/mobula/zones/dataset/internal/pooldir"
)

// Send writes a snapshot as a tar stream.
func (p *Pool) Send(ctx context.Context, w io.Writer, from dataset.Ref, base string) error {
	if _, err := p.dir.Load(from.Dataset); err != nil {
		return err
	}
	if base != "" {
		return fmt.Errorf("send %s since %s: %w", from, base, dataset.ErrUnsupported)
	}
	root, err := p.SnapshotRoot(ctx, from)
	if err != nil {
		return err
	}
	m, err := root.Open(dataset.OpenOptions{})
	if err != nil {
		return fmt.Errorf("send %s: %w", from, err)
	}
	defer m.Close()
	tree, err := m.OpenRoot()
	if err != nil {
		return fmt.Errorf("send %s: %w", from, err)
	}
	defer tree.Close()
	if err := archive.Write(ctx, w, tree); err != nil {
		return fmt.Errorf("send %s: %w", from, err)
	}
	return nil
}

// Receive makes a dataset from a full stream.
func (p *Pool) Receive(ctx context.Context, in io.Reader, name, snap string, o dataset.Options) (dataset.Info, error) {
	if err := errors.Join(dataset.ValidName(name), dataset.ValidSnapshot(snap), check(o)); err != nil {
		return dataset.Info{}, fmt.Errorf("receive dataset %s: %w", name, err)
	}
	if err := p.dir.Free(name); err != nil {
		return dataset.Info{}, err
	}
	tmp, r, err := p.build(pooldir.Record{Lower: []string{emptyLayer}}, o)
	if err == nil {
		err = p.fill(ctx, in, tmp, o)
	}
	if err == nil {
		r, err = p.publish(ctx, tmp, name, snap, r)
	}
	if err != nil {
		os.RemoveAll(tmp)
		return dataset.Info{}, fmt.Errorf("receive dataset %s: %w", name, mapError(err))
	}
	return p.dir.Info(name, r), nil
}

func (p *Pool) fill(ctx context.Context, in io.Reader, tmp string, o dataset.Options) error {
	root, err := os.OpenRoot(filepath.Join(tmp, "upper"))
	if err != nil {
		return err
	}
	defer root.Close()
	if _, err := pooldir.Unpack(ctx, in, root); err != nil {
		return err
	}
	if o.Volatile {
		return nil
	}
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

// publish freezes what was received as the first snapshot, still in tmp but for its layer, and puts the dataset in its place.
func (p *Pool) publish(ctx context.Context, tmp, name, snap string, r pooldir.Record) (pooldir.Record, error) {
	unlock, err := p.dir.Lock(ctx)
	if err != nil {
		return r, err
	}
	defer unlock()
	id := uuid.NewString()
	s := pooldir.Snapshot{ID: id, Name: snap, Created: time.Now().UTC(), Lower: []string{id, emptyLayer}}
	if err := p.freeze(tmp, r, s); err != nil {
		return r, err
	}
	if r, err = pooldir.Load(tmp); err != nil {
		return r, err
	}
	return r, p.dir.Publish(tmp, name, !r.Volatile)
}
