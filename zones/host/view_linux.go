package host

import (
	"context"
	"errors"
	"fmt"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/dataset"
)

// Get describes a zone, as vmadm get does. Nobody waits for it and it waits for nobody.
func (h *Host) Get(ctx context.Context, id string) (*zones.Zone, error) {
	r, err := h.load(id)
	if err != nil {
		return nil, zones.OpError("get", id, err)
	}
	return h.view(ctx, &r), nil
}

// List describes all zones that the filter matches, by uuid.
func (h *Host) List(ctx context.Context, f Filter) ([]*zones.Zone, error) {
	ids, err := h.uuids()
	if err != nil {
		return nil, err
	}
	var out []*zones.Zone
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r, err := h.load(id)
		if errors.Is(err, zones.ErrNotExist) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		z := h.view(ctx, &r)
		ok, err := f.Match(z)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, z)
		}
	}
	return out, nil
}

// Lookup is List for the uuids alone; with one set, exactly one zone must match.
func (h *Host) Lookup(ctx context.Context, f Filter, one bool) ([]string, error) {
	l, err := h.List(ctx, f)
	if err != nil {
		return nil, err
	}
	if one && len(l) != 1 {
		if len(l) == 0 {
			return nil, fmt.Errorf("lookup: no zone matches: %w", zones.ErrNotExist)
		}
		return nil, fmt.Errorf("lookup: %d zones match, not one: %w", len(l), zones.ErrInvalid)
	}
	out := make([]string, len(l))
	for i, z := range l {
		out[i] = z.UUID
	}
	return out, nil
}

// view turns a record and what the driver says into a zone as users see it.
func (h *Host) view(ctx context.Context, r *record) *zones.Zone {
	s := r.Spec.Clone()
	z := &zones.Zone{
		Spec: *s, Type: s.Brand.Type(), HVM: s.Brand.HVM(), ServerUUID: h.cfg.ServerUUID, CreateTimestamp: r.Created, LastModified: r.Modified,
		Failure: r.Failure, ZonePath: "/zones/" + s.UUID,
	}
	info, err := h.cfg.Pool.Get(ctx, rootDataset(s.UUID))
	if err == nil {
		z.Snapshots = userSnapshots(info)
	}
	if s.FlexibleDiskSize > 0 {
		z.FreeSpace = s.FlexibleDiskFree()
	}
	if s.DelegateDataset {
		z.Datasets = []string{"zones/" + s.UUID + "/data"}
	}
	z.ZoneState, z.State = zones.StateInstalled, zones.StateStopped
	if r.Handle != nil {
		h.viewMachine(ctx, r, z)
	} else if r.Exit != nil {
		z.ExitStatus, z.ExitTimestamp = new(r.Exit.Code), r.Exit.Time
	}
	if o := r.Op; o != nil {
		switch {
		case o.Verb == "create":
			z.State = zones.StateProvisioning
			if r.Handle == nil {
				z.ZoneState = zones.StateConfigured
			}
		case o.Verb == "receive":
			z.State, z.ZoneState = zones.StateReceiving, zones.StateIncomplete
		case (o.Verb == "stop" || o.Verb == "reboot" || o.Verb == "delete") && z.State == zones.StateRunning:
			z.State, z.ZoneState = zones.StateShuttingDown, zones.StateShuttingDown
			if z.HVM {
				z.State = zones.StateStopping
			}
		case o.Verb == "start" && r.Handle == nil:
			z.State, z.ZoneState = zones.StateReady, zones.StateReady
		}
	}
	if r.Provisioning != nil && z.State == zones.StateRunning {
		h.viewProvisioning(ctx, r, z)
	}
	if r.Failure != "" {
		z.State = zones.StateFailed
	}
	return z
}

// viewProvisioning says how a zone's first boot is going, which the record says only when somebody has looked.
func (h *Host) viewProvisioning(ctx context.Context, r *record, z *zones.Zone) {
	out, err := (&zone{Host: h, id: r.Spec.UUID, record: *r}).marker(ctx)
	switch {
	case err != nil:
		h.log.Warn("provisioning of a zone", "zone", r.Spec.UUID, "err", err)
		z.State = zones.StateProvisioning
	case out.done && out.failure != "":
		z.State, z.Failure = zones.StateFailed, out.failure
	case !out.done:
		z.State, z.TransitionTo, z.TransitionExpire = zones.StateProvisioning, zones.StateRunning, r.Provisioning.Deadline
	}
}

func (h *Host) viewMachine(ctx context.Context, r *record, z *zones.Zone) {
	d, err := h.driver(r.Spec.Brand)
	if err != nil {
		z.State = zones.StateUnknown
		return
	}
	st, err := h.status(ctx, d, r.Handle)
	switch {
	case err != nil:
		h.log.Warn("state of a zone", "zone", r.Spec.UUID, "err", err)
		z.State = zones.StateUnknown
	case st.Phase == zones.PhaseRunning:
		z.State, z.ZoneState, z.PID, z.BootTimestamp = zones.StateRunning, zones.StateRunning, st.PID, r.Booted
	case r.Exit != nil: // it is being taken down
		z.ExitStatus, z.ExitTimestamp = new(r.Exit.Code), r.Exit.Time
	case !st.Exit.Unknown: // else somebody is just finding out
		z.ExitStatus, z.ExitTimestamp = new(st.Exit.Code), st.Exit.Time
	}
}

// Disk says how much of the pool a zone takes, in bytes, and of how much.
func (h *Host) disk(ctx context.Context, id string) (dataset.Usage, error) {
	u, err := h.cfg.Pool.Usage(ctx, rootDataset(id))
	return u, mapDataset(err)
}
