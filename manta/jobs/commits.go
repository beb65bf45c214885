package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"

	"github.com/mobulacloud/mobula/storage/metastore"
)

const (
	// partSize is about how much goes into one record, so that a reader who goes through them needs little memory.
	partSize = 256 << 10
	// maxItem is the greatest size of one outcome, output or error.
	maxItem = 128 << 10
	// maxCommit is the greatest size of what is written at once. A task with a million outputs of ordinary length fits.
	maxCommit = 128 << 20
)

// Commit stores commits, in order and all together. More than 128 MiB at once, or a single item of more than 128 KiB, is ErrTooLarge, and nothing
// was written. For other errors see Claim.
func (c *Claim) Commit(ctx context.Context, commits ...*Commit) error {
	var p parts
	for _, x := range commits {
		if err := p.add(x); err != nil {
			return fmt.Errorf("commit to job %s: %w", c.id, err)
		}
	}
	p.end()
	if len(p.done) == 0 {
		return nil
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	var batch metastore.Batch
	for i, part := range p.done {
		batch = part.puts(batch, numberKey(c.id, c.next+int64(i)))
	}
	_, err := c.write(ctx, batch)
	if errors.Is(err, metastore.ErrConflict) { // nobody else writes commits, so this is a record of our own that we know nothing of
		err = c.lose(fmt.Errorf("commit to job %s: %w", c.id, err))
	}
	if err != nil {
		return err
	}
	c.next += int64(len(p.done))
	return nil
}

// parts cuts commits into records.
type parts struct {
	done  []part
	part  part
	total int
}

// A part is what has one number: lists of encoded items.
type part struct {
	outcomes, emitted, outputs, errors []byte
	retries                            int64
}

func (p *parts) add(c *Commit) (err error) {
	p.part.retries += c.Retries
	for i := range c.Outcomes {
		if err := p.item(&p.part.outcomes, &c.Outcomes[i]); err != nil {
			return err
		}
	}
	for i := range c.Emitted {
		if err := p.item(&p.part.emitted, &c.Emitted[i]); err != nil {
			return err
		}
	}
	for i := range c.Outputs {
		if err := p.item(&p.part.outputs, c.Outputs[i]); err != nil {
			return err
		}
	}
	for i := range c.Errors {
		if err := p.item(&p.part.errors, &c.Errors[i]); err != nil {
			return err
		}
	}
	return nil
}

// item appends to a list of the present part, or of a new one when that is full.
func (p *parts) item(list *[]byte, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if p.total += len(text); len(text) > maxItem || p.total > maxCommit {
		return fmt.Errorf("%w: an item of %d bytes, %d bytes in all", ErrTooLarge, len(text), p.total)
	}
	if x := &p.part; len(x.outcomes)+len(x.emitted)+len(x.outputs)+len(x.errors)+len(text) > partSize {
		p.end()
	}
	if len(*list) > 0 {
		*list = append(*list, ',')
	}
	*list = append(*list, text...)
	return nil
}

func (p *parts) end() {
	x := &p.part
	if len(x.outcomes)+len(x.emitted)+len(x.outputs)+len(x.errors) > 0 || x.retries != 0 {
		p.done = append(p.done, *x)
	}
	*x = part{}
}

// puts appends the operations that write a part. Outputs and errors stand in buckets of their own, where users' listings find
// them, and nowhere else; the commit's record is there even if it is empty.
func (x *part) puts(batch metastore.Batch, key metastore.Key) metastore.Batch {
	var b bytes.Buffer
	comma := ""
	list := func(name string, items []byte) {
		if len(items) > 0 {
			fmt.Fprintf(&b, `%s"%s":[`, comma, name)
			b.Write(items)
			b.WriteByte(']')
			comma = ","
		}
	}
	record := func(bucket string) {
		batch = append(batch, metastore.Put{Bucket: bucket, Key: key, Value: []byte("{" + b.String() + "}"), If: metastore.Absent()})
		b.Reset()
		comma = ""
	}
	list("outcomes", x.outcomes)
	list("emitted", x.emitted)
	if x.retries != 0 {
		b.WriteString(comma + `"retries":` + strconv.FormatInt(x.retries, 10))
	}
	record(commitBucket)
	if len(x.outputs) > 0 {
		list("outputs", x.outputs)
		record(outputBucket)
	}
	if len(x.errors) > 0 {
		list("errors", x.errors)
		record(errorBucket)
	}
	return batch
}

// commits merges the three runs of records that commits were stored as.
func (r *Records) commits(ctx context.Context, id string) iter.Seq2[*Commit, error] {
	return func(yield func(*Commit, error) bool) {
		q := metastore.Query{Partition: metastore.In(id)}
		outputs := newSide(r.store.Find(ctx, outputBucket, q))
		defer outputs.stop()
		failures := newSide(r.store.Find(ctx, errorBucket, q))
		defer failures.stop()
		for rec, err := range r.store.Find(ctx, commitBucket, q) {
			var c *Commit
			if err == nil {
				c, err = decodeCommit(rec, outputs, failures)
			}
			if err != nil {
				yield(nil, fmt.Errorf("read commits of job %s: %w", id, err))
				return
			}
			if !yield(c, nil) {
				return
			}
		}
	}
}

func decodeCommit(rec metastore.Record, outputs, failures *side) (*Commit, error) {
	var head commitRecord
	if err := decode(rec, &head); err != nil {
		return nil, err
	}
	c := &Commit{Outcomes: head.Outcomes, Emitted: head.Emitted, Retries: head.Retries}
	if more, ok, err := outputs.at(rec.Key.Name); err != nil {
		return nil, err
	} else if ok {
		if c.Outputs, err = decodeOutputs(more); err != nil {
			return nil, err
		}
	}
	if more, ok, err := failures.at(rec.Key.Name); err != nil {
		return nil, err
	} else if ok {
		if c.Errors, err = decodeErrors(more); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// A side is a run of records that is read along with another one.
type side struct {
	next func() (metastore.Record, error, bool)
	stop func()
	head metastore.Record // the next one, if there
	err  error
	ok   bool
	read bool // head is up to date
}

func newSide(seq iter.Seq2[metastore.Record, error]) *side {
	next, stop := iter.Pull2(seq)
	return &side{next: next, stop: stop}
}

// at returns the record of a name, if there is one. Names ascend from call to call.
func (s *side) at(name string) (metastore.Record, bool, error) {
	for {
		if !s.read {
			s.head, s.err, s.ok = s.next()
			s.read = true
		}
		if s.err != nil || !s.ok || s.head.Key.Name > name {
			return metastore.Record{}, false, s.err
		}
		s.read = false
		if s.head.Key.Name == name {
			return s.head, true, nil
		}
	}
}
