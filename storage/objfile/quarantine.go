package objfile

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/mobulacloud/mobula/storage"
)

// damage takes a damaged copy out of service: its record says so, the id is absent from then on, and what is left of it goes to quarantine. raw is what was read of a
// packed object. It returns the error for the reader.
func (s *Store) damage(id storage.ObjectID, e entry, reason string, raw []byte) error {
	err := fmt.Errorf("%w: %s: %s", storage.ErrCorrupt, id, reason)
	if s.door.enter() != nil {
		return err
	}
	defer s.door.leave()
	d, did := s.quarantine(id, e, raw)
	if !did {
		return err // another reader was here first, or the object is gone
	}
	d.Reason = reason
	s.met.damaged.Add(1)
	s.cfg.Log.Error("copy is damaged", "object", id.String(), "reason", reason, "quarantine", d.Quarantine)
	if s.cfg.OnDamage != nil {
		s.cfg.OnDamage(d)
	}
	return err
}

func (s *Store) quarantine(id storage.ObjectID, e entry, raw []byte) (Damage, bool) {
	defer s.lockID(id)()
	d := Damage{ID: id, Size: e.size}
	o := &op{kind: opDamaged, id: id, seq: e.seq}
	if err := s.submit(o); err != nil {
		// The journal takes nothing: hide the copy as long as this process runs; the next one will find the damage again.
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.hidden[id] == e.seq {
			return d, false
		}
		s.hidden[id] = e.seq
		s.damaged++
		return d, true
	}
	if !o.did {
		return d, false
	}
	name := path.Join(quarantineDir, fmt.Sprintf("%s.%s.%d", id.Owner, id.Object, e.seq))
	var err error
	if e.file {
		err = s.disk.Rename(objectPath(id), name)
	} else {
		err = s.keep(name, raw)
	}
	if isNotExist(err) {
		err = s.keep(name, nil) // nothing is left; the operator shall see that there was something
	}
	if err == nil {
		err = s.dirs.sync(quarantineDir)
	}
	if err != nil {
		s.cfg.Log.Warn("damaged copy not kept", "object", id.String(), "err", err)
	} else {
		d.Quarantine = name
	}
	s.mu.Lock()
	s.damaged++
	s.mu.Unlock()
	return d, true
}

func (s *Store) keep(name string, raw []byte) error {
	f, err := s.disk.Create(name)
	if err != nil {
		return err
	}
	if len(raw) > 0 {
		_, err = f.WriteAt(raw, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Verify implements [storage.Node]. It reads the disk, not the page cache.
func (s *Store) Verify(ctx context.Context, id storage.ObjectID) (storage.Info, error) {
	if err := s.enter(ctx); err != nil {
		return storage.Info{}, err
	}
	defer s.leave()
	if _, err := s.verify(ctx, id, nil); err != nil {
		return storage.Info{}, err
	}
	e, err := s.find(id)
	if err != nil {
		return storage.Info{}, err
	}
	return e.info(id), nil
}
