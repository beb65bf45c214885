package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/mobulacloud/mobula/storage"
)

// A Corrupter is a node under test whose stored bytes the suite may damage. Corrupt flips at least one bit of the stored copy of the byte
// at off of a live object, behind the node's back. The suite tests damage only on nodes that have it.
type Corrupter interface {
	Corrupt(id storage.ObjectID, off int64) error
}

// Sizes are lengths of content at which storage engines change their ways: empty, tiny, around one block, several blocks.
var Sizes = []int{0, 1, 511, 4096, 64<<10 - 1, 64 << 10, 64<<10 + 1, 200_000, 1 << 20, 1<<20 + 7, 5<<20 + 12345}

// TestNode runs the conformance suite: one subtest for each duty in the documentation of [storage.Node]. newNode returns an empty
// node with room for at least 64 MiB and cleans up after itself with t.Cleanup; it is called once for each subtest.
func TestNode(t *testing.T, newNode func(t *testing.T) storage.Node) {
	run := func(name string, f func(t *testing.T, n storage.Node)) {
		t.Run(name, func(t *testing.T) { f(t, newNode(t)) })
	}
	run("PutGet", testPutGet)
	run("Ranges", testRanges)
	run("Absent", testAbsent)
	run("Invisible", testInvisible)
	run("Cancel", testCancel)
	run("Checksum", testChecksum)
	run("Exist", testExist)
	run("ExistConcurrent", testExistConcurrent)
	run("Delete", testDelete)
	run("List", testList)
	run("Verify", testVerify)
	run("Assemble", testAssemble)
	run("AssembleRefusals", testAssembleRefusals)
	run("Usage", testUsage)
	run("NoSpace", testNoSpace)
	run("Invalid", testInvalid)
	run("Context", testContext)
	run("Random", testRandom)
	run("Corrupt", testCorrupt)
	run("CorruptHealed", testCorruptHealed)
}

// Data returns size bytes that look random and depend on seed alone.
func Data(seed uint64, size int) []byte {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

// NewID returns a fresh object id.
func NewID() storage.ObjectID { return storage.ObjectID{Owner: uuid.New(), Object: uuid.New()} }

// Put writes one object of known size.
func Put(ctx context.Context, n storage.Node, id storage.ObjectID, data []byte) (storage.Info, error) {
	return PutWith(ctx, n, id, data, int64(len(data)), SumsOf(data), 0)
}

// PutWith writes one object in pieces of chunk bytes (0 = all at once), announcing size at first and sums at the end, true or not.
func PutWith(ctx context.Context, n storage.Node, id storage.ObjectID, data []byte, size int64, sums storage.Sums, chunk int) (storage.Info, error) {
	w, err := n.Create(ctx, id, storage.CreateOptions{Size: size})
	if err != nil {
		return storage.Info{}, err
	}
	defer w.Cancel()
	if chunk <= 0 {
		chunk = max(1, len(data))
	}
	for p := range slices.Chunk(data, chunk) {
		if k, err := w.Write(p); err != nil {
			return storage.Info{}, err
		} else if k != len(p) {
			return storage.Info{}, io.ErrShortWrite
		}
	}
	return w.Commit(ctx, sums)
}

// Get reads a range of an object; n < 0 means to the end. The bytes that came before an error are returned with it.
func Get(ctx context.Context, node storage.Node, id storage.ObjectID, off, n int64) ([]byte, storage.Info, error) {
	r, info, err := node.Open(ctx, id, off, n)
	if err != nil {
		return nil, info, err
	}
	data, err := io.ReadAll(r)
	return data, info, errors.Join(err, r.Close())
}

func mustPut(t *testing.T, n storage.Node, id storage.ObjectID, data []byte) storage.Info {
	t.Helper()
	info, err := Put(t.Context(), n, id, data)
	if err != nil {
		t.Fatalf("put %s of %d bytes: %v", id, len(data), err)
	}
	return info
}

// wantContent checks that an object is there with exactly these bytes.
func wantContent(t *testing.T, n storage.Node, id storage.ObjectID, want []byte) {
	t.Helper()
	got, info, err := Get(t.Context(), n, id, 0, -1)
	if err != nil {
		t.Fatalf("get %s: %v (after %d of %d bytes)", id, err, len(got), len(want))
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("get %s: %d bytes differ from the %d that were put, first at %d", id, len(got), len(want), firstDiff(got, want))
	}
	if s := SumsOf(want); info.Size != s.Size || info.MD5 != s.MD5 || info.CRC32C != s.CRC32C || info.ID != id {
		t.Fatalf("get %s: Info = %+v, want sums %+v", id, info, s)
	}
}

func firstDiff(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// wantAbsent checks that nothing shows an object.
func wantAbsent(t *testing.T, n storage.Node, id storage.ObjectID) {
	t.Helper()
	if _, err := n.Stat(t.Context(), id); !errors.Is(err, storage.ErrNotFound) {
		t.Fatalf("Stat(%s) = %v, want ErrNotFound", id, err)
	}
	if r, _, err := n.Open(t.Context(), id, 0, -1); !errors.Is(err, storage.ErrNotFound) {
		if r != nil {
			r.Close()
		}
		t.Fatalf("Open(%s) = %v, want ErrNotFound", id, err)
	}
	for _, info := range list(t, n, storage.ObjectID{}) {
		if info.ID == id {
			t.Fatalf("List shows %s", id)
		}
	}
}

func list(t *testing.T, n storage.Node, after storage.ObjectID) []storage.Info {
	t.Helper()
	var infos []storage.Info
	for info, err := range n.List(t.Context(), after) {
		if err != nil {
			t.Fatalf("List: %v", err)
		}
		infos = append(infos, info)
	}
	return infos
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s = %v, want %v", what, err, want)
	}
}

func testPutGet(t *testing.T, n storage.Node) {
	type put struct {
		id   storage.ObjectID
		data []byte
		info storage.Info
	}
	var puts []put
	for i, size := range Sizes {
		for _, c := range []struct{ announced, chunk int }{{size, 0}, {-1, 0}, {size, 32 << 10}, {-1, 10_007}} {
			p := put{id: NewID(), data: Data(uint64(i), size)}
			var err error
			p.info, err = PutWith(t.Context(), n, p.id, p.data, int64(c.announced), SumsOf(p.data), c.chunk)
			if err != nil {
				t.Fatalf("put %d bytes, announced %d, in chunks of %d: %v", size, c.announced, c.chunk, err)
			}
			if p.info.Created.IsZero() || p.info.Verified.Before(p.info.Created) {
				t.Errorf("put: Created %v, Verified %v", p.info.Created, p.info.Verified)
			}
			puts = append(puts, p)
		}
	}
	for _, p := range puts {
		wantContent(t, n, p.id, p.data)
		info, err := n.Stat(t.Context(), p.id)
		if err != nil {
			t.Fatalf("Stat: %v", err)
		}
		if diff := cmp.Diff(p.info, info); diff != "" {
			t.Errorf("Stat differs from what Commit returned (-commit +stat):\n%s", diff)
		}
	}
}

func testRanges(t *testing.T, n storage.Node) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{0, 1, 1000, 64 << 10, 300_000, 2<<20 + 5} {
		id, data := NewID(), Data(uint64(size), size)
		mustPut(t, n, id, data)
		s := int64(size)
		ranges := [][2]int64{{0, 0}, {0, s}, {0, -1}, {s, 0}, {s, -1}, {s / 2, -1}, {s / 2, s - s/2}}
		for range 30 {
			off := rng.Int64N(s + 1)
			ranges = append(ranges, [2]int64{off, rng.Int64N(s - off + 1)})
		}
		for _, r := range ranges {
			want := data[r[0]:]
			if r[1] >= 0 {
				want = want[:r[1]]
			}
			got, info, err := Get(t.Context(), n, id, r[0], r[1])
			if err != nil || !bytes.Equal(got, want) || info.Size != s {
				t.Fatalf("range %d+%d of %d: %d bytes, info size %d, %v", r[0], r[1], size, len(got), info.Size, err)
			}
		}
		for _, r := range [][2]int64{{-1, 1}, {s + 1, 0}, {s + 1, -1}, {0, s + 1}, {s, 1}, {s / 2, s + 1}, {1, 1<<63 - 1}} {
			_, _, err := Get(t.Context(), n, id, r[0], r[1])
			wantErr(t, fmt.Sprintf("range %d+%d of %d bytes", r[0], r[1], size), err, storage.ErrInvalid)
		}
	}
}

func testAbsent(t *testing.T, n storage.Node) {
	id := NewID()
	wantAbsent(t, n, id)
	_, err := n.Verify(t.Context(), id)
	wantErr(t, "Verify of nothing", err, storage.ErrNotFound)
	wantErr(t, "Undelete of nothing", n.Undelete(t.Context(), id), storage.ErrNotFound)
	wantErr(t, "Delete of nothing", n.Delete(t.Context(), id), nil)
}

func testInvisible(t *testing.T, n storage.Node) {
	for _, size := range []int{100, 64 << 10, 1 << 20} {
		id, data := NewID(), Data(9, size)
		w, err := n.Create(t.Context(), id, storage.CreateOptions{Size: int64(size)})
		wantErr(t, "Create", err, nil)
		_, err = w.Write(data)
		wantErr(t, "Write", err, nil)
		wantAbsent(t, n, id)
		_, err = w.Commit(t.Context(), SumsOf(data))
		wantErr(t, "Commit", err, nil)
		w.Cancel()
		wantContent(t, n, id, data) // Cancel after Commit does nothing
	}
}

func testCancel(t *testing.T, n storage.Node) {
	for _, size := range []int{0, 100, 64 << 10, 1 << 20, 3<<20 + 1} {
		for _, announced := range []int64{int64(size), -1} {
			id, data := NewID(), Data(9, size)
			w, err := n.Create(t.Context(), id, storage.CreateOptions{Size: announced})
			wantErr(t, "Create", err, nil)
			_, err = w.Write(data)
			wantErr(t, "Write", err, nil)
			w.Cancel()
			w.Cancel()
			wantAbsent(t, n, id)
			if _, err := w.Commit(t.Context(), SumsOf(data)); err == nil {
				t.Fatal("Commit after Cancel succeeded")
			}
			wantAbsent(t, n, id)
			mustPut(t, n, id, data)
			wantContent(t, n, id, data)
		}
	}
}

func testChecksum(t *testing.T, n storage.Node) {
	for _, size := range []int{0, 100, 64 << 10, 1 << 20} {
		data := Data(9, size)
		sums := SumsOf(data)
		other := sums
		other.CRC32C++
		longer := sums
		longer.Size++
		for _, c := range []struct {
			name      string
			announced int64
			sums      storage.Sums
		}{
			{"wrong CRC", sums.Size, other},
			{"wrong CRC, size unknown", -1, other},
			{"wrong size in sums", sums.Size, longer},
			{"wrong size in sums, unknown before", -1, longer},
			{"more announced than sent", sums.Size + 1, sums},
			{"more announced than sent, sums agree", sums.Size + 1, longer},
		} {
			id := NewID()
			_, err := PutWith(t.Context(), n, id, data, c.announced, c.sums, 0)
			wantErr(t, fmt.Sprintf("put of %d bytes, %s", size, c.name), err, storage.ErrChecksum)
			wantAbsent(t, n, id)
		}
		if size > 0 { // more sent than announced: the node may find out at Write or at Commit
			id := NewID()
			_, err := PutWith(t.Context(), n, id, data, int64(size-1), sums, 0)
			wantErr(t, "put with more bytes than announced", err, storage.ErrChecksum)
			wantAbsent(t, n, id)
		}
	}
}

func testExist(t *testing.T, n storage.Node) {
	for _, size := range []int{0, 100, 64 << 10, 1 << 20} {
		id, data := NewID(), Data(9, size)
		first := mustPut(t, n, id, data)
		again, err := Put(t.Context(), n, id, data)
		wantErr(t, "second put of the same content", err, nil)
		if diff := cmp.Diff(first, again); diff != "" {
			t.Errorf("second put changed the object:\n%s", diff)
		}
		for _, other := range [][]byte{Data(10, size+1), Data(10, max(1, size)), Data(11, 2<<20)} {
			_, err = Put(t.Context(), n, id, other)
			wantErr(t, "put of other content", err, storage.ErrExist)
		}
		wantContent(t, n, id, data)
	}
}

func testExistConcurrent(t *testing.T, n storage.Node) {
	for _, size := range []int{500, 300_000} {
		id := NewID()
		const writers = 8
		errs := make(chan error, writers)
		content := func(i int) []byte { return Data(uint64(i%2), size+i%2) }
		for i := range writers {
			go func() {
				_, err := Put(t.Context(), n, id, content(i))
				errs <- err
			}()
		}
		var ok, exist int
		for range writers {
			switch err := <-errs; {
			case err == nil:
				ok++
			case errors.Is(err, storage.ErrExist):
				exist++
			default:
				t.Errorf("concurrent put: %v", err)
			}
		}
		if ok != writers/2 || exist != writers/2 {
			t.Errorf("of %d writers with two contents, %d succeeded and %d got ErrExist", writers, ok, exist)
		}
		got, _, err := Get(t.Context(), n, id, 0, -1)
		if err != nil || !bytes.Equal(got, content(0)) && !bytes.Equal(got, content(1)) {
			t.Errorf("content after the race: %d bytes of neither writer, %v", len(got), err)
		}
	}
}

func testDelete(t *testing.T, n storage.Node) {
	for _, size := range []int{0, 100, 64 << 10, 1 << 20} {
		id, data := NewID(), Data(9, size)
		before := mustPut(t, n, id, data)
		for range 2 {
			wantErr(t, "Delete", n.Delete(t.Context(), id), nil)
			wantAbsent(t, n, id)
		}
		for range 2 {
			wantErr(t, "Undelete", n.Undelete(t.Context(), id), nil)
			wantContent(t, n, id, data)
		}
		if after, err := n.Stat(t.Context(), id); err != nil || !after.Created.Equal(before.Created) {
			t.Errorf("after Undelete: %+v, %v", after, err)
		}
		// A deleted id can be written anew: a copy that was taken away may come back from another node.
		wantErr(t, "Delete", n.Delete(t.Context(), id), nil)
		mustPut(t, n, id, data)
		wantContent(t, n, id, data)
	}
}

func testList(t *testing.T, n storage.Node) {
	if got := list(t, n, storage.ObjectID{}); len(got) != 0 {
		t.Fatalf("an empty node lists %d objects", len(got))
	}
	var want []storage.Info
	owners := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
	for i := range 60 {
		id := storage.ObjectID{Owner: owners[i%3], Object: uuid.New()}
		size := 10 + i
		if i%20 == 0 {
			size = 100_000 + i
		}
		want = append(want, mustPut(t, n, id, Data(uint64(i), size)))
	}
	slices.SortFunc(want, func(a, b storage.Info) int { return a.ID.Compare(b.ID) })
	wantErr(t, "Delete", n.Delete(t.Context(), want[17].ID), nil)
	want = slices.Delete(want, 17, 18)
	if diff := cmp.Diff(want, list(t, n, storage.ObjectID{})); diff != "" {
		t.Fatalf("List (-want +got):\n%s", diff)
	}
	for _, i := range []int{0, 13, 30, len(want) - 1} {
		if diff := cmp.Diff(want[i+1:], append([]storage.Info{}, list(t, n, want[i].ID)...)); diff != "" {
			t.Fatalf("List after %d (-want +got):\n%s", i, diff)
		}
	}
	var seen int
	for _, err := range n.List(t.Context(), storage.ObjectID{}) {
		if seen++; err != nil || seen == 3 {
			break
		}
	}
	if seen != 3 {
		t.Errorf("a listing that was stopped after 3 yielded %d", seen)
	}
}

func testVerify(t *testing.T, n storage.Node) {
	for _, size := range []int{0, 100, 1 << 20} {
		id := NewID()
		put := mustPut(t, n, id, Data(9, size))
		info, err := n.Verify(t.Context(), id)
		if err != nil || info.Verified.Before(put.Verified) {
			t.Fatalf("Verify = %+v, %v; was verified %v before", info, err, put.Verified)
		}
		info.Verified = put.Verified
		if diff := cmp.Diff(put, info); diff != "" {
			t.Errorf("Verify changed more than the time:\n%s", diff)
		}
	}
}

func testAssemble(t *testing.T, n storage.Node) {
	owner := uuid.New()
	for _, sizes := range [][]int{{}, {0}, {10}, {100, 200, 300}, {64 << 10, 1}, {0, 5 << 20, 0, 1<<20 + 1}, {70_000, 70_000, 70_000}} {
		var sources []storage.ObjectID
		var all []byte
		for i, size := range sizes {
			id, data := storage.ObjectID{Owner: owner, Object: uuid.New()}, Data(uint64(i), size)
			mustPut(t, n, id, data)
			sources, all = append(sources, id), append(all, data...)
		}
		target := storage.ObjectID{Owner: owner, Object: uuid.New()}
		first, err := n.Assemble(t.Context(), target, sources, int64(len(all)))
		if err != nil {
			t.Fatalf("Assemble of %v: %v", sizes, err)
		}
		wantContent(t, n, target, all)
		again, err := n.Assemble(t.Context(), target, sources, int64(len(all)))
		if err != nil {
			t.Fatalf("Assemble of %v, repeated: %v", sizes, err)
		}
		if !first.Created.Equal(again.Created) || first.MD5 != again.MD5 {
			t.Errorf("Assemble of %v, repeated: %+v, first %+v", sizes, again, first)
		}
		for i, id := range sources {
			wantContent(t, n, id, Data(uint64(i), sizes[i]))
		}
	}
}

func testAssembleRefusals(t *testing.T, n storage.Node) {
	a, b, target := NewID(), NewID(), NewID()
	mustPut(t, n, a, Data(1, 1000))
	mustPut(t, n, b, Data(2, 100_000))
	for _, size := range []int64{100_999, 101_001, 0} {
		_, err := n.Assemble(t.Context(), target, []storage.ObjectID{a, b}, size)
		wantErr(t, "Assemble with a wrong size", err, storage.ErrChecksum)
	}
	_, err := n.Assemble(t.Context(), target, []storage.ObjectID{a, NewID()}, 1000)
	wantErr(t, "Assemble with a missing source", err, storage.ErrNotFound)
	_, err = n.Assemble(t.Context(), target, []storage.ObjectID{a}, -1)
	wantErr(t, "Assemble with a negative size", err, storage.ErrInvalid)
	wantAbsent(t, n, target)
	for _, size := range []int{50, 101_000} { // other content there, of another size or the same
		target := NewID()
		data := Data(3, size)
		mustPut(t, n, target, data)
		_, err = n.Assemble(t.Context(), target, []storage.ObjectID{a, b}, 101_000)
		wantErr(t, "Assemble onto other content", err, storage.ErrExist)
		wantContent(t, n, target, data)
	}
}

func usage(t *testing.T, n storage.Node) storage.Usage {
	t.Helper()
	u, err := n.Usage(t.Context())
	if err != nil {
		t.Fatalf("Usage: %v", err)
	}
	return u
}

func testUsage(t *testing.T, n storage.Node) {
	u := usage(t, n)
	if u.Objects != 0 || u.Bytes != 0 || u.Tombstones != 0 || u.Damaged != 0 || !u.OldestUnverified.IsZero() || u.ReadOnly != "" || u.Capacity <= 0 || u.Available <= 0 {
		t.Fatalf("Usage of an empty node: %+v", u)
	}
	a, b := NewID(), NewID()
	first := mustPut(t, n, a, Data(1, 1000))
	mustPut(t, n, b, Data(2, 100_000))
	u = usage(t, n)
	if u.Objects != 2 || u.Bytes != 101_000 || u.Tombstones != 0 {
		t.Errorf("Usage with two objects: %+v", u)
	}
	if d := u.OldestUnverified.Sub(first.Created); d < -2e9 || d > 2e9 { // whole seconds will do
		t.Errorf("OldestUnverified %v, the oldest object is of %v", u.OldestUnverified, first.Created)
	}
	wantErr(t, "Delete", n.Delete(t.Context(), b), nil)
	if u = usage(t, n); u.Objects != 1 || u.Bytes != 1000 || u.Tombstones != 1 {
		t.Errorf("Usage with one of two objects deleted: %+v", u)
	}
	wantErr(t, "Undelete", n.Undelete(t.Context(), b), nil)
	if u = usage(t, n); u.Objects != 2 || u.Bytes != 101_000 || u.Tombstones != 0 {
		t.Errorf("Usage after Undelete: %+v", u)
	}
}

func testNoSpace(t *testing.T, n storage.Node) {
	u := usage(t, n)
	if u.Available > 1<<62 {
		t.Skip("the node has no limit")
	}
	_, err := n.Create(t.Context(), NewID(), storage.CreateOptions{Size: u.Available + 1<<30})
	wantErr(t, "Create of more than there is room for", err, storage.ErrNoSpace)
	mustPut(t, n, NewID(), Data(1, 1000))
}

func testInvalid(t *testing.T, n storage.Node) {
	_, err := n.Create(t.Context(), NewID(), storage.CreateOptions{Size: -2})
	wantErr(t, "Create with size -2", err, storage.ErrInvalid)
	_, err = n.Create(t.Context(), storage.ObjectID{}, storage.CreateOptions{})
	wantErr(t, "Create of the zero id", err, storage.ErrInvalid)
}

func testContext(t *testing.T, n storage.Node) {
	id, big := NewID(), NewID()
	mustPut(t, n, id, Data(1, 1000))
	mustPut(t, n, big, Data(2, 3<<20))
	ctx, cancel := context.WithCancel(t.Context())
	r, _, err := n.Open(ctx, big, 0, -1)
	wantErr(t, "Open", err, nil)
	defer r.Close()
	_, err = io.ReadFull(r, make([]byte, 1000))
	wantErr(t, "Read", err, nil)
	w, err := n.Create(t.Context(), NewID(), storage.CreateOptions{Size: 4})
	wantErr(t, "Create", err, nil)
	defer w.Cancel()
	_, err = w.Write([]byte("abcd"))
	wantErr(t, "Write", err, nil)
	cancel()
	_, err = io.Copy(io.Discard, r)
	wantErr(t, "Read after cancel", err, context.Canceled)
	_, err = w.Commit(ctx, SumsOf([]byte("abcd")))
	wantErr(t, "Commit with an ended context", err, context.Canceled)
	_, err = n.Create(ctx, NewID(), storage.CreateOptions{Size: 4})
	wantErr(t, "Create", err, context.Canceled)
	_, _, err = n.Open(ctx, id, 0, -1)
	wantErr(t, "Open", err, context.Canceled)
	_, err = n.Stat(ctx, id)
	wantErr(t, "Stat", err, context.Canceled)
	wantErr(t, "Delete", n.Delete(ctx, id), context.Canceled)
	wantErr(t, "Undelete", n.Undelete(ctx, id), context.Canceled)
	_, err = n.Verify(ctx, id)
	wantErr(t, "Verify", err, context.Canceled)
	_, err = n.Assemble(ctx, NewID(), []storage.ObjectID{id}, 1000)
	wantErr(t, "Assemble", err, context.Canceled)
	_, err = n.Usage(ctx)
	wantErr(t, "Usage", err, context.Canceled)
	for _, err := range n.List(ctx, storage.ObjectID{}) {
		wantErr(t, "List", err, context.Canceled)
	}
	wantContent(t, n, id, Data(1, 1000))
}
