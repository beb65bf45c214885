package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"

	"github.com/mobulacloud/mobula/daemons/internal/front"
)

// A state is coal's directory:
//
//	coal.json     what it is, with the version of its layout
//	lock          held by the process that is up, with its pid
//	run.json      where the doors of the process that is up are
//	keys/         the demo account's key pair
//	tokens.json   keys of authentication tokens
//	records/      the metastore
//	nodes/N/      storage nodes
//	agent.sock, control.sock
type state struct {
	dir  string
	lock *os.File
}

// layout is the version of the directory's layout. A newer program opens every older one.
const layout = 1

type marker struct {
	Program string `json:"program"`
	Layout  int    `json:"layout"`
}

func (s *state) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// openState makes or opens the directory and takes its lock.
func openState(dir string) (*state, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	// A socket's path has a short limit, and agent.sock must fit.
	if n := len(filepath.Join(dir, "control.sock")); n > 104 {
		return nil, fmt.Errorf("the path %s is too long for the sockets in it (choose a shorter -dir)", dir)
	}
	s := &state{dir: dir}
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = os.MkdirAll(dir, 0o700)
	case err == nil && len(entries) > 0:
		err = s.check()
	}
	if err != nil {
		return nil, err
	}
	if err := s.take(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(marker{"coal", layout})
	if err == nil {
		err = front.WriteFile(s.path("coal.json"), b, 0o600)
	}
	if err == nil {
		err = os.Chmod(dir, 0o700)
	}
	if err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

// check refuses a directory that is not coal's, before anything in it is touched.
func (s *state) check() error {
	b, err := os.ReadFile(s.path("coal.json"))
	var m marker
	if errors.Is(err, fs.ErrNotExist) {
		if _, locked := os.Stat(s.path("lock")); locked == nil {
			return nil // a first start that was cut off early
		}
		return fmt.Errorf("%s holds something that is not coal's (choose another -dir)", s.dir)
	}
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", s.path("coal.json"), err)
	}
	if m.Program != "coal" || m.Layout > layout {
		return fmt.Errorf("%s was made by a newer version (layout %d, this program knows %d)", s.dir, m.Layout, layout)
	}
	return nil
}

// take locks the directory against other processes, for as long as this one lives.
func (s *state) take() error {
	f, err := os.OpenFile(s.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		pid, _ := os.ReadFile(s.path("lock"))
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("coal is already running on %s (process %s)", s.dir, strings.TrimSpace(string(pid)))
		}
		return fmt.Errorf("lock %s: %w", s.dir, err)
	}
	if err := errors.Join(f.Truncate(0), second(f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0))); err != nil {
		f.Close()
		return err
	}
	s.lock = f
	return nil
}

func second(_ int, err error) error { return err }

func (s *state) release() { s.lock.Close() }

// demoKey returns the demo account's key pair, which is made at the first start.
func (s *state) demoKey() (private []byte, public string, err error) {
	file := s.path("keys", "demo")
	private, err = os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, "", err
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return nil, "", err
		}
		private = pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
		if err := front.WriteFile(file, private, 0o600); err != nil {
			return nil, "", err
		}
	} else if err != nil {
		return nil, "", err
	}
	signer, err := ssh.ParsePrivateKey(private)
	if err != nil {
		return nil, "", fmt.Errorf("read %s: %w", file, err)
	}
	public = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))) + " demo\n"
	return private, public, front.WriteFile(file+".pub", []byte(public), 0o644)
}

// doors is run.json: where a coal that is up can be reached.
type doors struct {
	Manta   string `json:"manta"`
	MantaV2 string `json:"manta_v2,omitempty"`
	Admin   string `json:"admin,omitempty"`
	KeyID   string `json:"key_id"`
}

func (s *state) writeDoors(d doors) error {
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return front.WriteFile(s.path("run.json"), b, 0o600)
}

func readDoors(dir string) (doors, error) {
	var d doors
	b, err := os.ReadFile(filepath.Join(dir, "run.json"))
	if err == nil {
		err = json.Unmarshal(b, &d)
	}
	return d, err
}
