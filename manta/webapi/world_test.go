package webapi

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/internal/httpsig"
	"github.com/mobulacloud/mobula/manta/mpu"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/authcache"
	"github.com/mobulacloud/mobula/sdc/ufds"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/durable"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
	"github.com/mobulacloud/mobula/storage/picker"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

// A world is a whole store in memory: records, nodes, accounts, and a server in front of them.
type world struct {
	*Server
	t       testing.TB
	store   metastore.Store
	ns      *namespace.Namespace
	storage *durable.Store
	nodes   map[string]*storagetest.MemNode
	fleet   *durable.Static
	dir     *ufds.Directory
	cache   *authcache.Cache
	uploads *mpu.Service
	web     *httptest.Server
	clear   *httptest.Server
	signers map[string]httpsig.Signer // by login or account/user
	uuids   map[string]string
}

type worldOptions struct {
	config     func(*Config)
	maxEntries int64
	nodes      int
	capacity   int64
	store      metastore.Store                // nil means one in memory
	fleet      map[storage.Shark]storage.Node // nil means nodes in memory
	inFlight   int64                          // bytes of uploads
}

func newWorld(t testing.TB, o worldOptions) *world {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &world{t: t, store: o.store, nodes: map[string]*storagetest.MemNode{}, signers: map[string]httpsig.Signer{}, uuids: map[string]string{}}
	if w.store == nil {
		w.store = metastoretest.NewMemory()
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	w.ns, err = namespace.New(namespace.Config{Store: w.store, MaxEntries: o.maxEntries})
	must(err)
	must(w.ns.Define(ctx))
	fleet := o.fleet
	if fleet == nil {
		fleet = map[storage.Shark]storage.Node{}
		o.nodes = cmp.Or(o.nodes, 3)
	}
	for i := range o.nodes {
		name := string(rune('1'+i)) + ".stor.example"
		w.nodes[name] = storagetest.NewMemNode(storagetest.MemConfig{Capacity: o.capacity})
		fleet[storage.Shark{Datacenter: "dc", Node: name}] = w.nodes[name]
	}
	static, err := durable.OpenStatic(ctx, picker.Config{StreamingSize: 1 << 20}, fleet)
	must(err)
	w.fleet = static
	w.storage, err = durable.New(durable.Config{Nodes: static, MaxInFlight: o.inFlight})
	must(err)
	w.dir, err = ufds.New(ufds.Config{Store: w.store})
	must(err)
	must(w.dir.Setup(ctx))
	w.cache, err = authcache.New(authcache.Config{Store: w.store})
	must(err)
	done := make(chan struct{})
	go func() { defer close(done); w.cache.Run(ctx) }()
	must(w.cache.WaitReady(ctx))
	w.uploads, err = mpu.New(mpu.Config{Namespace: w.ns, Store: w.store, Storage: w.storage, Nodes: static})
	must(err)
	must(w.uploads.Define(ctx))
	w.account("alice")
	w.account("bob")
	w.account("poseidon", sdc.GroupOperators)
	cfg := Config{Namespace: w.ns, Storage: w.storage, Identity: w.cache, Uploads: w.uploads, Name: "web1", MaxObjectSize: 64 << 20}
	if o.config != nil {
		o.config(&cfg)
	}
	w.Server, err = New(cfg)
	must(err)
	w.web = w.listen(w.Server)
	w.clear = w.listen(w.Server.ClearText())
	t.Cleanup(func() {
		w.web.Close()
		w.clear.Close()
		cancel()
		<-done
		w.storage.Close()
	})
	return w
}

func (w *world) listen(h http.Handler) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.Config = w.HTTPServer(h)
	s.Listener = w.Listener(s.Listener)
	s.Start()
	return s
}

func newKey(t testing.TB) httpsig.Signer {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := httpsig.NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func (w *world) account(login string, groups ...string) string {
	w.t.Helper()
	a, err := w.dir.CreateAccount(context.Background(), sdc.Account{Login: login, Email: login + "@example.com", ApprovedForProvisioning: true, Groups: groups})
	if err != nil {
		w.t.Fatal(err)
	}
	w.key(login, a.UUID)
	w.await(func() bool { _, err := w.cache.AccountByLogin(login); return err == nil })
	return a.UUID
}

func (w *world) key(who, uuid string) {
	w.t.Helper()
	w.signers[who], w.uuids[who] = newKey(w.t), uuid
	if _, err := w.dir.AddKey(context.Background(), uuid, "", w.signers[who].PublicKey().OpenSSH()); err != nil {
		w.t.Fatal(err)
	}
}

// user makes a user of an account, named account/user, with a role of the given name and rules that is one of the user's default roles unless it begins with "-".
func (w *world) user(who, role string, rules ...string) {
	w.t.Helper()
	ctx := context.Background()
	account, login, _ := strings.Cut(who, "/")
	u, err := w.dir.CreateUser(ctx, sdc.User{Account: w.uuids[account], Login: login, Email: login + "@example.com"})
	if err != nil {
		w.t.Fatal(err)
	}
	w.key(who, u.UUID)
	if role != "" {
		w.role(account, role, u.UUID, rules...)
	}
}

func (w *world) role(account, role, member string, rules ...string) {
	w.t.Helper()
	ctx := context.Background()
	name := strings.TrimPrefix(role, "-")
	p, err := w.dir.CreatePolicy(ctx, sdc.Policy{Account: w.uuids[account], Name: "p-" + name, Rules: rules})
	if err != nil {
		w.t.Fatal(err)
	}
	r := sdc.Role{Account: w.uuids[account], Name: name, Members: []string{member}, Policies: []string{p.UUID}}
	if name == role {
		r.DefaultMembers = r.Members
	}
	if r, err = w.dir.CreateRole(ctx, r); err != nil {
		w.t.Fatal(err)
	}
	w.await(func() bool { return len(w.cache.RoleNames([]string{r.UUID})) == 1 })
}

// await waits for the identity cache to follow a change.
func (w *world) await(ok func() bool) {
	w.t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for range 5000 {
		if ok() {
			return
		}
		<-ticker.C
	}
	w.t.Fatal("the identity cache did not follow a change")
}

// A call is a request of a test and its answer.
type call struct {
	as     string // "" sends no credentials
	method string
	path   string
	header []string // "Name: value"
	body   string
	length int64 // overrides the body's
	clear  bool  // over the clear-text port
}

type answer struct {
	*http.Response
	body string
}

// code returns the error code in an answer.
func (a answer) code() string {
	var e struct{ Code string }
	json.Unmarshal([]byte(a.body), &e)
	return e.Code
}

func (w *world) request(c call) *http.Request {
	w.t.Helper()
	base := w.web.URL
	if c.clear {
		base = w.clear.URL
	}
	var body io.Reader
	if c.body != "" || c.length > 0 {
		body = strings.NewReader(c.body)
	}
	req, err := http.NewRequest(c.method, base+c.path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, h := range c.header {
		name, value, _ := strings.Cut(h, ": ")
		req.Header[http.CanonicalHeaderKey(name)] = append(req.Header[http.CanonicalHeaderKey(name)], value)
	}
	if te := req.Header.Get("Transfer-Encoding"); te == "chunked" {
		req.Header.Del("Transfer-Encoding")
		req.ContentLength = -1
		req.Body = io.NopCloser(strings.NewReader(c.body))
	}
	w.sign(req, c.as)
	return req
}

func (w *world) sign(req *http.Request, as string) {
	w.t.Helper()
	if as == "" {
		return
	}
	signer := w.signers[as]
	if signer == nil {
		w.t.Fatalf("nobody is called %s", as)
	}
	keyID := "/" + as + "/keys/" + signer.PublicKey().MD5()
	if err := httpsig.SignRequest(context.Background(), signer, keyID, req, time.Now()); err != nil {
		w.t.Fatal(err)
	}
}

var noRedirects = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func (w *world) do(c call) answer {
	w.t.Helper()
	resp, err := noRedirects.Do(w.request(c))
	if err != nil {
		w.t.Fatalf("%s %s: %v", c.method, c.path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		w.t.Fatalf("%s %s: read answer: %v", c.method, c.path, err)
	}
	return answer{resp, string(b)}
}

// want makes a call and fails the test unless the answer has the status, and the code if one is given.
func (w *world) want(status int, code string, c call) answer {
	w.t.Helper()
	a := w.do(c)
	if a.StatusCode != status || code != "" && c.method != "HEAD" && a.code() != code {
		w.t.Errorf("%s %s as %q %q: got %d %s, want %d %s", c.method, c.path, c.as, c.header, a.StatusCode, a.body, status, code)
	}
	return a
}

func (w *world) put(path, body string, header ...string) answer {
	w.t.Helper()
	if body == "" {
		header = append(header, "Content-Length: 0")
	}
	return w.want(204, "", call{as: "alice", method: "PUT", path: path, body: body, header: header})
}

func (w *world) mkdir(path string, header ...string) answer {
	w.t.Helper()
	return w.want(204, "", call{as: "alice", method: "PUT", path: path, header: append(header, "Content-Type: application/json; type=directory")})
}

func (w *world) get(path string, header ...string) answer {
	w.t.Helper()
	return w.want(200, "", call{as: "alice", method: "GET", path: path, header: header})
}

// objects returns the number of live objects on all nodes.
func (w *world) objects() (n int64) {
	for _, node := range w.nodes {
		u, err := node.Usage(context.Background())
		if err != nil {
			w.t.Fatal(err)
		}
		n += u.Objects
	}
	return n
}

// raw sends bytes to the server and returns all that comes back until it closes the connection or pause passes without a byte.
func (w *world) raw(text []byte, pause time.Duration) string {
	w.t.Helper()
	c, err := net.Dial("tcp", w.web.Listener.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(text); err != nil {
		w.t.Log(err)
	}
	var out bytes.Buffer
	buf := make([]byte, 4096)
	for {
		c.SetReadDeadline(time.Now().Add(pause))
		n, err := c.Read(buf)
		out.Write(buf[:n])
		if err != nil {
			return out.String()
		}
	}
}

func readAll(t testing.TB, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
