// Jobload measures compute on the data. It stores objects of one size, and then counts lines in each of them in three ways, in turn:
//
//	local    a grep for each object, on plain files of the same content: what the machine allows
//	getpipe  every object fetched and piped into a grep: what one does without jobs
//	job      a map job with the same grep
//
// and measures the smallest job, one object from submission to archived outputs.
//
//	jobload -url http://127.0.0.1:8080 -key KEYFILE -size 4096 -objects 2000
//
// It loads only the loopback interface.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mobulacloud/mobula/manta/client"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("jobload: ")
	var (
		base    = flag.String("url", "http://127.0.0.1:8080", "the store's address, on loopback")
		account = flag.String("account", "demo", "account")
		keyFile = flag.String("key", "", "private key file")
		size    = flag.Int64("size", 4096, "bytes of an object")
		objects = flag.Int("objects", 1000, "number of objects")
		workers = flag.Int("workers", 2, "processes at once, of local and getpipe")
		rounds  = flag.Int("rounds", 3, "how often each way is measured")
		ways    = flag.String("ways", "local,getpipe,job", "what is measured")
		smalls  = flag.Int("smalls", 0, "how many smallest jobs to run, one after another")
	)
	flag.Parse()
	u, err := url.Parse(*base)
	if err != nil || !loopback(u.Hostname()) {
		log.Fatalf("-url %q is not on loopback", *base)
	}
	text, err := os.ReadFile(*keyFile)
	if err != nil {
		log.Fatal(err)
	}
	signer, err := client.ParseKey(text, nil)
	if err != nil {
		log.Fatal(err)
	}
	store, err := client.New(client.Options{Endpoint: *base, Account: *account, Signer: signer})
	if err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "jobload")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l := &load{store: store, url: *base, account: *account, dir: dir, size: *size, objects: *objects, workers: *workers, ways: strings.Split(*ways, ",")}
	if err := l.run(context.Background(), *rounds, *smalls); err != nil {
		os.RemoveAll(dir)
		log.Fatal(err)
	}
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

type load struct {
	store             *client.Client
	url, account, dir string
	token             string
	size              int64
	objects, workers  int
	ways              []string
}

func (l *load) run(ctx context.Context, rounds, smalls int) error {
	token, err := l.store.CreateToken(ctx)
	if err != nil {
		return err
	}
	l.token = token
	if err := l.fill(ctx); err != nil {
		return err
	}
	for range rounds {
		for _, way := range []struct {
			name string
			run  func(context.Context) error
		}{{"local", l.local}, {"getpipe", l.getpipe}, {"job", l.asJob}} {
			if !slices.Contains(l.ways, way.name) {
				continue
			}
			began := time.Now()
			if err := way.run(ctx); err != nil {
				return fmt.Errorf("%s: %w", way.name, err)
			}
			took := time.Since(began).Seconds()
			fmt.Printf("%-8s %9d B x%-6d %9.1f /s %9.1f MB/s  %7.2f s\n", way.name, l.size, l.objects,
				float64(l.objects)/took, float64(l.objects)*float64(l.size)/took/1e6, took)
		}
	}
	return l.smallest(ctx, smalls)
}

func (l *load) name(i int) string { return fmt.Sprintf("%06d", i) }

func (l *load) path(i int) string {
	return fmt.Sprintf("/%s/stor/jobload-%d/%s", l.account, l.size, l.name(i))
}

// fill stores the objects, and writes the same content to files.
func (l *load) fill(ctx context.Context) error {
	body := bytes.Repeat([]byte("a line of text with an x\nand one without\n"), int(l.size/40)+1)[:l.size]
	if err := l.store.MakeAll(ctx, filepath.Dir(l.path(0))); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i := range l.objects {
		g.Go(func() error {
			if err := os.WriteFile(filepath.Join(l.dir, l.name(i)), body, 0o600); err != nil {
				return err
			}
			_, err := l.store.PutObject(ctx, &client.PutObjectInput{Path: l.path(i), Body: bytes.NewReader(body)})
			return err
		})
	}
	return g.Wait()
}

// each runs f for every object, as many at once as there are workers.
func (l *load) each(ctx context.Context, f func(context.Context, int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(l.workers)
	for i := range l.objects {
		g.Go(func() error { return f(ctx, i) })
	}
	return g.Wait()
}

func (l *load) local(ctx context.Context) error {
	return l.each(ctx, func(ctx context.Context, i int) error {
		f, err := os.Open(filepath.Join(l.dir, l.name(i)))
		if err != nil {
			return err
		}
		defer f.Close()
		return grep(ctx, f)
	})
}

func (l *load) getpipe(ctx context.Context) error {
	return l.each(ctx, func(ctx context.Context, i int) error {
		out, err := l.store.GetObject(ctx, &client.GetObjectInput{Path: l.path(i)})
		if err != nil {
			return err
		}
		defer out.Body.Close()
		return grep(ctx, out.Body)
	})
}

func grep(ctx context.Context, in io.Reader) error {
	cmd := exec.CommandContext(ctx, "grep", "-c", "x")
	cmd.Stdin = in
	out, err := cmd.Output()
	if err == nil && len(bytes.TrimSpace(out)) == 0 {
		err = errors.New("grep counted nothing")
	}
	return err
}

type status struct {
	State string `json:"state"`
	Stats struct {
		Outputs, Errors, TasksDone int64
	} `json:"stats"`
}

// asJob runs one job over all objects.
func (l *load) asJob(ctx context.Context) error {
	id, err := l.create(ctx, `{"phases":[{"type":"map","exec":"grep -c x"}]}`)
	if err != nil {
		return err
	}
	var keys strings.Builder
	for i := range l.objects {
		keys.WriteString(l.path(i) + "\n")
	}
	if _, err := l.do(ctx, http.MethodPost, "/jobs/"+id+"/live/in?end=true", "text/plain", keys.String()); err != nil {
		return err
	}
	s, err := l.wait(ctx, id)
	if err == nil && (s.Stats.Outputs != int64(l.objects) || s.Stats.Errors != 0) {
		err = fmt.Errorf("job %s: %d outputs and %d errors of %d inputs", id, s.Stats.Outputs, s.Stats.Errors, l.objects)
	}
	return err
}

// smallest measures jobs over one object, from submission until the archive is there.
func (l *load) smallest(ctx context.Context, n int) error {
	var times []time.Duration
	for range n {
		began := time.Now()
		id, err := l.create(ctx, `{"phases":[{"type":"map","exec":"wc"}]}`)
		if err != nil {
			return err
		}
		if _, err := l.do(ctx, http.MethodPost, "/jobs/"+id+"/live/in?end=true", "text/plain", l.path(0)+"\n"); err != nil {
			return err
		}
		for {
			if _, err := l.do(ctx, http.MethodGet, "/jobs/"+id+"/job.json", "", ""); err == nil {
				break
			} else if time.Since(began) > time.Minute {
				return err
			}
			time.Sleep(2 * time.Millisecond)
		}
		times = append(times, time.Since(began))
	}
	if n > 0 {
		slices.Sort(times)
		fmt.Printf("smallest job, submission to archive: p50 %.1f ms  p90 %.1f ms  n=%d\n", times[n/2].Seconds()*1e3, times[n*9/10].Seconds()*1e3, n)
	}
	return nil
}

func (l *load) create(ctx context.Context, definition string) (id string, err error) {
	resp, err := l.do(ctx, http.MethodPost, "/jobs", "application/json; type=job", definition)
	if err != nil {
		return "", err
	}
	return filepath.Base(resp.Header.Get("Location")), nil
}

// wait waits for a job to end, and of a long one shows how far it is.
func (l *load) wait(ctx context.Context, id string) (s status, err error) {
	shown, before := time.Now(), int64(0)
	for s.State != "done" {
		if since := time.Since(shown); since > 10*time.Second {
			fmt.Printf("         %d of %d done, %.1f /s\n", s.Stats.TasksDone, l.objects, float64(s.Stats.TasksDone-before)/since.Seconds())
			shown, before = time.Now(), s.Stats.TasksDone
		}
		resp, err := l.do(ctx, http.MethodGet, "/jobs/"+id+"/live/status", "", "")
		if err != nil {
			return s, err
		}
		if err := json.Unmarshal(resp.body, &s); err != nil {
			return s, err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return s, nil
}

type response struct {
	http.Header
	body []byte
}

// do sends one request below the account's tree, with the token.
func (l *load) do(ctx context.Context, method, path, contentType, body string) (response, error) {
	req, err := http.NewRequestWithContext(ctx, method, l.url+"/"+l.account+path, strings.NewReader(body))
	if err != nil {
		return response{}, err
	}
	req.Header.Set("Authorization", "Token "+l.token)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, b)
	}
	return response{resp.Header, b}, err
}
