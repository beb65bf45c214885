// Mantacp copies a file into the object store or out of it, in parallel parts, with a progress bar, and goes on where it was
// interrupted.
//
//	mantacp FILE ~~/stor/path     up
//	mantacp ~~/stor/path FILE     down
//
// The store and the caller come from the environment, as for the command-line tools (MANTA_URL, MANTA_USER, MANTA_KEY_ID). What an interrupted copy has
// done is kept in FILE.mantacp, beside the file; call again with the same arguments to go on.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/term"

	"github.com/mobulacloud/mobula/manta/client"
)

func main() {
	if err := run(os.Args[1:], os.Getenv, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "mantacp: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string, getenv func(string) string, stderr *os.File) error {
	fs := flag.NewFlagSet("mantacp", flag.ContinueOnError)
	parallel := fs.Int("parallel", 4, "parts under way at once")
	partMB := fs.Int64("part", 32, "size of a part in MiB (5 or more)")
	copies := fs.Int("copies", 0, "copies to keep (the server's default when 0)")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() != 2 {
		return errors.New("usage: mantacp [flags] FILE ~~/stor/path, or ~~/stor/path FILE")
	}
	c, err := client.FromEnv(getenv)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	t := transfer{c: c, bar: newBar(stderr), parallel: *parallel, part: *partMB << 20, copies: *copies}
	defer t.bar.end()
	from, to := fs.Arg(0), fs.Arg(1)
	switch {
	case remote(to) && !remote(from):
		return t.up(ctx, from, to)
	case remote(from) && !remote(to):
		return t.down(ctx, from, to)
	}
	return errors.New("one of the two must be a path in the store (~~/…)")
}

func remote(s string) bool { return strings.HasPrefix(s, "~~/") }

type transfer struct {
	c        *client.Client
	bar      *bar
	parallel int
	part     int64
	copies   int
}

// progress is what is kept beside the file between two calls.
type progress struct {
	Upload *client.UploadRef `json:"upload,omitempty"`
	Part   int64             `json:"part"`
	Size   int64             `json:"size"`
	Etag   string            `json:"etag,omitempty"`
	Done   map[int]bool      `json:"done,omitempty"`
}

func load(file string, want progress) progress {
	var p progress
	b, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(b, &p) != nil || p.Part != want.Part || p.Size != want.Size || p.Etag != want.Etag {
		return want // nothing to go on from, or it was another content
	}
	return p
}

func (p progress) save(file string) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o600)
}

func (t *transfer) up(ctx context.Context, file, path string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	state := file + ".mantacp"
	p := load(state, progress{Part: t.part, Size: st.Size()})
	_, err = t.c.Upload(ctx, &client.UploadInput{
		Path: path, Body: f, Size: st.Size(), PartSize: t.part, Parallel: t.parallel, Copies: t.copies,
		Resume: p.Upload, Progress: t.bar.set,
		Began: func(u *client.UploadRef) {
			p.Upload = u
			if err := p.save(state); err != nil {
				fmt.Fprintf(t.bar.w, "mantacp: cannot keep track of the upload: %v\n", err)
			}
		},
	})
	if err != nil {
		return err
	}
	return remove(state)
}

func (t *transfer) down(ctx context.Context, path, file string) error {
	info, err := t.c.HeadObject(ctx, &client.HeadObjectInput{Path: path})
	if err != nil {
		return err
	}
	state := file + ".mantacp"
	p := load(state, progress{Part: t.part, Size: info.Size, Etag: info.Etag, Done: map[int]bool{}})
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(info.Size); err != nil {
		return err
	}
	done := make(map[int]bool, len(p.Done))
	for i := range p.Done {
		done[i] = true
	}
	_, err = t.c.Download(ctx, &client.DownloadInput{
		Path: path, To: f, PartSize: t.part, Parallel: t.parallel, Etag: info.Etag, Progress: t.bar.set,
		Done: func(i int) bool { return done[i] },
		PartDone: func(i int) {
			p.Done[i] = true
			if err := errors.Join(f.Sync(), p.save(state)); err != nil {
				fmt.Fprintf(t.bar.w, "mantacp: cannot keep track of the download: %v\n", err)
			}
		},
	})
	if errors.Is(err, client.ErrChecksum) {
		return errors.Join(err, remove(state)) // what is there is not the object: begin anew next time
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), remove(state))
}

func remove(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// A bar draws progress on a terminal, and nothing anywhere else.
type bar struct {
	w     io.Writer
	tty   bool
	width int
	drawn string
}

func newBar(f *os.File) *bar {
	b := &bar{w: f, tty: term.IsTerminal(int(f.Fd())), width: 50}
	if w, _, err := term.GetSize(int(f.Fd())); err == nil {
		b.width = max(10, min(60, w-24))
	}
	return b
}

func (b *bar) set(done, total int64) {
	if !b.tty || total == 0 {
		return
	}
	fill := int(int64(b.width) * done / total)
	line := fmt.Sprintf("[%s%s] %3d%% %6.1f MB", strings.Repeat("=", fill), strings.Repeat(" ", b.width-fill), 100*done/total, float64(done)/1e6)
	if line != b.drawn {
		fmt.Fprintf(b.w, "\r%s", line)
		b.drawn = line
	}
}

func (b *bar) end() {
	if b.drawn != "" {
		fmt.Fprintln(b.w)
	}
}
