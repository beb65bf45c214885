// Package pgtest starts a PostgreSQL server of its own for a test, and removes it afterwards.
//
// Call [Start], or [Shared] with [Run], then give [Server.URL] to what needs a database. The server listens on a Unix socket only, in a
// directory that goes with it.
//
// Stability: experimental.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mobulacloud/mobula/internal/testenv"
)

// Config says how the server runs.
type Config struct {
	// Durable leaves fsync on. Tests of what is stored do not need it; tests and benchmarks of durability do.
	Durable bool
}

// A Server is a running server.
type Server struct{ dir string }

// URL returns the address of the server's database for its superuser.
func (s *Server) URL() string {
	return "postgres:///postgres?" + url.Values{"host": {s.dir}, "user": {"mobula"}}.Encode()
}

// Start makes and starts a server, or skips the test for want of PostgreSQL (capability "postgres" of internal/testenv). It runs as
// the user postgres, or nobody, when the test runs as root, since PostgreSQL refuses root. It ends with the test.
func Start(t testing.TB, c Config) *Server {
	t.Helper()
	bin := binaries(t)
	s, stop, err := start(bin, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return s
}

var shared struct {
	mu     sync.Mutex
	server *Server
	stop   func()
}

// Shared is Start with one server for all tests of a package, which has to end by way of [Run].
func Shared(t testing.TB) *Server {
	t.Helper()
	bin := binaries(t)
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server == nil {
		var err error
		if shared.server, shared.stop, err = start(bin, Config{}); err != nil {
			t.Fatal(err)
		}
	}
	return shared.server
}

// Run runs a package's tests for its TestMain and stops the shared server. It returns the exit code.
func Run(m *testing.M) int {
	defer func() {
		if shared.stop != nil {
			shared.stop()
		}
	}()
	return m.Run()
}

// start makes and starts a server; stop removes it.
func start(bin string, c Config) (s *Server, stop func(), err error) {
	// Not a test's directory: the path of a socket has to be short, and the server's user must get there.
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	attr := &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 {
		uid, gid, err := account()
		if err != nil {
			return nil, nil, err
		}
		attr.Credential = &syscall.Credential{Uid: uid, Gid: gid}
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			return nil, nil, err
		}
	}
	diesWithParent(attr)
	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "mobula", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	initdb.SysProcAttr, initdb.Dir = attr, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	fsync := "off"
	if c.Durable {
		fsync = "on"
	}
	server := exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "fsync="+fsync,
		"-c", "max_connections=200", "-c", "shared_buffers=128MB", "-c", "autovacuum_naptime=10s")
	var log bytes.Buffer
	server.Stdout, server.Stderr, server.SysProcAttr, server.Dir = &log, &log, attr, dir
	if err := server.Start(); err != nil {
		return nil, nil, err
	}
	ended := make(chan struct{})
	go func() { server.Wait(); close(ended) }()
	stop = func() {
		server.Process.Signal(syscall.SIGINT) // fast shutdown
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			syscall.Kill(-server.Process.Pid, syscall.SIGKILL)
			<-ended
		}
		os.RemoveAll(dir)
	}
	s = &Server{dir}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		// There is nothing to wait on but the server's own word.
		if conn, err := pgx.Connect(ctx, s.URL()); err == nil {
			conn.Close(ctx)
			return s, stop, nil
		}
		select {
		case <-ended:
			return nil, nil, fmt.Errorf("postgres ended: %s", log.Bytes())
		case <-ctx.Done():
			stop()
			return nil, nil, fmt.Errorf("postgres is not ready: %s", log.Bytes())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// binaries finds the newest installation that is new enough.
func binaries(t testing.TB) string {
	t.Helper()
	if path, err := exec.LookPath("postgres"); err == nil {
		return filepath.Dir(path)
	}
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	version := func(dir string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		return n
	}
	dirs = slices.DeleteFunc(dirs, func(d string) bool {
		_, err := os.Stat(filepath.Join(d, "postgres"))
		return version(d) < 15 || err != nil
	})
	if len(dirs) == 0 {
		testenv.Missing(t, "postgres", "no PostgreSQL 15 or later, on PATH or in /usr/lib/postgresql")
	}
	return slices.MaxFunc(dirs, func(a, b string) int { return version(a) - version(b) })
}

func account() (uid, gid uint32, err error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		a, err1 := strconv.ParseUint(u.Uid, 10, 32)
		b, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return uint32(a), uint32(b), nil
		}
	}
	return 0, 0, errors.New("no user to run postgres as")
}
