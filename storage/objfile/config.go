package objfile

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/objfile/diskfs"
)

// Config shapes a store. The zero value of each field is its documented default.
type Config struct {
	// FS is the disk; nil is the directory that Open is given. Tests put a file system that crashes or fails here.
	FS diskfs.FS

	// PackLimit is the largest object, in bytes, that lives in the journal; larger ones are files of their own. 0 = 64 KiB, at most 1 MiB,
	// negative = none is packed. It may change between starts.
	PackLimit int64

	// DirectFrom is the size from which content goes to the disk past the page cache, where that works. It is about three times as fast as writing through
	// it, and a large put does not push others' pages out; the price is that the first read comes from the disk. 0 = 1 MiB, negative = never.
	DirectFrom int64

	// DirectMemory bounds the buffers of all direct writes together, in bytes; a writer that gets none writes through the page cache. 0 = 64 MiB.
	DirectMemory int64

	// SegmentSize is the length of a journal segment. 0 = 64 MiB, at least 64 KiB.
	SegmentSize int64

	// Capacity bounds what the store takes of its file system, in bytes; 0 = all of it.
	Capacity int64

	// Reserve is kept free for the journal, the index and compaction, so that deleting works on a full disk. 0 = 2 % of the capacity, at most
	// 8 GiB; negative = none.
	Reserve int64

	// Grace is how long a deleted object can be brought back. 0 = 48 h; negative = not at all.
	Grace time.Duration

	// ReapInterval is how often expired tombstones are looked for, and segments with much dead space. 0 = one minute, negative = never.
	ReapInterval time.Duration

	// ScrubRate bounds the background verification, in bytes per second. 0 = 16 MiB/s, negative = no background verification.
	ScrubRate int64

	// ScrubAge is how long after a verification an object is due again. 0 = 14 days.
	ScrubAge time.Duration

	// OrphanAge is how old a file without a record must be before it is taken away after a start. 0 = 1 h; negative = any age.
	OrphanAge time.Duration

	// IndexCache is the index's block cache in bytes. 0 = 16 MiB.
	IndexCache int64

	// OnDamage is called, on a goroutine of the store's, for every damaged copy. It must not block for long.
	OnDamage func(Damage)

	// Log gets what an operator should know. nil = nothing.
	Log *slog.Logger

	// Now stamps objects. nil = time.Now.
	Now func() time.Time

	// largeBatch is the size from which a group commit has disk blocks of its own and goes past the page cache. 0 = 128 KiB.
	largeBatch int64
}

// Damage describes a copy that was found damaged.
type Damage struct {
	ID         storage.ObjectID // zero where the damage hides it
	Size       int64
	Reason     string // what was found, for an operator
	Quarantine string // the name of what is left of it, in the store's directory; "" if nothing could be kept
}

func (c Config) withDefaults() (Config, error) {
	def := func(p *int64, v int64) {
		if *p == 0 {
			*p = v
		}
	}
	def(&c.PackLimit, 64<<10)
	def(&c.DirectFrom, 1<<20)
	def(&c.DirectMemory, 64<<20)
	def(&c.SegmentSize, 64<<20)
	def(&c.ScrubRate, 16<<20)
	def(&c.IndexCache, 16<<20)
	def(&c.largeBatch, 128<<10)
	def((*int64)(&c.Grace), int64(48*time.Hour))
	def((*int64)(&c.ReapInterval), int64(time.Minute))
	def((*int64)(&c.ScrubAge), int64(14*24*time.Hour))
	def((*int64)(&c.OrphanAge), int64(time.Hour))
	if c.PackLimit > 1<<20 {
		return c, fmt.Errorf("%w: PackLimit %d is above 1 MiB", storage.ErrInvalid, c.PackLimit)
	}
	if c.SegmentSize < 64<<10 || c.SegmentSize > 1<<30 {
		return c, fmt.Errorf("%w: SegmentSize %d is not between 64 KiB and 1 GiB", storage.ErrInvalid, c.SegmentSize)
	}
	c.SegmentSize = (c.SegmentSize + diskfs.Align - 1) &^ (diskfs.Align - 1)
	if c.Capacity < 0 || c.DirectMemory < 0 || c.IndexCache < 0 || c.ScrubAge < 0 {
		return c, fmt.Errorf("%w: negative Capacity, DirectMemory, IndexCache or ScrubAge", storage.ErrInvalid)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}
