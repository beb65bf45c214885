package slave

import (
	"encoding/json"
	"math"
	"strings"
)

// A request is what the user's side asks for.
type request struct {
	Type      string   `json:"type"` // start or resize; linkup is the reflector's
	Command   string   `json:"command"`
	Arguments []string `json:"arguments"`
	Term      string   `json:"term"`
	Dir       string   `json:"cwd"`
	Columns   float64  `json:"columns"`
	Lines     float64  `json:"lines"`
}

// A reply is what it is told.
type reply struct {
	Type  string `json:"type"` // started, exit or error
	PID   int    `json:"pid,omitempty"`
	Error string `json:"error,omitempty"`
}

func (r reply) text() []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // two strings and a number
	}
	return append([]byte("mlogin:"), b...)
}

// parse reads a text message. What is none of ours is nil: "ping" keeps connections open, and newer clients may say more.
func parse(text []byte) *request {
	s := string(text)
	body, ok := strings.CutPrefix(s, "mlogin:")
	if !ok {
		if body, ok = strings.CutPrefix(s, "medusa:"); !ok {
			return nil
		}
	}
	var r request
	if json.Unmarshal([]byte(body), &r) != nil {
		return nil
	}
	if ours := strings.HasPrefix(s, "medusa:"); ours != (r.Type == "linkup") {
		return nil
	}
	for _, s := range append([]string{r.Command, r.Term, r.Dir}, r.Arguments...) {
		if strings.IndexByte(s, 0) >= 0 {
			return nil
		}
	}
	return &r
}

// size returns a number of columns or lines, or a default for what is none.
func size(x float64, usual uint16) uint16 {
	if x < 1 || x > math.MaxInt16 || x != math.Trunc(x) {
		return usual
	}
	return uint16(x)
}
