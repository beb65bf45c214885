package engine

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// A Source is what a store offers to [Find]. Each call sees the store at one point in time.
type Source interface {
	// Page returns up to r.N rows, and whether the scan has ended with them. It may return fewer to bound memory.
	Page(ctx context.Context, r Request) (rows []Row, done bool, err error)

	// Get returns one record, or [metastore.ErrNotFound].
	Get(ctx context.Context, bucket string, key metastore.Key) (metastore.Record, error)
}

// A Request asks for the next rows of a scan.
type Request struct {
	Schema     *Schema
	Scan       Scan
	Partition  *string
	Descending bool
	Start      *Cursor // nil at the end that comes first
	N          int
}

// A Cursor is a place in a scan.
type Cursor struct {
	Value     []byte // in an index
	Key       metastore.Key
	Inclusive bool // begin with this row if it is there
}

// A Row is a record with the value under which a scan found it.
type Row struct {
	Value  []byte
	Record metastore.Record
}

const (
	firstPage   = 32
	largestPage = 1024

	// Limits of what is kept when rows have to be sorted.
	collectKeys  = 64 << 10
	collectBytes = 8 << 20
)

// Find answers a query from a source.
func Find(ctx context.Context, src Source, s *Schema, q metastore.Query) iter.Seq2[metastore.Record, error] {
	return func(yield func(metastore.Record, error) bool) {
		p, err := NewPlan(s, q)
		if err != nil {
			yield(metastore.Record{}, err)
			return
		}
		p.Run(ctx, src, yield)
	}
}

// Run carries out the plan, once.
func (p *Plan) Run(ctx context.Context, src Source, yield func(metastore.Record, error) bool) {
	start, err := p.start()
	if err == nil {
		done := false
		if p.Few != nil {
			done, err = p.sortFew(ctx, src, start, yield)
		}
		if done || err != nil {
			// Answered.
		} else if p.Collect {
			err = p.collect(ctx, src, start, yield)
		} else if len(p.Scans) > 0 {
			err = p.stream(ctx, src, start, yield)
		}
	}
	if err != nil && !errors.Is(err, errStopped) {
		yield(metastore.Record{}, err)
	}
}

var errStopped = errors.New("consumer has stopped")

// rows calls visit for each record of a scan that matches, in the order of the scan.
func (p *Plan) rows(ctx context.Context, src Source, scan Scan, start *Cursor, n int, descending bool, visit func(metastore.Record) error) error {
	if scan.Empty() {
		return nil
	}
	r := Request{Schema: p.Schema, Scan: scan, Partition: p.Query.Partition, Descending: descending, Start: start, N: n}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		rows, done, err := src.Page(ctx, r)
		if err != nil {
			return err
		}
		for i := range rows {
			if p.Matcher.Match(rows[i].Record.Value) {
				if err := visit(rows[i].Record); err != nil {
					return err
				}
			}
		}
		if done {
			return nil
		}
		if len(rows) > 0 {
			last := rows[len(rows)-1]
			r.Start = &Cursor{Value: last.Value, Key: last.Record.Key}
		}
		r.N = min(2*r.N, largestPage)
	}
}

func (p *Plan) stream(ctx context.Context, src Source, start *Cursor, yield func(metastore.Record, error) bool) error {
	left := p.Query.Limit
	n := firstPage
	if left > 0 {
		n = min(left, largestPage)
	}
	scan := p.Scans[0]
	if scan.Eq && start != nil && p.Order < 0 {
		start.Value = scan.Lo
	}
	return p.rows(ctx, src, scan, start, n, p.Query.Descending, func(r metastore.Record) error {
		if !yield(r, nil) {
			return errStopped
		}
		if left--; left == 0 {
			return errStopped
		}
		return nil
	})
}

// Limits of what sortFew reads before it gives up.
const (
	fewRows  = 1000
	fewBytes = 2 << 20
)

// sortFew answers from a selective index by sorting, if it turns out to hold few records: what one owner has, by date, say. Otherwise
// nothing has been yielded, and the way through the order's index, which may meet the filter seldom but needs no sorting, is left.
func (p *Plan) sortFew(ctx context.Context, src Source, start *Cursor, yield func(metastore.Record, error) bool) (done bool, err error) {
	type item struct {
		value []byte
		metastore.Record
	}
	var list []item
	rows, size := 0, 0
	r := Request{Schema: p.Schema, Scan: *p.Few, Partition: p.Query.Partition, N: fewRows / 4}
	for ended := false; !ended; {
		var page []Row
		if page, ended, err = src.Page(ctx, r); err != nil {
			return false, err
		}
		for _, row := range page {
			rows++
			size += len(row.Record.Value)
			r.Start = &Cursor{Value: row.Value, Key: row.Record.Key}
			v, ok := p.orderValue(row.Record.Value)
			if ok && p.within(v) && p.Matcher.Match(row.Record.Value) {
				list = append(list, item{v, row.Record})
			}
		}
		if !ended && (rows >= fewRows || size >= fewBytes) {
			return false, nil
		}
	}
	order := func(a, b item) int {
		o := cmp.Or(bytes.Compare(a.value, b.value), a.Key.Compare(b.Key))
		if p.Query.Descending {
			return -o
		}
		return o
	}
	slices.SortFunc(list, order)
	left := p.Query.Limit
	for _, x := range list {
		if start != nil && order(x, item{start.Value, metastore.Record{Key: start.Key}}) <= 0 {
			continue
		}
		if !yield(x.Record, nil) {
			return true, errStopped
		}
		if left--; left == 0 {
			break
		}
	}
	return true, nil
}

// within reports whether a value is inside the bounds of the order's run, which From has narrowed.
func (p *Plan) within(v []byte) bool {
	s := p.Scans[0]
	return len(v) <= metastore.MaxIndexed && bytes.Compare(s.Lo, v) <= 0 && (s.Hi == nil || bytes.Compare(v, s.Hi) < 0)
}

// collect answers in key order from scans that run in another: each pass keeps the first keys after the
// last one yielded, and reads these records again.
func (p *Plan) collect(ctx context.Context, src Source, start *Cursor, yield func(metastore.Record, error) bool) error {
	left := p.Query.Limit
	order := metastore.Key.Compare
	if p.Query.Descending {
		order = func(a, b metastore.Key) int { return b.Compare(a) }
	}
	for {
		most := collectKeys
		if left > 0 {
			most = min(most, left)
		}
		c := collector{order: order, most: most}
		if start != nil {
			c.after, c.started = start.Key, true
		}
		for _, scan := range p.Scans {
			err := p.rows(ctx, src, scan, nil, largestPage, false, func(r metastore.Record) error {
				c.add(r.Key)
				return nil
			})
			if err != nil {
				return err
			}
		}
		c.trim()
		for _, key := range c.keys {
			r, err := src.Get(ctx, p.Schema.Name, key)
			switch {
			case errors.Is(err, metastore.ErrNotFound):
				continue
			case err != nil:
				return err
			case !p.Matcher.Match(r.Value):
				continue // changed since
			}
			if !yield(r, nil) {
				return errStopped
			}
			if left--; left == 0 {
				return errStopped
			}
		}
		if !c.dropped {
			return nil
		}
		start = &Cursor{Key: c.keys[len(c.keys)-1]}
	}
}

// A collector keeps the first of many keys.
type collector struct {
	order   func(a, b metastore.Key) int
	most    int
	after   metastore.Key // of interest only behind this one
	started bool

	keys    []metastore.Key
	bytes   int
	dropped bool
}

func (c *collector) add(k metastore.Key) {
	if c.started && c.order(k, c.after) <= 0 {
		return
	}
	c.keys = append(c.keys, k)
	c.bytes += len(k.Partition) + len(k.Name)
	if len(c.keys) >= 2*c.most+64 || c.bytes >= 2*collectBytes {
		c.trim()
	}
}

func (c *collector) trim() {
	slices.SortFunc(c.keys, c.order)
	c.keys = slices.Compact(c.keys)
	keep, size := 0, 0
	for keep < len(c.keys) && keep < c.most && (keep == 0 || size < collectBytes) {
		size += len(c.keys[keep].Partition) + len(c.keys[keep].Name)
		keep++
	}
	c.dropped = c.dropped || keep < len(c.keys)
	clear(c.keys[keep:])
	c.keys, c.bytes = c.keys[:keep], size
}

// Compare orders two records as a query does; its schema has an index on OrderBy.
func (p *Plan) Compare(a, b metastore.Record) int {
	order := 0
	if p.Order >= 0 {
		x, _ := p.orderValue(a.Value)
		y, _ := p.orderValue(b.Value)
		order = bytes.Compare(x, y)
	}
	if order == 0 {
		order = a.Key.Compare(b.Key)
	}
	if p.Query.Descending {
		return -order
	}
	return order
}
