//go:build linux

// Zoneload measures how long a new zone takes, beside runc, crun, podman and LXC where they are installed: from the call or command to the first
// byte that a program inside writes. All take their turn in every round, so that they share the machine's mood; medians are printed as a
// table. Ours, but for one row, includes a clone of an image, an interface with its rules, limits, a filter, a user namespace, and records synced to
// disk; theirs start on a directory that is ready, without a network. It needs root.
//
//	zoneload -rounds 40 -dir /var/tmp/zoneload
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// A contestant makes one zone with one program in it, and removes it.
type contestant struct {
	name string
	// once gives the time to the first byte from inside. worker tells those apart that run at once.
	once func(ctx context.Context, worker int) (time.Duration, error)
}

func main() {
	log.SetFlags(0)
	rounds := flag.Int("rounds", 40, "how often each is measured (1 to 1000)")
	seconds := flag.Duration("time", 5*time.Second, "how long two workers at once are measured (at most 1m)")
	dir := flag.String("dir", "", "directory to work in, on the disk to measure; a new one below TMPDIR by default")
	vmadm := flag.String("vmadm", "", "path of the vmadm program, to measure that as well")
	flag.Parse()
	if *rounds < 1 || *rounds > 1000 || *seconds > time.Minute {
		log.Fatal("zoneload: out of range; see -help")
	}
	if err := run(context.Background(), *rounds, *seconds, *dir, *vmadm); err != nil {
		log.Fatalf("zoneload: %v", err)
	}
}

func run(ctx context.Context, rounds int, seconds time.Duration, dir, vmadm string) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("zones need root")
	}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "zl"); err != nil {
			return err
		}
		defer os.Remove(dir)
	}
	var list []contestant
	ours, done, err := mobula(ctx, filepath.Join(dir, "m"))
	defer func() { err = errors.Join(err, done()) }()
	if err != nil {
		return err
	}
	list = append(list, ours...)
	if vmadm != "" {
		list = append(list, vmadmCommand(vmadm, filepath.Join(dir, "v")))
	}
	theirs, stop, err := peers(filepath.Join(dir, "p"))
	defer stop()
	if err != nil {
		return err
	}
	list = append(list, theirs...)
	list = slices.DeleteFunc(list, func(c contestant) bool {
		_, err := c.once(ctx, 0) // the first is slow, or does not work here
		if err != nil {
			fmt.Printf("left out: %s: %v\n", c.name, err)
		}
		return err != nil
	})
	took := make([][]time.Duration, len(list))
	for range rounds {
		for i, c := range list {
			d, err := c.once(ctx, 0)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			took[i] = append(took[i], d)
		}
	}
	fmt.Printf("%-45s %8s %8s %8s %22s\n", "to the first byte from inside", "p50 ms", "p90 ms", "p99 ms", "two workers, zones/s")
	for i, c := range list {
		rate, err := together(ctx, c, seconds)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		slices.Sort(took[i])
		at := func(percent int) float64 {
			return float64(took[i][len(took[i])*percent/100].Microseconds()) / 1000
		}
		fmt.Printf("%-45s %8.1f %8.1f %8.1f %22.0f\n", c.name, at(50), at(90), at(99), rate)
	}
	return nil
}

// together is how many a second two workers make and remove.
func together(ctx context.Context, c contestant, seconds time.Duration) (float64, error) {
	var wg sync.WaitGroup
	var count [2]int
	var errs [2]error
	begin := time.Now()
	for worker := range count {
		wg.Go(func() {
			for time.Since(begin) < seconds && errs[worker] == nil {
				_, errs[worker] = c.once(ctx, worker)
				count[worker]++
			}
		})
	}
	wg.Wait()
	return float64(count[0]+count[1]) / time.Since(begin).Seconds(), errors.Join(errs[:]...)
}

// firstByte runs a command to its end, and gives how long its first byte of output took.
func firstByte(cmd *exec.Cmd) (time.Duration, error) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	_, err = io.ReadFull(out, make([]byte, 1))
	took := time.Since(begin)
	_, _ = io.Copy(io.Discard, out)
	return took, errors.Join(cmd.Wait(), err)
}
