package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones/dataset"
)

// maxLayers bounds a stack; the kernel takes 500.
const maxLayers = 400

// emptyLayer is at the bottom of every stack, so that a dataset is a mount of its own even when it was made from nothing: only then does
// the kernel know whether it is in use.
const emptyLayer = "empty"

func (p *Pool) layer(id string) string { return filepath.Join(p.path, "layers", id) }

func (p *Pool) layers(ids []string) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = p.layer(id)
	}
	return out
}

// freshUpper makes a dataset's empty writable layer, whose top has owner, mode and times of the layer below, because
// overlayfs shows those of the uppermost.
func (p *Pool) freshUpper(dir string, lower []string) error {
	upper, work := filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	if err := errors.Join(os.Mkdir(work, 0o700), os.Mkdir(upper, 0o755), os.Chmod(upper, 0o755)); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat(p.layer(lower[0]), &st); err != nil {
		return fmt.Errorf("layer %s: %w", lower[0], err)
	}
	if err := os.Chown(upper, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Chmod(upper, st.Mode&0o7777); err != nil {
		return err
	}
	return unix.UtimesNano(upper, []unix.Timespec{st.Atim, st.Mtim})
}

// withdrawLayers moves layers that no record names into tmp, and gives where they are.
func (p *Pool) withdrawLayers() ([]string, error) {
	all, err := p.dir.All()
	if err != nil {
		return nil, err
	}
	used := map[string]bool{emptyLayer: true}
	for _, r := range all {
		for _, l := range r.Lower {
			used[l] = true
		}
		for _, s := range r.Snapshots {
			for _, l := range s.Lower {
				used[l] = true
			}
		}
		if r.Pending != nil {
			used[r.Pending.Layer] = true
		}
	}
	names, err := os.ReadDir(filepath.Join(p.path, "layers"))
	if err != nil {
		return nil, err
	}
	var gone []string
	for _, n := range names {
		if used[n.Name()] {
			continue
		}
		tmp := p.dir.Temp()
		if err := os.Rename(p.layer(n.Name()), tmp); err != nil {
			return gone, err
		}
		gone = append(gone, tmp)
	}
	return gone, nil
}

// idle fails with ErrBusy while some mount has the dataset's writable layer. The kernel knows: it refuses to use the
// layer again in a mount that asks for exclusiveness (index=on). Ours is also wrong in another way, which the kernel finds later, so it
// never comes about.
func (p *Pool) idle(name string) error {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open overlay: %w", err)
	}
	defer unix.Close(fs)
	at := func(path string) (string, func(), error) {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		return fmt.Sprintf("/proc/thread-self/fd/%d", fd), func() { unix.Close(fd) }, err
	}
	dir := p.dir.Dataset(name)
	upper, done, err := at(filepath.Join(dir, "upper"))
	if err != nil {
		return err
	}
	defer done()
	lower, done, err := at(filepath.Join(p.path, "layers"))
	if err != nil {
		return err
	}
	defer done()
	for _, kv := range [][2]string{{"index", "on"}, {"lowerdir", lower}, {"upperdir", upper}, {"workdir", upper}} {
		if err := unix.FsconfigSetString(fs, kv[0], kv[1]); err != nil {
			return fmt.Errorf("is dataset %s in use: set %s: %w", name, kv[0], err)
		}
	}
	switch err := unix.FsconfigCreate(fs); {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("dataset %s: %w", name, dataset.ErrBusy)
	case errors.Is(err, unix.EINVAL):
		return nil
	default:
		return fmt.Errorf("is dataset %s in use: %v", name, err)
	}
}
