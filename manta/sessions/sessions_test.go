package sessions

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/mobulacloud/mobula/storage/metastore"
)

func asClose(err error, e *websocket.CloseError) bool { return errors.As(err, e) }

const (
	txt = websocket.MessageText
	bin = websocket.MessageBinary
)

func TestSession(t *testing.T) {
	w := newWorld(t)
	for name, door := range map[string]string{"one door": w.URL, "two doors": w.urlTwo} {
		t.Run(name, func(t *testing.T) {
			j := w.job()
			master := w.attach(w.URL, j.ID, "master")
			w.expect(master, txt, `medusa:{"type":"wait"}`)
			w.send(master, bin, "too early")
			slave := w.attach(door, j.ID, "slave")
			w.expect(slave, txt, `medusa:{"type":"linkup"}`)
			w.expect(master, txt, `medusa:{"type":"linkup"}`)
			w.send(master, txt, `mlogin:{"type":"start"}`)
			w.expect(slave, txt, `mlogin:{"type":"start"}`)
			w.send(slave, bin, "\x00\xff")
			w.expect(master, bin, "\x00\xff")
			large := strings.Repeat("x", 1<<20)
			slave.SetReadLimit(1 << 21)
			w.send(master, bin, large)
			w.expect(slave, bin, large)
			w.send(master, txt, "ping")
			w.expect(slave, txt, "ping")
			if _, status, body := w.dial(door, j.ID, "slave"); status != 409 || !strings.Contains(body, CodeEntityAlreadyExists) {
				t.Errorf("second slave: %d %s", status, body)
			}
			if _, status, body := w.dial(door, j.ID, "master"); status != 409 || !strings.Contains(body, CodeEntityAlreadyExists) {
				t.Errorf("second master: %d %s", status, body)
			}
			st := w.one.Status()
			if len(st.Sessions.Sessions) != 1 || st.Sessions.Sessions[0].State != Forwarding || !st.Sessions.Sessions[0].HasMaster || !st.Sessions.Sessions[0].HasSlave {
				t.Errorf("status %+v", st)
			}
			go slave.Close(websocket.StatusNormalClosure, "that was it")
			if code, reason := w.closed(master); code != websocket.StatusNormalClosure || reason != "that was it" {
				t.Errorf("master ends with %v %q", code, reason)
			}
			w.gone(j.ID)
		})
	}
	if m := w.two.Metrics(); m.Piped != 1 {
		t.Errorf("metrics of the second door: %+v", m)
	}
	if m := w.one.Metrics(); m.Begun != 2 || m.Sessions != 0 || m.Refused != 2 {
		t.Errorf("metrics of the first door: %+v", m)
	}
}

// TestBreaksOff loses one side without a word.
func TestBreaksOff(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		name   string
		door   string
		master bool
		reason string
	}{
		{"master", w.URL, true, "remote connection reset"},
		{"slave", w.URL, false, "remote connection error"},
		{"slave of another door", w.urlTwo, false, "remote connection error"},
		{"master, with a slave of another door", w.urlTwo, true, "remote connection reset"},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := w.job()
			master := w.attach(w.URL, j.ID, "master")
			slave := w.attach(test.door, j.ID, "slave")
			w.expect(master, txt, linkupMessage)
			lost, left := slave, master
			if test.master {
				lost, left = master, slave
			}
			lost.CloseNow()
			if code, reason := w.closed(left); code != websocket.StatusNormalClosure || reason != test.reason {
				t.Errorf("the other side ends with %v %q", code, reason)
			}
			w.gone(j.ID)
		})
	}
	t.Run("master alone", func(t *testing.T) {
		j := w.job()
		master := w.attach(w.URL, j.ID, "master")
		w.expect(master, txt, waitMessage)
		master.CloseNow()
		w.gone(j.ID)
		if _, status, _ := w.dial(w.URL, j.ID, "slave"); status != 404 {
			t.Errorf("slave after that: %d", status)
		}
	})
}

// TestSilence has a side that keeps its connection open but answers nothing.
func TestSilence(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Silence = 150 * time.Millisecond })
	j := w.job()
	master := w.raw("/alice/medusa/attach/"+j.ID+"/master", "Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
	slave := w.attach(w.urlTwo, j.ID, "slave")
	w.expect(slave, txt, linkupMessage)
	if code, reason := w.closed(slave); code != websocket.StatusNormalClosure || reason != "remote connection reset" {
		t.Errorf("slave ends with %v %q", code, reason)
	}
	_, _ = io.Copy(io.Discard, master) // it is closed; how does not matter
	w.gone(j.ID)
}

// raw sends a request as the original's client does, without a version, and returns the connection after 101.
func (w *world) raw(path string, header ...string) net.Conn {
	w.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(w.URL, "http://"))
	w.must(err)
	w.t.Cleanup(func() { c.Close() })
	_, err = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\nAuthorization: Token "+w.token+"\r\n"+strings.Join(header, "\r\n")+"\r\n\r\n")
	w.must(err)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	w.must(err)
	// The original's client compares Connection as a whole.
	if resp.StatusCode != 101 || !strings.EqualFold(resp.Header.Get("Connection"), "upgrade") || !strings.EqualFold(resp.Header.Get("Upgrade"), "websocket") ||
		resp.Header.Get("Sec-Websocket-Accept") == "" || resp.Header.Get("Server") != "Manta" {
		w.t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	return c
}

func TestRefusals(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxPerAccount = 2 })
	j := w.job()
	good := []string{"Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="}
	ask := func(path string, header ...string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "GET", w.URL+path, nil)
		w.must(err)
		if w.token != "" {
			r.Header.Set("Authorization", "Token "+w.token)
		}
		for _, h := range header {
			name, value, _ := strings.Cut(h, ": ")
			r.Header.Add(name, value)
		}
		resp, err := http.DefaultClient.Do(r)
		w.must(err)
		defer resp.Body.Close()
		var e struct{ Code string }
		_ = json.NewDecoder(resp.Body).Decode(&e) // what is no JSON has no code
		return resp.StatusCode, e.Code
	}
	base := "/alice/medusa/attach/" + j.ID
	for _, test := range []struct {
		name, path string
		header     []string
		status     int
		code       string
	}{
		{"no upgrade", base + "/master", nil, 400, CodeExpectedUpgrade},
		{"no key", base + "/master", good[:2], 400, CodeExpectedUpgrade},
		{"bad key", base + "/master", append(good[:2:2], "Sec-WebSocket-Key: AAAA"), 400, CodeExpectedUpgrade},
		{"two keys", base + "/master", append(good[:3:3], good[2]), 400, CodeExpectedUpgrade},
		{"another version", base + "/master", append(good[:3:3], "Sec-WebSocket-Version: 8"), 400, CodeExpectedUpgrade},
		{"another upgrade", base + "/master", []string{good[0], "Upgrade: h2c", good[2]}, 400, CodeExpectedUpgrade},
		{"another type", base + "/spy", good, 400, "InvalidParameter"},
		{"slave alone", base + "/slave", good, 404, "ResourceNotFound"},
		{"no job", "/alice/medusa/attach/00000000-0000-4000-8000-000000000000/master", good, 404, "ResourceNotFound"},
	} {
		if status, code := ask(test.path, test.header...); status != test.status || code != test.code {
			t.Errorf("%s: %d %s, want %d %s", test.name, status, code, test.status, test.code)
		}
	}
	// Nothing of that has left a session.
	for range 2 {
		w.attach(w.URL, w.job().ID, "master")
	}
	if status, code := ask(base+"/master", good...); status != 503 || code != "ThrottledError" {
		t.Errorf("third session of an account: %d %s", status, code)
	}
	if _, _, err := w.one.where(t.Context(), j.ID); !errors.Is(err, metastore.ErrNotFound) {
		t.Errorf("record of a refused session: %v", err)
	}
	w.must(w.records.Cancel(t.Context(), j.ID))
	if status, code := ask(base+"/master", good...); status != 409 || code != "InvalidJobState" {
		t.Errorf("job that was cancelled: %d %s", status, code)
	}
	// Somebody else's.
	bob := w.Token(w.Account("bob"))
	for _, token := range []string{bob, "nonsense"} {
		w.token = token
		if status, code := ask(base+"/master", good...); status != 403 {
			t.Errorf("with %.10s: %d %s", token, status, code)
		}
	}
	w.token = ""
	if status, code := ask(base + "/master"); status != 403 {
		t.Errorf("without credentials: %d %s", status, code)
	}
}

func TestTooLarge(t *testing.T) {
	w := newWorld(t)
	j := w.job()
	master := w.attach(w.URL, j.ID, "master")
	slave := w.attach(w.URL, j.ID, "slave")
	w.expect(slave, txt, linkupMessage)
	go master.Write(t.Context(), bin, make([]byte, 1<<20+1)) // the connection may break under it
	if code, _ := w.closed(slave); code != websocket.StatusNormalClosure {
		t.Errorf("slave ends with %v", code)
	}
	w.gone(j.ID)
}

// TestClose ends a front door that has sessions.
func TestClose(t *testing.T) {
	w := newWorld(t)
	linked, waiting := w.job(), w.job()
	master := w.attach(w.URL, linked.ID, "master")
	slave := w.attach(w.urlTwo, linked.ID, "slave")
	w.expect(slave, txt, linkupMessage)
	alone := w.attach(w.URL, waiting.ID, "master")
	w.expect(alone, txt, waitMessage)
	go w.close()
	for name, c := range map[string]*websocket.Conn{"master": master, "slave": slave, "waiting": alone} {
		if code, reason := w.closed(c); code != websocket.StatusGoingAway {
			t.Errorf("%s ends with %v %q", name, code, reason)
		}
	}
	w.close()
	w.gone(linked.ID)
	w.gone(waiting.ID)
	if _, status, body := w.dial(w.URL, w.job().ID, "master"); status != 503 {
		t.Errorf("master after that: %d %s", status, body)
	}
}

// TestNobodyCame has a master wait for longer than makes sense.
func TestNobodyCame(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Patience = 20 * time.Millisecond })
	j := w.job()
	master := w.attach(w.URL, j.ID, "master")
	if code, reason := w.closed(master); code != websocket.StatusNormalClosure || reason != "nobody came" {
		t.Errorf("master ends with %v %q", code, reason)
	}
	w.gone(j.ID)
}

// TestPlain has a master that knows no prefixes.
func TestPlain(t *testing.T) {
	w := newWorld(t)
	j := w.job()
	master := w.attach(w.URL, j.ID, "master", Subprotocol)
	w.expect(master, txt, `{"type":"wait"}`)
	slave := w.attach(w.urlTwo, j.ID, "slave")
	w.expect(slave, txt, linkupMessage)
	w.expect(master, txt, `{"type":"linkup"}`)
	w.send(master, txt, `{"type":"start"}`)
	w.expect(slave, txt, `mlogin:{"type":"start"}`)
	w.send(slave, txt, "something else")
	w.send(slave, txt, `mlogin:{"type":"started","pid":1}`)
	w.expect(master, txt, `{"type":"started","pid":1}`)
	w.send(slave, bin, "mlogin:x")
	w.expect(master, bin, "mlogin:x")
}

// TestDeath: a front door that died had sessions, of which it knows nothing when it comes again.
func TestDeath(t *testing.T) {
	w := newWorld(t)
	reflector := func() *Reflector {
		r, err := New(Config{Store: w.Records, Job: w.one.cfg.Job, Address: "three"})
		w.must(err)
		return r
	}
	old, third := reflector(), reflector()
	j := w.job()
	if _, err := old.claim(t.Context(), j.ID, "a"); err != nil {
		t.Fatal(err)
	}
	// The same door takes it over, another one does not.
	if _, err := w.two.claim(t.Context(), j.ID, "a"); !errors.Is(err, errExists) {
		t.Errorf("another door claims: %v", err)
	}
	etag, err := third.claim(t.Context(), j.ID, "a")
	if err != nil {
		t.Errorf("the same door claims: %v", err)
	}
	if _, status, _ := w.dial(w.urlTwo, j.ID, "slave"); status != 503 {
		t.Errorf("slave of a session at a door that cannot be reached: %d", status)
	}
	w.must(w.two.sweep(t.Context()))
	if _, got, err := w.one.where(t.Context(), j.ID); err != nil || got != etag {
		t.Errorf("another door has swept it: %v", err)
	}
	w.must(third.sweep(t.Context()))
	if _, _, err := w.one.where(t.Context(), j.ID); !errors.Is(err, metastore.ErrNotFound) {
		t.Errorf("after the sweep: %v", err)
	}
	// A record of a newer format is left alone.
	_, err = w.Records.Commit(t.Context(), metastore.Batch{metastore.Put{Bucket: sessionBucket, Key: recordKey(j.ID), Value: []byte(`{"format":2,"address":"one"}`)}})
	w.must(err)
	if _, status, _ := w.dial(w.URL, j.ID, "master"); status != 500 {
		t.Errorf("session of a newer format: %d", status)
	}
}

// FuzzFrames sends anything to a reflector as a master: it ends the session or passes on whole messages, and is there for the next one.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x81\x84\x00\x00\x00\x00ping"))
	f.Add([]byte("\x82\x80\x01\x02\x03\x04\x88\x82\x00\x00\x00\x00\x03\xe8"))
	f.Add([]byte("\x02\x81\x00\x00\x00\x00a\x80\x81\x00\x00\x00\x00b"))
	f.Add([]byte("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00"))
	f.Add([]byte("\x89\xfe\x00\xff\x00\x00\x00\x00"))
	w := newWorld(f)
	f.Fuzz(func(t *testing.T, frames []byte) {
		w.t = t
		j := w.job()
		master := w.raw("/alice/medusa/attach/"+j.ID+"/master", "Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
		slave := w.attach(w.URL, j.ID, "slave")
		w.expect(slave, txt, linkupMessage)
		_, _ = master.Write(frames) // it may be closed under it
		master.Close()
		w.closed(slave)
		w.gone(j.ID)
	})
}
