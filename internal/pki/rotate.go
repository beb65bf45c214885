package pki

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"
)

// Files of a rotation, beside caFile. There is nextFile until the new authority signs, and from then on oldFile until the old one is forgotten.
const (
	nextFile = "next.pem"
	oldFile  = "old.pem"
)

// rotateBefore is how long before its end an authority is replaced by itself.
const rotateBefore = 2 * 365 * 24 * time.Hour

// A Phase is how far a rotation is.
type Phase string

// The phases of a rotation.
const (
	Steady    Phase = "steady"    // there is none under way
	Spreading Phase = "spreading" // the new authority is made known; the old one signs
	Retiring  Phase = "retiring"  // the new authority signs; the old one is still trusted
)

// ErrRotating refuses to begin a rotation while another is under way.
var ErrRotating = errors.New("pki: a rotation is under way")

// loadRotation reads what a rotation under way has left.
func (ca *CA) loadRotation(root *os.Root) error {
	next, err := loadPair(root, nextFile)
	switch {
	case err == nil && fingerprint(next.cert) == fingerprint(ca.cert):
		// It signs already; only its old name is left.
	case err == nil:
		ca.next = next
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	data, err := readSecret(root, oldFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, certs, err := decodePEM(data)
	if err == nil && (len(certs) != 1 || !certs[0].IsCA) {
		err = errors.New("want one authority's certificate")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", oldFile, err)
	}
	if fingerprint(certs[0]) != fingerprint(ca.cert) { // otherwise the switch did not come about
		ca.old = certs[0]
	}
	return nil
}

// Phase returns how far a rotation is.
func (ca *CA) Phase() Phase {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	switch {
	case ca.next != nil:
		return Spreading
	case ca.old != nil:
		return Retiring
	}
	return Steady
}

// Trusted returns all authorities whose certificates are to be believed, the one that signs first.
func (ca *CA) Trusted() []*x509.Certificate {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	list := []*x509.Certificate{ca.cert}
	if ca.next != nil {
		list = append(list, ca.next.cert)
	}
	if ca.old != nil {
		list = append(list, ca.old)
	}
	return list
}

// begin makes a new authority, which does not sign yet.
func (ca *CA) begin() error {
	return ca.change(func(root *os.Root) error {
		if ca.next != nil || ca.old != nil {
			return ErrRotating
		}
		if err := removeFile(root, nextFile); err != nil { // that a crash has left
			return err
		}
		if err := makePair(root, nextFile); err != nil {
			return err
		}
		var err error
		ca.next, err = loadPair(root, nextFile)
		return err
	})
}

// activate lets the new authority sign. The key of the old one is gone after it.
func (ca *CA) activate() error {
	return ca.change(func(root *os.Root) error {
		if ca.next == nil {
			return nil
		}
		if err := writeSecret(root, oldFile, encodeCerts(ca.cert.Raw)); err != nil {
			return err
		}
		if err := root.Rename(nextFile, caFile); err != nil {
			return err
		}
		ca.old, ca.pair, ca.next = ca.cert, *ca.next, nil
		return syncDir(root)
	})
}

// retire forgets the old authority.
func (ca *CA) retire() error {
	return ca.change(func(root *os.Root) error {
		ca.old = nil
		return removeFile(root, oldFile)
	})
}

func (ca *CA) change(do func(root *os.Root) error) error {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	root, err := openDir(ca.dir)
	if err != nil {
		return fmt.Errorf("rotate certificate authority: %w", err)
	}
	defer root.Close()
	if err := do(root); err != nil {
		return fmt.Errorf("rotate certificate authority: %w", err)
	}
	return nil
}

// rotation is what an Authority knows of its members.
type rotation struct {
	once    sync.Once
	mu      sync.Mutex
	members map[Identity]member
	changed chan struct{} // closed and replaced when there is something new to know
	kick    chan struct{} // for Run
}

// member is what a peer has said last.
type member struct {
	trusts [][]byte // fingerprints
	issuer [sha256.Size]byte
}

func (a *Authority) state() *rotation {
	r := &a.rotation
	r.once.Do(func() {
		r.members = map[Identity]member{}
		r.changed, r.kick = make(chan struct{}), make(chan struct{}, 1)
	})
	return r
}

// Changed returns a channel that is closed when the next step of a rotation is taken. This process's own [Renewer] goes by it.
func (a *Authority) Changed() <-chan struct{} {
	r := a.state()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// Trust is what a peer is told about authorities.
type Trust struct {
	Trusted []*x509.Certificate
	Renew   bool // the peer's certificate is from an authority that is about to be forgotten
}

// Trust tells a peer whose certificate issuer has signed which authorities to trust. It also takes note of which it has (fingerprints), so that a rotation
// can go on when everybody is as far.
func (a *Authority) Trust(ctx context.Context, peer Identity, issuer *x509.Certificate, have [][]byte) (Trust, error) {
	if err := a.admit(ctx, peer); err != nil {
		return Trust{}, err
	}
	if len(have) > maxTrusted {
		return Trust{}, fmt.Errorf("%w: %d authorities", ErrRequest, len(have))
	}
	r := a.state()
	now := member{trusts: have, issuer: fingerprint(issuer)}
	r.mu.Lock()
	before, known := r.members[peer]
	r.members[peer] = now
	r.mu.Unlock()
	if !known || before.issuer != now.issuer || !slices.EqualFunc(before.trusts, now.trusts, bytes.Equal) {
		a.wake()
	}
	return Trust{Trusted: a.CA.Trusted(), Renew: now.issuer != a.CA.Fingerprint()}, nil
}

func (a *Authority) wake() {
	select {
	case a.state().kick <- struct{}{}:
	default:
	}
}

// Rotate begins to replace the authority by a new one: it is made known to all members, then signs in place of the old one, and the old one
// is forgotten when everybody has a certificate from the new one. Run takes these steps; a step waits for members that do not answer. The error is
// [ErrRotating] while a rotation is under way.
func (a *Authority) Rotate(ctx context.Context) error {
	if a.Members == nil {
		return errors.New("pki: Authority.Members is not set")
	}
	if err := a.CA.begin(); err != nil {
		return err
	}
	a.log().InfoContext(ctx, "rotation begun", "signing", a.CA.hex(), "phase", a.CA.Phase())
	a.tell()
	return nil
}

// Force takes the next step of a rotation without those that it waits for: they are shut out, and have to join again. Without a rotation under way it does
// nothing.
func (a *Authority) Force(ctx context.Context) error { return a.step(ctx, true) }

// A Rotation describes how far one is.
type Rotation struct {
	Phase   Phase     `json:"phase"`
	Signing string    `json:"signing"` // fingerprint
	Expires time.Time `json:"expires"` // of the authority that signs
	Trusted []string  `json:"trusted"` // fingerprints
	Waiting []string  `json:"waiting"` // identities that the next step waits for
}

// Rotation says how far a rotation is.
func (a *Authority) Rotation(ctx context.Context) (Rotation, error) {
	out := Rotation{Phase: a.CA.Phase(), Signing: a.CA.hex(), Expires: a.CA.signer().cert.NotAfter, Waiting: []string{}}
	for _, cert := range a.CA.Trusted() {
		f := fingerprint(cert)
		out.Trusted = append(out.Trusted, hex.EncodeToString(f[:]))
	}
	waiting, err := a.waiting(ctx, out.Phase)
	for _, id := range waiting {
		out.Waiting = append(out.Waiting, id.String())
	}
	return out, err
}

func (ca *CA) hex() string {
	f := ca.Fingerprint()
	return hex.EncodeToString(f[:])
}

// waiting returns the members that are not ready for the next step.
func (a *Authority) waiting(ctx context.Context, phase Phase) ([]Identity, error) {
	if phase == Steady || a.Members == nil {
		return nil, nil
	}
	all, err := a.Members(ctx)
	if err != nil {
		return nil, fmt.Errorf("rotate certificate authority: %w", err)
	}
	trusted := a.CA.Trusted()
	signing := a.CA.Fingerprint()
	r := a.state()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(all, func(id Identity) bool {
		m, heard := r.members[id]
		if phase == Retiring {
			return heard && m.issuer == signing
		}
		return heard && !slices.ContainsFunc(trusted, func(cert *x509.Certificate) bool {
			f := fingerprint(cert)
			return !slices.ContainsFunc(m.trusts, func(have []byte) bool { return bytes.Equal(have, f[:]) })
		})
	}), nil
}

// Run takes the steps of rotations as soon as they can be taken, and begins one when the authority nears its end. It returns ctx's error.
func (a *Authority) Run(ctx context.Context) error {
	for {
		if a.Members != nil && a.CA.Phase() == Steady && time.Until(a.CA.signer().cert.NotAfter) < rotateBefore {
			if err := a.Rotate(ctx); err != nil && !errors.Is(err, ErrRotating) {
				a.log().ErrorContext(ctx, "the authority nears its end and cannot be replaced", "expires", a.CA.signer().cert.NotAfter, "err", err)
			}
		}
		if err := a.step(ctx, false); err != nil && ctx.Err() == nil {
			a.log().ErrorContext(ctx, "rotation does not go on", "err", err)
		}
		timer := time.NewTimer(time.Minute)
		select {
		case <-timer.C:
		case <-a.state().kick:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		timer.Stop()
	}
}

// step takes the next step if nobody is waited for, or if it is forced.
func (a *Authority) step(ctx context.Context, force bool) error {
	phase := a.CA.Phase()
	if phase == Steady {
		return nil
	}
	waiting, err := a.waiting(ctx, phase)
	if err != nil && !force {
		return err
	}
	if len(waiting) > 0 && !force {
		return nil
	}
	if phase == Spreading {
		err = a.CA.activate()
	} else {
		err = a.CA.retire()
	}
	if err != nil {
		return err
	}
	a.log().InfoContext(ctx, "rotation goes on", "phase", a.CA.Phase(), "signing", a.CA.hex(), "shut_out", fmt.Sprint(waiting))
	a.tell()
	return nil
}

// tell lets everybody in this process know that something has changed.
func (a *Authority) tell() {
	r := a.state()
	r.mu.Lock()
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()
	a.wake()
}

func raws(list []*x509.Certificate) (out [][]byte) {
	for _, cert := range list {
		out = append(out, cert.Raw)
	}
	return out
}

func contains(list []*x509.Certificate, cert *x509.Certificate) bool {
	return slices.ContainsFunc(list, cert.Equal)
}

// sameSet compares two lists without repetitions, whatever their order.
func sameSet(a, b []*x509.Certificate) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(cert *x509.Certificate) bool { return !contains(b, cert) })
}
