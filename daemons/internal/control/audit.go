package control

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/mobulacloud/mobula/daemons/internal/proc"
	"github.com/mobulacloud/mobula/manta/audit"
	"github.com/mobulacloud/mobula/sdc"
)

// Audit serves the part of the API that compares nodes with records.
type Audit struct {
	Auditor *audit.Auditor
}

// AuditReport is what audits have found and done since the daemon started.
type AuditReport struct {
	Rounds         uint64    `json:"rounds"`
	LastRound      time.Time `json:"last_round,omitzero"`
	Copies         uint64    `json:"copies"`  // looked at
	Entries        uint64    `json:"entries"` // looked at
	Orphans        uint64    `json:"orphans"`
	Strays         uint64    `json:"strays"`
	Removed        uint64    `json:"removed"`
	RemovedBytes   uint64    `json:"removed_bytes"`
	Missing        uint64    `json:"missing"`
	Wrong          uint64    `json:"wrong"`
	HeldBack       int       `json:"held_back"`
	UncheckedNodes int       `json:"unchecked_nodes"`
}

// Routes adds the API to a mux.
func (s *Audit) Routes(mux *http.ServeMux) {
	report := func() AuditReport {
		m := s.Auditor.Metrics()
		return AuditReport{
			Rounds: m.Rounds, LastRound: m.LastRound, Copies: m.Copies, Entries: m.Entries, Orphans: m.Orphans, Strays: m.Strays, Removed: m.Removed,
			RemovedBytes: m.RemovedBytes, Missing: m.Missing, Wrong: m.Wrong, HeldBack: m.HeldBack, UncheckedNodes: m.UncheckedNodes,
		}
	}
	mux.HandleFunc("GET /audit", func(w http.ResponseWriter, r *http.Request) { Reply(w, report(), nil) })
	mux.HandleFunc("POST /audit", func(w http.ResponseWriter, r *http.Request) {
		err := s.Auditor.RunOnce(r.Context())
		if errors.Is(err, audit.ErrClaimed) {
			err = &sdc.Error{Code: "InvalidState", Message: "an audit is under way", Status: http.StatusConflict}
		}
		Reply(w, report(), err)
	})
}

// AuditCommands returns the commands that compare nodes with records.
func AuditCommands(dirFlag func(env *proc.Env, fs FlagSet) *string) []proc.Command {
	c := commands{dirFlag}
	return []proc.Command{
		{Name: "audit show", Summary: "print what audits have found since the start, as JSON", Run: c.show("audit show", "/audit")},
		{Name: "audit run", Summary: "compare nodes with records now, and wait until it is done", Run: c.audit},
	}
}

func (c commands) audit(ctx context.Context, env *proc.Env, args []string) error {
	fs := proc.Flags(env, "audit run")
	dir := c.dirFlag(env, fs)
	if _, err := proc.Parse(env, fs, args); err != nil {
		return err
	}
	var out AuditReport
	if err := call(ctx, env, *dir, http.MethodPost, "/audit", nil, &out); err != nil {
		return err
	}
	return printJSON(env, out)
}
