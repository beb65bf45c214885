package picker

import (
	"time"

	"github.com/mobulacloud/mobula/storage"
)

// A Report is what is known of one storage node.
type Report struct {
	storage.Shark

	Available   int64     // bytes free to new objects
	PercentUsed int       // of the node's capacity, 0 to 100, rounded up
	Time        time.Time // when the node last reported

	// ReadOnly is the node's own reason to take no writes ("" when it takes them).
	ReadOnly string

	// Retired is the operator's reason to give the node no new copies, such as "draining" ("" for none).
	Retired string

	// Down says why the node cannot be reached at present ("" when it can).
	Down string

	// Failures counts recent failed calls. Each halves the node's chance of being chosen.
	Failures int
}

// A Rule names the reason for which a node is not eligible.
type Rule string

// The rules, in the order in which they are asked. The first that a node breaks is its verdict.
const (
	Excluded    Rule = "excluded"    // the request does not want it, or it holds a copy already
	Retired     Rule = "retired"     // draining or lost, by the operator's word
	Down        Rule = "down"        // cannot be reached
	Stale       Rule = "stale"       // has not reported for longer than the lag
	ReadOnly    Rule = "read-only"   // takes no writes, by its own word
	Utilization Rule = "utilization" // fuller than the limit
	Space       Rule = "space"       // not enough room for this object
)

// A Verdict says whether a node was eligible for a request.
type Verdict struct {
	Shark  storage.Shark
	Rule   Rule   // "" when the node is eligible
	Detail string // the figures behind Rule, for people
}
