// Customdriver runs a zone on a driver of its own, in the importing process: driver.go is all that takes. It needs root, and nothing installed.
//
//	go run ./examples/customdriver
//
// It makes a pool and a host below -dir (a temporary directory by default), creates a zone from the built-in image, runs a
// command in it and deletes it; what the driver wrote down is on stderr.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/dataset/overlay"
	"github.com/mobulacloud/mobula/zones/host"
	"github.com/mobulacloud/mobula/zones/image"
	"github.com/mobulacloud/mobula/zones/oci"
)

func main() {
	dir := flag.String("dir", "", "where the host keeps its state; empty makes a temporary one")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *dir, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "customdriver:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, out, log io.Writer) (err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "customdriver"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	containers, err := oci.New(oci.Config{StateDir: filepath.Join(dir, "oci")})
	if err != nil {
		return err
	}
	defer containers.Close()
	pool, err := overlay.Open(ctx, overlay.Config{Dir: filepath.Join(dir, "pool")})
	if err != nil {
		return err
	}
	defer pool.Close()
	images, err := image.Open(ctx, image.Config{Dir: filepath.Join(dir, "images"), Pool: pool})
	if err != nil {
		return err
	}
	h, err := host.Open(ctx, host.Config{
		Dir: filepath.Join(dir, "host"), Pool: pool, Images: images,
		Drivers: []zones.Driver{audited{Driver: containers, log: log}},
	})
	if err != nil {
		return err
	}
	defer h.Close()

	spec, err := zones.ParseSpec([]byte(`{"brand": "joyent-minimal", "image_uuid": "sparse", "hostname": "hello", "max_physical_memory": 64}`))
	if err != nil {
		return err
	}
	z, err := h.Create(ctx, spec)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Delete(context.WithoutCancel(ctx), z.UUID)) }()
	p, err := h.Exec(ctx, z.UUID, zones.ExecRequest{Args: []string{"sh", "-c", "echo $(hostname) from zone $(id -u)"}, Stdout: out, Stderr: out})
	if err != nil {
		return err
	}
	_, err = p.Wait()
	return err
}
