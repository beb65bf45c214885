// Videoprobe says what is in video files, on the servers that have them.
//
// It makes some files in the ISO base media format (MP4), whose pictures are noise but whose tables are right, stores them below
// ~~/stor/examples/videoprobe, and runs a job whose program is this very binary, sent along as an asset. An input is a file to a task: it reads the few
// kilobytes of tables and skips the pictures, however large they are. The result is compared with what the files were made as, and everything is
// removed again. The store and the caller come from the environment, as for the command-line tools (MANTA_URL, MANTA_USER, MANTA_KEY_ID).
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/mobulacloud/mobula/manta/client"
)

func main() {
	keep := flag.Bool("keep", false, "leave the videos in the store")
	videos := flag.Int("videos", 12, "videos to make")
	mib := flag.Int64("size", 4, "MiB of pictures in each")
	worker := flag.Bool("worker", false, "say what is in one file, as the job's tasks do: videoprobe -worker FILE NAME")
	flag.Parse()
	err := func() error {
		if *worker {
			return probeFile(flag.Arg(0), flag.Arg(1), os.Stdout)
		}
		c, err := client.FromEnv(os.Getenv)
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		return library{c: c, dir: "~~/stor/examples/videoprobe", keep: *keep}.run(ctx, invented(*videos), *mib<<20, os.Stdout)
	}()
	if err != nil {
		fmt.Fprintf(os.Stderr, "videoprobe: %v\n", err)
		os.Exit(1)
	}
}

// probeFile writes what is in a file as a line of JSON.
func probeFile(file, name string, out io.Writer) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	v, err := Probe(f)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	v.Name = name
	return json.NewEncoder(out).Encode(v)
}

// A library is one run of the program.
type library struct {
	c    *client.Client
	dir  string
	keep bool
}

// run stores videos, each with a number of bytes of pictures, and prints what the job says of them.
func (l library) run(ctx context.Context, videos []Video, size int64, out io.Writer) (err error) {
	if !l.keep {
		defer func() { err = errors.Join(err, l.c.RemoveAll(context.WithoutCancel(ctx), l.dir)) }()
	}
	dir := strings.Replace(l.dir, "~~", "/"+l.c.Account(), 1)
	program, err := l.program(ctx, dir)
	if err != nil {
		return err
	}
	want := map[Video]bool{}
	var inputs []string
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for _, v := range videos {
		v.Name = dir + "/videos/" + v.Name
		want[v] = true
		inputs = append(inputs, v.Name)
		g.Go(func() error {
			_, err := l.c.PutObject(gctx, &client.PutObjectInput{Path: v.Name, Body: v.File(size), MakeParents: true, Attributes: client.Attributes{ContentType: "video/mp4"}})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	job, err := l.c.Job().Name("videoprobe").
		Map(fmt.Sprintf(`/assets%s -worker "$MANTA_INPUT_FILE" "$MANTA_INPUT_OBJECT"`, program)).Asset(program).
		Reduce("LC_ALL=C sort").
		Run(ctx, slices.Values(inputs))
	if err != nil {
		return err
	}
	for name, err := range job.FollowOutputs(ctx, client.WaitOptions{}) {
		if err != nil {
			return err
		}
		if err := l.compare(ctx, name, want, out); err != nil {
			return err
		}
	}
	for e, err := range job.Errors(ctx) {
		if err != nil {
			return err
		}
		return e
	}
	if len(want) > 0 {
		return fmt.Errorf("%d videos were not found", len(want))
	}
	return nil
}

// compare reads the job's result, prints it, and takes what it says off the list of what is expected.
func (l library) compare(ctx context.Context, name string, want map[Video]bool, out io.Writer) error {
	obj, err := l.c.GetObject(ctx, &client.GetObjectInput{Path: name})
	if err != nil {
		return err
	}
	defer obj.Body.Close()
	for lines := bufio.NewScanner(obj.Body); ; {
		if !lines.Scan() {
			return lines.Err()
		}
		var v Video
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			return err
		}
		if !want[v] {
			return fmt.Errorf("the job says %+v, which no video was made as", v)
		}
		delete(want, v)
		fmt.Fprintf(out, "%s: %s, %dx%d, %d frames, %.3f s\n", v.Name, v.Codec, v.Width, v.Height, v.Frames, v.Seconds())
	}
}

// program stores this binary and returns its path.
func (l library) program(ctx context.Context, dir string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	f, err := os.Open(self)
	if err != nil {
		return "", err
	}
	defer f.Close()
	name := dir + "/bin/videoprobe"
	_, err = l.c.PutObject(ctx, &client.PutObjectInput{Path: name, Body: f, MakeParents: true})
	return name, err
}

// invented returns videos of many kinds.
func invented(n int) (videos []Video) {
	codecs := []string{"avc1", "hvc1", "av01", "mp4v"}
	for i := range n {
		videos = append(videos, Video{
			Name: fmt.Sprintf("video-%02d.mp4", i), Codec: codecs[i%len(codecs)], Width: 320 + i*160, Height: 180 + i*90, Frames: 250 + 31*i, Timescale: 600 + 90*i,
			Duration: int64(6000 + 1234*i), TablesLast: i%3 == 2,
		})
	}
	return videos
}
