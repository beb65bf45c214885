package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/dataset/btrfs"
	"github.com/mobulacloud/mobula/zones/dataset/overlay"
	"github.com/mobulacloud/mobula/zones/host"
	"github.com/mobulacloud/mobula/zones/image"
	"github.com/mobulacloud/mobula/zones/network"
	"github.com/mobulacloud/mobula/zones/oci"
)

// echo waits for the first byte from inside.
func echo(ctx context.Context, begin time.Time, run func(zones.ExecRequest) (zones.Process, error)) (time.Duration, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	p, err := run(zones.ExecRequest{Args: []string{"/usr/bin/echo", "x"}, Stdout: w})
	w.Close()
	if err != nil {
		return 0, err
	}
	_, err = r.Read(make([]byte, 1))
	took := time.Since(begin)
	_, werr := p.Wait()
	return took, errors.Join(err, werr, ctx.Err())
}

// mobula makes this project's contestants. done removes all they need, after an error too.
func mobula(ctx context.Context, dir string) (list []contestant, done func() error, err error) {
	var undo []func() error
	done = func() error {
		var errs []error
		for _, f := range undo {
			errs = append([]error{f()}, errs...)
		}
		undo = nil
		return errors.Join(append(errs, os.RemoveAll(dir))...)
	}
	later := func(f func() error) { undo = append([]func() error{f}, undo...) }
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, done, err
	}
	instance := fmt.Sprintf("zl%d", os.Getpid())
	run := "/run/mobula-" + instance
	later(func() error { return os.RemoveAll(run) })
	driver, err := oci.New(oci.Config{StateDir: run + "/oci", CgroupParent: "/mobula-" + instance})
	if err != nil {
		return nil, done, err
	}
	later(driver.Close)
	net, err := network.Open(ctx, network.Config{Instance: instance, Dir: run + "/netns"})
	if err != nil {
		return nil, done, err
	}
	later(net.Close)
	later(func() error { return net.Destroy(context.WithoutCancel(ctx)) })
	if err := net.PutTag(ctx, network.Tag{Name: "external"}); err != nil {
		return nil, done, err
	}
	for i, kind := range []string{"btrfs", "overlay"} {
		at := filepath.Join(dir, kind)
		var pool dataset.Pool
		if kind == "btrfs" {
			p, err := btrfs.Open(ctx, btrfs.Config{Dir: at + "/pool", File: at + ".img", Size: 1 << 30})
			if err != nil {
				return nil, done, err
			}
			later(p.Unmount)
			pool = p
		} else {
			p, err := overlay.Open(ctx, overlay.Config{Dir: at + "/pool"})
			if err != nil {
				return nil, done, err
			}
			later(p.Close)
			pool = p
		}
		images, err := image.Open(ctx, image.Config{Dir: at + "/images", Pool: pool})
		if err != nil {
			return nil, done, err
		}
		h, err := host.Open(ctx, host.Config{Dir: at + "/host", Pool: pool, Images: images, Drivers: []zones.Driver{driver}, RunDir: run + "/" + kind,
			Network: host.NetworkOf(net, nil)})
		if err != nil {
			return nil, done, err
		}
		later(h.Close)
		later(func() error { return h.Destroy(context.WithoutCancel(ctx)) })
		list = append(list, contestant{"mobula: clone (" + kind + "), network, synced", func(ctx context.Context, worker int) (time.Duration, error) {
			s, err := zones.ParseSpec(fmt.Appendf(nil, `{"brand":"joyent-minimal","image_uuid":"sparse","max_physical_memory":128,
				"nics":[{"nic_tag":"external","ip":"10.77.%d.%d","netmask":"255.255.0.0"}]}`, i, 10+worker))
			if err != nil {
				return 0, err
			}
			begin := time.Now()
			z, err := h.Create(ctx, s)
			if err != nil {
				return 0, err
			}
			took, err := echo(ctx, begin, func(r zones.ExecRequest) (zones.Process, error) { return h.Exec(ctx, z.UUID, r) })
			return took, errors.Join(err, h.Delete(ctx, z.UUID))
		}})
	}
	root := filepath.Join(dir, "root")
	if err := sparse(root); err != nil {
		return nil, done, err
	}
	list = append(list, contestant{"mobula: the container alone", func(ctx context.Context, worker int) (time.Duration, error) {
		id := uuid.NewString()
		m := zones.Machine{ID: id, Spec: &zones.Spec{Brand: zones.BrandMinimal}, RunDir: filepath.Join(run, id), Root: zones.Root{Path: root},
			Mounts: []zones.Mount{{Source: "/usr", Target: "/usr", ReadOnly: true}}, IDs: zones.IDRange{First: uint32(1<<20 + worker<<16), Size: 65536},
			Limits: zones.Limits{Memory: 128 << 20, Swap: 128 << 20, LWPs: 200}}
		begin := time.Now()
		if err := os.Mkdir(m.RunDir, 0o700); err != nil {
			return 0, err
		}
		if _, err := driver.Start(ctx, m); err != nil {
			return 0, err
		}
		took, err := echo(ctx, begin, func(r zones.ExecRequest) (zones.Process, error) { return driver.Exec(ctx, id, r) })
		return took, errors.Join(err, driver.Destroy(ctx, id), os.Remove(m.RunDir))
	}})
	return list, done, nil
}

// vmadmCommand is a process for each verb. Its time is that of the whole command, after which the zone runs.
func vmadmCommand(program, dir string) contestant {
	return contestant{"vmadm create, the whole command", func(ctx context.Context, worker int) (time.Duration, error) {
		id := uuid.NewString()
		cmd := exec.CommandContext(ctx, program, "-dir", dir, "create")
		cmd.Stdin = strings.NewReader(`{"brand":"joyent-minimal","image_uuid":"sparse","max_physical_memory":128,"uuid":"` + id + `"}`)
		begin := time.Now()
		out, err := cmd.CombinedOutput()
		took := time.Since(begin)
		if err != nil {
			return 0, fmt.Errorf("%w: %s", err, out)
		}
		return took, exec.CommandContext(ctx, program, "-dir", dir, "delete", id).Run()
	}}
}

// sparse makes a root with the host's programs to be mounted at /usr.
func sparse(root string) error {
	for _, dir := range []string{"", "usr", "proc", "dev", "sys", "etc", "root", "var", "tmp", "run"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	for _, link := range []string{"bin", "sbin", "lib", "lib64"} {
		if to, err := os.Readlink("/" + link); err == nil {
			if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
				return err
			}
		}
	}
	return nil
}
