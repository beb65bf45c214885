package jobapi

import (
	"context"
	"crypto/ed25519"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/internal/httpsig"
	"github.com/mobulacloud/mobula/manta/internal/storetest"
	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/webapi"
	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/ufds"
)

// A world is a store with jobs, and accounts that call it.
type world struct {
	*storetest.Store
	t       testing.TB
	records *jobs.Records
	dir     *ufds.Directory
	signers map[string]httpsig.Signer // by login or account/user
	uuids   map[string]string
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, signers: map[string]httpsig.Signer{}, uuids: map[string]string{}}
	w.Store = storetest.New(t, func(s *storetest.Store, cfg *webapi.Config) {
		var err error
		w.records, err = jobs.NewRecords(s.Records)
		w.must(err)
		w.must(w.records.Define(t.Context()))
		api, err := New(Config{Records: w.records, Namespace: s.Namespace, Identity: s.Identity})
		w.must(err)
		cfg.Routes = api.Routes()
	})
	var err error
	w.dir, err = ufds.New(ufds.Config{Store: w.Records})
	w.must(err)
	w.account("alice")
	w.account("bob")
	w.account("poseidon", sdc.GroupOperators)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) signer(who, uuid string) {
	w.t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	w.must(err)
	w.signers[who], err = httpsig.NewSigner(private)
	w.must(err)
	w.uuids[who] = uuid
	if uuid != "" {
		_, err = w.dir.AddKey(w.t.Context(), uuid, "", w.signers[who].PublicKey().OpenSSH())
		w.must(err)
	}
}

// follow waits until the front door knows what was written about accounts.
func (w *world) follow() {
	w.t.Helper()
	mark, err := w.dir.Mark(w.t.Context())
	w.must(err)
	w.must(w.Identity.WaitMark(w.t.Context(), mark))
}

func (w *world) account(login string, groups ...string) {
	w.t.Helper()
	a, err := w.dir.CreateAccount(w.t.Context(), sdc.Account{Login: login, ApprovedForProvisioning: true, Groups: groups})
	w.must(err)
	w.signer(login, a.UUID)
	w.follow()
}

// user makes a user, named account/user, whose only role, active by default, has these rules.
func (w *world) user(who string, rules ...string) (role string) {
	w.t.Helper()
	ctx := w.t.Context()
	account, login, _ := strings.Cut(who, "/")
	u, err := w.dir.CreateUser(ctx, sdc.User{Account: w.uuids[account], Login: login, Email: login + "@example.com"})
	w.must(err)
	w.signer(who, u.UUID)
	p, err := w.dir.CreatePolicy(ctx, sdc.Policy{Account: w.uuids[account], Name: "p-" + login, Rules: rules})
	w.must(err)
	r, err := w.dir.CreateRole(ctx, sdc.Role{Account: w.uuids[account], Name: "r-" + login, Members: []string{u.UUID}, DefaultMembers: []string{u.UUID}, Policies: []string{p.UUID}})
	w.must(err)
	w.follow()
	return r.UUID
}

type answer struct {
	*http.Response
	body string
}

func (a answer) code() string {
	var e struct{ Code string }
	_ = json.Unmarshal([]byte(a.body), &e) // what is no JSON has no code
	return e.Code
}

var noRedirects = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func (w *world) request(as, method, path string, body io.Reader) *http.Request {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.URL+path, body)
	w.must(err)
	w.sign(r, as)
	return r
}

func (w *world) sign(r *http.Request, as string) {
	w.t.Helper()
	if as == "" {
		return
	}
	signer := w.signers[as]
	w.must(httpsig.SignRequest(context.Background(), signer, "/"+as+"/keys/"+signer.PublicKey().MD5(), r, time.Now()))
}

func (w *world) send(r *http.Request) answer {
	w.t.Helper()
	resp, err := noRedirects.Do(r)
	w.must(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	w.must(err)
	return answer{resp, string(b)}
}

// want makes a request and fails the test unless it is answered like that.
func (w *world) want(status int, code, as, method, path, body string) answer {
	w.t.Helper()
	var src io.Reader
	if body != "" {
		src = strings.NewReader(body)
	}
	a := w.send(w.request(as, method, path, src))
	if a.StatusCode != status || a.code() != code {
		w.t.Errorf("%s %s as %q: %d %.300s, want %d %s", method, path, as, a.StatusCode, a.body, status, code)
	}
	// What clients check on each answer.
	if status == 200 || status == 201 || status == 202 || status >= 400 {
		sum := md5.Sum([]byte(a.body))
		if a.Header.Get("Content-Type") == "" || a.ContentLength != int64(len(a.body)) ||
			a.body != "" && !strings.HasPrefix(a.Header.Get("Content-Type"), "application/x-json-stream") && a.Header.Get("Content-Md5") != base64.StdEncoding.EncodeToString(sum[:]) {
			w.t.Errorf("%s %s: headers %v", method, path, a.Header)
		}
	}
	return a
}

// create makes a job and returns its id.
func (w *world) create(as, login, definition string) string {
	w.t.Helper()
	a := w.want(201, "", as, "POST", "/"+login+"/jobs", definition)
	id, ok := strings.CutPrefix(a.Header.Get("Location"), "/"+login+"/jobs/")
	if !ok || len(id) != 36 || a.body != "" {
		w.t.Fatalf("created %v %q", a.Header, a.body)
	}
	return id
}

const simple = `{"name":"count","phases":[{"exec":"wc"}]}`
