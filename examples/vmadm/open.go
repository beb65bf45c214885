package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/dataset/btrfs"
	"github.com/mobulacloud/mobula/zones/dataset/overlay"
	"github.com/mobulacloud/mobula/zones/host"
	"github.com/mobulacloud/mobula/zones/image"
	"github.com/mobulacloud/mobula/zones/kvm"
	"github.com/mobulacloud/mobula/zones/network"
	"github.com/mobulacloud/mobula/zones/oci"
)

// server is everything of one state directory.
type server struct {
	*host.Host
	pool   dataset.Pool
	net    *network.Network
	oci    *oci.Driver
	kvm    *kvm.Driver
	images *image.Store
	dir    string
	run    string
}

// config is DIR/config.json, which an operator may write.
type config struct {
	// Tags are NIC tags besides "admin", "external" and "internal", which are bridges that end on this host; a tag of one of these names
	// replaces it.
	Tags []network.Tag `json:"tags"`
	// Gateways are this host's places on them, and the way out.
	Gateways []network.Gateway `json:"gateways"`
	// Sources of images: directories or URLs.
	Sources    []string `json:"sources"`
	Datacenter string   `json:"datacenter"`
}

func (c *command) open(ctx context.Context) (*server, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("vmadm needs root, for file systems, networks and limits of zones (package zones/oci alone runs containers without)")
	}
	dir, err := filepath.Abs(c.dir)
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.DiscardHandler)
	if c.verbose {
		log = slog.New(slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	cfg, err := readConfig(dir)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(dir))
	key := hex.EncodeToString(sum[:4])
	s := &server{dir: dir, run: "/run/mobula/" + key}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.pool, err = openPool(ctx, dir, c.pool, log); err != nil {
		return nil, err
	}
	var sources []image.Source
	for _, src := range cfg.Sources {
		if filepath.IsAbs(src) {
			sources = append(sources, image.NewDir(src))
			continue
		}
		h, err := image.NewHTTP(image.HTTPConfig{URL: src, Log: log})
		if err != nil {
			return nil, err
		}
		sources = append(sources, h)
	}
	if s.images, err = image.Open(ctx, image.Config{Dir: filepath.Join(dir, "images"), Pool: s.pool, Sources: sources, SkipDevices: true, Log: log}); err != nil {
		return nil, err
	}
	// Zones' roots are shown here while they start, to processes that already have their rights, so it is passable; and it is ours alone,
	// as another directory may have a zone of the same uuid.
	if err = errors.Join(os.MkdirAll(s.run+"/mnt", 0o711), os.Chmod(filepath.Dir(s.run), 0o711), os.Chmod(s.run, 0o711)); err != nil {
		return nil, err
	}
	if s.oci, err = oci.New(oci.Config{StateDir: s.run + "/oci", MountDir: s.run + "/mnt", CgroupParent: "/mobula-" + key, Logger: log}); err != nil {
		return nil, err
	}
	if err = s.openNetwork(ctx, cfg, key, log); err != nil {
		return nil, err
	}
	drivers, err := c.openKVM(ctx, s, key, log)
	if err != nil {
		return nil, err
	}
	tools, err := guestTools(dir)
	if err != nil {
		return nil, err
	}
	s.Host, err = host.Open(ctx, host.Config{
		Dir: filepath.Join(dir, "host"), Pool: s.pool, Images: s.images, Drivers: append([]zones.Driver{s.oci}, drivers...),
		Network: host.NetworkOf(s.net, nil), RunDir: s.run + "/z", GuestTools: tools, Datacenter: cfg.Datacenter, Log: log,
	})
	return s, err
}

func readConfig(dir string) (config, error) {
	var cfg config
	b, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return cfg, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &cfg)
	}
	if err != nil {
		return cfg, fmt.Errorf("config.json: %w", err)
	}
	return cfg, nil
}

// openPool opens the pool that is there, or makes one: on btrfs if the directory is on it, in a loop file if that can be made, else of overlays.
func openPool(ctx context.Context, dir, kind string, log *slog.Logger) (dataset.Pool, error) {
	at, file := filepath.Join(dir, "pool"), filepath.Join(dir, "pool.img")
	_, noFile := os.Stat(file)
	marker, noMarker := os.ReadFile(filepath.Join(at, "mobula.json"))
	var f struct {
		Driver string `json:"driver"`
	}
	_ = json.Unmarshal(marker, &f)
	var st unix.Statfs_t
	onBtrfs := unix.Statfs(dir, &st) == nil && uint32(st.Type) == unix.BTRFS_SUPER_MAGIC
	_, noTool := exec.LookPath("mkfs.btrfs")
	loop := false
	switch {
	case noFile == nil:
		kind, loop = "btrfs", true
	case noMarker == nil:
		kind = f.Driver
	case kind == "" && (onBtrfs || noTool == nil), kind == "btrfs":
		kind, loop = "btrfs", !onBtrfs
	case kind == "":
		kind = "overlay"
	}
	switch kind {
	case "overlay":
		return overlay.Open(ctx, overlay.Config{Dir: at, Log: log})
	case "btrfs":
		c := btrfs.Config{Dir: at, Log: log}
		if loop {
			c.File, c.Size = file, 16<<30
		}
		return btrfs.Open(ctx, c)
	}
	return nil, fmt.Errorf("a pool of kind %q is not known: btrfs or overlay", kind)
}

func (s *server) openNetwork(ctx context.Context, cfg config, key string, log *slog.Logger) error {
	var err error
	if s.net, err = network.Open(ctx, network.Config{Instance: "vm" + key, Dir: s.run + "/netns", Logger: log}); err != nil {
		return err
	}
	tags := map[string]network.Tag{"admin": {Name: "admin"}, "external": {Name: "external"}, "internal": {Name: "internal"}}
	for _, t := range cfg.Tags {
		tags[t.Name] = t
	}
	for _, t := range tags {
		if err := s.net.PutTag(ctx, t); err != nil {
			return err
		}
	}
	for _, g := range cfg.Gateways {
		if err := s.net.PutGateway(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

// guestTools copies this program to where zones can be shown it; a program that go run made is gone afterwards.
func guestTools(dir string) (string, error) {
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		return "", err
	}
	defer exe.Close()
	fi, err := exe.Stat()
	if err != nil {
		return "", err
	}
	tools := filepath.Join(dir, "tools")
	path := filepath.Join(tools, fmt.Sprintf("mdata-%x-%x", fi.Size(), fi.ModTime().UnixNano()))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return "", err
	}
	tmp, err := os.CreateTemp(tools, ".new-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(tmp.Name())
	_, err = io.Copy(tmp, exe)
	err = errors.Join(err, tmp.Chmod(0o555), tmp.Close())
	if err != nil {
		return "", err
	}
	return path, os.Rename(tmp.Name(), path)
}

func (s *server) close() {
	if s.Host != nil {
		s.Host.Close()
	}
	if s.oci != nil {
		s.oci.Close()
	}
	if s.kvm != nil {
		s.kvm.Close()
	}
	if s.net != nil {
		s.net.Close()
	}
	if s.pool != nil {
		s.pool.Close()
	}
}

// with runs f on the opened server.
func (c *command) with(ctx context.Context, f func(s *server) error) error {
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	return f(s)
}

// changing is with for verbs after which zones may run: somebody is to look after them.
func (c *command) changing(ctx context.Context, f func(s *server) error) error {
	return c.with(ctx, func(s *server) error {
		if err := f(s); err != nil {
			return err
		}
		if c.noAgent {
			return nil
		}
		return c.startAgent()
	})
}

// destroy removes everything that is in the directory, and all it stands on.
func (c *command) destroy(ctx context.Context, _ call) error {
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	err = errors.Join(s.Host.Destroy(ctx), s.net.Destroy(ctx))
	s.Host.Close()
	s.oci.Close()
	if s.kvm != nil {
		s.kvm.Close()
	}
	s.net.Close()
	if err != nil {
		s.pool.Close()
		return err
	}
	if p, ok := s.pool.(*btrfs.Pool); ok {
		err = p.Unmount()
	} else {
		err = s.pool.Close()
	}
	if err != nil {
		return err
	}
	// Only what this program makes is removed: the directory may be somebody's home by mistake.
	for _, name := range []string{"host", "images", "tools", "pool", "pool.img", "pool.img.lock", "agent.log"} {
		if err := os.RemoveAll(filepath.Join(s.dir, name)); err != nil {
			return err
		}
	}
	return os.RemoveAll(s.run)
}
