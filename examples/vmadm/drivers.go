package main

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/kvm"
)

// openKVM opens the driver for hardware VMs if there is a VM or is about to be one. Finding out what this machine can accelerate takes
// a moment, so the answer is kept until the next boot.
func (c *command) openKVM(ctx context.Context, s *server, key string, log *slog.Logger) ([]zones.Driver, error) {
	if !c.wantVM && !s.haveVM() {
		return nil, nil
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		return nil, nil // the host then says that no driver runs the brand
	}
	known := filepath.Join(s.run, "accelerator")
	b, _ := os.ReadFile(known)
	d, err := kvm.Open(ctx, kvm.Config{
		StateDir: s.run + "/kvm", Accelerator: strings.TrimSpace(string(b)), CgroupParent: "/mobula-" + key, Logger: log,
	})
	if err != nil {
		return nil, err
	}
	if len(b) == 0 {
		if a := d.Capabilities().Isolation; a == "kvm" || a == "tcg" {
			_ = os.WriteFile(known, []byte(a+"\n"), 0o600)
		}
	}
	s.kvm = d
	return []zones.Driver{d}, nil
}

// haveVM looks into the records for a VM.
func (s *server) haveVM() bool {
	records, _ := filepath.Glob(filepath.Join(s.dir, "host", "zones", "*.json"))
	for _, r := range records {
		b, _ := os.ReadFile(r)
		if strings.Contains(string(b), `"brand": "kvm"`) || strings.Contains(string(b), `"brand": "bhyve"`) {
			return true
		}
	}
	return false
}
