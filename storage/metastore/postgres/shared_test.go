package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/internal/lintest"
	"github.com/mobulacloud/mobula/storage/metastore/postgres/pgtest"
)

// another opens the tables of a store once more, as another process would.
func another(t *testing.T, server *pgtest.Server, s *Store) *Store {
	t.Helper()
	two, err := Open(t.Context(), server.URL(), s.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { two.Close() })
	return two
}

func TestLinearizable(t *testing.T) {
	server := pgtest.Shared(t)
	one := fresh(t, server, Config{})
	lintest.Check(t, one, another(t, server, one))
}

// TestStaleRefusal has a process judge a batch by a schema that another has replaced: only the present one may refuse.
func TestStaleRefusal(t *testing.T) {
	server := pgtest.Shared(t)
	one := fresh(t, server, Config{})
	b := metastore.Bucket{Name: "w", Version: 1, Indexes: []metastore.Index{{Field: "x", Type: metastore.Number}}}
	if err := one.Define(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	two := another(t, server, one)
	b.Version, b.Indexes[0].Type = 2, metastore.String
	if err := one.Define(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	write := metastore.Batch{metastore.Put{Bucket: "w", Key: metastore.Key{Name: "1"}, Value: []byte(`{"x":"text"}`)}}
	if _, err := two.Commit(t.Context(), write); err != nil {
		t.Errorf("Commit of what the present schema takes = %v", err)
	}
	if err := two.Drop(t.Context(), "w"); err != nil {
		t.Fatal(err)
	}
	write[0] = metastore.Put{Bucket: "w", Key: metastore.Key{Name: "1"}, Value: []byte(`{"x":7}`)}
	if _, err := one.Commit(t.Context(), write); !errors.Is(err, metastore.ErrNoBucket) {
		t.Errorf("Commit to a bucket that is gone = %v", err)
	}
}

var watchedBucket = metastore.Bucket{Name: "w", Watched: true}

func put(t *testing.T, s *Store, name string) metastore.Result {
	t.Helper()
	r, err := s.Commit(t.Context(), metastore.Batch{metastore.Put{Bucket: "w", Key: metastore.Key{Partition: "p", Name: name}, Value: []byte(`{}`)}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestWatchAcross holds that a watcher learns of another process's commits by push: well before it would look by itself.
func TestWatchAcross(t *testing.T) {
	server := pgtest.Shared(t)
	one := fresh(t, server, Config{})
	two := another(t, server, one)
	if err := one.Define(t.Context(), watchedBucket); err != nil {
		t.Fatal(err)
	}
	start, err := two.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	put(t, one, "0")
	n := 0
	began := time.Now()
	for c, err := range two.Watch(t.Context(), start, "w") {
		if err != nil {
			t.Fatal(err)
		}
		if c.Key.Name != fmt.Sprint(n) {
			t.Fatalf("change of %v, want %d", c.Key, n)
		}
		if n++; n == 20 {
			break
		}
		put(t, one, fmt.Sprint(n))
	}
	if d := time.Since(began); d > 2*lostNotice {
		t.Errorf("20 changes took %v: they were found by looking, not by push", d)
	}
}

// TestLateCommit is the trap of every log that is ordered by numbers: a transaction that began early and commits late must
// not be missed by a watcher who has read later ones in the meantime.
func TestLateCommit(t *testing.T) {
	server := pgtest.Shared(t)
	s := fresh(t, server, Config{})
	if err := s.Define(t.Context(), watchedBucket); err != nil {
		t.Fatal(err)
	}
	start := put(t, s, "first").Position
	early, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer early.Rollback(context.WithoutCancel(t.Context()))
	var keys columns
	keys.add(s.buckets.Load().byName["w"].ID, metastore.Key{Partition: "p", Name: "early"})
	if _, err := early.Exec(t.Context(), s.sql.insertChanges, keys.id, keys.pp, keys.ph, keys.np, keys.nh, keys.prest, keys.nrest); err != nil {
		t.Fatal(err)
	}
	late := put(t, s, "late").Position
	var seen []string
	for c, err := range s.Watch(t.Context(), start, "w") {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, c.Key.Name)
		if c.Key.Name == "late" {
			// What follows a position is what was not visible at it: here too, though its number is lower.
			if err := early.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.watch.changed()
		}
		if c.Key.Name == "early" {
			break
		}
	}
	if got := strings.Join(seen, " "); got != "late early" {
		t.Errorf("watched %q", got)
	}
	for c, err := range s.Watch(t.Context(), late, "w") {
		if err != nil || c.Key.Name != "early" {
			t.Errorf("after the late commit's own position: %v, %v", c.Key, err)
		}
		break
	}
}

func TestTrim(t *testing.T) {
	server := pgtest.Shared(t)
	s := fresh(t, server, Config{ChangeAge: time.Nanosecond})
	if err := s.Define(t.Context(), watchedBucket); err != nil {
		t.Fatal(err)
	}
	start := put(t, s, "a").Position
	put(t, s, "b")
	if err := s.trim(t.Context()); err != nil {
		t.Fatal(err)
	}
	end := put(t, s, "c").Position
	for _, err := range s.Watch(t.Context(), start, "w") {
		if !errors.Is(err, metastore.ErrPositionGone) {
			t.Errorf("Watch from before what is left = %v", err)
		}
	}
	put(t, s, "d")
	for _, from := range []metastore.Position{"", end} {
		for c, err := range s.Watch(t.Context(), from, "w") {
			if want := map[metastore.Position]string{"": "c", end: "d"}[from]; err != nil || c.Key.Name != want {
				t.Errorf("Watch from %q: %v, %v, want %s", from, c.Key, err, want)
			}
			break
		}
	}
}

// TestBrokenConnections ends every connection under the store, a commit's between its halves included.
func TestBrokenConnections(t *testing.T) {
	server := pgtest.Shared(t)
	s := fresh(t, server, Config{})
	if err := s.Define(t.Context(), watchedBucket); err != nil {
		t.Fatal(err)
	}
	admin, err := pgx.Connect(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.WithoutCancel(t.Context()))
	start := put(t, s, "0").Position
	changes := make(chan string, 1000)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		for at := start; ctx.Err() == nil; {
			for c, err := range s.Watch(ctx, at, "w") {
				switch {
				case err == nil:
					at = c.Position
					changes <- c.Key.Name
				case !errors.Is(err, metastore.ErrUnavailable):
					changes <- err.Error()
					return
				}
			}
		}
	}()
	acked := 0
	for i := 1; i <= 40; i++ {
		if i%4 == 0 {
			if _, err := admin.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mobula metastore'`); err != nil {
				t.Fatal(err)
			}
		}
		_, err := s.Commit(t.Context(), metastore.Batch{
			metastore.Put{Bucket: "w", Key: metastore.Key{Partition: "p", Name: fmt.Sprint(i)}, Value: []byte(`{}`)},
			metastore.Add{Bucket: "w", Key: metastore.Key{Partition: "p"}, Delta: 1},
		})
		if err == nil {
			acked++
		} else if !errors.Is(err, metastore.ErrUnavailable) {
			t.Errorf("Commit on a broken connection = %v, want ErrUnavailable", err)
		}
	}
	n, err := s.Counter(t.Context(), "w", metastore.Key{Partition: "p"})
	if err != nil {
		if n, err = s.Counter(t.Context(), "w", metastore.Key{Partition: "p"}); err != nil {
			t.Fatal(err)
		}
	}
	if n < int64(acked) {
		t.Errorf("the counter is at %d after %d acknowledged commits", n, acked)
	}
	put(t, s, "end")
	for name := range changes {
		if name == "end" {
			break
		}
		if strings.Contains(name, "metastore") {
			t.Fatal(name)
		}
	}
}

// TestSecrets holds that a password comes out nowhere.
func TestSecrets(t *testing.T) {
	const secret = "Hunter2-secret"
	var log bytes.Buffer
	c := Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	for _, url := range []string{
		"postgres://user:" + secret + "@127.0.0.1:1/db?connect_timeout=1",
		"postgres://user:" + secret + "@127.0.0.1:port/db",
		"postgres://user:" + secret + "@[::1/db",
		"host=127.0.0.1 port=1 user=u password=" + secret + " nonsense",
	} {
		_, err := Open(t.Context(), url, c)
		if err == nil {
			t.Fatal("opened")
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("error holds the password: %v", err)
		}
	}
	server := pgtest.Shared(t)
	_, err := Open(t.Context(), server.URL()+"&user=nobody_here&password="+secret, c)
	if err == nil || strings.Contains(err.Error(), secret) || strings.Contains(log.String(), secret) {
		t.Errorf("error %v, log %s", err, &log)
	}
}

// TestOtherDatabase has the tables come from another database, by their transaction ids.
func TestOtherDatabase(t *testing.T) {
	server := pgtest.Shared(t)
	s := fresh(t, server, Config{})
	if err := s.Define(t.Context(), watchedBucket); err != nil {
		t.Fatal(err)
	}
	start := put(t, s, "a").Position
	if _, err := s.pool.Exec(t.Context(), `UPDATE `+s.config.Schema+`.changes SET xid = '9999999999'`); err != nil {
		t.Fatal(err)
	}
	two := another(t, server, s)
	for _, err := range two.Watch(t.Context(), start, "w") {
		if !errors.Is(err, metastore.ErrPositionGone) {
			t.Errorf("Watch from a position of the other database = %v", err)
		}
	}
	end, err := two.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	put(t, two, "b")
	for c, err := range two.Watch(t.Context(), end, "w") {
		if err != nil || c.Key.Name != "b" {
			t.Errorf("%v, %v", c.Key, err)
		}
		break
	}
}

func FuzzSnapshot(f *testing.F) {
	f.Add("10:20:10,14,15", uint64(14))
	f.Add("1:1:", uint64(5))
	f.Add("100:104:100,102", uint64(110))
	f.Fuzz(func(t *testing.T, text string, xid uint64) {
		s, err := parseSnapshot(text)
		if err != nil {
			return
		}
		again, err := parseSnapshot(s.String())
		if err != nil || again.String() != s.String() {
			t.Fatalf("%q is written as %q, which reads as %v, %v", text, s, again, err)
		}
		if xid >= s.xmin && xid < s.xmax+1000 {
			with := s.with(xid)
			if !with.sees(xid) {
				t.Fatalf("%s with %d is %s, and does not see it", s, xid, with)
			}
			for x := s.xmin; x < min(s.xmax+5, s.xmin+100); x++ {
				if x != xid && with.sees(x) != s.sees(x) {
					t.Fatalf("%s with %d is %s, which differs for %d", s, xid, with, x)
				}
			}
			if _, err := parseSnapshot(with.String()); err != nil {
				t.Fatalf("%s with %d is %s: %v", s, xid, with, err)
			}
		}
	})
}
