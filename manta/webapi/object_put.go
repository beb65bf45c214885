package webapi

import (
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/durable"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// update is what a PUT without bytes of its own changes.
type update struct {
	namespace.Metadata
	options namespace.Options
}

// putObject is PUT of an object, and of metadata with ?metadata=true.
func putObject(r *Request) error {
	st, err := r.lookForPut()
	if err != nil {
		return err
	}
	if err := r.authorizePut("putobject", st); err != nil {
		return err
	}
	if err := r.checkConditions(st.Entry); err != nil {
		return err
	}
	if r.Path.IsRoot() && r.header("Content-Type") != "" {
		return onRoot(r)
	}
	if r.Query.Get("metadata") != "" {
		return putMetadata(r, st)
	}
	if st.Entry.IsDirectory() {
		return onDirectory(r)
	}
	size, limit, err := r.bodySize()
	if err != nil {
		return err
	}
	copies, err := r.copies()
	if err != nil {
		return err
	}
	if st.NoParent != nil {
		return st.NoParent
	}
	if st.Entry == nil {
		if err := r.checkRoom(st); err != nil {
			return err
		}
	}
	e, err := r.newEntry()
	if err != nil {
		return err
	}
	if r.Path.Top() == "public" && e.Headers["access-control-allow-origin"] == "" {
		if e.Headers == nil {
			e.Headers = map[string]string{}
		}
		e.Headers["access-control-allow-origin"] = "*"
	}
	var room int64 // the placement policy's, unless the client says how much may come
	if r.header("Max-Content-Length") != "" {
		room = limit
	}
	options := namespace.Options{Seen: st, Exclusive: r.exclusive()}
	var pending *namespace.Pending
	loc, err := r.receive(&e, size, limit, func(id storage.ObjectID) (*durable.Upload, error) {
		return r.s.cfg.Storage.Create(r.Context(), durable.CreateRequest{
			ID: id, Size: size, MaxSize: limit, Room: room, Copies: copies, Operator: r.Caller.Operator,
		})
	}, func(up *durable.Upload) (durable.Stored, error) {
		stored, p, err := r.commitBeside(up, e, options)
		pending = p
		return stored, err
	})
	if err != nil {
		return err
	}
	ctx, cancel := r.afterwards()
	defer cancel()
	var stored, replaced *manta.Entry
	if pending != nil {
		stored, replaced, err = pending.Finish(ctx)
	} else {
		stored, replaced, err = r.s.cfg.Namespace.Put(ctx, r.Key, e, options)
	}
	if err != nil {
		r.s.forsake(r, loc, err)
		return err
	}
	if replaced != nil {
		r.Replaced = replaced.ObjectID
	}
	r.storedObject(stored)
	return nil
}

// fewRequests is how many requests may be under way for a put to have its record written beside its bytes. That saves the wait for a disk and costs a second
// record, so it is for when there are few; many requests share their waits, and the processor is what they lack.
const fewRequests = 4

// commitBeside makes an upload durable, and beside it, where that is possible, the record of the entry that it will be: the pending put is nil where it
// is not.
func (r *Request) commitBeside(up *durable.Upload, e manta.Entry, o namespace.Options) (_ durable.Stored, _ *namespace.Pending, err error) {
	e.Sharks = up.Planned()
	if e.Sharks == nil || r.s.working.Load() > fewRequests {
		stored, err := up.Commit(r.Context())
		return stored, nil, err
	}
	ctx, cancel := r.afterwards()
	defer cancel()
	pending := r.s.cfg.Namespace.Begin(ctx, r.Key, e, o)
	keep := false
	defer func() {
		if pending != nil && !keep {
			err = errors.Join(err, pending.Abandon(ctx))
		}
	}()
	stored, err := up.Commit(r.Context())
	if err != nil || !slices.Equal(stored.Sharks, e.Sharks) || pending == nil {
		return stored, nil, err // a node was replaced: the record that was begun is of no use
	}
	keep = true
	return stored, pending, nil
}

// storedObject answers a PUT that stored bytes.
func (r *Request) storedObject(e *manta.Entry) {
	r.Object = e.ObjectID
	r.describe(e)
	r.echoOrigin()
	r.set("Computed-MD5", e.MD5)
	r.Empty(http.StatusNoContent)
}

// checkRoom refuses a new entry where the directory is full, before its bytes come. The change itself checks again; a small body is left to
// that.
func (r *Request) checkRoom(st *namespace.State) error {
	const small = 64 << 10
	if r.ContentLength >= 0 && r.ContentLength <= small && r.header("Expect") == "" {
		return nil
	}
	return r.s.cfg.Namespace.CheckRoom(r.Context(), st.Key.Dir())
}

// newEntry returns what the headers say about an object to be stored.
func (r *Request) newEntry() (manta.Entry, error) {
	e := manta.Entry{ContentType: r.header("Content-Type"), Headers: storedHeaders(r.Request.Header)}
	if e.ContentType == "" {
		e.ContentType = manta.DefaultContentType
	}
	e.ContentType = fromLatin1(e.ContentType)
	var err error
	if e.Disposition, err = r.disposition(); err != nil {
		return e, err
	}
	e.Roles, err = r.roleTags()
	return e, err
}

func (r *Request) disposition() (string, error) {
	v := r.header("Content-Disposition")
	if v == "" {
		return "", nil
	}
	canonical, err := canonicalDisposition(fromLatin1(v))
	if err != nil {
		return "", badRequest("content-disposition is malformed")
	}
	return canonical, nil
}

// bodySize returns the announced size of the body, or -1, and the most that it may be.
func (r *Request) bodySize() (size, limit int64, err error) {
	limit = r.s.cfg.MaxObjectSize
	if r.ContentLength >= 0 {
		if r.ContentLength == 0 && r.Request.Header["Content-Length"] == nil && r.ProtoMajor == 1 {
			return 0, 0, manta.Errorf(http.StatusLengthRequired, manta.CodeContentLengthRequired, "Content-Length must be >= 0")
		}
		if r.ContentLength > limit {
			return 0, 0, manta.Errorf(http.StatusRequestEntityTooLarge, manta.CodeMaxContentLength, "request has exceeded %d bytes", limit)
		}
		return r.ContentLength, limit, nil
	}
	if v := r.header("Max-Content-Length"); v != "" {
		n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		if err != nil || n < 0 {
			return 0, 0, manta.Errorf(http.StatusBadRequest, manta.CodeInvalidMaxContentLength, "%s is an invalid max-content-length value", clip(v))
		}
		limit = min(n, limit)
	}
	return -1, limit, nil
}

// copies returns how many copies are asked for.
func (r *Request) copies() (int, error) {
	v := r.header("Durability-Level")
	if v == "" {
		v = r.header("X-Durability-Level")
	}
	if v == "" {
		return r.s.cfg.Copies, nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(v))
	if err != nil || n < 1 || n > r.s.cfg.MaxCopies {
		return 0, manta.Errorf(http.StatusBadRequest, manta.CodeInvalidDurabilityLevel, "durability-level must be between 1 and %d", r.s.cfg.MaxCopies)
	}
	return n, nil
}

// receive takes the body to the storage nodes and fills in what the entry says about it. Before the first byte is read everything that can be refused must have
// been; create is the last. commit makes the bytes durable when e says all about them but their places. The location that is returned is where the bytes
// are if the entry cannot be stored after all.
func (r *Request) receive(e *manta.Entry, size, limit int64, create func(storage.ObjectID) (*durable.Upload, error), commit func(*durable.Upload) (durable.Stored, error)) (durable.Location, error) {
	announced := r.header("Content-Md5")
	if announced != "" {
		sum, err := base64.StdEncoding.DecodeString(announced)
		if err != nil || len(sum) != 16 {
			return durable.Location{}, badRequest("Content-MD5 invalid")
		}
	}
	owner, err := uuid.Parse(r.Owner.UUID)
	if err != nil {
		return durable.Location{}, err
	}
	id := storage.ObjectID{Owner: owner, Object: uuid.New()}
	e.ObjectID = id.Object.String()
	mismatch := func(computed string) error {
		return manta.Errorf(http.StatusBadRequest, manta.CodeContentMD5Mismatch, "Content-MD5 expected %s, but was %s", announced, computed)
	}
	if size == 0 {
		if e.MD5 = manta.ZeroMD5; announced != "" && announced != e.MD5 {
			return durable.Location{}, mismatch(e.MD5)
		}
		return durable.Location{}, nil
	}
	up, err := create(id)
	if err != nil {
		return durable.Location{}, r.notEnough(err, size, limit)
	}
	defer up.Cancel()
	n, err := up.ReadFrom(&r.body)
	r.s.met.inbound.Add(uint64(n))
	if r.body.err != nil {
		return durable.Location{}, r.body.err
	}
	if errors.Is(err, durable.ErrTooLarge) {
		return durable.Location{}, manta.Errorf(http.StatusRequestEntityTooLarge, manta.CodeMaxContentLength, "request has exceeded %d bytes", limit)
	}
	if err != nil {
		return durable.Location{}, r.notEnough(err, size, limit)
	}
	sum, err := up.MD5()
	if err != nil {
		return durable.Location{}, err
	}
	e.MD5 = base64.StdEncoding.EncodeToString(sum[:])
	if announced != "" && announced != e.MD5 {
		return durable.Location{}, mismatch(e.MD5)
	}
	if n == 0 { // a chunked body of nothing
		return durable.Location{}, nil
	}
	e.Size = n
	stored, err := commit(up)
	if err != nil {
		return durable.Location{}, r.notEnough(err, size, limit)
	}
	e.Sharks = stored.Sharks
	return durable.Location{ID: id, Size: stored.Size, MD5: stored.MD5, Sharks: stored.Sharks}, nil
}

// notEnough gives the refusal for want of space its size.
func (r *Request) notEnough(err error, size, limit int64) error {
	if !errors.Is(err, durable.ErrNotEnoughSpace) {
		return err
	}
	if size < 0 {
		size = limit
	}
	e := manta.Errorf(http.StatusInsufficientStorage, manta.CodeNotEnoughSpace, "not enough free space for %d MB", (size+1<<20-1)>>20)
	e.Err = err
	return e
}

// forsake deletes bytes whose entry was refused. Where it is not known whether the entry was stored, they stay for the audit to judge.
func (s *Server) forsake(r *Request, loc durable.Location, cause error) {
	if len(loc.Sharks) == 0 {
		return
	}
	refused := errors.Is(cause, metastore.ErrConflict)
	for _, known := range []error{namespace.ErrConcurrent, namespace.ErrFull, namespace.ErrIsDirectory, namespace.ErrNoParent, namespace.ErrParentNotDirectory} {
		refused = refused || errors.Is(cause, known)
	}
	if !refused {
		return
	}
	ctx, cancel := r.afterwards()
	defer cancel()
	if err := s.cfg.Storage.Delete(ctx, loc); err != nil {
		s.log.WarnContext(ctx, "bytes of a refused object stay behind", "request_id", r.ID, "object", loc.ID.String(), "err", err)
	}
}
