package tools

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

const maggrUsage = `usage: maggr [-c#=ops ...] [-t#=formats ...] [-f file] [-d delimiter] [-o delimiter] [-T formats]
             [-i delimiter] [ops]
       maggr -l

Aggregates the columns of lines that have the same key. -c gives operations for a column, counted from 1, as in
-c1=key -c3=sum,mean; ops are for all other columns, which are left out if there are none. -t gives printf patterns
for a column's results, -T for all others. -d, -o and -i separate the columns of the input, those of the output, and the
results of one column: " ", as the input's, and ",". -l lists the operations.`

// An aggregation is what maggr was asked for.
type aggregation struct {
	columns       map[int][]string // operations by column from 0
	others        []string
	formats       map[int][]pattern // a zero pattern is a gap in the list
	gaps          map[int][]bool
	otherFormats  []pattern
	in, out, list string // delimiters
}

// maggr aggregates columns of its input.
func maggr(p *process) int {
	o, ok := p.taskOptions("d:o:i:c:f:t:T:l", maggrUsage)
	if !ok {
		return 2
	}
	if o.has("l") {
		fmt.Fprintln(p.stderr, strings.Join(operations, " "))
		return 0
	}
	a, err := newAggregation(o)
	if err != nil {
		return p.wrong(maggrUsage, err)
	}
	in := p.stdin
	if o.has("f") {
		f, err := os.Open(o.get("f"))
		if err != nil {
			return p.fail(err)
		}
		defer f.Close()
		in = f
	}
	code := 0
	g := &groups{a: a, byKey: map[string]*group{}}
	for line, err := range lines(in) {
		if err != nil {
			return p.fail(err)
		}
		if column := g.add(line); column > 0 {
			fmt.Fprintf(p.stderr, "Non-number in non-key column %d. line: %s\n", column, line)
			code = 1
		}
	}
	out := p.output()
	g.write(out)
	if err := out.Flush(); err != nil {
		return p.fail(err)
	}
	return code
}

func newAggregation(o *parsed) (*aggregation, error) {
	a := &aggregation{columns: map[int][]string{}, others: []string{"nop"}, formats: map[int][]pattern{}, gaps: map[int][]bool{}}
	column := func(text string) (int, string, error) {
		number, list, ok := strings.Cut(text, "=")
		n, err := strconv.Atoi(number)
		switch {
		case err != nil:
			return 0, "", fmt.Errorf("invalid column number: %s", number)
		case !ok || strings.Contains(list, "=") && !strings.Contains(list, "%"):
			return 0, "", fmt.Errorf("invalid column format: %s", text)
		case n < 1:
			return 0, "", errors.New("invalid column number")
		}
		return n - 1, list, nil
	}
	for _, text := range o.all("c") {
		n, list, err := column(text)
		if err != nil {
			return nil, err
		}
		if a.columns[n], err = parseOperations(list); err != nil {
			return nil, err
		}
	}
	for _, text := range o.all("t") {
		n, list, err := column(text)
		if err != nil {
			return nil, err
		}
		if a.formats[n], a.gaps[n], err = parsePatterns(list); err != nil {
			return nil, err
		}
	}
	if o.has("T") {
		var err error
		if a.otherFormats, _, err = parsePatterns(o.get("T")); err != nil {
			return nil, err
		}
	}
	if len(o.args) > 0 {
		ops, err := parseOperations(o.args[0])
		if err != nil {
			return nil, err
		}
		a.others = ops
	} else if len(a.columns) == 0 {
		return nil, errors.New("no operations specified")
	}
	a.in = cmp.Or(o.get("d"), " ")
	a.out = cmp.Or(o.get("o"), a.in)
	a.list = cmp.Or(o.get("i"), ",")
	return a, nil
}

func parsePatterns(list string) (patterns []pattern, gaps []bool, err error) {
	for text := range strings.SplitSeq(list, ",") {
		pt, err := parsePattern(text)
		if err != nil {
			return nil, nil, err
		}
		patterns, gaps = append(patterns, pt), append(gaps, text == "")
	}
	return patterns, gaps, nil
}

func (a *aggregation) ops(column int) []string {
	if ops, ok := a.columns[column]; ok {
		return ops
	}
	return a.others
}

// show formats the i-th result of a column.
func (a *aggregation) show(column, i int, op, text string) string {
	if op == "key" {
		return text
	}
	if own, ok := a.formats[column]; ok {
		if i < len(own) && !a.gaps[column][i] {
			return own[i].format(text)
		}
		i = 0 // what its list leaves out is formatted like all others
	}
	if len(a.otherFormats) == 0 {
		return text
	}
	if i >= len(a.otherFormats) {
		i = 0
	}
	return a.otherFormats[i].format(text)
}

// A group is all lines of one key.
type group struct {
	name    string // the key's columns, one after another
	columns []*aggregate
}

type groups struct {
	a     *aggregation
	byKey map[string]*group
	order []*group

	// Of the line at hand, kept to be used again.
	columns []string
	values  []float64
	key     []byte // each key column with its length before it, so that a,bc and ab,c are two keys
	name    []byte
}

// add takes a line in. It returns the number of the column that has no number in it, 0 when all is well.
func (g *groups) add(line string) int {
	g.columns, g.values, g.key, g.name = g.columns[:0], g.values[:0], g.key[:0], g.name[:0]
	for text := range strings.SplitSeq(line, g.a.in) {
		v := 0.0
		switch ops := g.a.ops(len(g.columns)); ops[0] {
		case "key":
			g.key = append(append(strconv.AppendInt(g.key, int64(len(text)), 10), ':'), text...)
			g.name = append(g.name, text...)
		case "nop":
		default:
			var ok bool
			if v, ok = jsParseFloat(text); !ok {
				return len(g.columns) + 1
			}
		}
		g.columns, g.values = append(g.columns, text), append(g.values, v)
	}
	gr := g.byKey[string(g.key)]
	if gr == nil {
		gr = &group{name: string(g.name)}
		g.byKey[string(g.key)] = gr
		g.order = append(g.order, gr)
	}
	for i, text := range g.columns {
		if i >= len(gr.columns) {
			gr.columns = append(gr.columns, &aggregate{})
		}
		switch ops := g.a.ops(i); ops[0] {
		case "key":
			gr.columns[i].key = text
		case "nop":
		default:
			gr.columns[i].add(g.values[i], keeps(ops))
		}
	}
	return 0
}

// write writes a line for each key: those that are whole numbers first, in their order, and the others as they came, which is how JavaScript keeps them.
func (g *groups) write(w *bufio.Writer) {
	index := func(gr *group) (uint64, bool) {
		n, err := strconv.ParseUint(gr.name, 10, 32)
		return n, err == nil && n < 1<<32-1 && strconv.FormatUint(n, 10) == gr.name
	}
	slices.SortStableFunc(g.order, func(x, y *group) int {
		m, mok := index(x)
		n, nok := index(y)
		switch {
		case mok && nok:
			return cmp.Compare(m, n)
		case mok:
			return -1
		case nok:
			return 1
		}
		return 0
	})
	for _, gr := range g.order {
		var fields []string
		for i, column := range gr.columns {
			ops := g.a.ops(i)
			if ops[0] == "nop" {
				continue
			}
			var results []string
			for k, op := range ops {
				results = append(results, g.a.show(i, k, op, column.result(op)))
			}
			fields = append(fields, strings.Join(results, g.a.list))
		}
		w.WriteString(strings.Join(fields, g.a.out))
		w.WriteByte('\n')
	}
}

// maxLine bounds one line of text that a program keeps.
const maxLine = 64 << 20

// lines yields the lines of a text, without their ends. The last one need not have one.
func lines(r io.Reader) func(yield func(string, error) bool) {
	return func(yield func(string, error) bool) {
		s := bufio.NewScanner(r)
		s.Buffer(make([]byte, 0, 64<<10), maxLine)
		s.Split(func(data []byte, end bool) (int, []byte, error) {
			if i := bytes.IndexByte(data, 0x0a); i >= 0 {
				return i + 1, data[:i], nil
			}
			if end && len(data) > 0 {
				return len(data), data, nil
			}
			return 0, nil, nil
		})
		for s.Scan() {
			if !yield(s.Text(), nil) {
				return
			}
		}
		if err := s.Err(); err != nil {
			yield("", fmt.Errorf("read: %w", err))
		}
	}
}
