package objfile

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

const childVariable = "OBJFILE_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		child(dir)
	}
	os.Exit(m.Run())
}

var killConfig = Config{SegmentSize: 256 << 10, PackLimit: 8 << 10, DirectFrom: 256 << 10, Grace: -1, ReapInterval: 20 * time.Millisecond, ScrubRate: -1, OrphanAge: -1}

// child works on a store and tells what it does, a line at a time, until it is killed.
func child(dir string) {
	s, err := Open(dir, killConfig)
	if err != nil {
		fmt.Println("failed", err)
		os.Exit(1)
	}
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			var mine []storage.ObjectID
			for {
				if len(mine) > 3 && rand.IntN(3) == 0 {
					id := mine[0]
					mine = mine[1:]
					say("delete %s 0 0", id)
					if err := s.Delete(context.Background(), id); err != nil {
						say("failed %v", err)
					}
					say("deleted %s 0 0", id)
					continue
				}
				id, size, seed := storagetest.NewID(), rand.IntN(4000), rand.Uint64()
				if rand.IntN(5) == 0 {
					size = rand.IntN(600_000)
				}
				say("put %s %d %d", id, size, seed)
				if _, err := storagetest.Put(context.Background(), s, id, storagetest.Data(seed, size)); err != nil {
					say("failed %v", err)
				}
				say("done %s %d %d", id, size, seed)
				mine = append(mine, id)
			}
		})
	}
	wg.Wait()
}

// TestKill kills a process that works on a store with SIGKILL, over and over, and looks at what is left.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	t.Parallel()
	dir := t.TempDir()
	m := &model{objects: map[storage.ObjectID]*modelObject{}}
	acknowledged := 0
	for round := range rounds(4, 200) {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childVariable+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// At a random moment of its work, or now and then while it still repairs what the last one left.
		after := rand.IntN(300)
		if round%5 == 4 {
			time.AfterFunc(time.Duration(rand.IntN(30))*time.Millisecond, func() { cmd.Process.Kill() })
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if n == after {
				cmd.Process.Kill()
			}
			word, rest, _ := strings.Cut(lines.Text(), " ")
			var name string
			var size int
			var seed uint64
			if k, _ := fmt.Sscan(rest, &name, &size, &seed); k != 3 || word == "failed" {
				t.Errorf("child: %s", lines.Text())
				continue
			}
			id, err := storage.ParseObjectID(name)
			if err != nil {
				t.Fatal(err)
			}
			switch word {
			case "put":
				m.set(id, storagetest.Data(seed, size), mayAbsent|mayPresent)
			case "done":
				m.set(id, nil, mayPresent)
				acknowledged++
			case "delete":
				m.set(id, nil, mayAbsent|mayPresent)
			case "deleted":
				m.set(id, nil, mayAbsent)
				acknowledged++
			}
		}
		cmd.Process.Kill()
		_ = cmd.Wait() // killed
		s, err := Open(dir, killConfig)
		if err != nil {
			t.Fatalf("round %d: Open: %v", round, err)
		}
		if err := check(t, s, m.snapshot()); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for id := range m.objects { // now it is known
			if _, err := s.Stat(t.Context(), id); err != nil {
				delete(m.objects, id)
			} else {
				m.set(id, nil, mayPresent)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d changes acknowledged, %d objects at the end", acknowledged, len(m.objects))
	if acknowledged == 0 {
		t.Error("nothing was acknowledged: the test tests nothing")
	}
}
