package webapi

import (
	"encoding/base64"
	"net/http"
	"strconv"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage/durable"
)

// getStorage is GET and HEAD of whatever stands under a path.
func getStorage(r *Request) error {
	st, err := r.lookExisting()
	if err != nil {
		return err
	}
	if err := r.authorizeEntry("get"+string(st.Entry.Type), st); err != nil {
		return err
	}
	if st.Entry.Type == manta.TypeDirectory {
		return getDirectory(r, st.Entry)
	}
	return getObject(r, st.Entry)
}

func getObject(r *Request, e *manta.Entry) error {
	r.Object = e.ObjectID
	if !acceptable(r.header("Accept"), e.ContentType) {
		return manta.Errorf(http.StatusNotAcceptable, manta.CodeNotAcceptable, "%s accepts %s", r.Path, e.ContentType)
	}
	if err := r.checkConditions(e); err != nil {
		return err
	}
	off, n := int64(0), e.Size
	ranged := false
	if e.Size > 0 && r.Method == http.MethodGet {
		var err error
		if off, n, ranged, err = r.s.parseRange(r.header("Range"), e.Size); err != nil {
			if manta := answerFor(err, r.Path); manta.Status == http.StatusRequestedRangeNotSatisfiable {
				r.set("Content-Range", "bytes */"+strconv.FormatInt(e.Size, 10))
			}
			return err
		}
		if !ranged {
			n = e.Size
		}
	}
	r.stored(e)
	r.set("Durability-Level", strconv.Itoa(len(e.Sharks)))
	if e.Disposition != "" {
		r.set("Content-Disposition", toLatin1(e.Disposition))
	}
	r.set("Content-Type", toLatin1(e.ContentType))
	status := http.StatusOK
	switch {
	case ranged:
		status = http.StatusPartialContent
		r.set("Content-Range", contentRange(off, n, e.Size))
	default:
		r.set("Content-MD5", e.MD5)
		if r.Method == http.MethodGet && e.Size > 0 {
			r.set("Accept-Ranges", "bytes")
		}
	}
	if r.Method == http.MethodHead || e.Size == 0 {
		r.set("Content-Length", strconv.FormatInt(e.Size, 10))
		r.WriteHead(http.StatusOK)
		return nil
	}
	return r.send(e, status, off, n)
}

// send streams bytes of an object. The first of them are at hand before the head is written, so that a lost object is still an error.
func (r *Request) send(e *manta.Entry, status int, off, n int64) error {
	loc, err := location(e)
	if err != nil {
		return err
	}
	if !r.s.takeSlot() {
		return throttled()
	}
	defer r.s.giveSlot()
	body, err := r.s.cfg.Storage.Open(r.Context(), loc, off, n)
	if err != nil {
		return err
	}
	defer body.Close()
	r.set("Content-Length", strconv.FormatInt(n, 10))
	out := &outlet{r: r, status: status}
	err = copyBody(out, body)
	r.s.met.outbound.Add(uint64(r.sent))
	return err
}

// location returns where an object's bytes are.
func location(e *manta.Entry) (durable.Location, error) {
	id, err := e.BytesID()
	if err != nil {
		return durable.Location{}, err
	}
	loc := durable.Location{ID: id, Size: e.Size, Sharks: e.Sharks}
	sum, err := base64.StdEncoding.DecodeString(e.MD5)
	if err == nil {
		copy(loc.MD5[:], sum)
	}
	return loc, nil
}

// deleteStorage is DELETE of an object or an empty directory.
func deleteStorage(r *Request) error {
	st, err := r.lookExisting()
	if err != nil {
		return err
	}
	if err := r.authorizeEntry("delete"+string(st.Entry.Type), st); err != nil {
		return err
	}
	if r.Path.IsRoot() {
		return onRoot(r)
	}
	if st.Entry.Type == manta.TypeObject {
		if err := r.checkConditions(st.Entry); err != nil {
			return err
		}
	}
	ctx, cancel := r.afterwards()
	defer cancel()
	gone, err := r.s.cfg.Namespace.Delete(ctx, r.Key, namespace.Options{Seen: st, Exclusive: r.exclusive()})
	if err != nil {
		return err
	}
	if gone.Type == manta.TypeObject {
		r.Replaced = gone.ObjectID
		r.s.met.deleted.Add(uint64(gone.Size))
	}
	r.Empty(http.StatusNoContent)
	return nil
}
