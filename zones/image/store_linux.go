package image

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/dataset/archive"
	"github.com/mobulacloud/mobula/zones/internal/statefile"
)

// Final is the snapshot of an image's dataset that zones are cloned from.
const Final = "final"

const (
	datasetPrefix = "image-"
	importPrefix  = "import-"
	recordVersion = 1
)

// Config says where images are kept.
type Config struct {
	// Dir holds the records of installed images. Required.
	Dir string
	// Pool holds their datasets; zones are cloned within it. Required.
	Pool dataset.Pool
	// Sources are asked in order by Import and Available.
	Sources []Source
	// MaxBytes bounds an image's files together; 0 means 64 GiB. MaxEntries bounds their number; 0 means two million.
	MaxBytes   int64
	MaxEntries int
	// SkipDevices leaves device nodes in archives out instead of refusing the archive.
	SkipDevices bool
	// HostRoot is where Sparse looks for the host's directories; empty means "/".
	HostRoot string
	// Log hears of repairs and imports; nil discards.
	Log *slog.Logger
}

// Store has the installed images of one host.
type Store struct {
	cfg  Config
	log  *slog.Logger
	turn sync.Mutex // one installer of this process at the records; flock settles it between processes
}

// Image is an installed image.
type Image struct {
	Manifest Manifest `json:"manifest"`
	// Source is where it came from; empty if it was installed from a file.
	Source string `json:"source,omitempty"`
	// Dataset is where it is in the pool; zones are cloned from its snapshot [Final].
	Dataset   string    `json:"dataset"`
	Installed time.Time `json:"installed"`
	// Digest is that of the installed tree, which Verify compares.
	Digest string `json:"digest,omitempty"`
	// Disk is the format of a disk image, raw or qcow2; empty for a tree.
	Disk string `json:"disk,omitempty"`
	// Container is how an image of a container wants to be run.
	Container *Container `json:"container,omitempty"`
	// Mounts is what a zone of the image shows besides its own tree; the sparse image's are the host's directories.
	Mounts []zones.Mount `json:"mounts,omitempty"`
}

// Ref is the snapshot that zones are cloned from.
func (i Image) Ref() dataset.Ref { return dataset.Ref{Dataset: i.Dataset, Snapshot: Final} }

type record struct {
	Version int `json:"version"`
	Image
}

// Open opens the store, making its directory, and removes what killed installations left.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Dir == "" || cfg.Pool == nil {
		return nil, errors.New("open image store: Dir and Pool are required")
	}
	if cfg.HostRoot == "" {
		cfg.HostRoot = "/"
	}
	s := &Store{cfg: cfg, log: cfg.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for _, d := range []string{"images", "work"} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("open image store: %w", err)
		}
	}
	if err := s.repair(ctx); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	return s, nil
}

// lock takes the records for this goroutine.
func (s *Store) lock() (unlock func(), err error) {
	s.turn.Lock()
	f, err := os.OpenFile(filepath.Join(s.cfg.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		s.turn.Unlock()
		return nil, fmt.Errorf("lock image store: %w", err)
	}
	return func() {
		f.Close()
		s.turn.Unlock()
	}, nil
}

// repair brings records and datasets together again: a dataset without a record was not finished, a record without a dataset was
// being deleted, and an import whose process is dead goes.
func (s *Store) repair(ctx context.Context) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	all, err := s.cfg.Pool.List(ctx)
	if err != nil {
		return err
	}
	have := map[string]bool{}
	for _, d := range all {
		have[d.Name] = true
		switch {
		case strings.HasPrefix(d.Name, importPrefix):
			work := filepath.Join(s.cfg.Dir, "work", d.Name)
			if f, err := os.Open(work); err == nil {
				err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
				f.Close()
				if err != nil {
					continue // its process lives
				}
			}
			s.log.Info("remove an import that was not finished", "dataset", d.Name)
			if err := s.cfg.Pool.Delete(ctx, d.Name); err != nil && !errors.Is(err, dataset.ErrNotExist) {
				return err
			}
			os.Remove(work)
		case strings.HasPrefix(d.Name, datasetPrefix):
			if _, err := os.Stat(s.record(strings.TrimPrefix(d.Name, datasetPrefix))); errors.Is(err, fs.ErrNotExist) {
				s.log.Info("remove an image that was not finished", "dataset", d.Name)
				err := s.cfg.Pool.Delete(ctx, d.Name)
				if err != nil && !errors.Is(err, dataset.ErrNotExist) && !errors.Is(err, dataset.ErrDependents) {
					return err
				}
			}
		}
	}
	names, err := os.ReadDir(filepath.Join(s.cfg.Dir, "images"))
	if err != nil {
		return err
	}
	for _, n := range names {
		id, ok := strings.CutSuffix(n.Name(), ".json")
		if !ok || !have[datasetPrefix+id] {
			os.Remove(filepath.Join(s.cfg.Dir, "images", n.Name()))
		}
	}
	return nil
}

func (s *Store) record(uuid string) string {
	return filepath.Join(s.cfg.Dir, "images", uuid+".json")
}

func (s *Store) save(img Image) error {
	b, err := json.MarshalIndent(record{recordVersion, img}, "", "  ")
	if err != nil {
		return err
	}
	path := s.record(img.Manifest.UUID)
	return statefile.Write(statefile.OS{}, statefile.TempFor(path), path, b)
}

func (s *Store) load(uuid string) (Image, error) {
	if uuid == zones.SparseImage {
		uuid = SparseUUID
	}
	if !validUUID(uuid) {
		return Image{}, fmt.Errorf("image %.40q: %w", uuid, ErrNotExist)
	}
	b, err := os.ReadFile(s.record(uuid))
	if errors.Is(err, fs.ErrNotExist) {
		return Image{}, fmt.Errorf("image %s: %w", uuid, ErrNotExist)
	}
	if err != nil {
		return Image{}, err
	}
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return Image{}, fmt.Errorf("record of image %s: %w", uuid, err)
	}
	if r.Version > recordVersion {
		return Image{}, fmt.Errorf("record of image %s has version %d, which is newer than this program", uuid, r.Version)
	}
	return r.Image, nil
}

// Get gives an installed image; [ErrNotExist] if it is not. The sparse image, called "sparse" or [SparseUUID], is always there: it is
// made when it is first asked for.
func (s *Store) Get(ctx context.Context, uuid string) (Image, error) {
	if uuid == zones.SparseImage || uuid == SparseUUID {
		return s.sparse(ctx)
	}
	return s.load(uuid)
}

// List gives all installed images, oldest publication first as imgadm does, the unpublished last.
func (s *Store) List(ctx context.Context) ([]Image, error) {
	names, err := os.ReadDir(filepath.Join(s.cfg.Dir, "images"))
	if err != nil {
		return nil, err
	}
	var out []Image
	for _, n := range names {
		id, ok := strings.CutSuffix(n.Name(), ".json")
		if !ok {
			continue
		}
		img, err := s.load(id)
		if errors.Is(err, ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, img)
	}
	when := func(i Image) time.Time {
		if i.Manifest.PublishedAt != nil {
			return *i.Manifest.PublishedAt
		}
		return i.Installed
	}
	slices.SortFunc(out, func(a, b Image) int { return when(a).Compare(when(b)) })
	return out, ctx.Err()
}

// Ancestry gives an image and its origins, the image first.
func (s *Store) Ancestry(ctx context.Context, uuid string) ([]Image, error) {
	var out []Image
	for uuid != "" && len(out) < maxOrigins {
		img, err := s.Get(ctx, uuid)
		if err != nil {
			return out, err
		}
		out = append(out, img)
		uuid = img.Manifest.Origin
	}
	return out, nil
}

// Dependents names what stands on an image: datasets of zones and of images.
func (s *Store) Dependents(ctx context.Context, uuid string) ([]string, error) {
	img, err := s.load(uuid)
	if err != nil {
		return nil, err
	}
	all, err := s.cfg.Pool.List(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, d := range all {
		if d.Origin.Dataset == img.Dataset {
			out = append(out, d.Name)
		}
	}
	return out, nil
}

// Delete removes an image; [ErrDependents] while zones or images stand on it.
func (s *Store) Delete(ctx context.Context, uuid string) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	img, err := s.load(uuid)
	if err != nil {
		return err
	}
	err = s.cfg.Pool.Delete(ctx, img.Dataset)
	switch {
	case errors.Is(err, dataset.ErrDependents):
		return fmt.Errorf("delete image %s: %w: %w", uuid, ErrDependents, err)
	case err != nil && !errors.Is(err, dataset.ErrNotExist):
		return fmt.Errorf("delete image %s: %w", uuid, err)
	}
	// A record without its dataset is removed by the next Open too.
	return statefile.Remove(statefile.OS{}, s.record(img.Manifest.UUID))
}

// Verify reads an installed image and compares it with what was installed; [ErrCorrupt] if they differ.
func (s *Store) Verify(ctx context.Context, uuid string) error {
	img, err := s.load(uuid)
	if err != nil {
		return err
	}
	got, err := s.digest(ctx, img.Ref())
	if err != nil {
		return fmt.Errorf("verify image %s: %w", uuid, err)
	}
	if got != img.Digest {
		return fmt.Errorf("verify image %s: %w: digest %s, want %s", uuid, ErrCorrupt, got, img.Digest)
	}
	return nil
}

// digest is SHA-256 over the tree as a tar archive, whose order and headers depend on the tree alone.
func (s *Store) digest(ctx context.Context, ref dataset.Ref) (string, error) {
	h := sha256.New()
	err := s.tree(ctx, ref, func(root *os.Root) error { return archive.Write(ctx, h, root) })
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), err
}

// tree runs f on a snapshot's tree.
func (s *Store) tree(ctx context.Context, ref dataset.Ref, f func(*os.Root) error) error {
	root, err := s.cfg.Pool.SnapshotRoot(ctx, ref)
	if err != nil {
		return err
	}
	return inTree(root, f)
}

// live runs f on a dataset's tree.
func (s *Store) live(ctx context.Context, name string, f func(*os.Root) error) error {
	root, err := s.cfg.Pool.Root(ctx, name)
	if err != nil {
		return err
	}
	return inTree(root, f)
}

func inTree(root dataset.Root, f func(*os.Root) error) error {
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

// workname makes the name of an import, whose lock says that this process lives.
func (s *Store) workname() (name string, done func(), err error) {
	name = importPrefix + strings.ToLower(rand.Text())
	path := filepath.Join(s.cfg.Dir, "work", name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return "", nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return "", nil, err
	}
	return name, func() {
		os.Remove(path)
		f.Close()
	}, nil
}
