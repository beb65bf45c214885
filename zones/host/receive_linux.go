package host

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/dataset"
)

// Steps of a receive. Without one a zone is being received for the first time, and a dead process leaves nothing of it.
const (
	// stepWaiting: it is there as of the mark that Op.Snapshot names, and waits for what changed since.
	stepWaiting = "waiting"
	// stepApplying: that is coming, and until all of it is there the zone goes back to the mark.
	stepApplying = "applying"
)

// errReceiving is what verbs get on a zone that is not all there yet.
var errReceiving = fmt.Errorf("%w: the zone is being received", zones.ErrBusy)

// Receive makes a zone of what Send wrote. It is there, stopped, once all of it has arrived and its checksum is right; until then, and as
// long as it was sent with a Mark, its state is receiving and it can only be looked at, deleted, and received further: what was sent
// since a mark needs the zone to be there as of that mark ([zones.ErrNotExist] otherwise), and leaves it so if it does not
// all arrive. The stream is not trusted. A zone of the uuid that is here gives [zones.ErrExist].
func (h *Host) Receive(ctx context.Context, r io.Reader) (*zones.Zone, error) {
	sum := sha256.New()
	in := bufio.NewReaderSize(r, 64<<10)
	tee := io.TeeReader(in, sum)
	head, err := readHeader(tee)
	if err != nil {
		return nil, zones.OpError("receive", "", err)
	}
	s := head.Spec
	z, err := h.claimReceived(ctx, head)
	if err != nil {
		return nil, zones.OpError("receive", s.UUID, err)
	}
	defer z.unlock()
	if err = z.receive(ctx, head, tee, in, sum); err == nil {
		err = z.received(ctx, head)
	}
	if err != nil {
		clean, cancel := cleanUp(ctx)
		defer cancel()
		if head.Since != "" {
			err = errors.Join(err, z.backToMark(clean))
		} else {
			err = errors.Join(err, z.eraseAll(clean))
		}
		return nil, zones.OpError("receive", s.UUID, err)
	}
	return h.view(ctx, &z.record), nil
}

func (h *Host) claimReceived(ctx context.Context, head sendHeader) (*zone, error) {
	s := head.Spec
	if !zones.ValidID(s.UUID) {
		return nil, fmt.Errorf("%w: uuid %.40q", zones.ErrInvalid, s.UUID)
	}
	s.SetDefaults()
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if err := h.serves(s); err != nil {
		return nil, err
	}
	if head.Since == "" {
		z, err := h.claim(ctx, s, "receive")
		if err == nil {
			z.Image, z.Container, z.Created = head.Image, head.Container, head.Created
		}
		return z, err
	}
	z, err := h.acquireAny(ctx, s.UUID)
	if err != nil {
		return nil, err
	}
	switch {
	case z.Op == nil || z.Op.Step != stepWaiting:
		err = zones.ErrExist
	case z.Op.Snapshot != head.Since:
		err = fmt.Errorf("%w: the zone is here as of mark %q, what came is since %q", zones.ErrNotExist, z.Op.Snapshot, head.Since)
	case z.Spec.Brand != s.Brand || z.Spec.DelegateDataset != s.DelegateDataset:
		err = fmt.Errorf("%w: the zone that came first was of another kind", zones.ErrInvalid)
	default:
		err = z.beginDifference(ctx, s)
	}
	if err != nil {
		z.unlock()
		return nil, err
	}
	return z, nil
}

// beginDifference writes down that what changed is coming, while nobody else takes a MAC.
func (z *zone) beginDifference(ctx context.Context, next *zones.Spec) error {
	unlock, err := z.lock(ctx, "ids", true)
	if err != nil {
		return err
	}
	defer unlock()
	if err := z.checkMACs(next); err != nil {
		return err
	}
	z.Op.Next = next
	return z.advance(stepApplying)
}

func (z *zone) receive(ctx context.Context, head sendHeader, tee io.Reader, plain io.Reader, sum hash.Hash) error {
	_, names := z.datasets()
	for _, kind := range head.Datasets {
		o := z.quota()
		if kind == "data" {
			o = dataset.Options{}
			if z.cfg.Pool.Capabilities().SharedQuota {
				o.Within = rootDataset(z.id)
			}
		}
		c := &chunkReader{r: tee}
		z.step("receive: stream")
		if _, err := z.cfg.Pool.Receive(ctx, c, names[kind], receivedSnapshot(head), o); err != nil {
			return mapDataset(err)
		}
		if n, err := io.Copy(io.Discard, c); err != nil || n != 0 {
			return fmt.Errorf("%w: %d bytes behind dataset %s: %v", zones.ErrInvalid, n, kind, err)
		}
	}
	want := sum.Sum(nil)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(plain, got); err != nil || string(got) != string(want) {
		return fmt.Errorf("%w: checksum of the zone is wrong or missing", zones.ErrInvalid)
	}
	return nil
}

// receivedSnapshot is what a stream's state is called by here.
func receivedSnapshot(head sendHeader) string {
	if head.Mark != "" {
		return markPrefix + head.Mark
	}
	return sendPrefix + "received"
}

// received makes what has all arrived a zone, or lets it wait for more. From the record that says so on, nothing goes back.
func (z *zone) received(ctx context.Context, head sendHeader) error {
	if head.Since != "" {
		old := z.Spec
		z.Spec, z.Image, z.Container, z.Created = head.Spec, head.Image, head.Container, head.Created
		if deref(old.Quota) != deref(z.Spec.Quota) {
			if err := z.cfg.Pool.SetQuota(ctx, rootDataset(z.id), z.quota().Quota); err != nil {
				return mapDataset(err)
			}
		}
	}
	z.step("receive: all")
	if head.Mark != "" {
		z.Op.Snapshot, z.Op.Next = head.Mark, nil
		if err := z.advance(stepWaiting); err != nil {
			return err
		}
	} else if err := z.done(); err != nil {
		return err
	}
	// What is left of before is of no more use, and goes with the next verb if it does not go now.
	if err := z.dropReceived(ctx); err != nil {
		z.log.Warn("snapshots of a receive", "zone", z.id, "err", err)
	}
	return nil
}

// dropReceived forgets the states that a zone was received by, but the one that it waits at.
func (z *zone) dropReceived(ctx context.Context) error {
	keep := ""
	if z.Op != nil {
		keep = markPrefix + z.Op.Snapshot
	}
	return errors.Join(z.dropSends(ctx), z.dropMarks(ctx, keep))
}

// backToMark undoes what of a difference has come.
func (z *zone) backToMark(ctx context.Context) error {
	old, err := z.load(z.id)
	if err != nil {
		return err
	}
	if z.record = old; z.Op == nil || z.Op.Step != stepApplying {
		return nil // it is all there
	}
	_, names := z.datasets()
	for _, name := range names {
		if err := z.cfg.Pool.Rollback(ctx, name, markPrefix+z.Op.Snapshot); err != nil {
			return mapDataset(err)
		}
	}
	if err := z.cfg.Pool.SetQuota(ctx, rootDataset(z.id), z.quota().Quota); err != nil && !errors.Is(err, dataset.ErrUnsupported) {
		return mapDataset(err)
	}
	z.Op.Next = nil
	return z.advance(stepWaiting)
}
