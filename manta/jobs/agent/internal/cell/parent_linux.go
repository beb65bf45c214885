package cell

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/cgroups"
)

// parents returns the control group that all cells' groups are in: its directories in every hierarchy of this host, whether they are there or not.
func parents(name string) ([]string, error) {
	if cgroups.IsCgroup2UnifiedMode() {
		return []string{filepath.Join("/sys/fs/cgroup", name)}, nil
	}
	mounts, err := cgroups.GetCgroupMounts(true)
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, m := range mounts {
		dirs = append(dirs, filepath.Join(m.Mountpoint, name))
	}
	return append(dirs, filepath.Join("/sys/fs/cgroup/unified", name)), nil
}

// weigh gives all cells together the processor time of as many ordinary processes as there are cells. By default all of them would count as one, and
// a busy server would leave tasks next to nothing. The group is there once there is a cell.
func (c *Cells) weigh() error {
	dirs, err := parents(c.parent)
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		for file, value := range map[string]int{"cpu.shares": min(1024*c.cfg.Zones, 262144), "cpu.weight": min(100*c.cfg.Zones, 10000)} {
			f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
			if errors.Is(err, fs.ErrNotExist) {
				continue // another hierarchy's
			}
			if err == nil {
				_, err = f.WriteString(strconv.Itoa(value))
				err = errors.Join(err, f.Close())
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("weight of tasks: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}

// removeParent removes the control group of all cells when none is left.
func (c *Cells) removeParent() error {
	dirs, err := parents(c.parent)
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
