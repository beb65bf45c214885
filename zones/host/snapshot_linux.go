package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/image"
)

// snapPrefix is what the snapshots that users see are called by in the pool; sendPrefix those that Send makes for itself.
const (
	snapPrefix = "vmsnap-"
	sendPrefix = "send-"
)

// CreateSnapshot freezes a zone's root, or a VM's disks, under a name of up to 64 bytes. A zone with a delegated dataset cannot be snapshot, as
// on SmartOS; on a pool without live snapshots it must be stopped ([zones.ErrBusy]). More than zfs_snapshot_limit gives
// [zones.ErrNoSpace].
func (h *Host) CreateSnapshot(ctx context.Context, id, name string) error {
	z, err := h.acquire(ctx, id)
	if err != nil {
		return zones.OpError("snapshot", id, err)
	}
	defer z.unlock()
	return zones.OpError("snapshot", id, z.createSnapshot(ctx, name))
}

func (z *zone) createSnapshot(ctx context.Context, name string) error {
	if !zones.ValidSnapshotName(name) {
		return fmt.Errorf("%w: snapshot name %.80q: 1 to 64 of A-Z a-z 0-9 - _ . : %%", zones.ErrInvalid, name)
	}
	if z.Spec.DelegateDataset {
		return fmt.Errorf("%w: snapshot of a zone with a delegated dataset", zones.ErrNotSupported)
	}
	info, err := z.cfg.Pool.Get(ctx, rootDataset(z.id))
	if err != nil {
		return mapDataset(err)
	}
	if l := z.Spec.ZFSSnapshotLimit; l != nil {
		if n := int64(len(userSnapshots(info))); n >= *l {
			return fmt.Errorf("%w: the zone has %d snapshots and zfs_snapshot_limit is %d", zones.ErrNoSpace, n, *l)
		}
	}
	take := func(ctx context.Context) error {
		return mapDataset(z.released(ctx, func() error {
			_, err := z.cfg.Pool.Snapshot(ctx, rootDataset(z.id), snapPrefix+name)
			return err
		}))
	}
	return z.still(ctx, take)
}

// still runs f while the disks of a running VM hold still.
func (z *zone) still(ctx context.Context, f func(context.Context) error) error {
	if z.Handle != nil && z.Spec.Brand.HVM() {
		d, st, err := z.machine(ctx)
		if err != nil {
			return err
		}
		if q, ok := zones.As[zones.LiveSnapshotter](d); ok && st.Phase == zones.PhaseRunning {
			return q.Quiesce(ctx, z.id, f)
		}
	}
	return f(ctx)
}

// released runs f, again for up to five seconds while it finds the dataset in use although the zone does not run: the kernel takes the mounts of
// a machine that has ended apart in its own time, and tells nobody.
func (z *zone) released(ctx context.Context, f func() error) error {
	deadline := time.Now().Add(5 * time.Second)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := f()
		if z.Handle != nil || !errors.Is(err, dataset.ErrBusy) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

func userSnapshots(info dataset.Info) []zones.Snapshot {
	var out []zones.Snapshot
	for _, s := range info.Snapshots {
		if name, ok := strings.CutPrefix(s.Name, snapPrefix); ok {
			out = append(out, zones.Snapshot{Name: name, CreatedAt: s.Created})
		}
	}
	return out
}

// DeleteSnapshot forgets a snapshot.
func (h *Host) DeleteSnapshot(ctx context.Context, id, name string) error {
	z, err := h.acquire(ctx, id)
	if err != nil {
		return zones.OpError("delete snapshot", id, err)
	}
	defer z.unlock()
	err = z.cfg.Pool.DeleteSnapshot(ctx, rootDataset(id), snapPrefix+name)
	return zones.OpError("delete snapshot", id, mapDataset(err))
}

// RollbackSnapshot makes a zone what it was at a snapshot: a running zone is stopped, newer snapshots are deleted, and it is started again.
func (h *Host) RollbackSnapshot(ctx context.Context, id, name string) error {
	z, err := h.acquire(ctx, id)
	if err != nil {
		return zones.OpError("rollback", id, err)
	}
	defer z.unlock()
	return zones.OpError("rollback", id, z.rollback(ctx, name))
}

func (z *zone) rollback(ctx context.Context, name string) error {
	info, err := z.cfg.Pool.Get(ctx, rootDataset(z.id))
	if err != nil {
		return mapDataset(err)
	}
	if _, ok := info.Find(snapPrefix + name); !ok {
		return fmt.Errorf("snapshot %.80s: %w", name, zones.ErrNotExist)
	}
	if err := z.begin(op{Verb: "rollback", Snapshot: name, Running: z.Handle != nil}); err != nil {
		return err
	}
	if z.Handle != nil {
		if err := z.halt(ctx, StopOptions{}); err != nil {
			return errors.Join(err, z.done())
		}
	}
	return z.finishRollback(ctx)
}

// finishRollback goes on from a stopped zone. It may be repeated.
func (z *zone) finishRollback(ctx context.Context) error {
	z.step("rollback: back")
	err := z.released(ctx, func() error {
		return z.cfg.Pool.Rollback(ctx, rootDataset(z.id), snapPrefix+z.Op.Snapshot)
	})
	z.step("rollback: rolled")
	// Whether it came about or not: the zone goes on as it was.
	return errors.Join(mapDataset(err), z.bootAgain(ctx))
}

// Suffixes of a zone's root while another takes its place.
const (
	nextSuffix = ".next"
	oldSuffix  = ".old"
)

// Reprovision gives an OS zone the tree of another image, or of its own anew. What was delegated, NICs, metadata and quota stay;
// snapshots go. A running zone is stopped and started again. A zone whose quota is used up gives [zones.ErrNoSpace] and stays as it is.
func (h *Host) Reprovision(ctx context.Context, id, imageUUID string) error {
	z, err := h.acquire(ctx, id)
	if err != nil {
		return zones.OpError("reprovision", id, err)
	}
	defer z.unlock()
	return zones.OpError("reprovision", id, z.reprovision(ctx, imageUUID))
}

func (z *zone) reprovision(ctx context.Context, imageUUID string) error {
	if z.Spec.Brand.HVM() {
		return fmt.Errorf("%w: reprovision of a VM", zones.ErrNotSupported)
	}
	if z.Spec.IndestructibleZoneroot {
		return fmt.Errorf("%w: the zone's root is marked indestructible", zones.ErrPermission)
	}
	img, err := z.cfg.Images.Get(ctx, imageUUID)
	if err != nil {
		return mapImage(err)
	}
	if img.Disk != "" {
		return fmt.Errorf("%w: image %s is a disk image", zones.ErrInvalid, imageUUID)
	}
	if err := z.begin(op{Verb: "reprovision", Image: img.Manifest.UUID, Container: img.Container, Running: z.Handle != nil}); err != nil {
		return err
	}
	// The new tree is made before the old zone is stopped: what can fail, fails while it still runs.
	if err := z.buildNext(ctx, img); err != nil {
		clean, cancel := cleanUp(ctx)
		defer cancel()
		return errors.Join(mapDataset(err), z.dropDataset(clean, nextSuffix), z.done())
	}
	if z.Handle != nil {
		if err := z.halt(ctx, StopOptions{}); err != nil {
			return errors.Join(err, z.dropDataset(context.WithoutCancel(ctx), nextSuffix), z.done())
		}
	}
	if err := z.advance("swap"); err != nil {
		return err
	}
	return z.finishReprovision(ctx)
}

func (z *zone) buildNext(ctx context.Context, img image.Image) error {
	name := rootDataset(z.id) + nextSuffix
	if err := z.dropDataset(ctx, nextSuffix); err != nil {
		return err
	}
	z.step("reprovision: clone")
	o := z.quota()
	if z.cfg.Pool.Capabilities().SharedQuota {
		// What was delegated is counted with the old root, and is to be with the new one.
		o = dataset.Options{Within: rootDataset(z.id)}
	}
	if _, err := z.cfg.Pool.Clone(ctx, img.Ref(), name, o); err != nil {
		return err
	}
	root, err := z.cfg.Pool.Root(ctx, name)
	if err != nil {
		return err
	}
	return openTree(root, z.seedCreate)
}

func openTree(root dataset.Root, f func(*os.Root) error) error {
	m, err := root.Open(dataset.OpenOptions{})
	if err != nil {
		return err
	}
	defer m.Close()
	r, err := m.OpenRoot()
	if err != nil {
		return err
	}
	defer r.Close()
	return f(r)
}

func (z *zone) dropDataset(ctx context.Context, suffix string) error {
	err := z.cfg.Pool.Delete(ctx, rootDataset(z.id)+suffix)
	if errors.Is(err, dataset.ErrNotExist) {
		return nil
	}
	return mapDataset(err)
}

// finishReprovision puts the new tree in the old one's place: old aside, new in, old away. Each step may have been done already.
func (z *zone) finishReprovision(ctx context.Context) error {
	pool, name := z.cfg.Pool, rootDataset(z.id)
	if _, err := pool.Get(ctx, name+nextSuffix); err == nil {
		if err := pool.Rename(ctx, name, name+oldSuffix); err != nil && !errors.Is(err, dataset.ErrNotExist) {
			return mapDataset(err)
		}
		z.step("reprovision: aside")
		if err := pool.Rename(ctx, name+nextSuffix, name); err != nil {
			return mapDataset(err)
		}
		z.step("reprovision: in place")
	} else if !errors.Is(err, dataset.ErrNotExist) {
		return err
	}
	if err := z.dropDataset(ctx, oldSuffix); err != nil {
		return err
	}
	z.step("reprovision: old gone")
	if pool.Capabilities().SharedQuota { // which went with the old one
		if err := pool.SetQuota(ctx, name, z.quota().Quota); err != nil {
			return mapDataset(err)
		}
		z.step("reprovision: limited")
	}
	z.Image, z.Spec.ImageUUID, z.Container = z.Op.Image, z.Op.Image, z.Op.Container
	z.Provisioning, z.Failure = nil, "" // what failed in the old tree is gone with it
	if z.Image == image.SparseUUID {
		z.Spec.ImageUUID = zones.SparseImage // as it was asked for, and is at create
	}
	return z.bootAgain(ctx)
}

// Freeze holds a stopped zone's root still under a snapshot that users do not see, for making an image of it. done forgets the
// snapshot and lets the zone go; a process that dies before leaves it to the next one to touch the zone.
func (h *Host) Freeze(ctx context.Context, id, name string) (ref dataset.Ref, done func(), err error) {
	z, err := h.acquire(ctx, id)
	if err != nil {
		return ref, nil, zones.OpError("freeze", id, err)
	}
	if z.Handle != nil {
		z.unlock()
		return ref, nil, zones.OpError("freeze", id, zones.ErrRunning)
	}
	ref = dataset.Ref{Dataset: rootDataset(id), Snapshot: sendPrefix + name}
	err = z.released(ctx, func() error {
		_, err := h.cfg.Pool.Snapshot(ctx, ref.Dataset, ref.Snapshot)
		return err
	})
	if err != nil {
		z.unlock()
		return ref, nil, zones.OpError("freeze", id, mapDataset(err))
	}
	return ref, func() {
		clean, cancel := cleanUp(ctx)
		defer cancel()
		if err := z.dropSends(clean); err != nil {
			h.log.Warn("snapshot left", "zone", id, "err", err)
		}
		z.unlock()
	}, nil
}
