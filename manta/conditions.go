package manta

import (
	"net/http"
	"regexp"
	"strings"
	"time"
)

// Conditions are what a request asks of the present state of an entry before it is carried out. The zero value asks nothing.
type Conditions struct {
	IfMatch     []string // entity tags, unquoted, or "*"; nil when not asked
	IfNoneMatch []string

	// The zero time when not asked. A date that does not parse is as good as not asked.
	IfModifiedSince   time.Time
	IfUnmodifiedSince time.Time
}

// An Outcome is what conditions say about a request.
type Outcome int

// Outcomes of [Conditions.Check].
const (
	Proceed            Outcome = iota
	NotModified                // answer a read with 304
	PreconditionFailed         // answer with 412
)

// ParseConditions reads the conditions in a request's headers.
func ParseConditions(h http.Header) Conditions {
	var c Conditions
	if v := strings.Join(h["If-Match"], ","); v != "" {
		c.IfMatch = parseTags(v)
	}
	if v := strings.Join(h["If-None-Match"], ","); v != "" {
		c.IfNoneMatch = parseTags(v)
	}
	if v := h.Get("If-Modified-Since"); v != "" {
		c.IfModifiedSince, _ = http.ParseTime(v)
	}
	if v := h.Get("If-Unmodified-Since"); v != "" {
		c.IfUnmodifiedSince, _ = http.ParseTime(v)
	}
	return c
}

// quoted is what the original takes for a quoted tag. A uuid has dashes, so one in quotes keeps them and matches nothing; since the tags
// that the store hands out are bare, only a client that adds quotes of its own can tell.
var quoted = regexp.MustCompile(`^"(\w*)"$`)

func parseTags(value string) []string {
	tags := []string{}
	for tag := range strings.SplitSeq(value, ",") {
		tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
		if m := quoted.FindStringSubmatch(tag); m != nil {
			tag = m[1]
		}
		tags = append(tags, tag)
	}
	return tags
}

// Exclusive reports whether a write must fail if the entry changes after the conditions were checked.
func (c Conditions) Exclusive() bool { return c.IfMatch != nil || c.IfNoneMatch != nil }

// Any reports whether anything is asked at all.
func (c Conditions) Any() bool {
	return c.Exclusive() || !c.IfModifiedSince.IsZero() || !c.IfUnmodifiedSince.IsZero()
}

// Check compares the conditions, in the original's order, with an entity tag ("" for an entry that is not there, or a directory) and its modification
// time (zero likewise). read says that the request only reads.
func (c Conditions) Check(etag string, mtime time.Time, read bool) Outcome {
	if c.IfMatch != nil && !hasTag(c.IfMatch, etag) {
		return PreconditionFailed
	}
	unchanged := PreconditionFailed
	if read {
		unchanged = NotModified
	}
	if c.IfNoneMatch != nil && hasTag(c.IfNoneMatch, etag) {
		return unchanged
	}
	if mtime.IsZero() {
		return Proceed
	}
	// Dates in headers have whole seconds.
	mtime = mtime.Truncate(time.Second)
	if !c.IfModifiedSince.IsZero() && !c.IfModifiedSince.Before(mtime) {
		return unchanged
	}
	if !c.IfUnmodifiedSince.IsZero() && c.IfUnmodifiedSince.Before(mtime) {
		return PreconditionFailed
	}
	return Proceed
}

func hasTag(tags []string, etag string) bool {
	for _, t := range tags {
		if t == "*" || t == etag {
			return true
		}
	}
	return false
}
