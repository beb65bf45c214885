// Wordcount counts words in texts on the servers that have them, and prints the most frequent ones.
//
//	wordcount                       counts in texts that it makes up
//	wordcount /usr/share/doc/*/README*   counts in files of this machine
//
// It stores the texts below ~~/stor/examples/wordcount, runs a job of three phases, compares the result with what it counts itself, and removes everything
// again. The store and the caller come from the environment, as for the command-line tools (MANTA_URL, MANTA_USER, MANTA_KEY_ID).
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
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
	keep := flag.Bool("keep", false, "leave the texts in the store")
	reducers := flag.Int("reducers", 4, "reducers that share the words")
	top := flag.Int("top", 10, "words to print")
	flag.Parse()
	err := func() error {
		c, err := client.FromEnv(os.Getenv)
		if err != nil {
			return err
		}
		texts, err := read(flag.Args())
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		return count{c: c, dir: "~~/stor/examples/wordcount", reducers: *reducers, top: *top, keep: *keep}.run(ctx, texts, os.Stdout)
	}()
	if err != nil {
		fmt.Fprintf(os.Stderr, "wordcount: %v\n", err)
		os.Exit(1)
	}
}

// A count is one run of the program.
type count struct {
	c             *client.Client
	dir           string
	reducers, top int
	keep          bool
}

// The programs of the job. Words are runs of letters, in small letters.
const (
	// words counts within one text, and gives each word to one of the reducers.
	words = `export LC_ALL=C; tr -cs A-Za-z '\n' | tr A-Z a-z | grep . | sort | uniq -c | awk '{print $2 "\t" $1}' | msplit -n %d`
	// sums adds up what the texts have of the words that come to a reducer, and keeps the most frequent ones.
	sums = `export LC_ALL=C; awk -F '\t' '{n[$1] += $2} END {for (w in n) print w "\t" n[w]}' | sort -t '	' -k2,2nr -k1,1 | head -n %d`
	// most makes one list of all reducers' lists.
	most = `export LC_ALL=C; sort -t '	' -k2,2nr -k1,1 | head -n %d`
)

// run counts the words of texts by name, and prints the most frequent ones.
func (n count) run(ctx context.Context, texts map[string][]byte, out io.Writer) (err error) {
	if !n.keep {
		defer func() { err = errors.Join(err, n.c.RemoveAll(context.WithoutCancel(ctx), n.dir)) }()
	}
	inputs, err := n.store(ctx, texts)
	if err != nil {
		return err
	}
	job, err := n.c.Job().Name("wordcount").
		Map(fmt.Sprintf(words, n.reducers)).
		Reduce(fmt.Sprintf(sums, n.top)).Count(n.reducers).
		Reduce(fmt.Sprintf(most, n.top)).
		Run(ctx, slices.Values(inputs))
	if err != nil {
		return err
	}
	var result bytes.Buffer
	for path, err := range job.FollowOutputs(ctx, client.WaitOptions{}) {
		if err != nil {
			return err
		}
		obj, err := n.c.GetObject(ctx, &client.GetObjectInput{Path: path})
		if err != nil {
			return err
		}
		_, err = result.ReadFrom(obj.Body)
		obj.Body.Close()
		if err != nil {
			return err
		}
	}
	for e, err := range job.Errors(ctx) {
		if err != nil {
			return err
		}
		return e
	}
	status, err := job.Status(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d texts, %d tasks, %v\n%s", len(texts), status.Stats.Tasks, status.TimeDone.Sub(status.TimeCreated), result.Bytes())
	if want := local(texts, n.top); want != result.String() {
		return fmt.Errorf("the same count here gives something else:\n%s", want)
	}
	return nil
}

// store puts the texts into the store, a few at a time, and returns their paths.
func (n count) store(ctx context.Context, texts map[string][]byte) (paths []string, err error) {
	if err := n.c.MakeAll(ctx, n.dir); err != nil {
		return nil, err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for name, text := range texts {
		path := n.dir + "/" + name
		paths = append(paths, path)
		g.Go(func() error {
			_, err := n.c.PutObject(ctx, &client.PutObjectInput{Path: path, Body: bytes.NewReader(text), Attributes: client.Attributes{ContentType: "text/plain"}})
			return err
		})
	}
	return paths, g.Wait()
}

// local counts here what the job counts there.
func local(texts map[string][]byte, top int) string {
	type word struct {
		text string
		n    int
	}
	counts := map[string]int{}
	for _, text := range texts {
		for w := range strings.FieldsFuncSeq(string(text), func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }) {
			counts[strings.ToLower(w)]++
		}
	}
	var all []word
	for w, n := range counts {
		all = append(all, word{w, n})
	}
	slices.SortFunc(all, func(a, b word) int { return cmp.Or(b.n-a.n, strings.Compare(a.text, b.text)) })
	var b strings.Builder
	for _, w := range all[:min(top, len(all))] {
		fmt.Fprintf(&b, "%s\t%d\n", w.text, w.n)
	}
	return b.String()
}

// read reads files of this machine, or makes texts up if there are none. What is no regular file is left out.
func read(files []string) (map[string][]byte, error) {
	texts := map[string][]byte{}
	for _, file := range files {
		if st, err := os.Stat(file); err == nil && !st.Mode().IsRegular() {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		texts[strings.ReplaceAll(strings.Trim(file, "/."), "/", "-")] = b
	}
	if len(files) == 0 {
		for i := range 16 {
			texts[fmt.Sprintf("text%02d", i)] = made(uint64(i), 20_000)
		}
	}
	if len(texts) == 0 {
		return nil, errors.New("no texts")
	}
	return texts, nil
}

// made returns a text of some thousand words, the same for the same seed. Its letters come by a small generator, so that words are short and repeat.
func made(seed uint64, n int) []byte {
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	x := seed*2654435761 + 1
	next := func(k uint64) uint64 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		return x % k
	}
	for i := range n {
		for range 1 + next(4) {
			w.WriteByte("etaoinshrdlu"[next(1+next(12))])
		}
		switch {
		case i%17 == 16:
			w.WriteString(".\n")
		case i%7 == 6:
			w.WriteString(", ")
		default:
			w.WriteByte(' ')
		}
	}
	w.Flush() // to memory
	return b.Bytes()
}
