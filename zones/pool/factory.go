package pool

import (
	"context"
	"errors"

	"github.com/mobulacloud/mobula/zones"
)

// Class is what makes two zones interchangeable while nobody has used them: image and size.
type Class struct {
	// Image names what the root is made from; the factory knows the names.
	Image string
	// Limits is the size.
	Limits zones.Limits
	// Variant tells apart what else differs, such as a network or a brand; the factory knows the names.
	Variant string
}

// Factory makes, resets and removes zones. Methods are called from several goroutines, for one zone from one at a time.
type Factory interface {
	// Make returns a new running zone that nobody has used. On error nothing is left.
	Make(ctx context.Context, c Class) (Zone, error)
	// Reset returns a zone in which nothing is left of whoever used z: no process, file, memory, connection, key or meter
	// reading. It may be z itself made fresh or another one. On error z is only fit for Discard.
	Reset(ctx context.Context, z Zone) (Zone, error)
	// Discard removes the zone with all it had. Repeating it does nothing. On error it is called again later.
	Discard(ctx context.Context, z Zone) error
}

// Zone is one zone of a pool.
type Zone struct {
	// ID is the running machine's, for the driver's methods.
	ID string
	// Class is what it was made as.
	Class Class
	// Machine is what it runs with; Data is the factory's own.
	Machine zones.Machine
	Data    any
}

// Machines is the Factory over a zones.Driver. All its fields are required.
type Machines struct {
	// Driver runs the zones. It should have no others.
	Driver zones.Driver
	// Prepare makes what a machine of the class needs and nobody has used: id, run directory, root, network. It is called for every
	// tenant, so that a root or network is never seen by two.
	Prepare func(ctx context.Context, c Class) (zones.Machine, error)
	// Release removes what Prepare made. It is called when the machine does not use it any more, and may be repeated after an error.
	Release func(ctx context.Context, m zones.Machine) error
}

// Make implements Factory.
func (f *Machines) Make(ctx context.Context, c Class) (Zone, error) {
	m, err := f.Prepare(ctx, c)
	if err != nil {
		return Zone{}, err
	}
	z := Zone{ID: m.ID, Class: c, Machine: m}
	if _, err := f.Driver.Start(ctx, m); err != nil {
		return Zone{}, errors.Join(err, f.Discard(context.WithoutCancel(ctx), z))
	}
	return z, nil
}

// Reset implements Factory. A driver that is a zones.Resetter resets in place with a new root; otherwise the zone is replaced.
func (f *Machines) Reset(ctx context.Context, z Zone) (Zone, error) {
	r, ok := zones.As[zones.Resetter](f.Driver)
	if !ok || !f.Driver.Capabilities().Reset {
		if err := f.Discard(ctx, z); err != nil {
			return Zone{}, err
		}
		return f.Make(ctx, z.Class)
	}
	fresh, err := f.Prepare(ctx, z.Class)
	if err != nil {
		return Zone{}, err
	}
	// The machine keeps its id and run directory and gets all else anew.
	used := z.Machine
	next := fresh
	next.ID, next.RunDir = used.ID, used.RunDir
	if _, err := r.Reset(ctx, next); err != nil {
		return Zone{}, errors.Join(err, f.Release(context.WithoutCancel(ctx), fresh))
	}
	used.ID, used.RunDir = fresh.ID, fresh.RunDir // what is released is the old root with the new, unused, rest
	return Zone{ID: z.ID, Class: z.Class, Machine: next}, f.Release(ctx, used)
}

// Discard implements Factory.
func (f *Machines) Discard(ctx context.Context, z Zone) error {
	if err := f.Driver.Destroy(ctx, z.ID); err != nil {
		return err
	}
	return f.Release(ctx, z.Machine)
}

// Sweep destroys every machine the driver has, which after a crash are those of the last process. It needs a driver that is a
// zones.Lister. What Prepare made for them is the caller's to find.
func (f *Machines) Sweep(ctx context.Context) error {
	l, ok := zones.As[zones.Lister](f.Driver)
	if !ok {
		return zones.OpError("sweep", "", zones.ErrNotSupported)
	}
	ids, err := l.List(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		errs = append(errs, f.Driver.Destroy(ctx, id))
	}
	return errors.Join(errs...)
}
