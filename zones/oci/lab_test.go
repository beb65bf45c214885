//go:build linux && cgo

package oci_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mobulacloud/mobula/internal/testenv"
)

// inLab is what runs as process 1 of the lab: the host's files, other control groups, and a disk whose file system takes id-mapped mounts.
const inLab = `#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin TMPDIR=/mnt/d
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t cgroup2 none /sys/fs/cgroup; mount -t tmpfs tmp /run; mount -t tmpfs tmp /mnt
mount -t devtmpfs dev /dev; mkdir -p /dev/pts /dev/shm; mount -t devpts devpts /dev/pts
mkdir /mnt/d; mount /dev/ubda /mnt/d; ip link set lo up
for c in cpu memory pids io; do echo +$c > /sys/fs/cgroup/cgroup.subtree_control; done
cp %[1]s /mnt/d/oci.test; cd /mnt/d
./oci.test -test.v -test.run '%[2]s' > %[3]s/out 2>&1
echo exit $? >> %[3]s/out
sync; poweroff -f
`

// TestUnifiedControlGroups runs this test program in user-mode Linux, where all controllers are in the one hierarchy of version 2.
func TestUnifiedControlGroups(t *testing.T) {
	testenv.NeedRoot(t)
	uml := testenv.NeedTool(t, "uml", "linux.uml")
	if !testenv.Long() {
		t.Skip("takes minutes: set MOBULA_LONG=1")
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		t.Skip("this host has version 2 itself")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 512<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", disk).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	script := filepath.Join(dir, "init")
	if err := os.WriteFile(script, fmt.Appendf(nil, inLab, exe, "TestDriver|TestIsolation|TestLimitsLive|TestMounts|TestSurvivesKill", dir), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), uml, "mem=1G", "root=/dev/root", "rootfstype=hostfs", "hostfs=/", "rw", "init="+script, "ubda="+disk,
		"con=null", "con0=null", "quiet", "umid=mobula-"+filepath.Base(filepath.Dir(dir)))
	boot, err := cmd.CombinedOutput()
	out, rerr := os.ReadFile(filepath.Join(dir, "out"))
	if rerr != nil {
		t.Fatalf("the lab did not run: %v %v\n%s", err, rerr, boot)
	}
	if !strings.HasSuffix(strings.TrimSpace(string(out)), "exit 0") {
		t.Errorf("in the lab:\n%s", out)
	}
	if strings.Contains(string(out), "--- SKIP: TestDriver/") {
		t.Errorf("the driver declares less in the lab:\n%s", out)
	}
}
