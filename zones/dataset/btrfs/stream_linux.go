package btrfs

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"
	"unsafe"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/dataset/internal/pooldir"
	"github.com/mobulacloud/mobula/zones/dataset/sendstream"
)

type sendArgs struct {
	fd      int64
	count   uint64
	sources *uint64
	parent  uint64
	flags   uint64
	version uint32
	_       [28]byte
}

// Send writes a snapshot as a btrfs stream.
func (p *Pool) Send(ctx context.Context, w io.Writer, from dataset.Ref, base string) error {
	r, err := p.dir.Load(from.Dataset)
	if err != nil {
		return err
	}
	i := r.Find(from.Snapshot)
	if i < 0 {
		return fmt.Errorf("send %s: %w", from, dataset.ErrNotExist)
	}
	var a sendArgs
	if base != "" {
		b := r.Find(base)
		if b < 0 || b >= i {
			return fmt.Errorf("send %s: base %s: %w", from, base, dataset.ErrNotExist)
		}
		id, err := subvolID(p.snap(from.Dataset, r.Snapshots[b].ID))
		if err != nil {
			return err
		}
		a.parent, a.count, a.sources = id, 1, &id
		defer runtime.KeepAlive(&id)
	}
	snap, err := os.Open(p.snap(from.Dataset, r.Snapshots[i].ID))
	if err != nil {
		return err
	}
	defer snap.Close()
	pr, pw, err := os.Pipe()
	if err != nil {
		return err
	}
	a.fd = int64(pw.Fd())
	sent := make(chan error, 1)
	go func() {
		err := ioctl(int(snap.Fd()), iocSend, unsafe.Pointer(&a))
		pw.Close()
		sent <- err
	}()
	stop := context.AfterFunc(ctx, func() { pr.Close() }) // the kernel then stops with EPIPE
	_, err = io.Copy(w, pr)
	stop()
	pr.Close()
	if serr := <-sent; err == nil {
		err = serr
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("send %s: %w", from, err)
	}
	return nil
}

// Receive makes a dataset from a stream, or brings one further.
func (p *Pool) Receive(ctx context.Context, r io.Reader, name, snap string, o dataset.Options) (dataset.Info, error) {
	if err := errors.Join(dataset.ValidName(name), dataset.ValidSnapshot(snap)); err != nil {
		return dataset.Info{}, err
	}
	if _, err := p.dir.Load(name); err == nil {
		return p.receiveMore(ctx, r, name, snap)
	}
	tmp, rec, err := p.receiveNew(ctx, r, snap, o)
	if err == nil {
		err = p.publish(ctx, tmp, name)
	}
	if err != nil {
		removeTree(tmp)
		return dataset.Info{}, fmt.Errorf("receive dataset %s: %w", name, mapError(err))
	}
	return p.dir.Info(name, rec), p.commit(rec)
}

func (p *Pool) publish(ctx context.Context, tmp, name string) error {
	unlock, err := p.dir.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return p.dir.Publish(tmp, name, false)
}

func (p *Pool) receiveNew(ctx context.Context, in io.Reader, snap string, o dataset.Options) (string, pooldir.Record, error) {
	unlock, err := p.dir.Lock(ctx)
	if err != nil {
		return "", pooldir.Record{}, err
	}
	p.room()
	// Data arrives under the quota, so a stream that does not fit fails early.
	tmp, rec, err := p.build(pooldir.Record{}, o, "")
	unlock()
	if err != nil {
		return tmp, rec, err
	}
	root, err := os.OpenRoot(filepath.Join(tmp, "root"))
	if err != nil {
		return tmp, rec, err
	}
	defer root.Close()
	stream, err := pooldir.Unpack(ctx, in, root)
	if err != nil {
		return tmp, rec, err
	}
	if !rec.Volatile {
		if err := p.flush(); err != nil {
			return tmp, rec, err
		}
	}
	s := pooldir.Snapshot{ID: uuid.NewString(), Name: snap, Created: time.Now().UTC(), Stream: stream}
	if err := snapshot(filepath.Join(tmp, "root"), filepath.Join(tmp, "snap"), s.ID, true, rec.Group); err != nil {
		return tmp, rec, err
	}
	rec.Snapshots = []pooldir.Snapshot{s}
	return tmp, rec, pooldir.Save(tmp, rec)
}

// receiveMore applies an incremental stream to a copy of the newest snapshot, freezes it as the new one, and then rolls the
// dataset "back" to it, which is the one change of several steps that repair knows how to finish.
func (p *Pool) receiveMore(ctx context.Context, in io.Reader, name, snap string) (dataset.Info, error) {
	fail := func(err error) (dataset.Info, error) {
		return dataset.Info{}, fmt.Errorf("receive onto dataset %s: %w", name, mapError(err))
	}
	rec, err := p.dir.Load(name)
	if err != nil {
		return fail(err)
	}
	if len(rec.Snapshots) == 0 {
		return fail(dataset.ErrExist)
	}
	if rec.Find(snap) >= 0 {
		return fail(fmt.Errorf("snapshot %s: %w", snap, dataset.ErrExist))
	}
	newest := rec.Snapshots[len(rec.Snapshots)-1]
	baseDir := p.snap(name, newest.ID)
	o := sendstream.Options{}
	if b, err := hex.DecodeString(newest.Stream); err == nil && len(b) == 16 {
		o.BaseUUID = [16]byte(b)
	} else if i, err := info(baseDir); err == nil {
		o.BaseUUID = i.uuid
	}
	if o.Base, err = os.OpenRoot(baseDir); err != nil {
		return fail(err)
	}
	defer o.Base.Close()
	tmp := p.dir.Temp()
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return fail(err)
	}
	defer removeTree(tmp)
	if err := snapshot(baseDir, tmp, "root", false, rec.Group); err != nil {
		return fail(err)
	}
	root, err := os.OpenRoot(filepath.Join(tmp, "root"))
	if err != nil {
		return fail(err)
	}
	defer root.Close()
	res, err := sendstream.Apply(ctx, in, root, o)
	if err != nil {
		return fail(pooldir.StreamError(err))
	}
	if err := p.flush(); err != nil {
		return fail(err)
	}
	unlock, err := p.dir.Lock(ctx)
	if err != nil {
		return fail(err)
	}
	defer unlock()
	now, err := p.dir.Load(name)
	if err != nil {
		return fail(err)
	}
	if len(now.Snapshots) != len(rec.Snapshots) || now.ID != rec.ID {
		return fail(dataset.ErrBusy)
	}
	s := pooldir.Snapshot{ID: uuid.NewString(), Name: snap, Created: time.Now().UTC(), Stream: hex.EncodeToString(res.UUID[:])}
	if err := snapshot(filepath.Join(tmp, "root"), filepath.Join(p.dir.Dataset(name), "snap"), s.ID, true, rec.Group); err != nil {
		return fail(err)
	}
	now.Snapshots = append(now.Snapshots, s)
	now.Pending = &pooldir.Pending{Verb: "rollback", Snapshot: s.ID}
	if err := pooldir.Save(p.dir.Dataset(name), now); err != nil {
		return fail(err)
	}
	if err := p.rollback(name, now); err != nil {
		return fail(err)
	}
	now.Pending = nil
	return p.dir.Info(name, now), nil
}
