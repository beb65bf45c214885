// Storeload puts a load on an object store over HTTP and prints one line: operations and megabytes a second, and
// percentiles of latency. It speaks to Manta (HTTP Signature) and to stores with an S3 door (Signature Version 4), so that both can be
// measured in one run, in turn, with the same client.
//
//	storeload -target manta -url $MANTA_URL -account demo -key KEYFILE -op put -size 1024 -clients 64 -time 10s
//	storeload -target s3 -url http://127.0.0.1:9000 -access KEY -secret SECRET -op get …
//
// The operations put, get (of -objects objects that it makes first) and list (of one directory that -objects fill) each
// check what comes back. It loads only the loopback interface.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// A target knows the requests of one kind of store. The names of objects are plain.
type target interface {
	setup(ctx context.Context, do doer) error
	put(name string, body io.Reader, size int64) (*http.Request, error)
	get(name string) (*http.Request, error)
	list(limit int, marker string) (*http.Request, error)
	// page reads an answer to list and returns the number of entries and the next marker.
	page(body io.Reader, limit int) (entries int, next string, err error)
}

type doer func(*http.Request) (*http.Response, error)

func main() {
	log.SetFlags(0)
	var (
		kind     = flag.String("target", "manta", "manta or s3")
		base     = flag.String("url", "", "the store's address, on loopback")
		op       = flag.String("op", "put", "put, get or list")
		size     = flag.Int64("size", 1024, "bytes of an object")
		clients  = flag.Int("clients", 1, "requests under way at once (1 to 256)")
		duration = flag.Duration("time", 10*time.Second, "how long (at most 2m)")
		objects  = flag.Int("objects", 1000, "objects that get and list work on")
		prefix   = flag.String("prefix", "load", "beginning of the objects' names")
		copies   = flag.Int("copies", 1, "copies of an object (manta)")
		account  = flag.String("account", "demo", "account (manta)")
		keyFile  = flag.String("key", "", "private key file (manta)")
		access   = flag.String("access", "minioadmin", "access key (s3)")
		secret   = flag.String("secret", "minioadmin", "secret key (s3)")
		label    = flag.String("label", "", "printed at the beginning of the line")
	)
	flag.Parse()
	u, err := url.Parse(*base)
	if err != nil || !loopback(u.Hostname()) {
		log.Fatalf("storeload: -url %q is not on loopback", *base)
	}
	if *clients < 1 || *clients > 256 || *duration > 2*time.Minute {
		log.Fatal("storeload: -clients or -time out of range")
	}
	var t target
	switch *kind {
	case "manta":
		t, err = newManta(*base, *account, *keyFile, *copies)
	case "s3":
		t = &s3Target{base: *base, host: u.Host, access: *access, secret: *secret}
	default:
		log.Fatalf("storeload: unknown target %q", *kind)
	}
	if err != nil {
		log.Fatal("storeload: ", err)
	}
	client := &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: *clients, MaxConnsPerHost: *clients, DisableCompression: true,
		WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		DialContext:     (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
	}}
	l := &load{target: t, do: client.Do, body: make([]byte, *size), prefix: *prefix, objects: *objects, clients: *clients, duration: *duration}
	var seed [32]byte
	_, _ = rand.NewChaCha8(seed).Read(l.body)
	r, err := l.run(context.Background(), *op)
	if err != nil {
		log.Fatal("storeload: ", err)
	}
	fmt.Printf("%-12s %-4s %8d B x%-3d %9.1f /s %8.1f MB/s  p50 %7.2f ms  p99 %7.2f ms  n=%d errors=%d\n", *label, *op, *size, *clients,
		r.rate, r.megabytes, r.p50.Seconds()*1e3, r.p99.Seconds()*1e3, r.n, r.errors)
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

type load struct {
	target   target
	do       doer
	body     []byte
	prefix   string
	objects  int
	clients  int
	duration time.Duration
}

type result struct {
	rate, megabytes float64
	p50, p99        time.Duration
	n, errors       int
}

func (l *load) run(ctx context.Context, op string) (result, error) {
	if err := l.target.setup(ctx, l.do); err != nil {
		return result{}, err
	}
	var one func(worker, i int) (bytes int64, units int, err error)
	switch op {
	case "put":
		run := rand.Uint32()
		one = func(w, i int) (int64, int, error) {
			return int64(len(l.body)), 1, l.put(fmt.Sprintf("%s-%08x-%d-%d", l.prefix, run, w, i))
		}
	case "get":
		if err := l.fill(); err != nil {
			return result{}, err
		}
		one = func(w, i int) (int64, int, error) {
			n, err := l.get(l.name(rand.IntN(l.objects)))
			return n, 1, err
		}
	case "list":
		if err := l.fill(); err != nil {
			return result{}, err
		}
		markers := make([]string, l.clients)
		one = func(w, i int) (int64, int, error) {
			n, next, err := l.list(markers[w])
			markers[w] = next
			return 0, n, err
		}
	default:
		return result{}, fmt.Errorf("unknown operation %q", op)
	}
	return l.measure(one)
}

func (l *load) name(i int) string { return fmt.Sprintf("%s-%07d", l.prefix, i) }

// fill makes the objects that get and list work on, unless the last of them is there.
func (l *load) fill() error {
	if _, err := l.get(l.name(l.objects - 1)); err == nil {
		return nil
	}
	var g errgroup.Group
	g.SetLimit(64)
	for i := range l.objects - 1 {
		g.Go(func() error { return l.put(l.name(i)) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return l.put(l.name(l.objects - 1))
}

func (l *load) measure(one func(worker, i int) (int64, int, error)) (result, error) {
	var (
		bytes, units, errors atomic.Int64
		firstErr             atomic.Pointer[error]
		latencies            = make([][]time.Duration, l.clients)
		g                    errgroup.Group
	)
	start := time.Now()
	for w := range l.clients {
		g.Go(func() error {
			for i := 0; time.Since(start) < l.duration; i++ {
				t := time.Now()
				b, u, err := one(w, i)
				if err != nil {
					errors.Add(1)
					firstErr.CompareAndSwap(nil, &err)
					if errors.Load() > 1000 {
						return err
					}
					continue
				}
				latencies[w] = append(latencies[w], time.Since(t))
				bytes.Add(b)
				units.Add(int64(u))
			}
			return nil
		})
	}
	err := g.Wait()
	took := time.Since(start).Seconds()
	all := slices.Concat(latencies...)
	slices.Sort(all)
	if len(all) == 0 {
		if p := firstErr.Load(); p != nil {
			err = *p
		}
		return result{}, fmt.Errorf("nothing succeeded: %w", err)
	}
	if p := firstErr.Load(); p != nil {
		log.Printf("storeload: first error: %v", *p)
	}
	return result{
		rate: float64(units.Load()) / took, megabytes: float64(bytes.Load()) / took / 1e6,
		p50: all[len(all)/2], p99: all[len(all)*99/100], n: len(all), errors: int(errors.Load()),
	}, nil
}

func (l *load) put(name string) error {
	req, err := l.target.put(name, &repeat{b: l.body}, int64(len(l.body)))
	if err != nil {
		return err
	}
	return l.expect(req, nil)
}

func (l *load) get(name string) (int64, error) {
	req, err := l.target.get(name)
	if err != nil {
		return 0, err
	}
	var n int64
	err = l.expect(req, func(body io.Reader) error {
		n, err = io.Copy(io.Discard, body)
		return err
	})
	if err == nil && n != int64(len(l.body)) {
		err = fmt.Errorf("GET %s: %d bytes, want %d", name, n, len(l.body))
	}
	return n, err
}

func (l *load) list(marker string) (n int, next string, err error) {
	const limit = 1000
	req, err := l.target.list(limit, marker)
	if err != nil {
		return 0, "", err
	}
	err = l.expect(req, func(body io.Reader) error {
		n, next, err = l.target.page(body, limit)
		return err
	})
	return n, next, err
}

// expect sends a request, demands success and hands the body to read.
func (l *load) expect(req *http.Request, read func(io.Reader) error) error {
	resp, err := l.do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		msg, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return fmt.Errorf("%s %s: %s: %s", req.Method, req.URL.Path, resp.Status, msg)
	}
	if read != nil {
		if err := read(resp.Body); err != nil {
			return err
		}
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// repeat reads one buffer, without the extra interfaces of bytes.Reader that make net/http treat stores differently.
type repeat struct {
	b   []byte
	off int
}

func (r *repeat) Read(p []byte) (int, error) {
	if r.off == len(r.b) {
		return 0, io.EOF
	}
	n := copy(p, r.b[r.off:])
	r.off += n
	return n, nil
}
