package sshagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// A Key is a private key that an agent serves.
type Key struct {
	// PEM is the key without a passphrase: PKCS #1, PKCS #8, SEC 1 or OpenSSH.
	PEM []byte

	// Comment is what clients show beside the key.
	Comment string
}

// LogValue keeps the key out of logs.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.Comment) }

// A Config says how to make an [Agent].
type Config struct {
	// Socket is the path of the socket. What is there from an earlier run is replaced, unless somebody still answers on it. Required.
	Socket string

	// Keys are served in this order. Required.
	Keys []Key

	// Logger is told about broken connections. nil logs nothing.
	Logger *slog.Logger
}

// Limits of what clients may use up.
const (
	maxClients  = 64
	idleTimeout = 10 * time.Minute
)

// An Agent serves private keys.
type Agent struct {
	cfg  Config
	keys agent.Agent
}

// New checks a configuration.
func New(cfg Config) (*Agent, error) {
	if cfg.Socket == "" || len(cfg.Keys) == 0 {
		return nil, errors.New("sshagent: Config.Socket and Config.Keys are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	ring := agent.NewKeyring()
	for i, k := range cfg.Keys {
		private, err := ssh.ParseRawPrivateKey(k.PEM)
		if err != nil {
			return nil, fmt.Errorf("sshagent: key %d: %w", i, err)
		}
		if err := ring.Add(agent.AddedKey{PrivateKey: private, Comment: k.Comment}); err != nil {
			return nil, fmt.Errorf("sshagent: key %d: %w", i, err)
		}
	}
	return &Agent{cfg: cfg, keys: readOnly{ring.(agent.ExtendedAgent)}}, nil
}

// maxPath is the longest path that a socket may have on Linux and macOS.
const maxPath = 103

// Listen opens the socket. Only the owner of the process may connect to it.
func (a *Agent) Listen(ctx context.Context) (net.Listener, error) {
	path := a.cfg.Socket
	if len(path) > maxPath {
		return nil, fmt.Errorf("listen on %s: the path is longer than the %d bytes that a socket may have", path, maxPath)
	}
	dialer := net.Dialer{Timeout: time.Second}
	if conn, err := dialer.DialContext(ctx, "unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("listen on %s: an agent is there already", path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket == 0 {
		return nil, fmt.Errorf("listen on %s: file exists and is no socket", path)
	}
	// Made under another name in a directory of its own and moved, so that it never is there with wider permissions.
	dir, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	defer os.RemoveAll(dir)
	temporary := filepath.Join(dir, "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	listener.SetUnlinkOnClose(false)
	err = os.Chmod(temporary, 0o600)
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		listener.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return listener, nil
}

// Run serves on the socket until ctx ends, and removes it. It returns nil then.
func (a *Agent) Run(ctx context.Context) error {
	listener, err := a.Listen(ctx)
	if err != nil {
		return err
	}
	defer os.Remove(a.cfg.Socket)
	return a.Serve(ctx, listener)
}

// Serve serves on a listener until ctx ends; it then closes the listener and all connections and returns nil.
func (a *Agent) Serve(ctx context.Context, listener net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	slots := make(chan struct{}, maxClients)
	for {
		slots <- struct{}{}
		conn, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
				<-slots
				continue
			}
			return fmt.Errorf("accept a client of the agent: %w", err)
		}
		clients.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			// It never returns without an error: the end of the stream is how a client leaves.
			if err := agent.ServeAgent(a.keys, idle{conn}); !errors.Is(err, io.EOF) && ctx.Err() == nil {
				a.cfg.Logger.Debug("a client of the agent left", "err", err)
			}
		})
	}
}

// idle ends a connection on which nothing happens.
type idle struct{ net.Conn }

func (c idle) Read(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(idleTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// readOnly serves an agent's keys and lets nobody change them.
type readOnly struct{ agent.ExtendedAgent }

// SignWithFlags ignores flags that are for RSA when the key is another, as OpenSSH's agent does. Some clients send them always.
func (r readOnly) SignWithFlags(key ssh.PublicKey, data []byte, flags agent.SignatureFlags) (*ssh.Signature, error) {
	if key.Type() != ssh.KeyAlgoRSA {
		flags = 0
	}
	return r.ExtendedAgent.SignWithFlags(key, data, flags)
}

var errReadOnly = errors.New("sshagent: keys cannot be changed")

func (readOnly) Add(agent.AddedKey) error                 { return errReadOnly }
func (readOnly) Remove(ssh.PublicKey) error               { return errReadOnly }
func (readOnly) RemoveAll() error                         { return errReadOnly }
func (readOnly) Lock([]byte) error                        { return errReadOnly }
func (readOnly) Unlock([]byte) error                      { return errReadOnly }
func (readOnly) Extension(string, []byte) ([]byte, error) { return nil, agent.ErrExtensionUnsupported }
