//go:build linux

package host

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
)

// census counts what zones could leave behind: what bears the lab's name, and what this process holds.
func census(t *testing.T, l lab) map[string]int {
	t.Helper()
	n := map[string]int{
		"mounts": len(l.mounts()), "control groups": len(l.cgroups()), "loop devices": len(l.loops()), "interfaces": len(l.interfaces()),
	}
	runs, _ := os.ReadDir(l.run() + "/z")
	n["run directories"] = len(runs)
	n["open files"] = len(openFiles())
	children, _ := filepath.Glob("/proc/self/task/*/children")
	for _, c := range children {
		b, _ := os.ReadFile(c)
		n["child processes"] += len(bytes.Fields(b))
	}
	n["goroutines"] = runtime.NumGoroutine()
	return n
}

// openFiles says what this process has open, but for what is kept for the next zone, in a bounded number: the user namespaces of ranges of
// ids, which are later zones' again, and idle connections to nftables.
func openFiles() []string {
	idle := map[string]bool{}
	b, _ := os.ReadFile("/proc/self/net/netlink")
	for line := range strings.SplitSeq(string(b), "\n") {
		if f := strings.Fields(line); len(f) > 9 && f[1] == fmt.Sprint(unix.NETLINK_NETFILTER) {
			idle["socket:["+f[9]+"]"] = true
		}
	}
	var out []string
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, f := range fds {
		if to, err := os.Readlink(f); err == nil && !strings.HasPrefix(to, "user:") && !idle[to] {
			out = append(out, filepath.Base(f)+" "+to)
		}
	}
	return out
}

// heap is what this process holds in memory, in bytes.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers let go
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func (l lab) mounts() []string {
	var out []string
	b, _ := os.ReadFile("/proc/thread-self/mountinfo")
	for line := range strings.SplitSeq(string(b), "\n") {
		if strings.Contains(line, l.key()) {
			out = append(out, line)
		}
	}
	return out
}

// cgroups are the lab's control groups, its parent groups among them.
func (l lab) cgroups() []string {
	var out []string
	filepath.WalkDir("/sys/fs/cgroup", func(p string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(p, "/mobula-t-"+l.key()) {
			out = append(out, p)
		}
		if err != nil {
			return fs.SkipDir // somebody else's that just goes
		}
		return nil
	})
	return out
}

// interfaces are the lab's, and those of its instance's kind of name that have no owner yet.
func (l lab) interfaces() []string {
	var out []string
	sum := sha256.Sum256([]byte(l.key()))
	digits := hex.EncodeToString(sum[:])[:3]
	all, _ := filepath.Glob("/sys/class/net/mo*")
	for _, p := range all {
		alias, _ := os.ReadFile(p + "/ifalias")
		name := filepath.Base(p)
		if strings.Contains(string(alias), " "+l.key()+" ") || len(alias) == 0 && len(name) == 15 && name[3:6] == digits {
			out = append(out, name)
		}
	}
	return out
}

func (l lab) loops() []string {
	var out []string
	loops, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, f := range loops {
		if b, _ := os.ReadFile(f); bytes.Contains(b, []byte(l.key())) {
			out = append(out, f)
		}
	}
	return out
}

// clean fails the test if anything is there that belongs to no zone but those named.
func clean(t *testing.T, l lab, o *opened, keep ...string) {
	t.Helper()
	ctx := t.Context()
	var ours []string
	mine := func(id string) bool { return slices.Contains(keep, id) }
	all, err := o.pool.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		if strings.HasPrefix(d.Name, "image-") {
			continue
		}
		if id := strings.TrimPrefix(strings.TrimPrefix(d.Name, "zone-"), "data-"); !mine(id) {
			ours = append(ours, "dataset "+d.Name)
		}
		for _, s := range d.Snapshots {
			if strings.HasPrefix(s.Name, sendPrefix) {
				ours = append(ours, "snapshot "+s.Name)
			}
		}
	}
	machines, err := o.driver.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range machines {
		if !mine(id) {
			ours = append(ours, "machine "+id)
		}
	}
	for _, dir := range []string{l.run() + "/z", l.dir + "/host/locks", l.dir + "/host/zones"} {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			id := strings.TrimSuffix(e.Name(), ".json")
			if zones.ValidID(id) && !mine(id) || strings.HasPrefix(e.Name(), ".new") {
				ours = append(ours, filepath.Join(dir, e.Name()))
			}
		}
	}
	kept := func(s string) bool {
		return slices.ContainsFunc(keep, func(id string) bool { return strings.Contains(s, id) })
	}
	for _, m := range l.mounts() {
		if !kept(m) && !strings.Contains(m, l.dir+"/pool ") {
			ours = append(ours, "mount "+m)
		}
	}
	for _, g := range l.cgroups() {
		if !kept(g) && filepath.Base(g) != "mobula-t-"+l.key() {
			ours = append(ours, "control group "+g)
		}
	}
	if n := len(l.loops()); l.btrfs && n != 1 || !l.btrfs && n != 0 {
		ours = append(ours, fmt.Sprint(n, " loop devices"))
	}
	if o.net != nil { // interfaces, namespaces and rules
		ids, err := o.net.Zones(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if !mine(id) {
				ours = append(ours, "network of "+id)
			}
		}
	}
	if len(ours) > 0 {
		t.Errorf("left over:\n%s", strings.Join(ours, "\n"))
	}
}

// noLeaks fails the test if the system still has anything that bears the lab's name.
func (l lab) noLeaks(t testing.TB) {
	t.Helper()
	for _, m := range l.mounts() {
		t.Errorf("mount left: %s", m)
	}
	for _, g := range l.cgroups() {
		t.Errorf("control group left: %s", g)
	}
	for _, f := range l.loops() {
		t.Errorf("loop device left: %s", f)
	}
	for _, name := range l.interfaces() {
		t.Errorf("interface left: %s", name)
	}
}
