package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

const greeting = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}` + "\r\n"

// fake plays QEMU on one end of a pipe: it answers each command with what reply says.
func fake(t *testing.T, reply func(command string, id uint64) string) (net.Conn, func()) {
	t.Helper()
	here, there := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer there.Close()
		io.WriteString(there, greeting)
		in := bufio.NewReader(there)
		for {
			line, err := in.ReadBytes('\n')
			if err != nil {
				return
			}
			var cmd struct {
				Execute string
				ID      uint64
			}
			if err := json.Unmarshal(line, &cmd); err != nil {
				t.Errorf("command %q: %v", line, err)
				return
			}
			out := reply(cmd.Execute, cmd.ID)
			if out == "" {
				return
			}
			if _, err := io.WriteString(there, out); err != nil {
				return
			}
		}
	})
	return here, wg.Wait
}

func ok(id uint64) string { return fmt.Sprintf("{\"return\": {}, \"id\": %d}\r\n", id) }

func TestClient(t *testing.T) {
	conn, wait := fake(t, func(command string, id uint64) string {
		switch command {
		case "query-status":
			// An event and a stranger's answer come between.
			return `{"event": "RESET", "data": {"guest": true}, "timestamp": {"seconds": 1600000000, "microseconds": 5}}` + "\n" +
				`{"return": {"status": "wrong"}, "id": 99999}` + "\n" +
				fmt.Sprintf(`{"return": {"status": "running"}, "id": %d}`+"\n", id)
		case "fail":
			return fmt.Sprintf(`{"error": {"class": "GenericError", "desc": "no"}, "id": %d}`+"\n", id)
		case "quit":
			return ""
		}
		return ok(id)
	})
	events := make(chan Event, 8)
	c, err := Connect(t.Context(), conn, func(e Event) { events <- e })
	if err != nil {
		t.Fatal(err)
	}
	if c.Version().String() != "7.2.22" {
		t.Errorf("version %v", c.Version())
	}
	var status struct{ Status string }
	if err := c.Execute(t.Context(), "query-status", nil, &status); err != nil || status.Status != "running" {
		t.Errorf("query-status = %+v, %v", status, err)
	}
	if e := <-events; e.Name != "RESET" || string(e.Data) != `{"guest": true}` || e.Time.Unix() != 1600000000 {
		t.Errorf("event %+v", e)
	}
	err = c.Execute(t.Context(), "fail", map[string]int{"x": 1}, nil)
	if e, ok := errors.AsType[*Error](err); !ok || e.Class != "GenericError" || !strings.Contains(err.Error(), "fail: no") {
		t.Errorf("fail = %v", err)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := c.Execute(t.Context(), "stop", nil, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := c.Execute(t.Context(), "quit", nil, nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a command cut off = %v", err)
	}
	if err := c.Execute(t.Context(), "stop", nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("a command after the end = %v", err)
	}
	<-c.Done()
	wait()
}

// A monitor that serves somebody else says nothing; the caller's patience is what counts.
func TestConnectCancelled(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Connect(ctx, here, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Connect = %v", err)
	}
}

func TestNonsense(t *testing.T) {
	for _, say := range []string{"hello\n", "{}\n", `{"return": {}}` + "\n", "", `{"QMP":`} {
		here, there := net.Pipe()
		go func() { io.WriteString(there, say); there.Close() }()
		if _, err := Connect(t.Context(), here, nil); err == nil {
			t.Errorf("Connect takes %q for a greeting", say)
		}
	}
}

func FuzzMessage(f *testing.F) {
	for _, s := range []string{greeting, `{"return": {}, "id": 1}`, `{"error": {"class": "x", "desc": "y"}, "id": 2}`, `{"event": "STOP", "timestamp": {"seconds": -1, "microseconds": -1}}`, `{"id": -1, "return": []}`, "[]", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := parseMessage(line)
		if err != nil {
			if !errors.Is(err, ErrProtocol) {
				t.Errorf("%q: %v", line, err)
			}
			return
		}
		set := 0
		for _, b := range []bool{m.greeting != nil, m.event != nil, m.answer} {
			if b {
				set++
			}
		}
		if set != 1 {
			t.Errorf("%q is %+v", line, m)
		}
	})
}
