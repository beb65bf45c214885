package host

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/dataset"
)

// markPrefix is what snapshots are called by in the pool from which a later Send goes on.
const markPrefix = "mark-"

// SendOptions say which part of a zone is sent. The zero value is all of it, for good.
//
// A zone moves to another host with little of a pause in two steps or more: while it runs it is sent with a Mark, which takes as long as it
// takes; then it is stopped, and what changed since is sent without one, which makes it a zone over there.
type SendOptions struct {
	// Mark names the state that is sent, as a snapshot's name. Both hosts remember it, the zone stays in state receiving over there, and
	// more can be sent since then. Only with a Mark may the zone run; its pool must be able to snapshot one that does.
	Mark string
	// Since is the Mark of an earlier Send: only what changed is sent. Both pools must be of a kind that can do that, and the same kind. The
	// marks before it are forgotten here; a Send without Since forgets all.
	Since string
}

// Send writes a zone, as it is now, in a form that Receive takes on another host, and without Since whatever its kind of pool. The
// zone stays; whoever moves it deletes it here afterwards. Snapshots are not sent. A running zone gives [zones.ErrRunning] unless it is sent
// with a Mark, a Since that is not there [zones.ErrNotExist].
func (h *Host) Send(ctx context.Context, id string, w io.Writer, o SendOptions) error {
	for _, mark := range []string{o.Mark, o.Since} {
		if mark != "" && !zones.ValidSnapshotName(mark) || o.Mark != "" && o.Mark == o.Since {
			return zones.OpError("send", id, fmt.Errorf("%w: mark %.80q", zones.ErrInvalid, mark))
		}
	}
	z, err := h.acquire(ctx, id)
	if err != nil {
		return zones.OpError("send", id, err)
	}
	defer z.unlock()
	if z.Handle != nil && o.Mark == "" {
		return zones.OpError("send", id, zones.ErrRunning)
	}
	return zones.OpError("send", id, z.send(ctx, w, o))
}

// datasets are a zone's, by what they are called on the wire, in order.
func (z *zone) datasets() (kinds []string, names map[string]string) {
	kinds, names = []string{"root"}, map[string]string{"root": rootDataset(z.id)}
	if z.Spec.DelegateDataset {
		kinds, names["data"] = append(kinds, "data"), dataDataset(z.id)
	}
	return kinds, names
}

func (z *zone) send(ctx context.Context, w io.Writer, o SendOptions) (err error) {
	kinds, names := z.datasets()
	head := sendHeader{
		Version: sendVersion, Spec: z.Spec, Image: z.Image, Container: z.Container, Created: z.Created, Sent: time.Now().UTC(), Datasets: kinds,
		Mark: o.Mark, Since: o.Since,
	}
	if o.Mark != "" || o.Since != "" {
		head.Version = markVersion
	}
	base := ""
	if o.Since != "" {
		base = markPrefix + o.Since
	}
	if err := z.dropMarks(ctx, base); err != nil {
		return err
	}
	snap := sendPrefix + rand.Text()
	if o.Mark != "" {
		snap = markPrefix + o.Mark
	}
	defer func() {
		clean, cancel := cleanUp(ctx)
		defer cancel()
		err = errors.Join(err, z.dropSends(clean))
		if err != nil && o.Mark != "" { // what was sent in part is nothing to go on from
			err = errors.Join(err, z.dropSnapshots(clean, func(name string) bool { return name == snap }))
		}
	}()
	if err := z.freezeAll(ctx, kinds, names, snap); err != nil {
		return err
	}
	return z.stream(ctx, w, head, names, snap, base)
}

// freezeAll takes a snapshot of every dataset, of a running VM's at one instant.
func (z *zone) freezeAll(ctx context.Context, kinds []string, names map[string]string, snap string) error {
	take := func(ctx context.Context) error {
		for _, kind := range kinds {
			z.step("send: snapshot")
			err := z.released(ctx, func() error {
				_, err := z.cfg.Pool.Snapshot(ctx, names[kind], snap)
				return err
			})
			if err != nil {
				return mapDataset(err)
			}
		}
		return nil
	}
	return z.still(ctx, take)
}

func (z *zone) stream(ctx context.Context, w io.Writer, head sendHeader, names map[string]string, snap, base string) error {
	sum := sha256.New()
	out := bufio.NewWriterSize(w, 64<<10)
	both := io.MultiWriter(out, sum)
	if _, err := io.WriteString(both, sendMagic); err != nil {
		return err
	}
	b, err := json.Marshal(head)
	if err != nil {
		return err
	}
	c := &chunkWriter{w: both}
	if _, err := c.Write(b); err != nil {
		return err
	}
	if err := c.end(); err != nil {
		return err
	}
	for _, kind := range head.Datasets {
		z.step("send: stream")
		if err := z.cfg.Pool.Send(ctx, c, dataset.Ref{Dataset: names[kind], Snapshot: snap}, base); err != nil {
			return mapDataset(err)
		}
		if err := c.end(); err != nil {
			return err
		}
	}
	if _, err := out.Write(sum.Sum(nil)); err != nil {
		return err
	}
	return out.Flush()
}

// dropMarks forgets the marks of earlier sends but the one that is gone on from, which must be there.
func (z *zone) dropMarks(ctx context.Context, base string) error {
	_, names := z.datasets()
	for _, name := range names {
		info, err := z.cfg.Pool.Get(ctx, name)
		if err != nil {
			return mapDataset(err)
		}
		if _, ok := info.Find(base); base != "" && !ok {
			return fmt.Errorf("mark %s of an earlier send: %w", strings.TrimPrefix(base, markPrefix), zones.ErrNotExist)
		}
	}
	return z.dropSnapshots(ctx, func(name string) bool { return name != base && strings.HasPrefix(name, markPrefix) })
}

// dropSends removes snapshots that a killed Send left.
func (z *zone) dropSends(ctx context.Context) error {
	return z.dropSnapshots(ctx, func(name string) bool { return strings.HasPrefix(name, sendPrefix) })
}

// dropSnapshots removes the snapshots that are picked, of all the zone's datasets.
func (z *zone) dropSnapshots(ctx context.Context, picked func(name string) bool) error {
	for _, name := range []string{rootDataset(z.id), dataDataset(z.id)} {
		info, err := z.cfg.Pool.Get(ctx, name)
		if errors.Is(err, dataset.ErrNotExist) {
			continue
		}
		if err != nil {
			return mapDataset(err)
		}
		for _, s := range info.Snapshots {
			if !picked(s.Name) {
				continue
			}
			if err := z.cfg.Pool.DeleteSnapshot(ctx, name, s.Name); err != nil {
				return mapDataset(err)
			}
		}
	}
	return nil
}
