package engine

import (
	"fmt"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// An Import is a checked list of items to take over.
type Import struct {
	Check    Read
	Writes   []Write // with the etag and time of Records
	Records  []*metastore.Record
	Counters []Delta // absolute values
}

// PrepareImport checks what a store is asked to take over. What was stored elsewhere is taken even if a value does not fit an index.
func PrepareImport(check metastore.Check, items []metastore.MoveItem, schemas func(string) *Schema) (*Import, error) {
	s := schemas(check.Bucket)
	if s == nil {
		return nil, fmt.Errorf("%w: %.80q", metastore.ErrNoBucket, check.Bucket)
	}
	p := &Import{Check: Read{0, s, check.Key, check.If}}
	for i, x := range items {
		s := schemas(x.Bucket)
		if s == nil {
			return nil, fmt.Errorf("%w: %.80q", metastore.ErrNoBucket, x.Bucket)
		}
		if err := CheckKey(x.Key); err != nil {
			return nil, err
		}
		if x.Counter {
			p.Counters = append(p.Counters, Delta{i, s, x.Key, x.Value})
			continue
		}
		w := Write{Op: i, Schema: s, Key: x.Key}
		if x.Record != nil {
			if err := CheckValue(x.Record.Value); err != nil {
				return nil, err
			}
			if x.Record.Etag == "" || len(x.Record.Etag) > 200 {
				return nil, fmt.Errorf("%w: etag of an imported record", metastore.ErrInvalid)
			}
			w.Value, w.Entries = x.Record.Value, s.FittingEntries(x.Record.Value)
		}
		p.Writes, p.Records = append(p.Writes, w), append(p.Records, x.Record)
	}
	return p, nil
}

// Prepared returns the same as a batch, to be checked like one.
func (p *Import) Prepared() *Prepared {
	b := &Prepared{Writes: p.Writes, Reads: []Read{p.Check}, written: make(map[bucketKey]struct{}, len(p.Writes))}
	for _, w := range p.Writes {
		b.written[bucketKey{w.Schema.Name, w.Key}] = struct{}{}
	}
	return b
}
