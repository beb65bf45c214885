package postgres

import (
	"crypto/sha256"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// A part is a partition or a name as it is stored.
type part struct {
	head, hash []byte
	rest       []byte // nil unless it is long
}

func newPart(s string) part {
	if len(s) <= metastore.OrderedPrefix {
		return part{head: []byte(s), hash: []byte{}}
	}
	sum := sha256.Sum256([]byte(s))
	return part{[]byte(s[:metastore.OrderedPrefix]), sum[:], []byte(s[metastore.OrderedPrefix:])}
}

func (p part) String() string { return string(p.head) + string(p.rest) }

// A row is a key as it is stored.
type row struct{ partition, name part }

func newRow(k metastore.Key) row { return row{newPart(k.Partition), newPart(k.Name)} }

func (r row) key() metastore.Key {
	return metastore.Key{Partition: r.partition.String(), Name: r.name.String()}
}

// dest lists where to scan the columns pp, ph, np, nh, prest, nrest.
func (r *row) dest() []any {
	return []any{&r.partition.head, &r.partition.hash, &r.name.head, &r.name.hash, &r.partition.rest, &r.name.rest}
}

// columns gathers keys as arrays, one for each column, to be unnested.
type columns struct {
	id                   []int32 // bucket or index
	pp, ph, np, nh       [][]byte
	prest, nrest, values [][]byte
}

func (c *columns) add(id uint32, k metastore.Key) {
	r := newRow(k)
	c.id = append(c.id, int32(id))
	c.pp, c.ph = append(c.pp, r.partition.head), append(c.ph, r.partition.hash)
	c.np, c.nh = append(c.np, r.name.head), append(c.nh, r.name.hash)
	c.prest, c.nrest = append(c.prest, r.partition.rest), append(c.nrest, r.name.rest)
}

// addEntry adds a key with its value in an index.
func (c *columns) addEntry(id uint32, value []byte, k metastore.Key) {
	c.add(id, k)
	if value == nil {
		value = []byte{}
	}
	c.values = append(c.values, value)
}
