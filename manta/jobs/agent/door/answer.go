package door

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// A refusal is an answer of the door's own, in the form of the store's.
type refusal struct {
	status        int
	code, message string
}

// Refusals, with the original's statuses and codes.
var (
	notNow        = refusal{http.StatusConflict, "Conflict", "invalid zone state"}
	badReducer    = refusal{http.StatusConflict, "InvalidArgument", "invalid reducer"}
	injected      = refusal{http.StatusInternalServerError, "InternalServer", "injected failure"}
	unreachable   = refusal{http.StatusServiceUnavailable, "ServiceUnavailable", "the store did not answer"}
	badMethod     = refusal{http.StatusMethodNotAllowed, "MethodNotAllowed", "the method is not allowed"}
	noSuchCall    = refusal{http.StatusNotFound, "ResourceNotFound", "there is no such call"}
	bodyTooLarge  = refusal{http.StatusRequestEntityTooLarge, "RequestTooLarge", "the body is too large"}
	bodyNotJSON   = refusal{http.StatusBadRequest, "InvalidContent", "the body is not valid JSON"}
	notANumber    = refusal{http.StatusConflict, "InvalidArgument", `"p" is not a number`}
	outOfRange    = refusal{http.StatusConflict, "InvalidArgument", `"p" is out of range [0, 1]`}
	badObjectName = "bad object name: "
)

func (f refusal) body() []byte {
	b, err := json.Marshal(map[string]string{"code": f.code, "message": f.message})
	if err != nil {
		panic(err) // two strings
	}
	return b
}

func (f refusal) write(w http.ResponseWriter) { writeJSON(w, f.status, f.body()) }

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body) // a program that is gone has nobody to tell
}
