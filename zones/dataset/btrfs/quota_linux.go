package btrfs

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Every dataset has a quota group of level 1, in which its subvolume and its snapshots are. The number begins with a mark and the pool's
// directory (its inode), so that on a shared file system we touch no group of somebody else's.
const (
	groupLevel = uint64(1) << 48
	levelMask  = uint64(0xffff) << 48
	groupMark  = uint64(0x6d) << 40
	ownMask    = levelMask | uint64(0xffffff)<<24
)

// groupPrefix is what all groups of the pool begin with.
func (p *Pool) groupPrefix() uint64 { return groupLevel | groupMark | (p.inode&0xffff)<<24 }

type quotaMode int

const (
	quotaOff quotaMode = iota
	quotaFull
	quotaSimple
)

type quotaCtl struct{ cmd, status uint64 }

func readQuotaMode(fd int) (mode quotaMode, inconsistent bool, err error) {
	err = search(fd, quotaTree, keyQgroupStatus, 0, 0, func(_, _ uint64, item []byte) {
		if len(item) < 24 {
			return
		}
		flags := binary.LittleEndian.Uint64(item[16:])
		switch {
		case flags&(1<<3) != 0:
			mode = quotaSimple
		case flags&1 != 0:
			mode = quotaFull
		}
		inconsistent = flags&(1<<2) != 0
	})
	if errors.Is(err, unix.ENOENT) {
		err = nil // quotas were never on
	}
	return mode, inconsistent, err
}

// enableQuota turns quotas on unless they are: simple ones, which charge a block to who wrote it and cost next to nothing, or
// else full ones.
func enableQuota(fd int, full bool) (quotaMode, error) {
	mode, _, err := readQuotaMode(fd)
	if err != nil || mode != quotaOff {
		return mode, err
	}
	if !full {
		c := quotaCtl{cmd: 4}
		if ioctl(fd, iocQuotaCtl, unsafe.Pointer(&c)) == nil {
			return quotaSimple, nil
		}
	}
	c := quotaCtl{cmd: 1}
	if err := ioctl(fd, iocQuotaCtl, unsafe.Pointer(&c)); err != nil {
		return quotaOff, fmt.Errorf("enable quotas: %w", err)
	}
	return quotaFull, nil
}

// newGroup makes a quota group.
func (p *Pool) newGroup() (uint64, error) {
	for range 100 {
		var b [4]byte
		rand.Read(b[:])
		id := p.groupPrefix() | uint64(binary.LittleEndian.Uint32(b[:])&0xffffff)
		if err := createGroup(int(p.fs.Fd()), id); !errors.Is(err, unix.EEXIST) {
			return id, err
		}
	}
	return 0, fmt.Errorf("create quota group: %w", unix.EEXIST)
}

type qgroupCreate struct{ create, id uint64 }

func createGroup(fd int, id uint64) error {
	a := qgroupCreate{1, id}
	if err := ioctl(fd, iocQgroupCreate, unsafe.Pointer(&a)); err != nil {
		return fmt.Errorf("create quota group: %w", err)
	}
	return nil
}

func destroyGroup(fd int, id uint64) error {
	a := qgroupCreate{0, id}
	return ioctl(fd, iocQgroupCreate, unsafe.Pointer(&a))
}

type qgroupLimit struct {
	id  uint64
	lim limit
}

// limitGroup sets or, with 0, lifts a group's limit. What only the group holds counts: simple quotas call that "referenced", since they
// charge shared blocks to nobody else.
func limitGroup(fd int, mode quotaMode, id uint64, bytes int64) error {
	const maxRfer, maxExcl = 1 << 0, 1 << 1
	a := qgroupLimit{id: id}
	n := uint64(bytes)
	if n == 0 {
		n = ^uint64(0) // clears
	}
	if mode == quotaSimple {
		a.lim.flags, a.lim.maxRfer = maxRfer, n
	} else {
		a.lim.flags, a.lim.maxExcl = maxExcl, n
	}
	if err := ioctl(fd, iocQgroupLimit, unsafe.Pointer(&a)); err != nil {
		return fmt.Errorf("limit quota group: %w", err)
	}
	return nil
}

// groups reads every quota group's bytes: what only it holds.
func groups(fd int, f func(id uint64, bytes int64)) error {
	return search(fd, quotaTree, keyQgroupInfo, 0, 0, func(_, id uint64, item []byte) {
		if len(item) >= 32 {
			f(id, int64(binary.LittleEndian.Uint64(item[24:])))
		}
	})
}

// sweepGroupsAlone is sweepGroups while nobody makes a dataset: its group is there before the record that names it.
func (p *Pool) sweepGroupsAlone(ctx context.Context) error {
	unlock, err := p.dir.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return p.sweepGroups()
}

// sweepGroups removes groups that hold nothing any more: ours whose dataset is gone, and those of subvolumes that are gone.
func (p *Pool) sweepGroups() error {
	if p.mode == quotaOff {
		return nil
	}
	all, err := p.dir.All()
	if err != nil {
		return err
	}
	keep := map[uint64]bool{}
	for _, r := range all {
		keep[r.Group] = true
	}
	fd := int(p.fs.Fd())
	roots := map[uint64]bool{}
	err = search(fd, rootTree, keyRootItem, 5, ^uint64(255), func(id, _ uint64, _ []byte) { roots[id] = true })
	if err != nil {
		return fmt.Errorf("list subvolumes: %w", err)
	}
	var dead []uint64
	err = groups(fd, func(id uint64, bytes int64) {
		switch {
		case bytes != 0:
		case id&levelMask == 0 && !roots[id] && p.owned, id&ownMask == p.groupPrefix() && !keep[id]:
			dead = append(dead, id)
		}
	})
	for _, id := range dead {
		_ = destroyGroup(fd, id) // busy as long as a member is; a later sweep comes again
	}
	return err
}

// settle has full quotas counted again when a change made them inconsistent, which simple ones never are.
func (p *Pool) settle() {
	if p.mode != quotaFull {
		return
	}
	if _, inconsistent, err := readQuotaMode(int(p.fs.Fd())); err == nil && inconsistent {
		var args [64]byte
		_ = ioctl(int(p.fs.Fd()), iocQuotaRescan, unsafe.Pointer(&args)) // already running: good
	}
}
