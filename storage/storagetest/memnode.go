package storagetest

import (
	"context"
	"crypto/md5"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/mobulacloud/mobula/storage"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// memBlock is how many bytes MemNode checks at once before it hands them out.
const memBlock = 64 << 10

// MemConfig shapes a [MemNode]. The zero value is a healthy node with a gibibyte of room.
type MemConfig struct {
	Capacity int64         // bytes for objects; 0 = 1 GiB
	Grace    time.Duration // how long deleted objects can be brought back; 0 = 24 h
}

// A MemNode is a [storage.Node] in memory that can be told to fail. Use [NewMemNode].
type MemNode struct {
	cfg MemConfig

	mu       sync.Mutex
	objects  map[storage.ObjectID]*memObject
	live     int64 // content of live and deleted objects, and of open writers
	damaged  int64
	epoch    int // a writer or reader from before a death is dead for ever
	dead     bool
	budget   int64 // bytes until death; < 0 = no limit
	delay    time.Duration
	readOnly string
	calls    map[string]int
}

type memObject struct {
	info    storage.Info
	data    []byte
	blocks  []uint32 // CRC32C per memBlock
	deleted time.Time
}

// NewMemNode returns an empty node.
func NewMemNode(cfg MemConfig) *MemNode {
	if cfg.Capacity == 0 {
		cfg.Capacity = 1 << 30
	}
	if cfg.Grace == 0 {
		cfg.Grace = 24 * time.Hour
	}
	return &MemNode{cfg: cfg, objects: map[storage.ObjectID]*memObject{}, budget: -1, calls: map[string]int{}}
}

// Kill makes the node unreachable, as a lost machine or network is: every call, and every reader and writer that is open, answers
// [storage.ErrUnavailable] from now on.
func (n *MemNode) Kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.die()
}

func (n *MemNode) die() { n.dead, n.budget = true, -1; n.epoch++ }

// KillAfter lets the node move b more bytes of content, in or out, and then kills it in the middle of that call.
func (n *MemNode) KillAfter(b int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.budget = b
}

// Revive ends what Kill and KillAfter did. Committed objects are still there.
func (n *MemNode) Revive() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dead, n.budget = false, -1
}

// SetDelay makes every call, and every read and write of content, take d first. A context that ends cuts the wait short.
func (n *MemNode) SetDelay(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay = d
}

// SetReadOnly makes the node refuse every change with [storage.ErrReadOnly] for this reason; "" ends it.
func (n *MemNode) SetReadOnly(reason string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.readOnly = reason
}

// SetCapacity changes how many bytes of content the node takes; 0 makes it full.
func (n *MemNode) SetCapacity(b int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cfg.Capacity = b
}

// Corrupt flips one bit of the stored byte at off of a live object.
func (n *MemNode) Corrupt(id storage.ObjectID, off int64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	o, err := n.find(id)
	if err != nil {
		return err
	}
	if off < 0 || off >= o.info.Size {
		return fmt.Errorf("%w: corrupt %s at %d", storage.ErrInvalid, id, off)
	}
	o.data = slices.Clone(o.data) // the caller of Write or a sibling may share it
	o.data[off] ^= 0x10
	return nil
}

// Calls reports how often a method of the node ("Create", "Open", "Stat", …, "Write", "Commit") was called.
func (n *MemNode) Calls(method string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calls[method]
}

// enter is the door of every call: it counts, waits, and finds out whether the node and the caller still live.
func (n *MemNode) enter(ctx context.Context, method string, epoch int) error {
	n.mu.Lock()
	n.calls[method]++
	delay := n.delay
	n.mu.Unlock()
	if delay > 0 {
		t := time.NewTimer(delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.reachable(epoch)
}

func (n *MemNode) reachable(epoch int) error {
	if n.dead || epoch >= 0 && epoch != n.epoch {
		return fmt.Errorf("%w: killed", storage.ErrUnavailable)
	}
	return nil
}

// spend takes b bytes from the budget that KillAfter gave and returns how many of them still pass.
func (n *MemNode) spend(b int64) (int64, error) {
	if n.budget < 0 {
		return b, nil
	}
	if b <= n.budget {
		n.budget -= b
		return b, nil
	}
	b = n.budget
	n.die()
	return b, fmt.Errorf("%w: killed", storage.ErrUnavailable)
}

func (n *MemNode) find(id storage.ObjectID) (*memObject, error) {
	n.expire(id)
	if o := n.objects[id]; o != nil && o.deleted.IsZero() {
		return o, nil
	}
	return nil, fmt.Errorf("%w: %s", storage.ErrNotFound, id)
}

// expire gives a tombstone's space back once its grace period is over.
func (n *MemNode) expire(id storage.ObjectID) {
	o := n.objects[id]
	if o != nil && !o.deleted.IsZero() && time.Since(o.deleted) >= n.cfg.Grace {
		n.drop(id)
	}
}

func (n *MemNode) drop(id storage.ObjectID) {
	if o := n.objects[id]; o != nil {
		n.live -= o.info.Size
		delete(n.objects, id)
	}
}

func (n *MemNode) writable() error {
	if n.readOnly != "" {
		return fmt.Errorf("%w: %s", storage.ErrReadOnly, n.readOnly)
	}
	return nil
}

// Create implements [storage.Node].
func (n *MemNode) Create(ctx context.Context, id storage.ObjectID, o storage.CreateOptions) (storage.Writer, error) {
	if err := n.enter(ctx, "Create", -1); err != nil {
		return nil, err
	}
	if id == (storage.ObjectID{}) || o.Size < -1 {
		return nil, fmt.Errorf("%w: create %s, size %d", storage.ErrInvalid, id, o.Size)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.writable(); err != nil {
		return nil, err
	}
	if o.Size > n.cfg.Capacity-n.live || n.cfg.Capacity <= n.live {
		return nil, fmt.Errorf("%w: create %s of %d bytes", storage.ErrNoSpace, id, o.Size)
	}
	return &memWriter{n: n, ctx: ctx, id: id, size: o.Size, epoch: n.epoch}, nil
}

type memWriter struct {
	n     *MemNode
	ctx   context.Context
	id    storage.ObjectID
	size  int64
	epoch int
	data  []byte
	err   error
	done  bool
}

func (w *memWriter) Write(p []byte) (int, error) {
	if w.err != nil || w.done {
		return 0, cmpErr(w.err, storage.ErrClosed)
	}
	if w.err = w.n.enter(w.ctx, "Write", w.epoch); w.err != nil {
		return 0, w.err
	}
	w.n.mu.Lock()
	defer w.n.mu.Unlock()
	pass, err := w.n.spend(int64(len(p)))
	if err == nil && pass > w.n.cfg.Capacity-w.n.live {
		pass, err = 0, fmt.Errorf("%w: write %s", storage.ErrNoSpace, w.id)
	}
	w.n.live += pass
	w.data = append(w.data, p[:pass]...)
	w.err = err
	return int(pass), err
}

func (w *memWriter) Commit(ctx context.Context, sums storage.Sums) (storage.Info, error) {
	if w.done {
		return storage.Info{}, storage.ErrClosed
	}
	defer w.Cancel()
	if w.err != nil {
		return storage.Info{}, w.err
	}
	if err := w.n.enter(ctx, "Commit", w.epoch); err != nil {
		return storage.Info{}, err
	}
	got := SumsOf(w.data)
	if got != sums || w.size >= 0 && w.size != got.Size {
		return storage.Info{}, fmt.Errorf("%w: commit %s: got %d bytes", storage.ErrChecksum, w.id, got.Size)
	}
	w.n.mu.Lock()
	defer w.n.mu.Unlock()
	return w.n.add(w.id, w.data, got)
}

func (w *memWriter) Cancel() {
	if w.done {
		return
	}
	w.done = true
	w.n.mu.Lock()
	defer w.n.mu.Unlock()
	w.n.live -= int64(len(w.data))
	w.data = nil
}

// add makes content an object; mu is held.
func (n *MemNode) add(id storage.ObjectID, data []byte, sums storage.Sums) (storage.Info, error) {
	if err := n.writable(); err != nil {
		return storage.Info{}, err
	}
	if o, err := n.find(id); err == nil {
		if (storage.Sums{Size: o.info.Size, MD5: o.info.MD5, CRC32C: o.info.CRC32C}) != sums {
			return storage.Info{}, fmt.Errorf("%w: %s", storage.ErrExist, id)
		}
		return o.info, nil
	}
	n.drop(id) // a tombstone makes room for the new copy
	now := time.Now().Truncate(time.Microsecond)
	o := &memObject{data: data, info: storage.Info{ID: id, Size: sums.Size, MD5: sums.MD5, CRC32C: sums.CRC32C, Created: now, Verified: now}}
	for b := range slices.Chunk(data, memBlock) {
		o.blocks = append(o.blocks, crc32.Checksum(b, castagnoli))
	}
	n.objects[id] = o
	n.live += o.info.Size
	return o.info, nil
}

// Open implements [storage.Node].
func (n *MemNode) Open(ctx context.Context, id storage.ObjectID, off, length int64) (io.ReadCloser, storage.Info, error) {
	if err := n.enter(ctx, "Open", -1); err != nil {
		return nil, storage.Info{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	o, err := n.find(id)
	if err != nil {
		return nil, storage.Info{}, err
	}
	if length < 0 {
		length = o.info.Size - off
	}
	if off < 0 || off > o.info.Size || length > o.info.Size-off {
		return nil, storage.Info{}, fmt.Errorf("%w: range %d+%d of %s, size %d", storage.ErrInvalid, off, length, id, o.info.Size)
	}
	return &memReader{n: n, ctx: ctx, o: o, pos: off, end: off + length, epoch: n.epoch}, o.info, nil
}

type memReader struct {
	n        *MemNode
	ctx      context.Context
	o        *memObject
	pos, end int64
	epoch    int
	closed   bool
}

func (r *memReader) Read(p []byte) (int, error) {
	if r.closed {
		return 0, storage.ErrClosed
	}
	if err := r.n.enter(r.ctx, "Read", r.epoch); err != nil {
		return 0, err
	}
	if r.pos == r.end {
		return 0, io.EOF
	}
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	block := r.pos / memBlock
	upto := min(r.end, (block+1)*memBlock, r.pos+int64(len(p)))
	if !r.o.intact(block) {
		r.n.quarantine(r.o)
		return 0, fmt.Errorf("%w: %s at %d", storage.ErrCorrupt, r.o.info.ID, block*memBlock)
	}
	pass, err := r.n.spend(upto - r.pos)
	copy(p, r.o.data[r.pos:r.pos+pass])
	r.pos += pass
	return int(pass), err
}

func (r *memReader) Close() error { r.closed = true; return nil }

func (o *memObject) intact(block int64) bool {
	start := block * memBlock
	return crc32.Checksum(o.data[start:min(start+memBlock, o.info.Size)], castagnoli) == o.blocks[block]
}

// quarantine takes a damaged copy out of sight; mu is held.
func (n *MemNode) quarantine(o *memObject) {
	if n.objects[o.info.ID] == o {
		n.drop(o.info.ID)
		n.damaged++
	}
}

// Stat implements [storage.Node].
func (n *MemNode) Stat(ctx context.Context, id storage.ObjectID) (storage.Info, error) {
	if err := n.enter(ctx, "Stat", -1); err != nil {
		return storage.Info{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	o, err := n.find(id)
	if err != nil {
		return storage.Info{}, err
	}
	return o.info, nil
}

// Delete implements [storage.Node].
func (n *MemNode) Delete(ctx context.Context, id storage.ObjectID) error {
	if err := n.enter(ctx, "Delete", -1); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.writable(); err != nil {
		return err
	}
	if o, err := n.find(id); err == nil {
		o.deleted = time.Now()
	}
	return nil
}

// Undelete implements [storage.Node].
func (n *MemNode) Undelete(ctx context.Context, id storage.ObjectID) error {
	if err := n.enter(ctx, "Undelete", -1); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.writable(); err != nil {
		return err
	}
	n.expire(id)
	o := n.objects[id]
	if o == nil {
		return fmt.Errorf("%w: %s", storage.ErrNotFound, id)
	}
	o.deleted = time.Time{}
	return nil
}

// List implements [storage.Node].
func (n *MemNode) List(ctx context.Context, after storage.ObjectID) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		if err := n.enter(ctx, "List", -1); err != nil {
			yield(storage.Info{}, err)
			return
		}
		n.mu.Lock()
		var infos []storage.Info
		for id, o := range n.objects {
			if o.deleted.IsZero() && id.Compare(after) > 0 {
				infos = append(infos, o.info)
			}
		}
		n.mu.Unlock()
		slices.SortFunc(infos, func(a, b storage.Info) int { return a.ID.Compare(b.ID) })
		for _, info := range infos {
			if err := ctx.Err(); err != nil {
				yield(storage.Info{}, err)
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

// Verify implements [storage.Node].
func (n *MemNode) Verify(ctx context.Context, id storage.ObjectID) (storage.Info, error) {
	if err := n.enter(ctx, "Verify", -1); err != nil {
		return storage.Info{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	o, err := n.find(id)
	if err != nil {
		return storage.Info{}, err
	}
	for b := range o.blocks {
		if !o.intact(int64(b)) {
			n.quarantine(o)
			return storage.Info{}, fmt.Errorf("%w: %s at %d", storage.ErrCorrupt, id, b*memBlock)
		}
	}
	o.info.Verified = time.Now().Truncate(time.Microsecond)
	return o.info, nil
}

// Assemble implements [storage.Node].
func (n *MemNode) Assemble(ctx context.Context, target storage.ObjectID, sources []storage.ObjectID, size int64) (storage.Info, error) {
	if err := n.enter(ctx, "Assemble", -1); err != nil {
		return storage.Info{}, err
	}
	if target == (storage.ObjectID{}) || size < 0 {
		return storage.Info{}, fmt.Errorf("%w: assemble %s, size %d", storage.ErrInvalid, target, size)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var data []byte
	for _, id := range sources {
		o, err := n.find(id)
		if err != nil {
			return storage.Info{}, fmt.Errorf("assemble %s: %w", target, err)
		}
		for b := range o.blocks {
			if !o.intact(int64(b)) {
				n.quarantine(o)
				return storage.Info{}, fmt.Errorf("assemble %s: %w: %s", target, storage.ErrCorrupt, id)
			}
		}
		data = append(data, o.data...)
	}
	if int64(len(data)) != size {
		return storage.Info{}, fmt.Errorf("%w: assemble %s: sources have %d bytes, not %d", storage.ErrChecksum, target, len(data), size)
	}
	if size > n.cfg.Capacity-n.live {
		return storage.Info{}, fmt.Errorf("%w: assemble %s", storage.ErrNoSpace, target)
	}
	return n.add(target, data, SumsOf(data))
}

// Usage implements [storage.Node].
func (n *MemNode) Usage(ctx context.Context) (storage.Usage, error) {
	if err := n.enter(ctx, "Usage", -1); err != nil {
		return storage.Usage{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	u := storage.Usage{Capacity: n.cfg.Capacity, Damaged: n.damaged, ReadOnly: n.readOnly}
	for id := range n.objects {
		n.expire(id)
	}
	for _, o := range n.objects {
		if !o.deleted.IsZero() {
			u.Tombstones++
			continue
		}
		u.Objects++
		u.Bytes += o.info.Size
		if u.OldestUnverified.IsZero() || o.info.Verified.Before(u.OldestUnverified) {
			u.OldestUnverified = o.info.Verified
		}
	}
	u.Available = max(0, n.cfg.Capacity-n.live)
	return u, nil
}

// SumsOf computes what a writer of these bytes has to tell at Commit.
func SumsOf(data []byte) storage.Sums {
	return storage.Sums{Size: int64(len(data)), MD5: md5.Sum(data), CRC32C: crc32.Checksum(data, castagnoli)}
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
