package supervisor

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/namespace"
)

// delete removes an object below a job's directory. One that has gone, or was made something else, is left; a store that cannot be reached is
// asked again for a while.
func (s *Supervisor) delete(ctx context.Context, rec *jobs.Job, path string, log *slog.Logger) {
	p, err := parse(path)
	if err != nil || p.Login() != rec.Login || !strings.HasPrefix(p.String(), jobs.StorDir(rec.Login, rec.ID)+"/") {
		return
	}
	key := p.Key(rec.Owner)
	for try := 0; ; try++ {
		var gone bool
		gone, err = s.deleteObject(ctx, key)
		if gone {
			s.met.deleted.Add(1)
		}
		if err == nil || ctx.Err() != nil {
			return
		}
		if try == 8 {
			log.WarnContext(ctx, "intermediate object stays behind", "key", key, "err", err)
			return
		}
		pause(ctx, 20*time.Millisecond<<try)
	}
}

// deleteObject removes what stands under a key if it is an object.
func (s *Supervisor) deleteObject(ctx context.Context, key manta.Key) (gone bool, err error) {
	st, err := s.cfg.Namespace.Look(ctx, key, false)
	if err != nil || st.Entry == nil || st.Entry.IsDirectory() {
		return false, err
	}
	_, err = s.cfg.Namespace.Delete(ctx, key, namespace.Options{Seen: st, Exclusive: true})
	if err != nil && permanent(err) {
		return false, nil
	}
	return err == nil, err
}

// sweep deletes what attempts have left that came to nothing: objects below the job's directory whose names are those of anonymous outputs, and that no
// commit names.
func (j *job) sweep(ctx context.Context) error {
	seed := maphash.MakeSeed()
	tasks := map[uuid.UUID]struct{}{}
	named := map[uint64]struct{}{}
	name := func(path string) { named[maphash.String(seed, path)] = struct{}{} }
	for c, err := range j.claim.Commits(ctx) {
		if err != nil {
			return err
		}
		for i := range c.Outcomes {
			if id, err := uuid.Parse(c.Outcomes[i].Task); err == nil {
				tasks[id] = struct{}{}
			}
		}
		for i := range c.Emitted {
			name(c.Emitted[i].Path)
		}
		for _, path := range c.Outputs {
			name(path)
		}
		for i := range c.Errors {
			name(c.Errors[i].Stderr)
		}
	}
	stor := jobs.StorDir(j.rec.Login, j.id)
	root, err := parse(stor)
	if err != nil {
		return err
	}
	var walk func(dir manta.Key, path string) error
	walk = func(dir manta.Key, path string) error {
		var below, stray []string
		for e, err := range j.s.cfg.Namespace.List(ctx, dir, namespace.ListOptions{}) {
			if err != nil {
				return err
			}
			base := e.Key.Name()
			if e.IsDirectory() {
				below = append(below, base)
				continue
			}
			id, ok := anonymous(base, len(j.rec.Phases))
			if !ok {
				continue
			}
			_, counts := tasks[id]
			if _, known := named[maphash.String(seed, path+"/"+base)]; !known && !counts {
				stray = append(stray, base)
			}
		}
		for _, base := range stray {
			gone, err := j.s.deleteObject(ctx, dir.Join(base))
			if err != nil && !errors.Is(err, namespace.ErrConcurrent) {
				return err
			}
			if gone {
				j.s.met.swept.Add(1)
			}
		}
		for _, base := range below {
			if err := walk(dir.Join(base), path+"/"+base); err != nil {
				return err
			}
		}
		return nil
	}
	return walk(root.Key(j.rec.Owner), stor)
}

// anonymous takes the name of an object apart that a task made without being given one: BASE.PHASE.UUID, or BASE.PHASE.err.UUID.
func anonymous(base string, phases int) (uuid.UUID, bool) {
	const length = 36
	if len(base) < length+1 || base[len(base)-length-1] != '.' {
		return uuid.UUID{}, false
	}
	id, err := uuid.Parse(base[len(base)-length:])
	if err != nil || id.String() != base[len(base)-length:] {
		return uuid.UUID{}, false
	}
	rest := strings.TrimSuffix(base[:len(base)-length-1], ".err")
	i := strings.LastIndexByte(rest, '.')
	if i < 1 {
		return uuid.UUID{}, false
	}
	n, err := strconv.Atoi(rest[i+1:])
	return id, err == nil && n >= 0 && n < phases && strconv.Itoa(n) == rest[i+1:]
}

var noOptions namespace.Options

// permanent reports whether a refusal of the tree would be the same again.
func permanent(err error) bool {
	for _, known := range []error{
		namespace.ErrNotFound, namespace.ErrIsDirectory, namespace.ErrNotEmpty, namespace.ErrNoParent, namespace.ErrParentNotDirectory, namespace.ErrRoot, namespace.ErrNotObject,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}
