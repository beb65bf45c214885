package authcache

import (
	"hash/maphash"
	"maps"
)

// A cow is a map that is copied cheaply: a copy shares all parts until it changes one. Requests read the published one while the follower
// changes its copy.
type cow[V any] struct {
	parts [parts]map[string]V
	own   [parts]bool // made since the last copy, so nobody else reads it
	n     int
}

const parts = 256

var seed = maphash.MakeSeed()

func part(key string) int { return int(maphash.String(seed, key) % parts) }

func (c *cow[V]) get(key string) V { return c.parts[part(key)][key] }

func (c *cow[V]) len() int { return c.n }

// copy returns a map with the same content.
func (c *cow[V]) copy() cow[V] { return cow[V]{parts: c.parts, n: c.n} }

func (c *cow[V]) writable(key string) map[string]V {
	i := part(key)
	if !c.own[i] {
		c.own[i] = true
		if c.parts[i] = maps.Clone(c.parts[i]); c.parts[i] == nil {
			c.parts[i] = make(map[string]V)
		}
	}
	return c.parts[i]
}

func (c *cow[V]) set(key string, v V) {
	m := c.writable(key)
	before := len(m)
	m[key] = v
	c.n += len(m) - before
}

func (c *cow[V]) delete(key string) {
	if _, ok := c.parts[part(key)][key]; ok {
		delete(c.writable(key), key)
		c.n--
	}
}
