package tools

import (
	"bufio"
	"compress/gzip"
	"crypto/md5"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
)

const msplitUsage = `usage: msplit -n reducers [-d delimiter] [-f fields] [-j] [-e javascript] [-i] [-z] [-t]

Splits the lines of stdin into one output for each reducer of the next phase. A line goes by its key: the fields of
it that -f lists, from 1, where -d separates them (1, and tab); with -j the members of the JSON object that it is. All lines
of a key go to the same reducer. With -i the key itself is the reducer's number. -z compresses the outputs.
-e computes the key by JavaScript of "line", or with -j of "this"; it needs node in the zone.
-t writes reducers and lines to stdout instead.`

// A splitter says where a line goes.
type splitter struct {
	n      int
	direct bool // the key is the reducer
	json   bool
	fields []string // of JSON objects
	cut    []int    // of text, from 1
	delim  string
}

// splitConcurrency is how many outputs are stored at a time.
const splitConcurrency = 25

// msplit splits its input into an output for each reducer.
func msplit(p *process) int {
	o, ok := p.taskOptions("d:f:n:e:ijtz", msplitUsage)
	if !ok {
		return 2
	}
	s, err := newSplitter(o)
	if err != nil {
		return p.wrong(msplitUsage, err)
	}
	base := p.getenv("MANTA_OUTPUT_BASE")
	test := o.has("t")
	if base == "" && !test {
		return p.wrong(msplitUsage, errors.New("MANTA_OUTPUT_BASE not set"))
	}
	keyed := s.keys(p.stdin)
	if o.has("e") {
		if keyed, err = p.scripted(o.get("e"), s); err != nil {
			return p.wrong(msplitUsage, err)
		}
	}
	if test {
		w := p.output()
		err := s.split(keyed, func(reducer int, line string) error {
			_, err := fmt.Fprintf(w, "%d\t%s\n", reducer, line)
			return err
		})
		if err = errors.Join(err, w.Flush()); err != nil {
			return p.fail(err)
		}
		return 0
	}
	outs := make([]*output, s.n)
	for i := range outs {
		outs[i] = p.splitOutput(o.has("z"))
		defer outs[i].close()
	}
	if err := s.split(keyed, func(reducer int, line string) error { return outs[reducer].line(line) }); err != nil {
		return p.fail(err)
	}
	if err := p.storeSplit(outs, base+uuid.NewString()+"."); err != nil {
		return p.fail(err)
	}
	return 0
}

// An output is what one reducer gets.
type output struct {
	*spool
	w *bufio.Writer
	z *gzip.Writer
}

func (p *process) splitOutput(compress bool) *output {
	out := &output{spool: p.spool(64 << 10)}
	out.w = bufio.NewWriterSize(out.spool, 32<<10)
	if compress {
		out.z = gzip.NewWriter(out.spool)
		out.w.Reset(out.z)
	}
	return out
}

func (out *output) line(text string) error {
	out.w.WriteString(text) // an error stays until the next
	return out.w.WriteByte('\n')
}

func (out *output) finish() error {
	err := out.w.Flush()
	if out.z != nil {
		err = errors.Join(err, out.z.Close())
	}
	return err
}

// storeSplit stores each reducer's output, even an empty one.
func (p *process) storeSplit(outs []*output, prefix string) error {
	c, err := p.taskClient()
	if err != nil {
		return err
	}
	for _, out := range outs {
		if err := out.finish(); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(p.ctx)
	g.SetLimit(splitConcurrency)
	for i, out := range outs {
		g.Go(func() error {
			body, err := out.reader()
			if err != nil {
				return err
			}
			q := *p
			q.ctx = ctx
			return q.emit(c, prefix+strconv.Itoa(i), body, out.size, i, true, nil)
		})
	}
	return g.Wait()
}

func newSplitter(o *parsed) (*splitter, error) {
	if !o.has("n") {
		return nil, errors.New("number of reducers must be specified")
	}
	s := &splitter{direct: o.has("i"), json: o.has("j"), delim: "\t"}
	var err error
	if s.n, err = strconv.Atoi(o.get("n")); err != nil || s.n < 1 || s.n > 128 {
		return nil, errors.New("invalid number of reducers")
	}
	if o.has("d") {
		if s.delim = o.get("d"); s.delim == "\n" || s.delim == "" {
			return nil, errors.New("cannot use that as a delimiter")
		}
	}
	for _, list := range o.all("f") {
		s.fields = append(s.fields, strings.Split(list, ",")...)
	}
	if o.has("e") {
		return s, nil
	}
	if s.json {
		if len(s.fields) == 0 {
			return nil, errors.New("no fields specified")
		}
		return s, nil
	}
	for _, text := range s.fields {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("invalid field: %s", text)
		}
		s.cut = append(s.cut, n)
	}
	if len(s.cut) == 0 {
		s.cut = []int{1}
	}
	return s, nil
}

// A keyedLine is a line and its key.
type keyedLine struct{ line, key string }

type keyedLines func(yield func(keyedLine, error) bool)

// keys yields the lines of a text with their keys.
func (s *splitter) keys(r io.Reader) keyedLines {
	return func(yield func(keyedLine, error) bool) {
		for line, err := range lines(r) {
			key := ""
			if err == nil {
				key, err = s.key(line)
			}
			if !yield(keyedLine{line, key}, err) || err != nil {
				return
			}
		}
	}
}

func (s *splitter) key(line string) (string, error) {
	if !s.json {
		if len(s.cut) == 1 { // the usual case
			return column(line, s.delim, s.cut[0]), nil
		}
		var parts []string
		for _, n := range s.cut {
			if text := column(line, s.delim, n); text != "" { // as cut does with what is not there
				parts = append(parts, text)
			}
		}
		return strings.Join(parts, s.delim), nil
	}
	var parts []string
	dec := json.NewDecoder(strings.NewReader(line))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil || dec.More() {
		return "", fmt.Errorf("error: input is not json: %s", line)
	}
	for _, field := range s.fields {
		if datum, ok := member(v, field); ok {
			parts = append(parts, jsString(datum))
		}
	}
	return strings.Join(parts, s.delim), nil
}

// column returns the n-th column of a line, from 1; "" if there is none.
func column(line, delim string, n int) string {
	for ; n > 1; n-- {
		_, rest, found := strings.Cut(line, delim)
		if !found {
			return ""
		}
		line = rest
	}
	text, _, _ := strings.Cut(line, delim)
	return text
}

// member returns what is at a path such as a.b.c in a JSON value.
func member(v any, path string) (any, bool) {
	for name := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = m[name]; !ok {
			return nil, false
		}
	}
	return v, true
}

// split hands each line over with its reducer.
func (s *splitter) split(keyed keyedLines, give func(reducer int, line string) error) error {
	var err error
	keyed(func(k keyedLine, e error) bool {
		reducer := 0
		if err = e; err == nil {
			reducer, err = s.reducer(k)
		}
		if err == nil {
			err = give(reducer, k.line)
		}
		return err == nil
	})
	return err
}

// reducer returns a key's reducer: the first four bytes of its MD5 sum, as a number, modulo n. The original has the same, so that a job's phases may
// mix both.
func (s *splitter) reducer(k keyedLine) (int, error) {
	if s.direct {
		n, ok := jsParseInt(k.key)
		if !ok || n < 0 || n >= s.n {
			return 0, fmt.Errorf("parsed %q out of line: %s\nwhich is not a number or not within the valid range of reducers", k.key, k.line)
		}
		return n, nil
	}
	sum := md5.Sum([]byte(k.key))
	return int(binary.BigEndian.Uint32(sum[:]) % uint32(s.n)), nil
}
