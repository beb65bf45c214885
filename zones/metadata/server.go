package metadata

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/mobulacloud/mobula/zones"
)

// Source is one zone's record. Its methods may be called from several goroutines.
type Source interface {
	// Zone answers the record as it is now. The caller changes nothing in it.
	Zone(ctx context.Context) (*zones.Zone, error)
	// Change makes a change to the zone's metadata durable before it returns. Deleting what is not there is no error.
	// Repeating a change is none either.
	Change(ctx context.Context, c Change) error
}

// Change is one change that a guest makes to its metadata.
type Change struct {
	// Internal says that the key is in internal metadata, not the customer's.
	Internal bool
	Key      string
	Value    string // unless Delete
	Delete   bool
}

// Config configures a [Server].
type Config struct {
	// Source is the zone's. Required.
	Source Source
	// Datacenter is what sdc:datacenter_name says.
	Datacenter string
	// Quota bounds what the guest may keep.
	Quota Quota
	// Provisioned is called when the guest has read the first key, which for a VM means that it is up far enough to
	// know itself. It may be called again after another connection; nil is fine.
	Provisioned func()
	// Logger, nil is silent. No value is ever logged.
	Logger *slog.Logger
}

// Server answers one zone's guest.
type Server struct {
	cfg   Config
	log   *slog.Logger
	write sync.Mutex // one change at a time, so that the quota holds
}

// maxConns bounds a zone's connections at one time; more wait to be accepted.
const maxConns = 16

// New checks the configuration.
func New(cfg Config) (*Server, error) {
	if cfg.Source == nil {
		return nil, fmt.Errorf("%w: metadata server needs a source", zones.ErrInvalid)
	}
	s := &Server{cfg: cfg, log: cfg.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s, nil
}

// Serve answers on a listener until ctx ends or the listener fails, and returns when every connection is closed. It closes
// the listener. The end of ctx is no error.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	defer l.Close()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	free := make(chan struct{}, maxConns)
	for {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept metadata connection: %w", err)
		}
		wg.Go(func() {
			defer func() { <-free }()
			if err := s.ServeConn(ctx, conn); err != nil {
				s.log.Debug("metadata connection", "err", err)
			}
		})
	}
}

// ServeSerial answers on a connection that is the host's to make, such as to the socket behind a VM's serial port, and makes
// it again whenever it is lost, until ctx ends; that is no error.
func (s *Server) ServeSerial(ctx context.Context, dial func(context.Context) (net.Conn, error)) error {
	policy := backoff.NewExponentialBackOff(backoff.WithInitialInterval(50*time.Millisecond), backoff.WithMaxInterval(5*time.Second), backoff.WithMaxElapsedTime(0))
	once := func() error {
		conn, err := dial(ctx)
		if err == nil {
			policy.Reset()
			err = s.ServeConn(ctx, conn)
		}
		if ctx.Err() != nil {
			return backoff.Permanent(ctx.Err())
		}
		if err == nil {
			err = io.EOF
		}
		if errors.Is(err, zones.ErrNotExist) || errors.Is(err, zones.ErrNotRunning) {
			return backoff.Permanent(err)
		}
		return err
	}
	err := backoff.Retry(once, backoff.WithContext(policy, ctx))
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// ServeConn answers on one connection until it ends or ctx does, and closes it. The end of either is no error.
func (s *Server) ServeConn(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	in := newLines(conn)
	for {
		line, long, err := in.next()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		answer := invalidCommand
		if !long {
			answer = s.answer(ctx, line)
		}
		if answer == "" {
			continue
		}
		if _, err := io.WriteString(conn, answer); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

const invalidCommand = "invalid command\n"

// echoed are lines of our own. A guest whose terminal echoes would send each answer back for ever.
var echoed = map[string]bool{"invalid command": true, codeSuccess: true, codeNotFound: true, codeFailure: true, "V2_OK": true, ".": true}

// answer is what a line gets; empty is nothing.
func (s *Server) answer(ctx context.Context, line string) string {
	if strings.HasPrefix(line, "V2 ") {
		return s.answer2(ctx, line)
	}
	switch cmd, arg, _ := strings.Cut(line, " "); {
	case cmd == "GET" && arg != "":
		value, err := s.get(ctx, arg)
		switch {
		case err == nil:
			return block(value)
		case errors.Is(err, ErrNotFound):
			return codeNotFound + "\n"
		}
		s.failed("GET", arg, err)
		return codeFailure + "\n"
	case line == "KEYS":
		list, err := s.keys(ctx)
		if err != nil {
			s.failed("KEYS", "", err)
			return codeFailure + "\n"
		}
		if len(list) == 0 {
			return codeSuccess + "\n.\n"
		}
		return block(strings.Join(list, "\n"))
	case line == "NEGOTIATE V2":
		return "V2_OK\n"
	case cmd == "NEGOTIATE":
		return codeFailure + "\n"
	case echoed[line]:
		return ""
	}
	return invalidCommand
}

func (s *Server) answer2(ctx context.Context, line string) string {
	req, err := parseFrame(line)
	if err != nil {
		return "" // the client will ask again
	}
	reply := frame{id: req.id, code: codeSuccess}
	switch req.code {
	case "GET":
		reply.payload, err = s.get(ctx, req.payload)
		reply.has = err == nil
	case "KEYS":
		var list []string
		list, err = s.keys(ctx)
		reply.payload, reply.has = strings.Join(list, "\n"), err == nil
	case "PUT":
		c := Change{}
		if c.Key, c.Value, err = parsePutArgument(req.payload); err == nil {
			err = s.change(ctx, c)
		}
		reply.payload, reply.has = "OK", err == nil
	case "DELETE":
		err = s.change(ctx, Change{Key: req.payload, Delete: true})
	default:
		err = ErrInvalid
	}
	if err != nil {
		reply.code, reply.payload = codeFailure, ""
		if errors.Is(err, ErrNotFound) {
			reply.code = codeNotFound
		} else {
			s.failed(req.code, req.payload, err)
		}
	}
	return reply.encode()
}

// failed logs what the guest is not told. A PUT's argument has a value in it and stays out of the log.
func (s *Server) failed(command, key string, err error) {
	if command == "PUT" || len(key) > MaxKey {
		key = ""
	}
	s.log.Info("metadata request failed", "command", command, "key", key, "err", err)
}

func (s *Server) get(ctx context.Context, key string) (string, error) {
	z, err := s.cfg.Source.Zone(ctx)
	if err != nil {
		return "", err
	}
	value, err := lookup(z, s.cfg.Datacenter, key)
	if (err == nil || errors.Is(err, ErrNotFound)) && s.cfg.Provisioned != nil {
		s.cfg.Provisioned()
	}
	return value, err
}

func (s *Server) keys(ctx context.Context) ([]string, error) {
	z, err := s.cfg.Source.Zone(ctx)
	if err != nil {
		return nil, err
	}
	return keys(z), nil
}

func (s *Server) change(ctx context.Context, c Change) error {
	s.write.Lock()
	defer s.write.Unlock()
	z, err := s.cfg.Source.Zone(ctx)
	if err != nil {
		return err
	}
	if err := checkChange(z, s.cfg.Quota, &c); err != nil {
		return err
	}
	return s.cfg.Source.Change(ctx, c)
}
