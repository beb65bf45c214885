package host

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/image"
)

const gib = 1 << 30

// Create makes a zone of a spec and, unless autoboot is false, starts it. uuid, MACs and interface names are made where
// they are missing. The image must be installed. On error nothing is left of the zone.
//
// A zone of a joyent brand whose metadata has a user-script or operator-script is provisioning until they have run, and Create waits for that
// unless the spec says nowait. If a script fails, or takes longer than mdata_exec_timeout, the zone stays, stopped and in state failed, and
// the error is [zones.ErrFailed]; if ctx ends meanwhile, the zone stays and goes on, and the error is ctx's.
func (h *Host) Create(ctx context.Context, spec *zones.Spec) (*zones.Zone, error) {
	s := spec.Clone()
	h.complete(s)
	fail := func(err error) (*zones.Zone, error) { return nil, zones.OpError("create", s.UUID, err) }
	if err := s.Validate(); err != nil {
		return fail(err)
	}
	img, err := h.check(ctx, s)
	if err != nil {
		return fail(err)
	}
	z, err := h.claim(ctx, s, "create")
	if err != nil {
		return fail(err)
	}
	defer z.unlock()
	z.Image, z.Container = img.Manifest.UUID, img.Container
	z.Provisioning = z.provisions()
	if s.AutobootOn() {
		z.attachEarly(ctx)
	}
	if err = z.build(ctx, img); err == nil {
		if s.AutobootOn() {
			err = z.up(ctx, zones.Boot{})
		} else {
			err = z.done()
		}
	}
	if err != nil {
		clean, cancel := cleanUp(ctx)
		defer cancel()
		return fail(errors.Join(err, z.eraseAll(clean)))
	}
	h.log.Info("zone created", "zone", s.UUID, "brand", s.Brand, "image", z.Image)
	if z.Provisioning != nil && !s.NoWait {
		z.unlock()
		if err := h.attendProvisioning(ctx, s.UUID); err != nil {
			return fail(err)
		}
		return h.Get(ctx, s.UUID)
	}
	return h.view(ctx, &z.record), nil
}

// complete fills in what needs chance or a look at the rest.
func (h *Host) complete(s *zones.Spec) {
	if s.UUID == "" {
		s.UUID = uuid.NewString()
	}
	for i := range s.NICs {
		n := &s.NICs[i]
		n.MAC = normalMAC(n.MAC)
		if n.MAC == "" {
			if n.MAC = n.VRRPMAC(); n.MAC == "" {
				n.MAC = newMAC()
			}
		}
		if n.Interface == "" {
			n.Interface = freeInterface(s.NICs)
		}
	}
	for i := range s.Disks {
		if d := &s.Disks[i]; d.Path == "" && !d.NoCreate {
			d.Path = freeDisk(s)
		}
	}
	s.SetDefaults()
}

// newMAC makes an address below Joyent's own prefix, as its tools do.
func newMAC() string {
	var b [3]byte
	rand.Read(b[:])
	return fmt.Sprintf("90:b8:d0:%02x:%02x:%02x", b[0], b[1], b[2])
}

// normalMAC writes an address in one way, so that two ways of writing it are one address.
func normalMAC(s string) string {
	parts := strings.Split(strings.ToLower(s), ":")
	for i, p := range parts {
		if len(p) == 1 {
			parts[i] = "0" + p
		}
	}
	return strings.Join(parts, ":")
}

func freeInterface(nics []zones.NIC) string {
	for i := 0; ; i++ {
		name := "net" + strconv.Itoa(i)
		taken := false
		for _, n := range nics {
			taken = taken || n.Interface == name
		}
		if !taken {
			return name
		}
	}
}

// check finds the image and refuses, before anything is made, what this host cannot keep.
func (h *Host) check(ctx context.Context, s *zones.Spec) (image.Image, error) {
	var img image.Image
	if err := h.serves(s); err != nil {
		return img, err
	}
	id := s.ImageUUID
	if s.Brand.HVM() {
		if err := h.sizeImages(ctx, s); err != nil {
			return img, err
		}
		if len(s.Disks) == 0 || s.Disks[0].ImageUUID == "" {
			return img, nil // an empty disk
		}
		id = s.Disks[0].ImageUUID
	}
	img, err := h.cfg.Images.Get(ctx, id)
	if err != nil {
		return img, fmt.Errorf("image %s: %w", id, mapImage(err))
	}
	if s.Brand.HVM() != (img.Disk != "") {
		return img, fmt.Errorf("%w: image %s of type %s for brand %s", zones.ErrInvalid, id, img.Manifest.Type, s.Brand)
	}
	if r := img.Manifest.Requirements; r != nil {
		ram := s.MaxPhysicalMemory
		if s.Brand.HVM() {
			ram = s.RAM
		}
		if ram < r.MinRAM || r.MaxRAM > 0 && ram > r.MaxRAM {
			return img, fmt.Errorf("%w: image %s wants %d to %d MiB of memory, the zone has %d", zones.ErrInvalid, id, r.MinRAM, r.MaxRAM, ram)
		}
		if len(s.NICs) < len(r.Networks) {
			return img, fmt.Errorf("%w: image %s wants %d NICs", zones.ErrInvalid, id, len(r.Networks))
		}
	}
	s.ImageUUID = id
	if s.Brand.HVM() {
		s.ImageUUID = ""
	}
	for _, user := range img.Manifest.Passwords() {
		key := user + "_pw"
		if _, ok := s.InternalMetadata[key]; !ok {
			if s.InternalMetadata == nil {
				s.InternalMetadata = map[string]any{}
			}
			s.InternalMetadata[key] = rand.Text()[:16]
		}
	}
	return img, nil
}

// sizeImages gives disks that are made of images those images' sizes, and checks the spec again now that all sizes are known.
func (h *Host) sizeImages(ctx context.Context, s *zones.Spec) error {
	for i := range s.Disks {
		d := &s.Disks[i]
		if d.ImageUUID == "" || d.Size != 0 {
			continue
		}
		img, err := h.cfg.Images.Get(ctx, d.ImageUUID)
		if err != nil {
			return fmt.Errorf("disks[%d]: image %s: %w", i, d.ImageUUID, mapImage(err))
		}
		d.Size = img.Manifest.ImageSize
	}
	return s.Validate()
}

// serves reports, before anything is made or changed, what of a spec this host cannot keep.
func (h *Host) serves(s *zones.Spec) error {
	d, err := h.driver(s.Brand)
	if err != nil {
		return err
	}
	if len(s.NICs) > 0 && h.cfg.Network == nil {
		return fmt.Errorf("%w: this host has no network and the zone has NICs", zones.ErrNotSupported)
	}
	if caps := h.cfg.Pool.Capabilities(); s.Quota != nil && *s.Quota > 0 && !caps.Quota {
		return fmt.Errorf("%w: quota on a %s pool", zones.ErrNotSupported, caps.Driver)
	}
	return d.Capabilities().Supports(s)
}

func mapImage(err error) error {
	if errors.Is(err, image.ErrNotExist) {
		return fmt.Errorf("%w: %w", zones.ErrNotExist, err)
	}
	return err
}

// claim takes the uuid and a range of ids for a new zone, by a first record that says it is under way.
func (h *Host) claim(ctx context.Context, s *zones.Spec, verb string) (*zone, error) {
	unlock, err := h.lock(ctx, s.UUID, true)
	if err != nil {
		return nil, err
	}
	z := &zone{Host: h, id: s.UUID, unlock: unlock, record: record{Spec: s, Created: time.Now().UTC(), Modified: time.Now().UTC()}}
	if err := z.claim(ctx, verb); err != nil {
		if !errors.Is(err, zones.ErrExist) {
			z.forgetLock()
		}
		unlock()
		return nil, err
	}
	return z, nil
}

func (z *zone) claim(ctx context.Context, verb string) error {
	if old, err := z.load(z.id); err == nil {
		if old.Op == nil || old.Op.Verb != "create" && old.Op.Verb != "receive" || old.Op.Step != "" {
			return zones.ErrExist
		}
		// We hold the lock, so whoever was creating it is dead.
		dead := &zone{Host: z.Host, id: z.id, record: old}
		if err := dead.erase(ctx); err != nil {
			return err
		}
	} else if errors.Is(err, zones.ErrNotExist) {
		z.fresh = true
	} else {
		return err
	}
	unlock, err := z.lock(ctx, "ids", true)
	if err != nil {
		return err
	}
	defer unlock()
	if err := z.checkUnique(); err != nil {
		return err
	}
	return z.begin(op{Verb: verb})
}

// idRange is how many ids a zone has.
const idRange = 65536

// checkUnique refuses a second zone with a MAC, and picks the lowest free range of ids. The caller holds the lock of ids until the record is
// written.
func (z *zone) checkUnique() error {
	all, err := z.uuids()
	if err != nil {
		return err
	}
	used := map[uint32]bool{}
	macs := map[string]string{}
	for _, id := range all {
		r, err := z.load(id)
		if errors.Is(err, zones.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		used[r.IDs.First] = true
		for _, n := range r.nics() {
			macs[n.MAC] = id
		}
	}
	for _, n := range z.Spec.NICs {
		if other := macs[n.MAC]; other != "" && n.VRRPVRID == 0 {
			return fmt.Errorf("%w: MAC %s is zone %s's", zones.ErrExist, n.MAC, other)
		}
	}
	for first := z.cfg.FirstID; first < 1<<32-2*idRange; first += idRange {
		if !used[first] {
			z.IDs = zones.IDRange{First: first, Size: idRange}
			return nil
		}
	}
	return fmt.Errorf("%w: all ranges of user ids are taken", zones.ErrNoSpace)
}

// build makes the zone's datasets.
func (z *zone) build(ctx context.Context, img image.Image) error {
	o := z.quota()
	pool := z.cfg.Pool
	var err error
	z.step(z.Op.Verb + ": clone")
	if img.Dataset == "" {
		_, err = pool.Create(ctx, rootDataset(z.id), o)
	} else {
		_, err = pool.Clone(ctx, img.Ref(), rootDataset(z.id), o)
	}
	if err != nil {
		return mapDataset(err)
	}
	z.step(z.Op.Verb + ": cloned")
	if z.Spec.DelegateDataset {
		if err := z.buildData(ctx); err != nil {
			return err
		}
	}
	if z.Spec.Brand.HVM() {
		return z.buildDisks(ctx, img)
	}
	if z.Op.Verb == "create" && z.Spec.AutobootOn() {
		z.unseeded = true // its tree is about to be mounted anyway
		return nil
	}
	return z.inRoot(ctx, z.seedCreate)
}

func (z *zone) quota() dataset.Options {
	o := dataset.Options{}
	if z.Spec.Quota != nil {
		o.Quota = *z.Spec.Quota * gib
	}
	return o
}

func (z *zone) buildData(ctx context.Context) error {
	o := dataset.Options{}
	if z.cfg.Pool.Capabilities().SharedQuota {
		o.Within = rootDataset(z.id)
	}
	_, err := z.cfg.Pool.Create(ctx, dataDataset(z.id), o)
	return mapDataset(err)
}

// mapDataset says zones' sentinels of the pool's.
func mapDataset(err error) error {
	for from, to := range map[error]error{
		dataset.ErrNotExist: zones.ErrNotExist, dataset.ErrExist: zones.ErrExist, dataset.ErrBusy: zones.ErrBusy,
		dataset.ErrDependents: zones.ErrBusy, dataset.ErrUnsupported: zones.ErrNotSupported, dataset.ErrNoSpace: zones.ErrNoSpace,
		dataset.ErrBadName: zones.ErrInvalid, dataset.ErrBadStream: zones.ErrInvalid,
		unix.EDQUOT: zones.ErrNoSpace, unix.ENOSPC: zones.ErrNoSpace,
	} {
		if errors.Is(err, from) {
			return fmt.Errorf("%w: %w", to, err)
		}
	}
	return err
}

// Delete ends a zone by force and removes all of it. One that is marked indestructible gives [zones.ErrPermission].
func (h *Host) Delete(ctx context.Context, id string) error {
	return zones.OpError("delete", id, h.delete(ctx, id, false))
}

func (h *Host) delete(ctx context.Context, id string, anyway bool) error {
	if r, err := h.load(id); err == nil && (anyway || !indestructible(r.Spec)) {
		h.overtake(ctx, id)
	}
	z, err := h.acquireAny(ctx, id)
	if err != nil {
		return err
	}
	defer z.unlock()
	if !anyway && indestructible(z.Spec) {
		return fmt.Errorf("%w: the zone is marked indestructible", zones.ErrPermission)
	}
	if err := z.begin(op{Verb: "delete"}); err != nil {
		return err
	}
	if err := z.eraseAll(ctx); err != nil {
		return err
	}
	h.log.Info("zone deleted", "zone", id)
	return nil
}

func indestructible(s *zones.Spec) bool {
	return s.IndestructibleZoneroot || s.IndestructibleDelegated
}

// eraseAll is erase with the zone's lock, which is ours until then.
func (z *zone) eraseAll(ctx context.Context) error {
	err := z.erase(ctx)
	if err == nil {
		z.forgetLock()
	}
	return err
}

// erase removes a zone whose record says that it is being created or deleted. It may be repeated; the record goes last.
func (z *zone) erase(ctx context.Context) error {
	if d, err := z.driver(z.Spec.Brand); err == nil {
		if err := z.down(ctx, d); err != nil {
			return err
		}
	}
	z.step("erase: down")
	for _, name := range []string{dataDataset(z.id), rootDataset(z.id), rootDataset(z.id) + nextSuffix, rootDataset(z.id) + oldSuffix} {
		if err := z.cfg.Pool.Delete(ctx, name); err != nil && !errors.Is(err, dataset.ErrNotExist) {
			return mapDataset(err)
		}
		z.step("erase: " + name[:4])
	}
	z.dropUserNS(z.IDs)
	return z.forget(z.id)
}
