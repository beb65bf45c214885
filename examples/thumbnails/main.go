// Thumbnails makes small pictures of large ones on the servers that have them.
//
// It draws some pictures, stores them below ~~/stor/examples/thumbnails, and runs a job whose program is this very binary, sent along as an asset: each
// task reads one picture as a file of the server it runs on, and gives out a smaller one under a name of its own. Then it compares each with what it
// makes itself, and removes everything again. The store and the caller come from the environment, as for the command-line tools (MANTA_URL,
// MANTA_USER, MANTA_KEY_ID).
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"os"
	"os/signal"
	"path"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/mobulacloud/mobula/manta/client"
)

func main() {
	keep := flag.Bool("keep", false, "leave the pictures in the store")
	pictures := flag.Int("pictures", 20, "pictures to draw")
	size := flag.Int("size", 160, "width or height of a thumbnail, whichever is greater")
	worker := flag.Bool("worker", false, "make one thumbnail: of stdin, to stdout, as the job's tasks do")
	flag.Parse()
	err := func() error {
		if *worker {
			return shrink(os.Stdin, os.Stdout, *size)
		}
		c, err := client.FromEnv(os.Getenv)
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		return gallery{c: c, dir: "~~/stor/examples/thumbnails", size: *size, keep: *keep}.run(ctx, drawn(*pictures), os.Stdout)
	}()
	if err != nil {
		fmt.Fprintf(os.Stderr, "thumbnails: %v\n", err)
		os.Exit(1)
	}
}

// A gallery is one run of the program.
type gallery struct {
	c    *client.Client
	dir  string
	size int
	keep bool
}

// run makes thumbnails of pictures by name, in PNG or JPEG, and prints where they are.
func (g gallery) run(ctx context.Context, pictures map[string][]byte, out io.Writer) (err error) {
	if !g.keep {
		defer func() { err = errors.Join(err, g.c.RemoveAll(context.WithoutCancel(ctx), g.dir)) }()
	}
	account := "/" + g.c.Account()
	dir := strings.Replace(g.dir, "~~", account, 1)
	program, err := g.program(ctx, dir)
	if err != nil {
		return err
	}
	inputs, err := g.store(ctx, dir, pictures)
	if err != nil {
		return err
	}
	exec := fmt.Sprintf(`set -o pipefail; /assets%s -worker -size %d < "$MANTA_INPUT_FILE" | mpipe -p -H 'content-type: image/png' "%s/small/$(basename "$MANTA_INPUT_OBJECT").png"`,
		program, g.size, dir)
	job, err := g.c.Job().Name("thumbnails").Map(exec).Asset(program).Run(ctx, slices.Values(inputs))
	if err != nil {
		return err
	}
	made := 0
	for name, err := range job.FollowOutputs(ctx, client.WaitOptions{}) {
		if err != nil {
			return err
		}
		if err := g.check(ctx, name, pictures[strings.TrimSuffix(path.Base(name), ".png")]); err != nil {
			return err
		}
		fmt.Fprintln(out, name)
		made++
	}
	for e, err := range job.Errors(ctx) {
		if err != nil {
			return err
		}
		return e
	}
	if made != len(pictures) {
		return fmt.Errorf("%d thumbnails of %d pictures", made, len(pictures))
	}
	return nil
}

// program stores this binary and returns its path.
func (g gallery) program(ctx context.Context, dir string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	f, err := os.Open(self)
	if err != nil {
		return "", err
	}
	defer f.Close()
	name := dir + "/bin/thumbnails"
	_, err = g.c.PutObject(ctx, &client.PutObjectInput{Path: name, Body: f, MakeParents: true})
	return name, err
}

// store puts the pictures into the store, a few at a time, and returns their paths.
func (g gallery) store(ctx context.Context, dir string, pictures map[string][]byte) (paths []string, err error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for name, content := range pictures {
		name := dir + "/large/" + name
		paths = append(paths, name)
		group.Go(func() error {
			_, err := g.c.PutObject(ctx, &client.PutObjectInput{Path: name, Body: bytes.NewReader(content), MakeParents: true})
			return err
		})
	}
	return paths, group.Wait()
}

// check compares a thumbnail with one that is made here.
func (g gallery) check(ctx context.Context, name string, picture []byte) error {
	obj, err := g.c.GetObject(ctx, &client.GetObjectInput{Path: name})
	if err != nil {
		return err
	}
	defer obj.Body.Close()
	got, err := io.ReadAll(obj.Body)
	if err != nil {
		return err
	}
	var want bytes.Buffer
	if err := shrink(bytes.NewReader(picture), &want, g.size); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		return fmt.Errorf("%s is not what is made here", name)
	}
	return nil
}

// maxPixels bounds what a picture may say that it is, before room is made for it.
const maxPixels = 100 << 20

// shrink reads a picture and writes one that fits into a square of a size. Smaller ones stay as they are.
func shrink(r io.Reader, w io.Writer, size int) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	head, _, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return err
	}
	if head.Width < 1 || head.Height < 1 || head.Width > maxPixels/head.Height {
		return fmt.Errorf("a picture of %d by %d", head.Width, head.Height)
	}
	from, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return err
	}
	b := from.Bounds()
	most := max(b.Dx(), b.Dy())
	if size < 1 || most <= size {
		return png.Encode(w, from)
	}
	to := image.NewNRGBA(image.Rect(0, 0, max(1, b.Dx()*size/most), max(1, b.Dy()*size/most)))
	for y := range to.Rect.Dy() {
		for x := range to.Rect.Dx() {
			to.SetNRGBA(x, y, mean(from, image.Rect(x*b.Dx()/to.Rect.Dx(), y*b.Dy()/to.Rect.Dy(), (x+1)*b.Dx()/to.Rect.Dx(), (y+1)*b.Dy()/to.Rect.Dy()).Add(b.Min)))
		}
	}
	return png.Encode(w, to)
}

// mean returns the mean colour of a part of a picture, in which transparent points weigh nothing.
func mean(m image.Image, part image.Rectangle) color.NRGBA {
	var r, g, b, a, n uint64
	for y := part.Min.Y; y < part.Max.Y; y++ {
		for x := part.Min.X; x < part.Max.X; x++ {
			pr, pg, pb, pa := m.At(x, y).RGBA()
			r, g, b, a, n = r+uint64(pr), g+uint64(pg), b+uint64(pb), a+uint64(pa), n+1
		}
	}
	if a == 0 {
		return color.NRGBA{}
	}
	return color.NRGBA{uint8(r * 255 / a), uint8(g * 255 / a), uint8(b * 255 / a), uint8(a / n >> 8)}
}

// drawn returns pictures by name: rings and stripes of many sizes, in both formats.
func drawn(n int) map[string][]byte {
	pictures := map[string][]byte{}
	for i := range n {
		m := image.NewRGBA(image.Rect(0, 0, 200+i*37%900, 150+i*53%700))
		for y := range m.Rect.Dy() {
			for x := range m.Rect.Dx() {
				ring := (x-m.Rect.Dx()/2)*(x-m.Rect.Dx()/2) + (y-m.Rect.Dy()/2)*(y-m.Rect.Dy()/2)
				m.SetRGBA(x, y, color.RGBA{uint8(ring / (97 + i)), uint8(x * 255 / m.Rect.Dx()), uint8(y * (i + 1) / 3), 255})
			}
		}
		var b bytes.Buffer
		name := fmt.Sprintf("picture %02d.png", i)
		encode := func() error { return png.Encode(&b, m) }
		if i%2 == 1 {
			name = fmt.Sprintf("picture %02d.jpg", i)
			encode = func() error { return jpeg.Encode(&b, m, nil) }
		}
		if err := encode(); err != nil {
			panic(err) // to memory, of a picture that was just made
		}
		pictures[name] = b.Bytes()
	}
	return pictures
}
