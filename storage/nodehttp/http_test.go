package nodehttp

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

// plain sends one request as any HTTP client would.
func plain(t *testing.T, method, url string, body io.Reader, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: body: %v", method, url, err)
	}
	return resp, b
}

// TestPlainClient speaks the original's protocol: no header of ours.
func TestPlainClient(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	n := storagetest.NewMemNode(storagetest.MemConfig{})
	base := "http://" + serve(t, HandlerConfig{Node: n}, nil) + "/"
	data := storagetest.Data(1, 200_000)
	sums := storagetest.SumsOf(data)
	md5 := formatMD5(sums.MD5)
	id := storagetest.NewID()
	url := base + id.String()

	resp, _ := plain(t, "PUT", url, bytes.NewReader(data), "Content-MD5", md5, "Expect", "100-continue", "X-Request-Id", "r-1")
	if resp.StatusCode != 201 || resp.Header.Get("X-Joyent-Computed-Content-MD5") != md5 || resp.Header.Get("X-Request-Id") != "r-1" {
		t.Errorf("PUT = %s, %v", resp.Status, resp.Header)
	}
	chunked := storagetest.NewID()
	resp, _ = plain(t, "PUT", base+chunked.String(), io.MultiReader(bytes.NewReader(data)))
	if resp.StatusCode != 201 || resp.Header.Get("X-Joyent-Computed-Content-MD5") != md5 {
		t.Errorf("chunked PUT = %s, %v", resp.Status, resp.Header)
	}
	resp, got := plain(t, "GET", url, nil)
	if resp.StatusCode != 200 || !bytes.Equal(got, data) || resp.Header.Get("Content-MD5") != md5 || resp.ContentLength != int64(len(data)) {
		t.Errorf("GET = %s, %d bytes, %v", resp.Status, len(got), resp.Header)
	}
	resp, _ = plain(t, "HEAD", url, nil)
	if resp.StatusCode != 200 || resp.ContentLength != int64(len(data)) || resp.Header.Get("Content-MD5") != md5 {
		t.Errorf("HEAD = %s, %v", resp.Status, resp.Header)
	}
	for spec, want := range map[string]struct {
		status     int
		from, to   int
		rangeField string
	}{
		"bytes=0-0":            {206, 0, 1, "bytes 0-0/200000"},
		"bytes=100-199999":     {206, 100, 200_000, "bytes 100-199999/200000"},
		"bytes=199990-":        {206, 199_990, 200_000, "bytes 199990-199999/200000"},
		"bytes=199990-9999999": {206, 199_990, 200_000, "bytes 199990-199999/200000"},
		"bytes=-5":             {206, 199_995, 200_000, "bytes 199995-199999/200000"},
		"bytes=-999999":        {206, 0, 200_000, "bytes 0-199999/200000"},
		"bytes=200000-":        {416, 0, 0, "bytes */200000"},
		"bytes=-0":             {416, 0, 0, "bytes */200000"},
		"bytes=1-0":            {200, 0, 200_000, ""},
		"bytes=1-2,4-5":        {200, 0, 200_000, ""},
		"lines=1-2":            {200, 0, 200_000, ""},
		"bytes=+1-2":           {200, 0, 200_000, ""},
	} {
		resp, got := plain(t, "GET", url, nil, "Range", spec)
		if resp.StatusCode != want.status || resp.Header.Get("Content-Range") != want.rangeField {
			t.Errorf("GET %s = %s, Content-Range %q", spec, resp.Status, resp.Header.Get("Content-Range"))
		}
		if want.status != 416 && !bytes.Equal(got, data[want.from:want.to]) {
			t.Errorf("GET %s: %d bytes, want %d", spec, len(got), want.to-want.from)
		}
	}

	part := storage.ObjectID{Owner: id.Owner, Object: storagetest.NewID().Object}
	plain(t, "PUT", base+part.String(), bytes.NewReader(data))
	target := storagetest.NewID().Object
	commit := fmt.Sprintf(`{"version":1,"nbytes":400000,"account":%q,"objectId":%q,"parts":[%q,%q]}`, id.Owner, target, id.Object, part.Object)
	for range 2 {
		resp, body := plain(t, "POST", base+"mpu/v1/commit/x", strings.NewReader(commit))
		if resp.StatusCode != 204 || resp.Header.Get("X-Joyent-Computed-Content-MD5") == "" {
			t.Errorf("commit = %s, %s", resp.Status, body)
		}
	}
	if resp, _ := plain(t, "DELETE", url, nil); resp.StatusCode != 204 {
		t.Errorf("DELETE = %s", resp.Status)
	}
}

func TestRefusals(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	n := storagetest.NewMemNode(storagetest.MemConfig{})
	base := "http://" + serve(t, HandlerConfig{Node: n}, nil)
	id := storagetest.NewID()
	path := "/" + id.String()
	wrong := formatMD5([16]byte{1})
	for _, c := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
	}{
		{"MD5 differs", "PUT", path, "abc", []string{"Content-MD5", wrong}, 469},
		{"MD5 malformed", "PUT", path, "abc", []string{"Content-MD5", "!!"}, 400},
		{"MD5 too short", "PUT", path, "abc", []string{"Content-MD5", "AAAA"}, 400},
		{"CRC differs", "PUT", path, "abc", []string{"X-Mobula-Crc32c", "00000000"}, 469},
		{"CRC malformed", "PUT", path, "abc", []string{"X-Mobula-Crc32c", "0x"}, 400},
		{"two sizes", "PUT", path, "abc", []string{"X-Mobula-Size", "4"}, 400},
		{"negative size", "PUT", path, "abc", []string{"X-Mobula-Size", "-4"}, 400},
		{"absent", "GET", path, "", nil, 404},
		{"absent", "HEAD", path, "", nil, 404},
		{"absent, range", "GET", path, "", []string{"Range", "bytes=0-1"}, 404},
		{"bad range", "GET", path, "", []string{"X-Mobula-Range", "1"}, 400},
		{"no id", "PUT", "/a/b", "abc", nil, 400},
		{"upper case", "GET", strings.ToUpper(path), "", nil, 400},
		{"dots", "GET", "/" + id.Owner.String() + "/%2e%2e", "", nil, 400},
		{"slash", "GET", "/" + id.Owner.String() + "/..%2f..%2fetc%2fpasswd", "", nil, 400},
		{"NUL", "PUT", path[:len(path)-1] + "%00", "abc", nil, 400},
		{"zero id", "PUT", "/00000000-0000-0000-0000-000000000000/00000000-0000-0000-0000-000000000000", "abc", nil, 400},
		{"deeper", "GET", path + "/x", "", nil, 404},
		{"commit by GET", "GET", "/mpu/v1/commit/x", "", nil, 405},
		{"commit without JSON", "POST", "/mpu/v1/commit/x", "{", nil, 400},
		{"commit of another version", "POST", "/mpu/v1/commit/x", fmt.Sprintf(`{"version":2,"nbytes":0,"account":%q,"objectId":%q,"parts":[]}`, id.Owner, id.Object), nil, 400},
		{"commit with unknown fields", "POST", "/mpu/v1/commit/x", `{"version":1,"x":1}`, nil, 400},
		{"commit of nothing", "POST", "/mpu/v1/commit/x", `{"version":1,"account":"..","objectId":"..","parts":[]}`, nil, 400},
		{"commit of another size", "POST", "/mpu/v1/commit/x", fmt.Sprintf(`{"version":1,"nbytes":5,"account":%q,"objectId":%q,"parts":[]}`, id.Owner, id.Object), nil, 409},
		{"commit too long", "POST", "/mpu/v1/commit/x", `{"version":1,"parts":["` + strings.Repeat("x", 1<<20) + `"]}`, nil, 400},
		{"undelete of nothing", "POST", "/mobula/v1/undelete" + path, "", nil, 404},
		{"bad cursor", "GET", "/mobula/v1/objects?after=x", "", nil, 400},
	} {
		resp, body := plain(t, c.method, base+c.path, strings.NewReader(c.body), c.header...)
		if resp.StatusCode != c.status {
			t.Errorf("%s: %s %s = %s %s, want %d", c.name, c.method, c.path, resp.Status, body, c.status)
		}
	}
	for info := range n.List(t.Context(), storage.ObjectID{}) {
		t.Errorf("a refused request stored %s", info.ID)
	}
}

// TestRefusedBeforeContinue makes sure that a client which waits for "100 Continue" never gets it from a node that will not take the object.
func TestRefusedBeforeContinue(t *testing.T) {
	n := storagetest.NewMemNode(storagetest.MemConfig{})
	addr := serve(t, HandlerConfig{Node: n}, nil)
	send := func() string {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "PUT /%s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n", storagetest.NewID())
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(line)
	}
	if got := send(); got != "HTTP/1.1 100 Continue" {
		t.Errorf("a node with room says %q", got)
	}
	n.SetCapacity(0)
	if got := send(); !strings.HasPrefix(got, "HTTP/1.1 507") {
		t.Errorf("a full node says %q", got)
	}
	n.SetReadOnly("test")
	if got := send(); !strings.HasPrefix(got, "HTTP/1.1 503") {
		t.Errorf("a read-only node says %q", got)
	}
}

// TestDamageBreaksPlainGet: a client that knows no trailers must see a broken connection, not a short body.
func TestDamageBreaksPlainGet(t *testing.T) {
	n := storagetest.NewMemNode(storagetest.MemConfig{})
	base := "http://" + serve(t, HandlerConfig{Node: n}, nil)
	id := storagetest.NewID()
	if _, err := storagetest.Put(t.Context(), n, id, storagetest.Data(1, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := n.Corrupt(id, 700_000); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(base + "/" + id.String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("GET of a damaged object: %d bytes, %v", len(b), err)
	}
}

// TestNodeDies kills the node in the middle of reads and writes: the caller has to see it, and the node keeps nothing.
func TestNodeDies(t *testing.T) {
	n := storagetest.NewMemNode(storagetest.MemConfig{})
	c := client(t, ClientConfig{URL: "http://" + serve(t, HandlerConfig{Node: n}, nil)})
	id, data := storagetest.NewID(), storagetest.Data(1, 3<<20)
	if _, err := storagetest.Put(t.Context(), c, id, data); err != nil {
		t.Fatal(err)
	}
	n.KillAfter(1 << 20)
	got, _, err := storagetest.Get(t.Context(), c, id, 0, -1)
	if !errors.Is(err, storage.ErrUnavailable) || len(got) > 1<<20 || !bytes.Equal(got, data[:len(got)]) {
		t.Errorf("get from a node that dies: %d bytes, %v", len(got), err)
	}
	n.Revive()
	n.KillAfter(1 << 20)
	other := storagetest.NewID()
	if _, err := storagetest.PutWith(t.Context(), c, other, data, 3<<20, storagetest.SumsOf(data), 100_000); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("put to a node that dies: %v", err)
	}
	n.Revive()
	if _, err := c.Stat(t.Context(), other); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("stat of what was not committed: %v", err)
	}
	n.SetReadOnly("disk trouble")
	if _, err := storagetest.Put(t.Context(), c, other, data); !errors.Is(err, storage.ErrReadOnly) {
		t.Errorf("put to a read-only node: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c := client(t, ClientConfig{URL: "http://" + l.Addr().String()})
	id := storagetest.NewID()
	if _, err := c.Stat(t.Context(), id); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("Stat: %v", err)
	}
	if _, err := c.Create(t.Context(), id, storage.CreateOptions{Size: -1}); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("Create: %v", err)
	}
	if _, err := storagetest.Put(t.Context(), c, id, []byte("x")); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("Put: %v", err)
	}
}

func TestMutualTLS(t *testing.T) {
	n := storagetest.NewMemNode(storagetest.MemConfig{})
	h, err := NewHandler(HandlerConfig{Node: n})
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewUnstartedServer(h)
	ts.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	ts.Config.ErrorLog = nil
	ts.StartTLS()
	defer ts.Close()
	roots := ts.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	with := client(t, ClientConfig{URL: ts.URL, TLS: &tls.Config{RootCAs: roots, ServerName: "example.com", Certificates: ts.TLS.Certificates}})
	data := storagetest.Data(1, 1<<20)
	id := storagetest.NewID()
	if _, err := storagetest.Put(t.Context(), with, id, data); err != nil {
		t.Fatal(err)
	}
	if got, _, err := storagetest.Get(t.Context(), with, id, 0, -1); err != nil || !bytes.Equal(got, data) {
		t.Errorf("get: %d bytes, %v", len(got), err)
	}
	without := client(t, ClientConfig{URL: ts.URL, TLS: &tls.Config{RootCAs: roots, ServerName: "example.com"}})
	if _, err := without.Stat(t.Context(), id); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("without a certificate: %v", err)
	}
}

func TestTooManyRequests(t *testing.T) {
	n := storagetest.NewMemNode(storagetest.MemConfig{})
	c := client(t, ClientConfig{URL: "http://" + serve(t, HandlerConfig{Node: n, MaxRequests: 1}, nil)})
	w, err := c.Create(t.Context(), storagetest.NewID(), storage.CreateOptions{Size: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Usage(t.Context()); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("a request beyond the bound: %v", err)
	}
	w.Cancel()
}

// pipeListener serves connections in memory, so that time may be the test's.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { close(l.done); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case l.conns <- b:
		return a, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// inBubble runs f with a node behind a server in a bubble of time.
func inBubble(t *testing.T, f func(t *testing.T, n *storagetest.MemNode, l *pipeListener)) {
	synctest.Test(t, func(t *testing.T) {
		n := storagetest.NewMemNode(storagetest.MemConfig{})
		h, err := NewHandler(HandlerConfig{Node: n, Stall: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		s := &Server{Handler: h}
		l := &pipeListener{make(chan net.Conn), make(chan struct{})}
		done := make(chan error)
		go func() { done <- s.Serve(l) }()
		f(t, n, l)
		s.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// TestSlowPeers: whoever stalls in the middle is cut off, and nothing of it stays.
func TestSlowPeers(t *testing.T) {
	inBubble(t, func(t *testing.T, n *storagetest.MemNode, l *pipeListener) {
		for name, head := range map[string]string{
			"in the headers": "PUT /x",
			"in the body":    fmt.Sprintf("PUT /%s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc", storagetest.NewID()),
			"between chunks": fmt.Sprintf("PUT /%s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", storagetest.NewID()),
			"idle":           "GET /mobula/v1/usage HTTP/1.1\r\nHost: x\r\n\r\n",
		} {
			conn, err := l.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			go io.WriteString(conn, head)
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if d := time.Since(start); d > 3*time.Minute {
				t.Errorf("%s: cut off only after %v", name, d)
			}
			conn.Close()
		}
		if u, _ := n.Usage(t.Context()); u.Objects != 0 || u.Available != u.Capacity {
			t.Errorf("something stayed: %+v", u)
		}
	})
}

// TestSlowNode: a node that does not answer in time is unavailable, and a node that is slow but moves is not.
func TestSlowNode(t *testing.T) {
	inBubble(t, func(t *testing.T, n *storagetest.MemNode, l *pipeListener) {
		c := client(t, ClientConfig{URL: "http://node", Dial: l.dial, AnswerTimeout: 20 * time.Second, Stall: 20 * time.Second})
		id, data := storagetest.NewID(), storagetest.Data(1, 2<<20)
		n.SetDelay(5 * time.Second)
		if _, err := storagetest.PutWith(t.Context(), c, id, data, -1, storagetest.SumsOf(data), 100_000); err != nil {
			t.Errorf("put to a slow node: %v", err)
		}
		if got, _, err := storagetest.Get(t.Context(), c, id, 0, -1); err != nil || !bytes.Equal(got, data) {
			t.Errorf("get from a slow node: %d bytes, %v", len(got), err)
		}
		n.SetDelay(25 * time.Second)
		start := time.Now()
		if _, err := c.Create(t.Context(), storagetest.NewID(), storage.CreateOptions{Size: -1}); !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("Create on a stuck node: %v", err)
		}
		if _, _, err := storagetest.Get(t.Context(), c, id, 0, -1); !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("Get from a stuck node: %v", err)
		}
		if d := time.Since(start); d != 40*time.Second {
			t.Errorf("two calls gave up after %v, want 40 s", d)
		}
		if _, err := c.Verify(t.Context(), id); err != nil {
			t.Errorf("Verify takes the time it takes: %v", err)
		}
		c.Close()
	})
}

func TestBadURL(t *testing.T) {
	for _, u := range []string{"", "x", "ftp://a", "http://", "http://a/b", "http://u:p@a", "http://a?x", "http://a#x"} {
		if _, err := NewClient(ClientConfig{URL: u}); !errors.Is(err, storage.ErrInvalid) {
			t.Errorf("NewClient(%q) = %v, want ErrInvalid", u, err)
		}
	}
}
