package host

import (
	"context"
	"errors"
	"iter"
	"reflect"
	"slices"
	"sort"
	"time"

	"github.com/mobulacloud/mobula/zones"
)

// Events gives what happens to zones, from a [zones.EventReady] on, until ctx ends, which is the last error. It hears of every process's
// verbs. That a machine ended by itself is heard of when somebody notices, such as [Host.Run].
func (h *Host) Events(ctx context.Context) iter.Seq2[zones.Event, error] {
	return func(yield func(zones.Event, error) bool) {
		w, err := h.watchRecords()
		if err != nil {
			yield(zones.Event{}, err)
			return
		}
		defer w.close()
		known := map[string]*zones.Zone{}
		l, err := h.List(ctx, Filter{})
		if err != nil {
			yield(zones.Event{}, err)
			return
		}
		for _, z := range l {
			known[z.UUID] = z
		}
		if !yield(zones.Event{Type: zones.EventReady, Date: time.Now().UTC()}, nil) {
			return
		}
		for {
			ids, all, err := w.next(ctx)
			if err != nil {
				yield(zones.Event{}, err)
				return
			}
			if all {
				if ids, err = h.uuids(); err != nil {
					yield(zones.Event{}, err)
					return
				}
				for id := range known {
					ids = append(ids, id)
				}
			}
			slices.Sort(ids)
			for _, id := range slices.Compact(ids) {
				e, ok, err := h.event(ctx, known, id)
				if err != nil {
					yield(zones.Event{}, err)
					return
				}
				if ok && !yield(e, nil) {
					return
				}
			}
		}
	}
}

// event compares a zone with what was known of it.
func (h *Host) event(ctx context.Context, known map[string]*zones.Zone, id string) (zones.Event, bool, error) {
	e := zones.Event{Date: time.Now().UTC(), ZoneID: id}
	old := known[id]
	now, err := h.Get(ctx, id)
	switch {
	case errors.Is(err, zones.ErrNotExist):
		delete(known, id)
		e.Type, e.Zone = zones.EventDelete, old
		return e, old != nil, nil
	case err != nil:
		return e, false, err
	}
	known[id] = now
	e.Zone = now
	if old == nil {
		e.Type = zones.EventCreate
		return e, true, nil
	}
	e.Type = zones.EventModify
	e.Changes, err = changes(old, now)
	return e, len(e.Changes) > 0, err
}

// changes lists the properties that differ, in the order of their names. last_modified alone is no change.
func changes(a, b *zones.Zone) ([]zones.Change, error) {
	from, err := Properties(a)
	if err != nil {
		return nil, err
	}
	to, err := Properties(b)
	if err != nil {
		return nil, err
	}
	var names []string
	for n := range from {
		names = append(names, n)
	}
	for n := range to {
		if _, ok := from[n]; !ok {
			names = append(names, n)
		}
	}
	sort.Strings(names)
	var out []zones.Change
	for _, n := range names {
		if n == "last_modified" {
			continue
		}
		x, had := from[n]
		y, has := to[n]
		if reflect.DeepEqual(x, y) {
			continue
		}
		c := zones.Change{Path: []string{n}, From: x, To: y, Action: "changed"}
		switch {
		case !had:
			c.Action = "added"
		case !has:
			c.Action = "removed"
		}
		out = append(out, c)
	}
	return out, nil
}
