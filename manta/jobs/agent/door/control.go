package door

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mobulacloud/mobula/manta/jobs"
)

// control answers what programs say of their task. These calls are undocumented in the original, and used by its tests.
func (d *Door) control(w http.ResponseWriter, r *http.Request, verb string) {
	method := http.MethodPost
	if verb == "task" {
		method = http.MethodGet
	}
	switch verb {
	case "task", "commit", "fail", "live", "perturb":
	default:
		noSuchCall.write(w)
		return
	}
	if r.Method != method {
		badMethod.write(w)
		return
	}
	if verb == "task" {
		d.tell(w, r)
		return
	}
	s := d.enter()
	if s == nil {
		notNow.write(w)
		return
	}
	defer s.leave()
	r, cancel := s.bind(w, r)
	defer cancel()
	switch verb {
	case "commit":
		d.finish(w, s, nil)
	case "fail":
		f, refused := readFailure(w, r)
		if refused != nil {
			refused.write(w)
			return
		}
		d.finish(w, s, f)
	case "live":
		w.WriteHeader(http.StatusOK)
	case "perturb":
		d.setPerturb(w, r)
	}
}

// tell answers a program that asks for its task: at once, or with wait=true as soon as there is one.
func (d *Door) tell(w http.ResponseWriter, r *http.Request) {
	var timeout <-chan time.Time
	if r.URL.Query().Get("wait") == "true" {
		timer := time.NewTimer(pollTimeout)
		defer timer.Stop()
		timeout = timer.C
	}
	for {
		d.mu.Lock()
		s, changed := d.task, d.changed
		d.mu.Unlock()
		if s != nil && !s.isOver() {
			var about any = map[string]string{"taskId": s.ID, "login": d.cfg.Login}
			if s.About != nil {
				about = s.About
			}
			b, err := json.Marshal(about)
			if err != nil {
				d.log.ErrorContext(r.Context(), "describe a task", "task", s.ID, "err", err)
				unreachable.write(w)
				return
			}
			writeJSON(w, http.StatusOK, b)
			return
		}
		if timeout == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		select {
		case <-changed:
		case <-timeout:
			timeout = nil
		case <-r.Context().Done():
			return
		}
	}
}

// finish ends the task by a program's word.
func (d *Door) finish(w http.ResponseWriter, s *session, f *Failure) {
	if !s.end(f) {
		notNow.write(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
	http.NewResponseController(w).Flush() // before the program is killed, if it can be
	if s.Ended != nil {
		go s.Ended()
	}
}

// Bounds of what a program may say of its failure.
const (
	maxCode    = 64
	maxMessage = 4096
)

// readFailure reads what went wrong: {"error": {"code": …, "message": …}}, all of it optional.
func readFailure(w http.ResponseWriter, r *http.Request) (*Failure, *refusal) {
	f := &Failure{Code: jobs.CodeUserTask, Message: "no message given"}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxControl))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, &bodyTooLarge
		}
		return nil, &refusal{http.StatusBadRequest, "BadRequest", "the body cannot be read"}
	}
	if t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); t != "application/json" || len(body) == 0 {
		return f, nil
	}
	var said struct {
		Error struct{ Code, Message any }
	}
	if err := json.Unmarshal(body, &said); err != nil {
		if _, ok := errors.AsType[*json.UnmarshalTypeError](err); !ok {
			return nil, &bodyNotJSON
		}
	}
	if code, ok := said.Error.Code.(string); ok && code != "" && len(code) <= maxCode && !strings.ContainsFunc(code, notWord) {
		f.Code = code
	}
	if message, ok := said.Error.Message.(string); ok && message != "" {
		f.Message = clip(message, maxMessage)
	}
	return f, nil
}

func notWord(r rune) bool {
	return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}

// clip shortens a text to whole characters.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, string(utf8.RuneError))
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// setPerturb has a share p of the requests that follow fail, to the end of the stream.
func (d *Door) setPerturb(w http.ResponseWriter, r *http.Request) {
	text := r.URL.Query().Get("p")
	if text == "" {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxControl))
		if err != nil {
			bodyTooLarge.write(w)
			return
		}
		if form, err := url.ParseQuery(string(body)); err == nil {
			text = form.Get("p")
		}
	}
	p, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	switch {
	case err != nil, math.IsNaN(p), math.IsInf(p, 0):
		notANumber.write(w)
	case p < 0 || p > 1:
		outOfRange.write(w)
	default:
		d.perturb.Store(math.Float64bits(p))
		w.WriteHeader(http.StatusNoContent)
	}
}
