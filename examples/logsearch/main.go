// Logsearch finds errors in logs on the servers that have the logs, and makes a report for each hour.
//
//	logsearch              finds ERROR
//	logsearch 'WARN.*disk'  finds lines that match an expression of grep -E
//
// It stores a day's made-up logs of several machines below ~~/stor/examples/logsearch, runs a job of two phases whose reducers share the hours, prints the reports as
// they come, compares them with what it finds itself, and removes everything again. The store and the caller come from the
// environment, as for the command-line tools (MANTA_URL, MANTA_USER, MANTA_KEY_ID).
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/signal"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mobulacloud/mobula/manta/client"
)

func main() {
	keep := flag.Bool("keep", false, "leave the logs in the store")
	machines := flag.Int("machines", 12, "machines that have logs")
	perHour := flag.Int("lines", 200, "lines of a machine in an hour")
	flag.Parse()
	expr := "ERROR"
	if flag.NArg() > 0 {
		expr = flag.Arg(0)
	}
	err := func() error {
		c, err := client.FromEnv(os.Getenv)
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		return search{c: c, dir: "~~/stor/examples/logsearch", keep: *keep}.run(ctx, made(1, *machines, *perHour), expr, os.Stdout)
	}()
	if err != nil {
		fmt.Fprintf(os.Stderr, "logsearch: %v\n", err)
		os.Exit(1)
	}
}

// A search is one run of the program.
type search struct {
	c    *client.Client
	dir  string
	keep bool
}

// reducers share the hours.
const reducers = 4

// The programs of the job.
const (
	// find gives each line that matches to the reducer of its hour: the first 13 characters of a line are its date and hour. That nothing matches is no error.
	find = `export LC_ALL=C; (grep -E -e %s || test $? = 1) | awk '{print substr($0, 1, 13) "\t" $0}' | msplit -n %d`
	// report counts what each machine has in an hour, the machine being a line's second word, and stores each hour's report under its own name.
	report = `export LC_ALL=C; lines=$(mktemp); sort > $lines; for hour in $(cut -f 1 $lines | uniq); do
	awk -F '\t' -v hour=$hour '$1 == hour {split($2, w, " "); n[w[2]]++} END {for (m in n) print m, n[m]}' $lines | sort | mpipe -p %s/$hour
done; rm $lines`
)

// run finds lines in logs by name, and prints a report for each hour.
func (s search) run(ctx context.Context, logs map[string][]byte, expr string, out io.Writer) (err error) {
	matcher, err := regexp.Compile(expr)
	if err != nil {
		return err
	}
	if !s.keep {
		defer func() { err = errors.Join(err, s.c.RemoveAll(context.WithoutCancel(ctx), s.dir)) }()
	}
	reports := strings.Replace(s.dir, "~~", "/"+s.c.Account(), 1) + "/reports"
	inputs, err := s.store(ctx, logs)
	if err != nil {
		return err
	}
	job, err := s.c.Job().Name("logsearch").
		Map(fmt.Sprintf(find, quote(expr), reducers)).
		Reduce(fmt.Sprintf(report, reports)).Count(reducers).
		Run(ctx, slices.Values(inputs))
	if err != nil {
		return err
	}
	got := map[string]string{}
	for name, err := range job.FollowOutputs(ctx, client.WaitOptions{}) {
		if err != nil {
			return err
		}
		if path.Dir(name) != reports { // the empty stdout of a reducer that no hour came to
			continue
		}
		text, err := s.get(ctx, name)
		if err != nil {
			return err
		}
		hour := path.Base(name)
		got[hour] = text
		fmt.Fprintf(out, "%s\n%s", hour, text)
	}
	for e, err := range job.Errors(ctx) {
		if err != nil {
			return err
		}
		return e
	}
	if want := local(logs, matcher); !maps.Equal(got, want) {
		return fmt.Errorf("the same search here finds something else: %v", want)
	}
	return nil
}

// store puts the logs into the store, a few at a time, and returns their paths.
func (s search) store(ctx context.Context, logs map[string][]byte) (paths []string, err error) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for name, text := range logs {
		path := s.dir + "/logs/" + name
		paths = append(paths, path)
		g.Go(func() error {
			_, err := s.c.PutObject(ctx, &client.PutObjectInput{Path: path, Body: bytes.NewReader(text), MakeParents: true, Attributes: client.Attributes{ContentType: "text/plain"}})
			return err
		})
	}
	return paths, g.Wait()
}

func (s search) get(ctx context.Context, path string) (string, error) {
	obj, err := s.c.GetObject(ctx, &client.GetObjectInput{Path: path})
	if err != nil {
		return "", err
	}
	defer obj.Body.Close()
	b, err := io.ReadAll(obj.Body)
	return string(b), err
}

// quote makes one word of a text for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// local finds here what the job finds there.
func local(logs map[string][]byte, expr *regexp.Regexp) map[string]string {
	counts := map[string]map[string]int{}
	for _, text := range logs {
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSuffix(line, "\n"); !expr.MatchString(line) {
				continue
			}
			hour, machine := line[:13], strings.Fields(line)[1]
			if counts[hour] == nil {
				counts[hour] = map[string]int{}
			}
			counts[hour][machine]++
		}
	}
	reports := map[string]string{}
	for hour, machines := range counts {
		for _, m := range slices.Sorted(maps.Keys(machines)) {
			reports[hour] += fmt.Sprintln(m, machines[m])
		}
	}
	return reports
}

// made returns a day's logs of machines by name, the same for the same seed.
func made(seed uint64, machines, perHour int) map[string][]byte {
	r := rand.New(rand.NewPCG(seed, 0))
	levels := []string{"INFO", "INFO", "INFO", "INFO", "INFO", "INFO", "WARN", "WARN", "ERROR"}
	what := []string{"disk sd%d is slow", "request %d took too long", "worker %d began", "worker %d ended", "cache has %d entries"}
	logs := map[string][]byte{}
	for m := range machines {
		name := fmt.Sprintf("web%02d", m)
		var b bytes.Buffer
		at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
		for range 24 * perHour {
			fmt.Fprintf(&b, "%s %s %s "+what[r.IntN(len(what))]+"\n", at.Format(time.RFC3339), name, levels[r.IntN(len(levels))], r.IntN(1000))
			at = at.Add(time.Hour / time.Duration(perHour))
		}
		logs[name+".log"] = b.Bytes()
	}
	return logs
}
