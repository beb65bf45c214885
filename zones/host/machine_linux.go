package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/image"
	"github.com/mobulacloud/mobula/zones/metadata"
)

// Datasets of a zone: its root or disks, and what was delegated to it.
func rootDataset(id string) string { return "zone-" + id }
func dataDataset(id string) string { return "data-" + id }

// prepare makes all that a machine stands on, and describes it for a driver.
func (z *zone) prepare(ctx context.Context) (zones.Machine, error) {
	dir := z.runDir(z.id)
	m := zones.Machine{
		ID: z.id, Spec: z.Spec, RunDir: filepath.Join(dir, "m"), IDs: z.IDs, Limits: z.Spec.Limits(), Hostname: z.Spec.Hostname,
		Domain: z.Spec.DNSDomain,
	}
	if err := errors.Join(os.MkdirAll(m.RunDir, 0o700), os.Chmod(dir, 0o711)); err != nil {
		return m, err
	}
	var err error
	if z.Spec.Brand.HVM() {
		err = z.prepareVM(ctx, &m)
	} else {
		err = z.prepareContainer(ctx, &m)
	}
	if err != nil {
		return m, err
	}
	z.step(z.Op.Verb + ": network")
	return m, z.prepareNetwork(ctx, &m)
}

func (z *zone) prepareNetwork(ctx context.Context, m *zones.Machine) error {
	if z.cfg.Network == nil {
		if len(z.Spec.NICs) > 0 {
			return fmt.Errorf("%w: this host has no network and the zone has NICs", zones.ErrNotSupported)
		}
		return nil
	}
	if len(z.Spec.NICs) == 0 {
		return nil // a driver makes a namespace with a loopback by itself
	}
	if z.early == nil {
		z.early = make(chan attachment, 1)
		z.connect(ctx, z.early)
	}
	a := <-z.early
	z.early = nil
	if a.err != nil {
		return fmt.Errorf("network: %w", a.err)
	}
	m.NetNS, m.Interfaces = a.NetNS, a.Interfaces
	return nil
}

// attachment is a network, or why there is none.
type attachment struct {
	NetworkAttachment
	err error
}

// attachEarly makes a new zone's network while its datasets are made, which is waiting for the disk mostly.
func (z *zone) attachEarly(ctx context.Context) {
	if z.cfg.Network == nil || len(z.Spec.NICs) == 0 || z.Spec.Brand.HVM() {
		return
	}
	z.early = make(chan attachment, 1)
	go z.connect(ctx, z.early)
}

func (z *zone) connect(ctx context.Context, to chan<- attachment) {
	a, err := z.cfg.Network.Attach(ctx, NetworkRequest{Spec: z.Spec, Owner: z.IDs.First})
	to <- attachment{a, err}
}

func (z *zone) prepareContainer(ctx context.Context, m *zones.Machine) error {
	img, err := z.image(ctx)
	if err != nil {
		return err
	}
	if m.Root, err = z.showRoot(ctx, rootDataset(z.id), "root"); err != nil {
		return err
	}
	m.Mounts = append(m.Mounts, img.Mounts...)
	if z.Spec.DelegateDataset {
		data, err := z.showRoot(ctx, dataDataset(z.id), "data")
		if err != nil {
			return err
		}
		m.Mounts = append(m.Mounts, zones.Mount{Type: zones.MountBind, Source: data.Path, Target: "/data", Mapped: !data.Mapped})
	}
	control := filepath.Join(z.runDir(z.id), "control")
	if err := z.writeControl(control); err != nil {
		return err
	}
	m.Mounts = append(m.Mounts, zones.Mount{Type: zones.MountBind, Source: control, Target: "/.zonecontrol", ReadOnly: true, NoSUID: true})
	if z.Spec.Brand == zones.BrandLX {
		m.Mounts = append(m.Mounts, zones.Mount{Type: zones.MountBind, Source: control, Target: "/native/.zonecontrol", ReadOnly: true, NoSUID: true})
	}
	if z.cfg.GuestTools != "" {
		for _, name := range metadata.GuestPrograms {
			m.Mounts = append(m.Mounts, zones.Mount{
				Type: zones.MountBind, Source: z.cfg.GuestTools, Target: "/.zonecontrol/bin/" + name, ReadOnly: true, NoSUID: true, Optional: true,
			})
		}
	}
	for _, f := range z.Spec.Filesystems {
		mt, err := filesystemMount(f)
		if err != nil {
			return err
		}
		m.Mounts = append(m.Mounts, mt)
	}
	return z.inRoot(ctx, func(root *os.Root) error {
		if z.unseeded {
			if err := z.seedCreate(root); err != nil {
				return err
			}
			z.unseeded = false
		}
		if err := z.seedBoot(root); err != nil {
			z.log.Warn("files of a zone", "zone", z.id, "err", err)
		}
		m.Init, err = z.init(root, img)
		return err
	})
}

func filesystemMount(f zones.Filesystem) (zones.Mount, error) {
	if f.Type != "lofs" { // a driver that can mount the others would be handed them
		return zones.Mount{}, fmt.Errorf("%w: filesystem of type %s", zones.ErrNotSupported, f.Type)
	}
	return zones.Mount{
		Type: zones.MountBind, Source: f.Source, Target: f.Target, ReadOnly: slices.Contains(f.Options, "ro"),
		NoSUID: slices.Contains(f.Options, "nosuid"), NoExec: slices.Contains(f.Options, "noexec"),
	}, nil
}

// showRoot gives a dataset's tree as a path: itself, or, where it is a stack of layers, a mount of it below the run directory, in
// which the layers are id-mapped already, as an overlay cannot be mapped afterwards.
func (z *zone) showRoot(ctx context.Context, name, at string) (zones.Root, error) {
	root, err := z.cfg.Pool.Root(ctx, name)
	if err != nil {
		return zones.Root{}, err
	}
	if root.Dir != "" {
		return zones.Root{Path: root.Dir}, nil
	}
	path, err := z.attach(root, at)
	return zones.Root{Path: path, Mapped: true}, err
}

// attach mounts a tree, with the zone's ids, below its run directory.
func (z *zone) attach(root dataset.Root, at string) (string, error) {
	ns, err := z.userNS(z.IDs)
	if err != nil {
		return "", err
	}
	path := filepath.Join(z.runDir(z.id), at)
	if err := os.MkdirAll(path, 0o711); err != nil {
		return "", err
	}
	m, err := root.Open(dataset.OpenOptions{UserNS: ns, NoDev: true})
	if err != nil {
		return "", err
	}
	defer m.Close()
	return path, m.Attach(path)
}

// userNS gives a user namespace of the ids, made once.
func (h *Host) userNS(r zones.IDRange) (*os.File, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, zones.ErrClosed
	}
	if f := h.userns[r]; f != nil {
		return f, nil
	}
	f, err := h.newUserNS(r)
	if err == nil {
		h.userns[r] = f
	}
	return f, err
}

// newUserNS asks the drivers, as one that makes such namespaces anyway is quicker than we are.
func (h *Host) newUserNS(r zones.IDRange) (*os.File, error) {
	for _, d := range h.cfg.Drivers {
		if m, ok := zones.As[interface {
			UserNamespace(zones.IDRange) (*os.File, error)
		}](d); ok {
			return m.UserNamespace(r)
		}
	}
	return dataset.NewUserNS(r.First, r.Size)
}

func (h *Host) dropUserNS(r zones.IDRange) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.userns[r]; f != nil {
		f.Close()
		delete(h.userns, r)
	}
}

// image is what the zone was made from. A zone that was received may have come without.
func (z *zone) image(ctx context.Context) (image.Image, error) {
	if z.Image == "" {
		return image.Image{Container: z.Container}, nil
	}
	img, err := z.cfg.Images.Get(ctx, z.Image)
	if errors.Is(err, image.ErrNotExist) {
		return image.Image{Container: z.Container}, nil
	}
	return img, err
}

// inRoot runs f on the zone's own tree.
func (z *zone) inRoot(ctx context.Context, f func(*os.Root) error) error {
	root, err := z.cfg.Pool.Root(ctx, rootDataset(z.id))
	if err != nil {
		return err
	}
	if root.Dir == "" {
		// An overlay that is mounted already is reached there: two mounts of one stack do not see each other.
		if at := filepath.Join(z.runDir(z.id), "root"); mounted(at) {
			return z.asZone(at, f)
		}
	}
	m, err := root.Open(dataset.OpenOptions{})
	if err != nil {
		return err
	}
	defer m.Close()
	r, err := m.OpenRoot()
	if err != nil {
		return err
	}
	defer r.Close()
	return f(r)
}

// asZone runs f on a mount that shows the zone's ids: what f makes is given to the zone's root afterwards by ownTree.
func (z *zone) asZone(at string, f func(*os.Root) error) error {
	return dataset.AsUser(int(z.IDs.First), int(z.IDs.First), func() error {
		r, err := os.OpenRoot(at)
		if err != nil {
			return err
		}
		defer r.Close()
		return f(r)
	})
}

func mounted(path string) bool {
	b, err := os.ReadFile("/proc/thread-self/mountinfo")
	return err == nil && strings.Contains(string(b), " "+path+" ")
}

// sparsePath is where a zone of a joyent brand looks for programs.
const sparsePath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/local/sbin:/opt/local/bin"

// init says what runs first in an OS container.
func (z *zone) init(root *os.Root, img image.Image) (zones.Init, error) {
	s := z.Spec
	if s.Docker || img.Container != nil {
		return z.dockerInit(root, img.Container)
	}
	if s.InitName != "" {
		return zones.Init{Args: []string{s.InitName}, Own: true}, nil
	}
	if s.Brand == zones.BrandLX {
		if fi, err := root.Lstat("sbin/init"); err == nil && fi.Mode()&os.ModeType&^os.ModeSymlink == 0 {
			return zones.Init{Args: []string{"/sbin/init"}, Own: true}, nil
		}
	}
	init := zones.Init{}
	scripts := []string{"operator-script", "user-script"}
	if z.Provisioning != nil {
		scripts = []string{"provision"} // which runs them
	}
	for _, name := range scripts {
		if name == "provision" || z.script(name) != "" {
			init.Services = append(init.Services, zones.Service{
				Name: name, Args: []string{"/.zonecontrol/" + name}, Dir: "/root", Env: []string{"PATH=" + sparsePath, "HOME=/root"},
			})
		}
	}
	return init, nil
}

// dockerInit is the image's own entrypoint, with whatever internal_metadata says otherwise (docker:entrypoint, docker:cmd, …, lists as JSON).
func (z *zone) dockerInit(root *os.Root, c *image.Container) (zones.Init, error) {
	if c == nil {
		c = &image.Container{}
	}
	var errs []error
	list := func(key string) []string {
		v, _ := z.Spec.InternalMetadata["docker:"+key].(string)
		if v == "" {
			return nil
		}
		var out []string
		if err := json.Unmarshal([]byte(v), &out); err != nil {
			errs = append(errs, fmt.Errorf("%w: internal_metadata docker:%s is not a JSON list of strings", zones.ErrInvalid, key))
		}
		return out
	}
	text := func(key, def string) string {
		if v, _ := z.Spec.InternalMetadata["docker:"+key].(string); v != "" {
			return v
		}
		return def
	}
	init := zones.Init{Env: append(slices.Clone(c.Env), list("env")...), Dir: text("workdir", c.WorkingDir)}
	var err error
	if init.Args, err = c.Command(list("entrypoint"), list("cmd")); err != nil {
		errs = append(errs, fmt.Errorf("%w: %w", zones.ErrInvalid, err))
	}
	home := ""
	if init.User, home, err = image.ResolveUser(root, text("user", c.User)); err != nil {
		errs = append(errs, fmt.Errorf("%w: %w", zones.ErrInvalid, err))
	}
	init.Env = append(init.Env, "HOME="+home)
	if c.StopSignal != "" {
		if init.StopSignal, err = zones.ParseSignal(c.StopSignal); err != nil {
			errs = append(errs, err)
		}
	}
	init.TTY = z.Spec.InternalMetadata["docker:tty"] == true || z.Spec.InternalMetadata["docker:tty"] == "true"
	return init, errors.Join(errs...)
}
