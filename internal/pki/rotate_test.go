package pki

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// A rotating cloud has a head node and storage nodes that keep their credentials fresh.
type rotating struct {
	*cloud
	t     *testing.T
	nodes map[string]*Credentials
	ctx   context.Context
	ended chan error
	runs  int
}

func newRotating(t *testing.T, c *cloud) (r *rotating, stop func()) {
	r = &rotating{cloud: c, t: t, nodes: map[string]*Credentials{}, ended: make(chan error)}
	var cancel context.CancelFunc
	r.ctx, cancel = context.WithCancel(t.Context())
	c.authority.Members = func(context.Context) ([]Identity, error) {
		all := []Identity{c.head.Identity()}
		for _, n := range r.nodes {
			all = append(all, n.Identity())
		}
		return all, nil
	}
	r.run(r.ctx, c.authority.Run)
	r.run(r.ctx, (&Renewer{Credentials: c.head, Renew: c.authority.RenewOwn(c.head.Identity()), Trust: c.authority.TrustOwn(c.head), Changed: c.authority.Changed}).Run)
	return r, func() {
		cancel()
		for range r.runs {
			if err := <-r.ended; !errors.Is(err, context.Canceled) {
				t.Errorf("Run = %v", err)
			}
		}
	}
}

func (r *rotating) run(ctx context.Context, f func(context.Context) error) {
	r.runs++
	go func() { r.ended <- f(ctx) }()
}

// join adds a storage node that has a door, and follows until the function that it returns is called.
func (r *rotating) join(name string) (c *Credentials, leave func()) {
	r.t.Helper()
	c = r.mustJoin(Identity{Storage, name})
	r.nodes[name] = c
	return c, r.follow(c)
}

func (r *rotating) follow(c *Credentials) (leave func()) {
	ctx, leave := context.WithCancel(r.ctx)
	stop := r.serve(c.Identity().Name+":1", c.Server(Only(Identity{Role: Head})), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	context.AfterFunc(ctx, stop)
	client := &http.Client{Transport: &http.Transport{DialContext: r.net.dial, TLSClientConfig: c.Client(Identity{Role: Head})}}
	r.run(ctx, (&Renewer{Credentials: c, Renew: RenewBy(client, "https://head:443"), Trust: TrustBy(client, "https://head:443")}).Run)
	return leave
}

// talk has everybody speak to everybody who should answer.
func (r *rotating) talk(when string, names ...string) {
	r.t.Helper()
	for _, name := range names {
		if err := r.call(name+":1", r.head.Client(Identity{Storage, name})); err != nil {
			r.t.Errorf("%s: head node to %s: %v", when, name, err)
		}
		if err := r.call("head:443", r.nodes[name].Client(Identity{Role: Head})); err != nil {
			r.t.Errorf("%s: %s to head node: %v", when, name, err)
		}
	}
}

func (r *rotating) phase(want Phase, waiting ...string) {
	r.t.Helper()
	now, err := r.authority.Rotation(r.ctx)
	slices.Sort(now.Waiting)
	if err != nil || now.Phase != want || !slices.Equal(now.Waiting, waiting) && len(now.Waiting)+len(waiting) > 0 {
		r.t.Errorf("rotation is %+v, %v; want %s waiting for %v", now, err, want, waiting)
	}
}

func TestRotation(t *testing.T) {
	bubble(t, func(t *testing.T, c *cloud) {
		r, stop := newRotating(t, c)
		defer stop()
		r.join("1")
		_, leave2 := r.join("2")
		time.Sleep(time.Hour)
		r.phase(Steady)
		before, old := c.ca.Fingerprint(), *r.nodes["1"].cur.Load()
		leave2() // it is off for some days
		time.Sleep(time.Minute)
		if err := c.authority.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := c.authority.Rotate(t.Context()); !errors.Is(err, ErrRotating) {
			t.Errorf("a second rotation = %v", err)
		}
		for range 3 * 24 {
			time.Sleep(time.Hour)
			r.talk("while it spreads", "1")
		}
		r.phase(Spreading, "mobula://storage/2")
		if c.ca.Fingerprint() != before {
			t.Error("the new authority signs before everybody knows it")
		}
		r.join("3") // it learns of both at once
		r.follow(r.nodes["2"])
		for range 60 {
			time.Sleep(15 * time.Second)
			r.talk("from one to the other", "1", "2", "3")
		}
		r.phase(Steady)
		if c.ca.Fingerprint() == before || len(c.ca.Trusted()) != 1 {
			t.Error("the old authority is still there")
		}
		for name, n := range r.nodes {
			if m := n.cur.Load(); len(m.trusted) != 1 || fingerprint(m.ca) != c.ca.Fingerprint() {
				t.Errorf("%s trusts %d authorities, its own not being the last", name, len(m.trusted))
			}
			if loaded, err := LoadCredentials(n.dir); err != nil || len(loaded.cur.Load().trusted) != 1 {
				t.Errorf("%s on disk: %v", name, err)
			}
		}
		// The old authority's certificates are worth nothing any more.
		late := &Credentials{dir: t.TempDir()}
		late.cur.Store(&old)
		cfg := late.Client(Identity{Role: Head})
		cfg.VerifyConnection = nil
		if err := c.call("head:443", cfg); err == nil {
			t.Error("a certificate of the old authority is let in")
		}
		r.join("4")
		r.talk("with a node that joined afterwards", "1", "2", "3", "4")
		for _, name := range []string{nextFile, oldFile} {
			if _, err := os.Stat(filepath.Join(c.ca.dir, name)); err == nil {
				t.Errorf("%s is still there", name)
			}
		}
	})
}

// TestForce shuts a node out that does not come back.
func TestForce(t *testing.T) {
	bubble(t, func(t *testing.T, c *cloud) {
		r, stop := newRotating(t, c)
		defer stop()
		r.join("1")
		lost, leave := r.join("2")
		time.Sleep(time.Hour)
		leave()
		time.Sleep(time.Minute)
		if err := c.authority.Force(t.Context()); err != nil || c.ca.Phase() != Steady {
			t.Errorf("without a rotation: %v, %s", err, c.ca.Phase())
		}
		if err := c.authority.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		r.phase(Spreading, "mobula://storage/2")
		if err := c.authority.Force(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		r.talk("when it signs", "1")
		r.phase(Retiring, "mobula://storage/2")
		if err := c.authority.Force(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		r.phase(Steady)
		r.talk("afterwards", "1")
		if err := c.call("head:443", lost.Client(Identity{Role: Head})); err == nil {
			t.Error("the node that was shut out trusts an authority that it does not know")
		}
		r.join("2")
		r.talk("when it has joined again", "1", "2")
	})
}

// TestNearEnd comes to the last years of an authority.
func TestNearEnd(t *testing.T) {
	bubble(t, func(t *testing.T, c *cloud) {
		before := c.ca.Fingerprint()
		time.Sleep(caLifetime - rotateBefore/20)
		fresh, err := c.ca.Credentials(c.head.dir, c.head.Identity())
		if err != nil {
			t.Fatal(err)
		}
		c.head.cur.Store(fresh.cur.Load())
		if end := c.ca.signer().cert.NotAfter; fresh.Expires().After(end) {
			t.Errorf("certificate ends %v, its authority %v", fresh.Expires(), end)
		}
		r, stop := newRotating(t, c)
		defer stop()
		time.Sleep(time.Minute)
		r.join("1")
		time.Sleep(time.Hour)
		r.phase(Steady)
		if c.ca.Fingerprint() == before {
			t.Error("the authority was not replaced")
		}
		r.talk("afterwards", "1")
	})
}

// TestRotationCrash opens the authority again after every write of a rotation.
func TestRotationCrash(t *testing.T) {
	dir := t.TempDir()
	open := func(want Phase, trusted int) *CA {
		t.Helper()
		ca, err := OpenCA(dir)
		if err != nil {
			t.Fatal(err)
		}
		if ca.Phase() != want || len(ca.Trusted()) != trusted {
			t.Fatalf("opened in phase %s with %d trusted, want %s with %d", ca.Phase(), len(ca.Trusted()), want, trusted)
		}
		return ca
	}
	ca := open(Steady, 1)
	first := ca.Fingerprint()
	if err := ca.begin(); err != nil {
		t.Fatal(err)
	}
	ca = open(Spreading, 2)
	second := fingerprint(ca.next.cert)
	if ca.Fingerprint() != first {
		t.Error("the new authority signs already")
	}
	// The switch is cut off before the rename.
	root, err := openDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := writeSecret(root, oldFile, encodeCerts(ca.cert.Raw)); err != nil {
		t.Fatal(err)
	}
	ca = open(Spreading, 2)
	if err := ca.activate(); err != nil {
		t.Fatal(err)
	}
	ca = open(Retiring, 2)
	if ca.Fingerprint() != second || fingerprint(ca.old) != first {
		t.Error("the switch has other authorities")
	}
	if err := ca.begin(); !errors.Is(err, ErrRotating) {
		t.Errorf("a rotation within a rotation: %v", err)
	}
	if err := ca.retire(); err != nil {
		t.Fatal(err)
	}
	ca = open(Steady, 1)
	if ca.Fingerprint() != second {
		t.Error("another authority signs")
	}
	if err := ca.begin(); err != nil {
		t.Errorf("the next rotation: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, nextFile), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCA(dir); err == nil {
		t.Error("a damaged file is passed over")
	}
}

// TestListenerEnds ends the connections of one machine in the middle of a request, and nobody else's.
func TestListenerEnds(t *testing.T) {
	bubble(t, func(t *testing.T, c *cloud) {
		one, two := c.mustJoin(Identity{Storage, "1"}), c.mustJoin(Identity{Storage, "2"})
		l := NewListener(c.net.listen("door:1"), c.head.DoorServer(Only(Identity{Role: Storage})))
		release := make(chan struct{})
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-release:
				_, _ = io.WriteString(w, "done")
			case <-r.Context().Done():
			}
		})}
		served := make(chan error)
		go func() { served <- s.Serve(l) }()
		get := func(creds *Credentials) io.ReadCloser {
			t.Helper()
			tr := &http.Transport{DialContext: c.net.dial, TLSClientConfig: creds.Client(Identity{Role: Head}), DisableKeepAlives: true}
			resp, err := (&http.Client{Transport: tr}).Get("https://door:1/")
			if err != nil {
				t.Fatal(err)
			}
			return resp.Body
		}
		first, second := get(one), get(two)
		gone := func(id Identity) bool { return id.Name == "1" }
		if n := l.End(gone); n != 1 {
			t.Errorf("%d connections ended, want 1", n)
		}
		if b, err := io.ReadAll(first); err == nil {
			t.Errorf("the removed node still read %q", b)
		}
		close(release)
		if b, err := io.ReadAll(second); err != nil || string(b) != "done" {
			t.Errorf("the other node read %q, %v", b, err)
		}
		first.Close()
		second.Close()
		time.Sleep(time.Minute)
		if n := l.End(func(Identity) bool { return true }); n != 0 {
			t.Errorf("%d connections are still known", n)
		}
		s.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve = %v", err)
		}
	})
}
