package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/image"
)

const mib = 1 << 20

// nvramName is the file for firmware's variables in a VM's dataset.
const nvramName = "nvram.fd"

// A VM's disks are files in its dataset, named after the last part of their path: "/dev/zvol/rdsk/zones/UUID-disk0" is
// "disk0.raw" or "disk0.qcow2".

func diskPath(s *zones.Spec, n int) string {
	if s.Brand == zones.BrandBhyve {
		return fmt.Sprintf("/dev/zvol/rdsk/zones/%s/disk%d", s.UUID, n)
	}
	return fmt.Sprintf("/dev/zvol/rdsk/zones/%s-disk%d", s.UUID, n)
}

func freeDisk(s *zones.Spec) string {
	for n := 0; ; n++ {
		p := diskPath(s, n)
		taken := false
		for _, d := range s.Disks {
			taken = taken || d.Path == p
		}
		if !taken {
			return p
		}
	}
}

// diskFile is the name of a disk's file without its format. A path that is not ours has none.
func diskFile(s *zones.Spec, d zones.Volume) (string, bool) {
	if d.NoCreate {
		return "", false
	}
	base := path.Base(d.Path)
	base = strings.TrimPrefix(base, s.UUID+"-")
	for n := range 64 {
		if d.Path == diskPath(s, n) {
			return fmt.Sprintf("disk%d", n), true
		}
	}
	return base, false
}

// findDisk gives the name and format of a disk's file in a tree.
func findDisk(root *os.Root, base string) (name, format string, err error) {
	for _, format := range []string{"raw", "qcow2"} {
		if _, err := root.Lstat(base + "." + format); err == nil {
			return base + "." + format, format, nil
		}
	}
	return "", "", fmt.Errorf("disk %s: %w", base, os.ErrNotExist)
}

// buildDisks makes the files of a new VM: what the image brought becomes the first disk, the others are empty or copies of
// their images.
func (z *zone) buildDisks(ctx context.Context, img image.Image) error {
	for i := range z.Spec.Disks {
		d := &z.Spec.Disks[i]
		base, ours := diskFile(z.Spec, *d)
		if !ours {
			continue
		}
		z.step(z.Op.Verb + ": disk")
		var err error
		if i == 0 && img.Disk != "" {
			err = z.inRoot(ctx, func(root *os.Root) error {
				return root.Rename(image.DiskName+"."+img.Disk, base+"."+img.Disk)
			})
			if d.Size == 0 {
				d.Size = img.Manifest.ImageSize
			}
			d.ImageSize, d.ImageName = img.Manifest.ImageSize, img.Manifest.Name
		} else if d.ImageUUID != "" {
			err = z.copyDisk(ctx, d, base)
		}
		if err == nil {
			err = z.sizeDisk(ctx, base, d.Size, false)
		}
		if err != nil {
			return fmt.Errorf("disks[%d]: %w", i, err)
		}
	}
	return nil
}

// copyDisk fills a further disk from its image, sharing blocks where the file system can.
func (z *zone) copyDisk(ctx context.Context, d *zones.Volume, base string) error {
	img, err := z.cfg.Images.Get(ctx, d.ImageUUID)
	if err != nil {
		return mapImage(err)
	}
	if img.Disk == "" {
		return fmt.Errorf("%w: image %s is no disk image", zones.ErrInvalid, d.ImageUUID)
	}
	if d.Size == 0 {
		d.Size = img.Manifest.ImageSize
	}
	from, err := z.cfg.Pool.SnapshotRoot(ctx, img.Ref())
	if err != nil {
		return mapDataset(err)
	}
	return openTree(from, func(src *os.Root) error {
		in, err := src.Open(image.DiskName + "." + img.Disk)
		if err != nil {
			return err
		}
		defer in.Close()
		return z.inRoot(ctx, func(root *os.Root) error {
			out, err := root.OpenFile(base+"."+img.Disk, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
			if err != nil {
				return err
			}
			defer out.Close()
			if unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) != nil {
				if _, err := io.Copy(out, in); err != nil {
					return err
				}
			}
			return errors.Join(out.Sync(), out.Close())
		})
	})
}

// sizeDisk makes a disk's file, or makes it larger; smaller only if shrinking is allowed, and never a qcow2's.
func (z *zone) sizeDisk(ctx context.Context, base string, size int64, shrink bool) error {
	return z.inRoot(ctx, func(root *os.Root) error {
		name, format, err := findDisk(root, base)
		if errors.Is(err, os.ErrNotExist) {
			name, format = base+".raw", "raw"
			if size <= 0 {
				return fmt.Errorf("%w: a disk without an image needs a size", zones.ErrInvalid)
			}
		} else if err != nil {
			return err
		}
		f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		if format == "qcow2" {
			return resizeQcow2(ctx, f, size)
		}
		fi, err := f.Stat()
		if err != nil {
			return err
		}
		if size*mib < fi.Size() && !shrink {
			if size == 0 {
				return nil
			}
			return fmt.Errorf("%w: disk %s has %d MiB, and shrinking it was not allowed", zones.ErrInvalid, base, fi.Size()/mib)
		}
		return errors.Join(f.Truncate(size*mib), f.Sync(), f.Close())
	})
}

// resizeQcow2 asks qemu-img, which knows the format; it gets an open file and no name of the host.
func resizeQcow2(ctx context.Context, f *os.File, size int64) error {
	if size == 0 {
		return nil
	}
	tool, err := exec.LookPath("qemu-img")
	if err != nil {
		return fmt.Errorf("%w: a qcow2 disk is resized by qemu-img, which is not installed", zones.ErrNotSupported)
	}
	c := exec.CommandContext(ctx, tool, "resize", "-f", "qcow2", "/proc/self/fd/3", fmt.Sprint(size*mib))
	c.ExtraFiles = []*os.File{f}
	if out, err := c.CombinedOutput(); err != nil && !strings.Contains(string(out), "did not change size") {
		return fmt.Errorf("resize disk: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// prepareVM attaches the VM's disks with the emulator's ids, so that it can open them and nothing else of the pool.
func (z *zone) prepareVM(ctx context.Context, m *zones.Machine) error {
	if z.Spec.Bootrom == "uefi" {
		// It goes with the disks into snapshots and to other hosts. Through the mount below nobody could make it.
		err := z.inRoot(ctx, func(root *os.Root) error {
			f, err := root.OpenFile(nvramName, os.O_CREATE|os.O_RDWR, 0o600)
			if err != nil {
				return err
			}
			return f.Close()
		})
		if err != nil {
			return fmt.Errorf("firmware's variables: %w", err)
		}
	}
	root, err := z.cfg.Pool.Root(ctx, rootDataset(z.id))
	if err != nil {
		return mapDataset(err)
	}
	at, err := z.attach(root, "disks")
	if err != nil {
		return err
	}
	tree, err := os.OpenRoot(at)
	if err != nil {
		return err
	}
	defer tree.Close()
	if z.Spec.Bootrom == "uefi" {
		m.NVRAM = filepath.Join(at, nvramName)
	}
	for i, d := range z.Spec.Disks {
		disk := zones.Disk{
			Path: d.Path, Format: "raw", Media: d.Media, Model: d.Model, Boot: d.Boot, ReadOnly: d.Media == "cdrom",
			BlockSize: int(d.BlockSize), PCISlot: d.PCISlot, NoTrim: d.NoTrim, Serial: fmt.Sprintf("disk%d", i),
		}
		if d.BlockSize > 4096 || d.BlockSize < 512 {
			disk.BlockSize = 0 // of the volume below, not of what the guest sees
		}
		if base, ours := diskFile(z.Spec, d); ours {
			name, format, err := findDisk(tree, base)
			if err != nil {
				return err
			}
			disk.Path, disk.Format = filepath.Join(at, name), format
		}
		m.Disks = append(m.Disks, disk)
	}
	return nil
}
