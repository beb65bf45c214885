package sshagent

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

func generate(t *testing.T) (keys []Key, public []ssh.PublicKey) {
	t.Helper()
	r, err1 := rsa.GenerateKey(rand.Reader, 2048)
	e, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, d, err3 := ed25519.GenerateKey(rand.Reader)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	for _, k := range []any{r, e, d} {
		block, err := ssh.MarshalPrivateKey(k, "")
		if err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.NewSignerFromKey(k)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, Key{PEM: pem.EncodeToMemory(block), Comment: signer.PublicKey().Type()})
		public = append(public, signer.PublicKey())
	}
	return keys, public
}

// start runs an agent and returns its socket; the test fails if it does not stop cleanly.
func start(t *testing.T, cfg Config) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	cfg.Socket = filepath.Join(dir, "s")
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	listener, err := a.Listen(ctx)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		os.RemoveAll(dir)
	})
	return cfg.Socket
}

func connect(t *testing.T, socket string) agent.ExtendedAgent {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return agent.NewClient(conn)
}

func TestServesKeys(t *testing.T) {
	keys, public := generate(t)
	client := connect(t, start(t, Config{Keys: keys}))
	listed, err := client.List()
	if err != nil || len(listed) != len(keys) {
		t.Fatalf("List() = %v, %v", listed, err)
	}
	text := []byte("date: today")
	for i, p := range public {
		if !bytes.Equal(listed[i].Blob, p.Marshal()) || listed[i].Comment != keys[i].Comment {
			t.Errorf("key %d is %v, want %v", i, listed[i], p)
		}
		sig, err := client.SignWithFlags(p, text, agent.SignatureFlagRsaSha256) // also where it means nothing
		if err != nil || p.Verify(text, sig) != nil {
			t.Errorf("Sign with %s: %v", p.Type(), err)
		}
	}
	for flags, want := range map[agent.SignatureFlags]string{
		0: ssh.KeyAlgoRSA, agent.SignatureFlagRsaSha256: ssh.KeyAlgoRSASHA256, agent.SignatureFlagRsaSha512: ssh.KeyAlgoRSASHA512,
	} {
		sig, err := client.SignWithFlags(public[0], text, flags)
		if err != nil || sig.Format != want || public[0].Verify(text, sig) != nil {
			t.Errorf("SignWithFlags(%d) = %v, %v, want %s", flags, sig, err, want)
		}
	}
}

func TestKeysCannotBeChanged(t *testing.T) {
	keys, public := generate(t)
	client := connect(t, start(t, Config{Keys: keys[:1]}))
	other, err := ssh.ParseRawPrivateKey(keys[1].PEM)
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"Add":       client.Add(agent.AddedKey{PrivateKey: other}),
		"Remove":    client.Remove(public[0]),
		"RemoveAll": client.RemoveAll(),
		"Lock":      client.Lock([]byte("x")),
	} {
		if err == nil {
			t.Errorf("%s succeeded", name)
		}
	}
	if listed, err := client.List(); err != nil || len(listed) != 1 {
		t.Errorf("afterwards List() = %v, %v", listed, err)
	}
	if _, err := client.Sign(public[1], []byte("x")); err == nil {
		t.Error("Sign with a key that was never there succeeded")
	}
}

func TestSocket(t *testing.T) {
	keys, _ := generate(t)
	socket := start(t, Config{Keys: keys})
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket is %v, %v, want mode 0600", info.Mode(), err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(socket)); len(entries) != 1 {
		t.Errorf("directory holds %v", entries)
	}
	second, err := New(Config{Socket: socket, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.Listen(t.Context()); err == nil || !strings.Contains(err.Error(), "agent is there already") {
		t.Errorf("second Listen: %v", err)
	}
}

func TestRunReplacesWhatACrashLeft(t *testing.T) {
	keys, _ := generate(t)
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	a, err := New(Config{Socket: socket, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("after Run the socket is there: %v", err)
	}
	if err := os.WriteFile(socket, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.Run(t.Context()); err == nil {
		t.Error("Run over a file succeeded")
	}
	if b, _ := os.ReadFile(socket); string(b) != "precious" {
		t.Errorf("the file holds %q", b)
	}
}

func TestNonsenseEndsOnlyItsConnection(t *testing.T) {
	keys, _ := generate(t)
	socket := start(t, Config{Keys: keys})
	for _, bytes := range []string{"\xff\xff\xff\xff", "\x00\x00\x00\x01\xfe", "\x00\x00\x00\x05\x0d\x00\x00\x00\xff", ""} {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(bytes)); err != nil {
			t.Error(err)
		}
		conn.Close()
	}
	if listed, err := connect(t, socket).List(); err != nil || len(listed) != len(keys) {
		t.Errorf("List() = %v, %v", listed, err)
	}
}

func TestNewRefusesNonsense(t *testing.T) {
	keys, _ := generate(t)
	for name, cfg := range map[string]Config{
		"no socket": {Keys: keys}, "no keys": {Socket: "s"}, "bad key": {Socket: "s", Keys: []Key{{PEM: []byte("secret")}}},
	} {
		if _, err := New(cfg); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("New with %s: %v", name, err)
		}
	}
}
