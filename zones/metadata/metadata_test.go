package metadata

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/zones"
)

// record is a Source in memory.
type record struct {
	mu   sync.Mutex
	zone zones.Zone
}

func (r *record) Zone(context.Context) (*zones.Zone, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	z := r.zone
	z.Spec = *r.zone.Spec.Clone()
	return &z, nil
}

func (r *record) Change(_ context.Context, c Change) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := &r.zone.CustomerMetadata
	if c.Internal {
		m = &r.zone.InternalMetadata
	}
	if *m == nil {
		*m = map[string]any{}
	}
	if c.Delete {
		delete(*m, c.Key)
	} else {
		(*m)[c.Key] = c.Value
	}
	return nil
}

func newRecord() *record {
	return &record{zone: zones.Zone{
		Spec: zones.Spec{
			UUID: "11111111-1111-4111-8111-111111111111", Alias: "web", Brand: zones.BrandMinimal, Hostname: "web0",
			DNSDomain: "local", MaxPhysicalMemory: 256, Resolvers: []string{"8.8.8.8"}, VNCPassword: "hidden",
			NICs:   []zones.NIC{{MAC: "90:b8:d0:00:00:0a", Interface: "net0", IPs: []string{"10.1.0.10/24"}, Primary: true}},
			Routes: map[string]string{"10.2.0.0/16": "10.1.0.1", "10.3.0.0/16": "nics[0]", "10.4.0.0/16": "macs[90:b8:d0:00:00:0a]"},
			Tags:   map[string]any{"role": "www", "size": 3.0},
			CustomerMetadata: map[string]any{
				"user-script": "#!/bin/sh\n.hidden\n\nend", "count": 3.0, "flag": true, "plain": "x",
			},
			InternalMetadata: map[string]any{
				"root_pw": "geheim", "operator-script": "#!/bin/sh\ntrue", "docker:cmd": "[\"sh\"]", "secret": "theirs",
			},
			InternalMetadataNamespaces: []string{"docker"},
		},
		ServerUUID: "99999999-9999-4999-8999-999999999999", State: zones.StateRunning, ZonePath: "/host/only",
	}}
}

func newServer(t testing.TB, r *record, change ...func(*Config)) *Server {
	t.Helper()
	cfg := Config{Source: r, Datacenter: "lab-1"}
	for _, f := range change {
		f(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func v2(id, code, payload string) string {
	return frame{id: id, code: code, payload: payload, has: payload != ""}.encode()
}

// The protocol as a conversation. An empty answer is silence.
func TestConversation(t *testing.T) {
	pair := func(k, v string) string { return putArgument(k, v) }
	s := newServer(t, newRecord())
	for _, step := range []struct{ say, want string }{
		{"", "invalid command\n"},
		{"nonsense", "invalid command\n"},
		{"GET", "invalid command\n"},
		{"GET plain", "SUCCESS\nx\n.\n"},
		{"GET user-script", "SUCCESS\n#!/bin/sh\n..hidden\n\nend\n.\n"},
		{"GET count", "SUCCESS\n3\n.\n"},
		{"GET flag", "SUCCESS\ntrue\n.\n"},
		{"GET nothing", "NOTFOUND\n"},
		{"KEYS", "SUCCESS\ncount\ndocker:cmd\nflag\nplain\nuser-script\n.\n"},
		{"NEGOTIATE V2", "V2_OK\n"},
		{"NEGOTIATE V3", "FAILURE\n"},
		{"PUT a b", "invalid command\n"},
		{"SUCCESS", ""}, {"invalid command", ""}, // our own words, echoed by a terminal

		{"GET sdc:uuid", "SUCCESS\n11111111-1111-4111-8111-111111111111\n.\n"},
		{"GET sdc:alias", "SUCCESS\nweb\n.\n"},
		{"GET sdc:hostname", "SUCCESS\nweb0\n.\n"},
		{"GET sdc:max_physical_memory", "SUCCESS\n256\n.\n"},
		{"GET sdc:server_uuid", "SUCCESS\n99999999-9999-4999-8999-999999999999\n.\n"},
		{"GET sdc:datacenter_name", "SUCCESS\nlab-1\n.\n"},
		{"GET sdc:resolvers", "SUCCESS\n[\"8.8.8.8\"]\n.\n"},
		{"GET sdc:tags.role", "SUCCESS\nwww\n.\n"},
		{"GET sdc:tags.size", "SUCCESS\n3\n.\n"},
		{"GET sdc:tags.none", "NOTFOUND\n"},
		{"GET sdc:operator-script", "SUCCESS\n#!/bin/sh\ntrue\n.\n"},
		{"GET sdc:nics", `SUCCESS` + "\n" + `[{"mac":"90:b8:d0:00:00:0a","interface":"net0","ips":["10.1.0.10/24"],"primary":true}]` + "\n.\n"},
		{"GET sdc:routes", `SUCCESS` + "\n" + `[{"linklocal":false,"dst":"10.2.0.0/16","gateway":"10.1.0.1"},{"linklocal":true,"dst":"10.3.0.0/16","gateway":"10.1.0.10"},{"linklocal":true,"dst":"10.4.0.0/16","gateway":"10.1.0.10"}]` + "\n.\n"},
		// What is not for the guest.
		{"GET sdc:internal_metadata", "NOTFOUND\n"},
		{"GET sdc:vnc_password", "NOTFOUND\n"},
		{"GET sdc:zonepath", "NOTFOUND\n"},
		{"GET secret", "NOTFOUND\n"},
		{"GET operator-script", "NOTFOUND\n"},
		{"GET root_pw", "SUCCESS\ngeheim\n.\n"},
		{"GET docker:cmd", "SUCCESS\n[\"sh\"]\n.\n"},

		{v2("01", "GET", "plain"), v2("01", "SUCCESS", "x")},
		{v2("02", "GET", "nothing"), v2("02", "NOTFOUND", "")},
		{v2("03", "PUT", pair("new", "a\nb")), v2("03", "SUCCESS", "OK")},
		{v2("04", "GET", "new"), v2("04", "SUCCESS", "a\nb")},
		{v2("05", "DELETE", "new"), v2("05", "SUCCESS", "")},
		{v2("06", "DELETE", "new"), v2("06", "SUCCESS", "")},
		{v2("07", "GET", "new"), v2("07", "NOTFOUND", "")},
		{v2("08", "PUT", pair("sdc:uuid", "x")), v2("08", "FAILURE", "")},
		{v2("09", "PUT", pair("docker:cmd", "x")), v2("09", "FAILURE", "")},
		{v2("0a", "DELETE", "docker:cmd"), v2("0a", "FAILURE", "")},
		{v2("0b", "PUT", pair("", "x")), v2("0b", "FAILURE", "")},
		{v2("0c", "PUT", pair("a\nb", "x")), v2("0c", "FAILURE", "")},
		{v2("0d", "PUT", "%%%"), v2("0d", "FAILURE", "")},
		{v2("0e", "PUT", pair("root_pw", "neu")), v2("0e", "SUCCESS", "OK")},
		{v2("0f", "KEYS", ""), v2("0f", "SUCCESS", "count\ndocker:cmd\nflag\nplain\nuser-script")},
		{v2("10", "DELETE", "root_pw"), v2("10", "SUCCESS", "")},
		{v2("11", "GET", "root_pw"), v2("11", "NOTFOUND", "")},
		{v2("12", "DANCE", "x"), v2("12", "FAILURE", "")},
		// Damaged: silence.
		{"V2 21 265ae1d8 dc4fae17 GET cGxhaW4=", ""},
		{strings.Replace(v2("13", "GET", "plain"), "V2 1", "V2 2", 1), ""},
		{"V2 x", ""}, {"V2 ", ""}, {"V2 0 00000000 ", ""},
		// As another implementation prints it.
		{"V2 21 " + sum("dc4fae17 GET cGxhaW4=") + " dc4fae17 GET cGxhaW4=", v2("dc4fae17", "SUCCESS", "x")},
	} {
		if got := s.answer(t.Context(), strings.TrimSuffix(step.say, "\n")); got != step.want {
			t.Errorf("%q\n got %q\nwant %q", step.say, got, step.want)
		}
	}
}

func sum(body string) string {
	_, rest, _ := strings.Cut(strings.TrimPrefix(frame{id: body[:8], code: "GET", payload: "plain", has: true}.encode(), "V2 "), " ")
	return rest[:8]
}

func TestQuota(t *testing.T) {
	r := newRecord()
	c := dialPipe(t, newServer(t, r, func(c *Config) { c.Quota = Quota{Keys: 8, Bytes: 1000} }))
	for i := range 6 {
		err := c.Put(t.Context(), fmt.Sprintf("key%d", i), "v")
		if want := i >= 3; errors.Is(err, ErrRefused) != want { // four of the customer's and a password are there
			t.Errorf("Put %d = %v", i, err)
		}
	}
	if err := c.Put(t.Context(), "key0", strings.Repeat("x", 1000)); !errors.Is(err, ErrRefused) {
		t.Errorf("a value above the quota: %v", err)
	}
	if err := c.Put(t.Context(), "key0", strings.Repeat("x", 500)); err != nil {
		t.Errorf("a key that is there already: %v", err)
	}
	if err := c.Put(t.Context(), "key0", "short again"); err != nil {
		t.Errorf("making it smaller: %v", err)
	}
}

// dialPipe serves a server over a pipe and answers a client of it.
func dialPipe(t *testing.T, s *Server) *Client {
	t.Helper()
	here, there := net.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.ServeConn(ctx, there); err != nil {
			t.Errorf("ServeConn: %v", err)
		}
	})
	c, err := NewClient(t.Context(), here)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); cancel(); wg.Wait() })
	return c
}

func TestClient(t *testing.T) {
	provisioned := false
	r := newRecord()
	c := dialPipe(t, newServer(t, r, func(c *Config) { c.Provisioned = func() { provisioned = true } }))
	if provisioned {
		t.Error("provisioned before anything was read")
	}
	big := strings.Repeat("0123456789abcdef", MaxValue/16)
	if err := c.Put(t.Context(), "big", big); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Get(t.Context(), "big"); err != nil || got != big {
		t.Errorf("Get of the largest value: %d bytes, %v", len(got), err)
	}
	if !provisioned {
		t.Error("not provisioned after a read")
	}
	if err := c.Put(t.Context(), "big", big+"x"); !errors.Is(err, ErrRefused) {
		t.Errorf("Put above the limit = %v", err)
	}
	list, err := c.Keys(t.Context())
	if diff := cmp.Diff([]string{"big", "count", "docker:cmd", "flag", "plain", "user-script"}, list); diff != "" || err != nil {
		t.Errorf("Keys: %v\n%s", err, diff)
	}
	if _, err := c.Get(t.Context(), "none"); !errors.Is(err, ErrNotFound) || !errors.Is(err, zones.ErrNotExist) {
		t.Errorf("Get of nothing = %v", err)
	}
}

// A line that loses and damages what passes is repaired by asking again.
func TestClientAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, middle := net.Pipe()
		far, there := net.Pipe()
		s := newServer(t, newRecord())
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { s.ServeConn(ctx, there) })
		wg.Go(func() { io.Copy(middle, far) })
		wg.Go(func() { // every second frame is damaged
			in := bufio.NewReader(middle)
			n := 0
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if strings.HasPrefix(line, "V2 ") {
					if n++; n%2 == 1 {
						line = strings.Replace(line, "GET", "GOT", 1)
					}
				}
				if _, err := io.WriteString(far, line); err != nil {
					return
				}
			}
		})
		c, err := NewClient(t.Context(), here)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if got, err := c.Get(t.Context(), "plain"); err != nil || got != "x" {
			t.Errorf("Get = %q, %v", got, err)
		}
		if time.Since(start) < time.Second {
			t.Error("nothing was asked again")
		}
		cancel()
		for _, c := range []net.Conn{here, middle, far, there} {
			c.Close()
		}
		wg.Wait()
	})
}

func TestServeSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "metadata.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	r := newRecord()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	s := newServer(t, r)
	wg.Go(func() {
		if err := s.Serve(ctx, l); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	dial := func(context.Context) (io.ReadWriteCloser, error) { return net.Dial("unix", path) }
	run := func(stdin string, args ...string) (code int, stdout, stderr string) {
		var out, errs bytes.Buffer
		code = guestMain(args, strings.NewReader(stdin), &out, &errs, dial)
		return code, out.String(), errs.String()
	}
	for _, tt := range []struct {
		stdin string
		args  []string
		code  int
		out   string
	}{
		{"", []string{"/usr/sbin/mdata-get", "plain"}, 0, "x\n"},
		{"", []string{"mdata-get", "none"}, 1, ""},
		{"", []string{"mdata-get"}, 3, ""},
		{"", []string{"mdata-put", "k", "v"}, 0, ""},
		{"from stdin\n", []string{"mdata-put", "s"}, 0, ""},
		{"", []string{"mdata-get", "s"}, 0, "from stdin\n\n"},
		{"", []string{"mdata-put", "sdc:uuid", "v"}, 2, ""},
		{"", []string{"mdata-delete", "k"}, 0, ""},
		{"", []string{"mdata-list"}, 0, "count\ndocker:cmd\nflag\nplain\ns\nuser-script\n"},
		{"", []string{"mdata-dance"}, 3, ""},
	} {
		code, out, stderr := run(tt.stdin, tt.args...)
		if code != tt.code || out != tt.out || (code != 0) != (stderr != "") {
			t.Errorf("%q = %d, %q, %q; want %d, %q", tt.args, code, out, stderr, tt.code, tt.out)
		}
	}
	// Idle connections, more than may be served, do not keep the server from ending.
	for range maxConns + 5 {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	cancel()
	wg.Wait()
}

// A line without end costs no more memory than a line may have, and the next one is served.
func TestLongLine(t *testing.T) {
	here, there := net.Pipe()
	s := newServer(t, newRecord())
	var wg sync.WaitGroup
	wg.Go(func() { s.ServeConn(t.Context(), there) })
	wg.Go(func() {
		junk := bytes.Repeat([]byte("x"), 1<<20)
		for range 4 {
			here.Write(junk)
		}
		io.WriteString(here, "\nGET plain\n")
	})
	in := bufio.NewReader(here)
	for _, want := range []string{"invalid command\n", "SUCCESS\n", "x\n", ".\n"} {
		if got, err := in.ReadString('\n'); err != nil || got != want {
			t.Errorf("answer %q, %v, want %q", got, err, want)
		}
	}
	here.Close()
	wg.Wait()
}

func TestServeSerialReconnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, newRecord())
		ctx, cancel := context.WithCancel(t.Context())
		conns := make(chan net.Conn)
		calls := 0
		var wg sync.WaitGroup
		wg.Go(func() {
			err := s.ServeSerial(ctx, func(context.Context) (net.Conn, error) {
				if calls++; calls < 3 {
					return nil, errors.New("not yet")
				}
				a, b := net.Pipe()
				conns <- a
				return b, nil
			})
			if err != nil {
				t.Errorf("ServeSerial: %v", err)
			}
		})
		for range 2 {
			c, err := NewClient(ctx, <-conns)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := c.Get(ctx, "plain"); err != nil || got != "x" {
				t.Errorf("Get = %q, %v", got, err)
			}
			c.Close()
		}
		cancel()
		select {
		case c := <-conns:
			c.Close()
		case <-time.After(time.Minute):
		}
		wg.Wait()

		gone := s.ServeSerial(t.Context(), func(context.Context) (net.Conn, error) { return nil, zones.ErrNotExist })
		if !errors.Is(gone, zones.ErrNotExist) {
			t.Errorf("ServeSerial of a machine that is gone = %v", gone)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	for _, s := range []string{"GET a", "KEYS", "NEGOTIATE V2", "", v2("01", "PUT", putArgument("a", "b")), v2("ff", "KEYS", ""), "V2 3 00000000 abc"} {
		f.Add(strings.TrimSuffix(s, "\n"))
	}
	f.Fuzz(func(t *testing.T, line string) {
		r := newRecord()
		before := maps.Clone(r.zone.InternalMetadata)
		got := newServer(t, r).answer(t.Context(), line)
		if got != "" && !strings.HasSuffix(got, "\n") {
			t.Errorf("%q is answered by %q", line, got)
		}
		if strings.Contains(got, "theirs") || strings.Contains(got, base64.StdEncoding.EncodeToString([]byte("theirs"))) {
			t.Errorf("%q reads the operator's own", line)
		}
		for k := range before {
			if !password(k) && r.zone.InternalMetadata[k] != before[k] {
				t.Errorf("%q changed %s", line, k)
			}
		}
		// What parses prints as it was, if it was printed as we do.
		if fr, err := parseFrame(line); err == nil {
			if again, err := parseFrame(strings.TrimSuffix(fr.encode(), "\n")); err != nil || again != fr {
				t.Errorf("frame %+v reads back as %+v, %v", fr, again, err)
			}
		}
	})
}

func BenchmarkGet(b *testing.B) {
	s := newServer(b, newRecord())
	line := strings.TrimSuffix(v2("01", "GET", "plain"), "\n")
	for b.Loop() {
		s.answer(b.Context(), line)
	}
}
