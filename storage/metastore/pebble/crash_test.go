package pebble

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// Each writer of the crash tests has a partition and commits rounds: round i puts a pair of records whose value is i, and adds 1 to a
// counter, in one batch. After a crash both records agree, the counter tells how often, and no acknowledged round is missing.

var crashBucket = metastore.Bucket{Name: "pairs", Watched: true, Indexes: []metastore.Index{{Field: "round", Type: metastore.Number}}}

func crashRound(ctx context.Context, s *Store, writer, round int) error {
	partition := fmt.Sprint("w", writer)
	value := fmt.Appendf(nil, `{"round":%d,"writer":%d}`, round, writer)
	_, err := s.Commit(ctx, metastore.Batch{
		metastore.Put{Bucket: "pairs", Key: metastore.Key{Partition: partition, Name: "left"}, Value: value},
		metastore.Add{Bucket: "pairs", Key: metastore.Key{Partition: partition}, Delta: 1},
		metastore.Put{Bucket: "pairs", Key: metastore.Key{Partition: partition, Name: "right"}, Value: value},
	})
	return err
}

func checkCrash(t *testing.T, s *Store, acked []int) {
	t.Helper()
	ctx := t.Context()
	table := metastore.NewTable[struct{ Round int }](s, "pairs")
	for w, round := range acked {
		partition := fmt.Sprint("w", w)
		left, err1 := table.Get(ctx, metastore.Key{Partition: partition, Name: "left"})
		right, err2 := table.Get(ctx, metastore.Key{Partition: partition, Name: "right"})
		if round == 0 && errors.Is(err1, metastore.ErrNotFound) && errors.Is(err2, metastore.ErrNotFound) {
			continue
		}
		if err1 != nil || err2 != nil {
			t.Fatalf("writer %d: %v, %v, with round %d acknowledged", w, err1, err2, round)
		}
		n, err := s.Counter(ctx, "pairs", metastore.Key{Partition: partition})
		if err != nil {
			t.Fatal(err)
		}
		if left.Value != right.Value || int64(left.Value.Round) != n {
			t.Errorf("writer %d: left %d, right %d, counter %d: half a batch", w, left.Value.Round, right.Value.Round, n)
		}
		if left.Value.Round < round || left.Value.Round > round+1 {
			t.Errorf("writer %d: round %d is there, %d was acknowledged", w, left.Value.Round, round)
		}
		found := 0
		for r, err := range s.Find(ctx, "pairs", metastore.Query{Filter: metastore.Eq{Field: "round", Value: left.Value.Round}}) {
			if err != nil {
				t.Fatal(err)
			}
			if r.Key.Partition == partition {
				found++
			}
		}
		if found != 2 {
			t.Errorf("writer %d: the index knows %d of its 2 records", w, found)
		}
	}
}

// TestPowerCut cuts the power at random moments under load: what was not synced is lost, in part.
func TestPowerCut(t *testing.T) {
	for _, seed := range seeds(5) {
		t.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 3))
		fs := vfs.NewCrashableMem()
		acked := make([]int, 6)
		for range 4 {
			s, err := Open("store", Config{FS: fs, MemTableSize: 64 << 10})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Define(t.Context(), crashBucket); err != nil {
				t.Fatal(err)
			}
			checkCrash(t, s, acked)
			var mu sync.Mutex
			var work sync.WaitGroup
			total, cut := 0, 1+rng.IntN(300)
			var cloned *vfs.MemFS
			var atCut []int
			for w := range acked {
				if item, err := metastore.NewTable[struct{ Round int }](s, "pairs").Get(t.Context(), metastore.Key{Partition: fmt.Sprint("w", w), Name: "left"}); err == nil {
					acked[w] = item.Value.Round // it has been read, so it is there for good
				}
			}
			for w, round := range acked {
				work.Go(func() {
					for {
						round++
						if err := crashRound(t.Context(), s, w, round); err != nil {
							t.Errorf("round %d of writer %d: %v", round, w, err)
							return
						}
						mu.Lock()
						if cloned == nil {
							acked[w] = round
							if total++; total == cut {
								// What is acknowledged by now is what must be there; the others are in the middle of something.
								atCut = append([]int(nil), acked...)
								cloned = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
							}
						}
						stop := cloned != nil
						mu.Unlock()
						if stop {
							return
						}
					}
				})
			}
			work.Wait()
			s.Close()
			fs, acked = cloned, atCut
		}
		s, err := Open("store", Config{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		checkCrash(t, s, acked)
		s.Close()
	}
}

// childDir names the directory in which a child process of TestKill works.
const childDir = "METASTORE_CRASH_DIR"

// childMain is the child: it commits rounds and prints each one acknowledged, until it is killed.
func childMain() bool {
	dir := os.Getenv(childDir)
	if dir == "" {
		return false
	}
	s, err := Open(dir, Config{MemTableSize: 256 << 10})
	if err == nil {
		err = s.Define(context.Background(), crashBucket)
	}
	if err != nil {
		fmt.Println("error", err)
		return true
	}
	var work sync.WaitGroup
	for w := range 8 {
		work.Go(func() {
			round := 0
			if item, err := metastore.NewTable[struct{ Round int }](s, "pairs").Get(context.Background(), metastore.Key{Partition: fmt.Sprint("w", w), Name: "left"}); err == nil {
				round = item.Value.Round
			}
			for {
				round++
				if err := crashRound(context.Background(), s, w, round); err != nil {
					fmt.Println("error", err)
					return
				}
				os.Stdout.WriteString(fmt.Sprintf("%d %d\n", w, round)) // one write, so lines stay whole
			}
		})
	}
	work.Wait()
	return true
}

// TestKill kills a real process at random moments.
func TestKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	acked := make([]int, 8)
	kills := 4
	if testenv.Long() {
		kills = 200
	}
	for range kills {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, after := bufio.NewScanner(out), 1+rand.IntN(2000)
		for n := 0; lines.Scan(); n++ {
			if n == after {
				cmd.Process.Kill()
			}
			w, round, ok := strings.Cut(lines.Text(), " ")
			i, err1 := strconv.Atoi(w)
			r, err2 := strconv.Atoi(round)
			if !ok || err1 != nil || err2 != nil {
				t.Fatalf("child says %q", lines.Text())
			}
			acked[i] = max(acked[i], r)
		}
		cmd.Wait() // killed
		s, err := Open(dir, Config{})
		if err != nil {
			t.Fatal(err)
		}
		checkCrash(t, s, acked)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBackup(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	s, err := Open(filepath.Join(dir, "store"), Config{MemTableSize: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Define(ctx, crashBucket); err != nil {
		t.Fatal(err)
	}
	acked := make([]int, 4)
	for w := range acked {
		for i := range 200 {
			if err := crashRound(ctx, s, w, i+1); err != nil {
				t.Fatal(err)
			}
			acked[w] = i + 1
		}
	}
	position, err := s.Position(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// Writers go on meanwhile; each batch is in the backup wholly or not at all.
	writing, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	for w := range acked {
		work.Go(func() {
			for i := 201; writing.Err() == nil; i++ {
				crashRound(writing, s, w, i)
			}
		})
	}
	file := filepath.Join(dir, "backup")
	for range 2 { // the second replaces the first
		if err := s.BackupFile(ctx, file); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	work.Wait()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	restored := filepath.Join(dir, "restored")
	for _, cut := range []int{0, 10, len(backupMagic), len(data) / 2, len(data) - 1} {
		if err := Restore(ctx, bytes.NewReader(data[:cut]), restored, Config{}); err == nil {
			t.Fatalf("Restore of %d of %d bytes succeeded", cut, len(data))
		}
	}
	flipped := bytes.Clone(data)
	flipped[len(data)/2] ^= 4
	if err := Restore(ctx, bytes.NewReader(flipped), restored, Config{}); err == nil {
		t.Fatal("Restore of a damaged backup succeeded")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 2 {
		t.Errorf("a failed restore leaves %v", left)
	}
	if err := Restore(ctx, bytes.NewReader(data), restored, Config{}); err != nil {
		t.Fatal(err)
	}
	if err := Restore(ctx, bytes.NewReader(data), restored, Config{}); !errors.Is(err, metastore.ErrInvalid) {
		t.Errorf("Restore over a store = %v", err)
	}
	r, err := Open(restored, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for w := range acked {
		n, err := r.Counter(ctx, "pairs", metastore.Key{Partition: fmt.Sprint("w", w)})
		if err != nil || n < 200 {
			t.Fatalf("Counter = %d, %v", n, err)
		}
		acked[w] = int(n)
	}
	checkCrash(t, r, acked)
	for _, err := range r.Watch(ctx, position, "pairs") {
		if !errors.Is(err, metastore.ErrPositionGone) {
			t.Errorf("Watch from a position of the original = %v", err)
		}
	}
	if err := crashRound(ctx, r, 0, acked[0]+1); err != nil {
		t.Error(err)
	}
}

func TestPositionGone(t *testing.T) {
	s, err := Open("store", Config{FS: vfs.NewMem(), ChangeLog: 16})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Define(t.Context(), crashBucket); err != nil {
		t.Fatal(err)
	}
	start, _ := s.Position(t.Context())
	for i := range 100 {
		if err := crashRound(t.Context(), s, 0, i+1); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range s.Watch(t.Context(), start, "pairs") {
		if !errors.Is(err, metastore.ErrPositionGone) {
			t.Fatalf("Watch beyond the log = %v", err)
		}
	}
	for _, err := range s.Watch(t.Context(), "", "pairs") { // the beginning of what is left is always there
		if err != nil {
			t.Fatal(err)
		}
		break
	}
}

// TestSecondOpen holds the door of a directory in use.
func TestSecondOpen(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if other, err := Open(dir, Config{}); err == nil {
		other.Close()
		t.Fatal("a directory was opened twice")
	}
}
