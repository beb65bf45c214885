package agent

import (
	"cmp"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// stocks fills in the stocks of memory and disk that nobody gave.
func stocks(c *Config) error {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return err
	}
	c.MemoryStock = cmp.Or(c.MemoryStock, int64(info.Totalram)*int64(info.Unit)/5)
	dir := c.Dir
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return err
	}
	c.DiskStock = cmp.Or(c.DiskStock, int64(fs.Blocks)*fs.Bsize*15/100)
	return nil
}
