package nodehttp

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/mobulacloud/mobula/storage"
)

// Headers. Those of the original keep their names.
const (
	headerMD5         = "Content-Md5"
	headerComputedMD5 = "X-Joyent-Computed-Content-Md5"
	headerRequestID   = "X-Request-Id"

	headerSize     = "X-Mobula-Size"        // of the whole object
	headerCRC      = "X-Mobula-Crc32c"      // of the whole object, 8 hex digits
	headerCreated  = "X-Mobula-Created"     // Unix nanoseconds
	headerVerified = "X-Mobula-Verified"    // Unix nanoseconds
	headerError    = "X-Mobula-Error"       // code of the error
	headerRange    = "X-Mobula-Range"       // OFF,N as in Node.Open
	headerSent     = "X-Mobula-Sent-Crc32c" // of the body of an answer
)

// statusMD5Mismatch is what the original answers when content differs from its announced MD5.
const statusMD5Mismatch = 469

// codes maps errors to what goes over the wire, both ways. The first that fits is taken.
var codes = []struct {
	err    error
	code   string
	status int
}{
	{storage.ErrNotFound, "not_found", http.StatusNotFound},
	{storage.ErrExist, "exist", http.StatusConflict},
	{storage.ErrCorrupt, "corrupt", http.StatusInternalServerError},
	{storage.ErrChecksum, "checksum", statusMD5Mismatch},
	{storage.ErrNoSpace, "no_space", http.StatusInsufficientStorage},
	{storage.ErrReadOnly, "read_only", http.StatusServiceUnavailable},
	{storage.ErrUnavailable, "unavailable", http.StatusServiceUnavailable},
	{storage.ErrClosed, "unavailable", http.StatusServiceUnavailable}, // to a remote caller, a node that ends is one that cannot be reached
	{storage.ErrInvalid, "invalid", http.StatusBadRequest},
	{context.DeadlineExceeded, "unavailable", http.StatusServiceUnavailable},
	{context.Canceled, "unavailable", http.StatusServiceUnavailable},
}

func codeOf(err error) (code string, status int) {
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code, c.status
		}
	}
	return "internal", http.StatusInternalServerError
}

// remoteError is an error that a node answered. It matches the sentinel of its code.
type remoteError struct {
	sentinel error
	message  string
	request  string
}

func (e *remoteError) Error() string {
	return fmt.Sprintf("%v (node says: %s, request %s)", e.sentinel, e.message, e.request)
}
func (e *remoteError) Unwrap() error { return e.sentinel }

func errorOf(code string) error {
	for _, c := range codes {
		if c.code == code {
			return c.err
		}
	}
	return storage.ErrUnavailable // a fault of the node: another may do
}

const maxErrorBody = 4 << 10

type wireError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// answerError makes an error of an answer that is not a success.
func answerError(resp *http.Response) error {
	e := &remoteError{request: resp.Header.Get(headerRequestID)}
	code := resp.Header.Get(headerError)
	if code == "" { // not our service, or something before it
		for _, c := range codes {
			if c.status == resp.StatusCode {
				code = c.code
				break
			}
		}
		if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
			code = "invalid"
		}
	}
	e.sentinel = errorOf(code)
	var body wireError
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if json.Unmarshal(b, &body) == nil {
		e.message = fmt.Sprintf("%.300q", body.Message)
	} else {
		e.message = resp.Status
	}
	return e
}

func formatMD5(sum [16]byte) string { return base64.StdEncoding.EncodeToString(sum[:]) }

func parseMD5(s string) (sum [16]byte, err error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) != len(sum) {
		return sum, fmt.Errorf("%w: content-md5 %.40q", storage.ErrInvalid, s)
	}
	return [16]byte(b), nil
}

func formatCRC(crc uint32) string { return fmt.Sprintf("%08x", crc) }

func parseCRC(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 16, 32)
	if err != nil || len(s) != 8 {
		return 0, fmt.Errorf("%w: crc32c %.40q", storage.ErrInvalid, s)
	}
	return uint32(n), nil
}

// writeInfo describes an object in headers.
func writeInfo(h http.Header, info storage.Info) {
	h.Set(headerSize, strconv.FormatInt(info.Size, 10))
	h.Set(headerComputedMD5, formatMD5(info.MD5))
	h.Set(headerCRC, formatCRC(info.CRC32C))
	h.Set(headerCreated, strconv.FormatInt(info.Created.UnixNano(), 10))
	h.Set(headerVerified, strconv.FormatInt(info.Verified.UnixNano(), 10))
}

func readInfo(h http.Header, id storage.ObjectID) (storage.Info, error) {
	info := storage.Info{ID: id}
	var errs [5]error
	nano := func(s string) (time.Time, error) {
		n, err := strconv.ParseInt(s, 10, 64)
		return time.Unix(0, n), err
	}
	info.Size, errs[0] = strconv.ParseInt(h.Get(headerSize), 10, 64)
	info.MD5, errs[1] = parseMD5(h.Get(headerComputedMD5))
	info.CRC32C, errs[2] = parseCRC(h.Get(headerCRC))
	info.Created, errs[3] = nano(h.Get(headerCreated))
	info.Verified, errs[4] = nano(h.Get(headerVerified))
	if err := errors.Join(errs[:]...); err != nil || info.Size < 0 {
		return storage.Info{}, fmt.Errorf("%w: the answer does not describe the object: %v", storage.ErrUnavailable, err)
	}
	return info, nil
}

// wireInfo is a line of a listing. The last line has End or Error instead.
type wireInfo struct {
	ID       string     `json:"id,omitempty"`
	Size     int64      `json:"size"`
	MD5      []byte     `json:"md5,omitempty"`
	CRC32C   uint32     `json:"crc32c"`
	Created  int64      `json:"created,omitempty"`  // Unix nanoseconds
	Verified int64      `json:"verified,omitempty"` // Unix nanoseconds
	End      bool       `json:"end,omitempty"`
	Error    *wireError `json:"error,omitempty"`
}

func (w *wireInfo) info() (storage.Info, error) {
	id, err := storage.ParseObjectID(w.ID)
	if err != nil || len(w.MD5) != 16 || w.Size < 0 {
		return storage.Info{}, fmt.Errorf("%w: bad line in a listing", storage.ErrUnavailable)
	}
	return storage.Info{ID: id, Size: w.Size, MD5: [16]byte(w.MD5), CRC32C: w.CRC32C, Created: time.Unix(0, w.Created), Verified: time.Unix(0, w.Verified)}, nil
}

// wireUsage is a node's report.
type wireUsage struct {
	Capacity         int64  `json:"capacity"`
	Available        int64  `json:"available"`
	Objects          int64  `json:"objects"`
	Bytes            int64  `json:"bytes"`
	Tombstones       int64  `json:"tombstones"`
	Damaged          int64  `json:"damaged"`
	OldestUnverified int64  `json:"oldest_unverified,omitempty"` // Unix nanoseconds
	ReadOnly         string `json:"read_only,omitempty"`
}

// commitRequest is the body of POST /mpu/v1/commit/ID. A part is an object's id below account, or, as an addition, OWNER/OBJECT.
type commitRequest struct {
	Version  int      `json:"version"`
	NBytes   int64    `json:"nbytes"`
	Account  string   `json:"account"`
	ObjectID string   `json:"objectId"`
	Parts    []string `json:"parts"`
}

const (
	commitVersion    = 1
	maxCommitRequest = 1 << 20
)
