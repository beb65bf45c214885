package pooldir

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones/dataset"
)

// Dir is an open pool directory.
type Dir struct {
	path string
	turn chan struct{} // one goroutine of this process at a time; flock settles it between processes
	tmp  string
	hold *os.File // the flock on tmp
}

type format struct {
	Format  string `json:"format"`
	Driver  string `json:"driver"`
	Version int    `json:"version"`
}

// Open opens or makes the directory of a pool. remove deletes a tree of the driver's.
func Open(path, driver string, remove func(path string) error) (*Dir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: abs, turn: make(chan struct{}, 1)}
	for _, sub := range []string{"", "ds", "tmp"} {
		if err := os.MkdirAll(filepath.Join(abs, sub), 0o711); err != nil {
			return nil, fmt.Errorf("make pool: %w", err)
		}
	}
	unlock, err := d.Lock(context.Background())
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := d.checkFormat(driver); err != nil {
		return nil, err
	}
	if err := d.clean(remove); err != nil {
		return nil, err
	}
	d.tmp = filepath.Join(abs, "tmp", rand.Text())
	if err := os.Mkdir(d.tmp, 0o700); err != nil {
		return nil, fmt.Errorf("make pool: %w", err)
	}
	if d.hold, err = os.Open(d.tmp); err != nil {
		return nil, err
	}
	if err := unix.Flock(int(d.hold.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		d.hold.Close()
		return nil, fmt.Errorf("lock %s: %w", d.tmp, err)
	}
	return d, nil
}

func (d *Dir) checkFormat(driver string) error {
	file := filepath.Join(d.path, "mobula.json")
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		b, _ := json.Marshal(format{"mobula-dataset-pool", driver, Version})
		return writeFile(file, append(b, '\n'), true)
	}
	if err != nil {
		return err
	}
	var f format
	if err := json.Unmarshal(b, &f); err != nil || f.Format != "mobula-dataset-pool" {
		return fmt.Errorf("%s is not a pool's: %v", file, err)
	}
	if f.Version > Version {
		return fmt.Errorf("%s: %w", file, dataset.ErrNewerFormat)
	}
	if f.Driver != driver {
		return fmt.Errorf("%s: the pool is of kind %s, not %s", d.path, f.Driver, driver)
	}
	return nil
}

// clean removes what dead processes left.
func (d *Dir) clean(remove func(string) error) error {
	names, err := os.ReadDir(filepath.Join(d.path, "tmp"))
	if err != nil {
		return err
	}
	for _, n := range names {
		p := filepath.Join(d.path, "tmp", n.Name())
		f, err := os.Open(p)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			err = remove(p)
		}
		f.Close()
		if err != nil {
			return fmt.Errorf("clean %s: %w", p, err)
		}
	}
	return nil
}

// Close gives up the process's tmp directory; what is still in it goes with the next Open.
func (d *Dir) Close() error {
	os.Remove(d.tmp)
	return d.hold.Close()
}

// Lock takes the pool's names and records for this goroutine.
func (d *Dir) Lock(ctx context.Context) (unlock func(), err error) {
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	f, err := os.OpenFile(filepath.Join(d.path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		for {
			if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); err != unix.EINTR {
				break
			}
		}
	}
	if err != nil {
		<-d.turn
		return nil, fmt.Errorf("lock pool: %w", err)
	}
	return func() {
		f.Close()
		<-d.turn
	}, nil
}

// Path is the pool's directory.
func (d *Dir) Path() string { return d.path }

// Dataset is a dataset's directory.
func (d *Dir) Dataset(name string) string { return filepath.Join(d.path, "ds", name) }

// Temp gives a new name in the process's tmp directory; nothing is made.
func (d *Dir) Temp() string { return filepath.Join(d.tmp, rand.Text()) }

// Load reads a dataset's record.
func (d *Dir) Load(name string) (Record, error) {
	if err := dataset.ValidName(name); err != nil {
		return Record{}, err
	}
	r, err := Load(d.Dataset(name))
	if errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("dataset %s: %w", name, dataset.ErrNotExist)
	}
	return r, err
}

// Free checks that a name is well formed and not taken.
func (d *Dir) Free(name string) error {
	if err := dataset.ValidName(name); err != nil {
		return err
	}
	if _, err := os.Lstat(d.Dataset(name)); err == nil {
		return fmt.Errorf("dataset %s: %w", name, dataset.ErrExist)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// All reads every record, by name.
func (d *Dir) All() (map[string]Record, error) {
	names, err := os.ReadDir(filepath.Join(d.path, "ds"))
	if err != nil {
		return nil, err
	}
	all := make(map[string]Record, len(names))
	for _, n := range names {
		r, err := Load(d.Dataset(n.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		all[n.Name()] = r
	}
	return all, nil
}

// Dependents names the clones that stand on a dataset: on the snapshots with the ids given, or on any when none are.
func (d *Dir) Dependents(id string, snaps ...string) ([]string, error) {
	all, err := d.All()
	if err != nil {
		return nil, err
	}
	var out []string
	for name, r := range all {
		if r.Origin.Dataset == id && (len(snaps) == 0 || slices.Contains(snaps, r.Origin.Snapshot)) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// RefuseDependents is Dependents as an error.
func (d *Dir) RefuseDependents(what, id string, snaps ...string) error {
	deps, err := d.Dependents(id, snaps...)
	if err == nil && len(deps) > 0 {
		err = fmt.Errorf("%s: %w: %s", what, dataset.ErrDependents, strings.Join(deps[:min(len(deps), 5)], ", "))
	}
	return err
}

// Info turns a record into what a caller sees.
func (d *Dir) Info(name string, r Record) dataset.Info {
	i := dataset.Info{Name: name, Created: r.Created, Quota: r.Quota}
	for _, s := range r.Snapshots {
		i.Snapshots = append(i.Snapshots, dataset.Snapshot{Name: s.Name, Created: s.Created})
	}
	if r.Origin.Dataset == "" {
		return i
	}
	find := func(name string, o Record) bool {
		if o.ID == r.Origin.Dataset {
			for _, s := range o.Snapshots {
				if s.ID == r.Origin.Snapshot {
					i.Origin = dataset.Ref{Dataset: name, Snapshot: s.Name}
					return true
				}
			}
		}
		return false
	}
	if o, err := Load(d.Dataset(r.Origin.Name)); err == nil && find(r.Origin.Name, o) {
		return i
	}
	all, _ := d.All()
	for n, o := range all {
		if find(n, o) {
			break
		}
	}
	return i
}

// Get is Pool.Get.
func (d *Dir) Get(ctx context.Context, name string) (dataset.Info, error) {
	if err := ctx.Err(); err != nil {
		return dataset.Info{}, err
	}
	r, err := d.Load(name)
	if err != nil {
		return dataset.Info{}, err
	}
	return d.Info(name, r), nil
}

// List is Pool.List.
func (d *Dir) List(ctx context.Context) ([]dataset.Info, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	all, err := d.All()
	if err != nil {
		return nil, err
	}
	out := make([]dataset.Info, 0, len(all))
	for name, r := range all {
		out = append(out, d.Info(name, r))
	}
	slices.SortFunc(out, func(a, b dataset.Info) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Rename moves a dataset under the pool's lock.
func (d *Dir) Rename(from, to string) error {
	if _, err := d.Load(from); err != nil {
		return err
	}
	if err := d.Free(to); err != nil {
		return err
	}
	err := unix.Renameat2(unix.AT_FDCWD, d.Dataset(from), unix.AT_FDCWD, d.Dataset(to), unix.RENAME_NOREPLACE)
	if err != nil {
		return fmt.Errorf("rename dataset %s: %w", from, err)
	}
	return SyncDir(filepath.Join(d.path, "ds"))
}

// Publish moves a finished directory from tmp to its place.
func (d *Dir) Publish(tmp, name string, durable bool) error {
	err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, d.Dataset(name), unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("dataset %s: %w", name, dataset.ErrExist)
	}
	if err != nil {
		return fmt.Errorf("publish dataset %s: %w", name, err)
	}
	if durable {
		return SyncDir(filepath.Join(d.path, "ds"))
	}
	return nil
}

// Withdraw moves a dataset out of sight and gives where it is now, to be removed at leisure.
func (d *Dir) Withdraw(name string) (string, error) {
	tmp := d.Temp()
	if err := os.Rename(d.Dataset(name), tmp); err != nil {
		return "", fmt.Errorf("delete dataset %s: %w", name, err)
	}
	return tmp, SyncDir(filepath.Join(d.path, "ds"))
}
