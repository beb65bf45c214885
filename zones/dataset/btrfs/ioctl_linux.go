package btrfs

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Request numbers and structures of linux/btrfs.h, the same on every architecture Go runs Linux on but mips, ppc and sparc.
const (
	iocResize       = 0x50009403
	iocSync         = 0x9408
	iocSnapDestroy  = 0x5000940f
	iocTreeSearch   = 0xd0009411
	iocWaitSync     = 0x40089416
	iocSnapCreate   = 0x50009417 // V2
	iocSubvolCreate = 0x50009418 // V2
	iocStartSync    = 0x80089418
	iocSend         = 0x40489426
	iocQuotaCtl     = 0xc0109428
	iocQgroupAssign = 0x40189429
	iocQgroupCreate = 0x4010942a
	iocQgroupLimit  = 0x8030942b
	iocQuotaRescan  = 0x4040942c
	iocSubvolInfo   = 0x81f8943c
	iocSnapDestroy2 = 0x5000943f

	subvolReadOnly = 1 << 1
	subvolInherit  = 1 << 2
	subvolByID     = 1 << 4

	superMagic = 0x9123683e
	rootInode  = 256 // of every subvolume's top
)

func ioctl(fd int, req uint, arg unsafe.Pointer) error {
	for {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(req), uintptr(arg))
		if e == unix.EINTR {
			continue
		}
		if e != 0 {
			return e
		}
		return nil
	}
}

type volArgs struct {
	fd   int64
	name [4088]byte
}

type volArgsV2 struct {
	fd      int64
	transid uint64
	flags   uint64
	size    uint64 // of inherit
	inherit unsafe.Pointer
	_       [2]uint64
	name    [4040]byte
}

type inherit struct {
	flags, groups, refCopies, exclCopies uint64
	lim                                  limit
	group                                uint64
}

type limit struct{ flags, maxRfer, maxExcl, rsvRfer, rsvExcl uint64 }

func setName(dst []byte, name string) error {
	if name == "" || len(name) > 255 {
		return fmt.Errorf("name of %d bytes", len(name))
	}
	copy(dst, name)
	return nil
}

// create makes a subvolume (src nil) or a snapshot of src, named name in the directory dir, in the quota group group unless it is 0.
func create(dir string, name string, src *os.File, readOnly bool, group uint64) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	var a volArgsV2
	if err := setName(a.name[:], name); err != nil {
		return err
	}
	var in inherit
	if group != 0 {
		in = inherit{groups: 1, group: group}
		a.flags |= subvolInherit
		a.size, a.inherit = uint64(unsafe.Sizeof(in)), unsafe.Pointer(&in)
	}
	req, what := uint(iocSubvolCreate), "create subvolume"
	if src != nil {
		req, what = iocSnapCreate, "snapshot subvolume"
		a.fd = int64(src.Fd())
	}
	if readOnly {
		a.flags |= subvolReadOnly
	}
	err = ioctl(int(d.Fd()), req, unsafe.Pointer(&a))
	runtime.KeepAlive(&in)
	if err != nil {
		return fmt.Errorf("%s %s/%s: %w", what, dir, name, err)
	}
	return nil
}

// snapshot is create with a path as the source.
func snapshot(src, dir, name string, readOnly bool, group uint64) error {
	f, err := os.Open(src)
	if err != nil {
		return err
	}
	defer f.Close()
	return create(dir, name, f, readOnly, group)
}

// destroy deletes a subvolume with all that are nested in it: whoever owns a machine may make subvolumes inside.
func destroy(dir, name string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	var a volArgs
	if err := setName(a.name[:], name); err != nil {
		return err
	}
	err = ioctl(int(d.Fd()), iocSnapDestroy, unsafe.Pointer(&a))
	if errors.Is(err, unix.ENOTEMPTY) {
		var id uint64
		if id, err = subvolID(dir + "/" + name); err == nil {
			if err = destroyNested(int(d.Fd()), id); err == nil {
				err = ioctl(int(d.Fd()), iocSnapDestroy, unsafe.Pointer(&a))
			}
		}
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete subvolume %s/%s: %w", dir, name, err)
	}
	return nil
}

func destroyNested(fd int, id uint64) error {
	kids, err := children(fd, id)
	if err != nil {
		return err
	}
	for _, k := range kids {
		if err := destroyNested(fd, k); err != nil {
			return err
		}
		a := volArgsV2{flags: subvolByID}
		*(*uint64)(unsafe.Pointer(&a.name[0])) = k
		if err := ioctl(fd, iocSnapDestroy2, unsafe.Pointer(&a)); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("delete nested subvolume %d: %w", k, err)
		}
	}
	return nil
}

type subvolInfo struct {
	treeid     uint64
	name       [256]byte
	parent     uint64
	dirid      uint64
	generation uint64
	flags      uint64
	uuid       [16]byte
	_          [504 - 312]byte
}

func info(path string) (subvolInfo, error) {
	var i subvolInfo
	f, err := os.Open(path)
	if err != nil {
		return i, err
	}
	defer f.Close()
	if err := ioctl(int(f.Fd()), iocSubvolInfo, unsafe.Pointer(&i)); err != nil {
		return i, fmt.Errorf("describe subvolume %s: %w", path, err)
	}
	return i, nil
}

func subvolID(path string) (uint64, error) {
	i, err := info(path)
	return i.treeid, err
}

func isSubvol(path string) bool {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil || st.Ino != rootInode || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return false
	}
	_, err := subvolID(path)
	return err == nil
}

// Keys of the trees we read.
const (
	rootTree  = 1
	quotaTree = 8

	keyRootItem     = 132
	keyRootRef      = 156
	keyQgroupStatus = 240
	keyQgroupInfo   = 242
)

type searchArgs struct {
	treeID                                     uint64
	minObject, maxObject, minOffset, maxOffset uint64
	minTransid, maxTransid                     uint64
	minType, maxType, items, _                 uint32
	_                                          [4]uint64
	buf                                        [3992]byte
}

type searchHeader struct {
	transid, object, offset uint64
	kind, len               uint32
}

// search calls f for every item of one kind in a tree, objects from min to max.
func search(fd int, tree uint64, kind uint32, minObject, maxObject uint64, f func(object, offset uint64, item []byte)) error {
	a := searchArgs{treeID: tree, minObject: minObject, maxObject: maxObject, maxOffset: ^uint64(0), maxTransid: ^uint64(0),
		minType: kind, maxType: kind}
	for {
		a.items = 4096
		if err := ioctl(fd, iocTreeSearch, unsafe.Pointer(&a)); err != nil {
			return err
		}
		if a.items == 0 {
			return nil
		}
		at := 0
		var h searchHeader
		for range a.items {
			h = *(*searchHeader)(unsafe.Pointer(&a.buf[at]))
			at += int(unsafe.Sizeof(h))
			if h.kind == kind && h.object >= minObject && h.object <= maxObject {
				f(h.object, h.offset, a.buf[at:at+int(h.len)])
			}
			at += int(h.len)
		}
		// Go on behind the last key; a range over objects and offsets is lexical.
		a.minObject, a.minType, a.minOffset = h.object, h.kind, h.offset+1
		if a.minOffset == 0 {
			if a.minObject++; a.minObject == 0 || a.minObject > maxObject {
				return nil
			}
		}
	}
}

func children(fd int, id uint64) ([]uint64, error) {
	var kids []uint64
	err := search(fd, rootTree, keyRootRef, id, id, func(_, child uint64, _ []byte) { kids = append(kids, child) })
	if err != nil {
		return nil, fmt.Errorf("list nested subvolumes: %w", err)
	}
	return kids, nil
}
