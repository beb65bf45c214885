package webapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/mpu"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage/durable"
	"github.com/mobulacloud/mobula/storage/picker"
)

// uploadRoutes are the routes of multipart upload. What the table does not take below uploads is answered with 405.
func uploadRoutes() []Route {
	const (
		root     = "/:login/uploads"
		upload   = root + "/:prefix/:upload"
		redirect = root + "/:upload"
	)
	routes := []Route{
		{Name: "CreateUpload", Method: "POST", Pattern: root, Action: "createupload", Handle: createUpload},
		{Name: "PutUploads", Method: "PUT", Pattern: root, Handle: notAllowed},
		{Name: "GetUploadState", Method: "GET", Pattern: upload + "/state", Action: "getupload", Handle: getUpload},
		{Name: "AbortUpload", Method: "POST", Pattern: upload + "/abort", Action: "abortupload", Handle: abortUpload},
		{Name: "CommitUpload", Method: "POST", Pattern: upload + "/commit", Action: "commitupload", Handle: commitUpload},
	}
	for _, method := range []string{"GET", "HEAD", "PUT", "POST", "DELETE"} {
		title := method[:1] + strings.ToLower(method[1:])
		for _, pattern := range []string{redirect, redirect + "/:part"} {
			routes = append(routes, Route{Name: title + "UploadRedirect", Method: method, Pattern: pattern, Action: "getupload", Handle: redirectUpload})
		}
		for _, control := range []string{"state", "abort", "commit"} {
			if allowed := control == "state" && method == "GET" || control != "state" && method == "POST"; !allowed {
				routes = append(routes, Route{Name: title + "Upload" + control, Method: method, Pattern: upload + "/" + control, Handle: notAllowed})
			}
		}
	}
	return append(routes,
		Route{Name: "UploadPart", Method: "PUT", Pattern: upload + "/:part", Action: "uploadpart", Handle: putPart},
		Route{Name: "GetPart", Method: "GET", Pattern: upload + "/:part", Handle: notAllowed},
		Route{Name: "PostPart", Method: "POST", Pattern: upload + "/:part", Handle: notAllowed},
		Route{Name: "DeletePart", Method: "DELETE", Pattern: upload + "/:part", Handle: deleteUpload},
		Route{Name: "DeleteUploadDir", Method: "DELETE", Pattern: upload, Handle: deleteUpload},
		Route{Name: "GetUploadsStorage", Method: "GET", Pattern: root + "/*", Handle: getStorage},
		Route{Name: "HeadUploadsStorage", Method: "HEAD", Pattern: root + "/*", Handle: getStorage},
		Route{Name: "OptionsUploadsStorage", Method: "OPTIONS", Pattern: root + "/*", Action: "optionsuploadsstorage", Handle: preflight},
	)
}

func notAllowed(r *Request) error {
	return manta.Errorf(http.StatusMethodNotAllowed, "MethodNotAllowed", "%s is not allowed", r.Method)
}

// refuseUser refuses users of an account: uploads are for accounts themselves.
func (r *Request) refuseUser() error {
	if r.Caller.User == nil {
		return nil
	}
	return manta.Errorf(http.StatusForbidden, "AuthorizationFailed", "%s is not allowed to access %s", r.Caller.Login(), r.Path)
}

// loadUpload reads the upload that the path names, for a caller who may do the route's action on it.
func (r *Request) loadUpload() (*mpu.Upload, error) {
	if err := r.refuseUser(); err != nil {
		return nil, err
	}
	u, err := r.s.cfg.Uploads.Load(r.Context(), r.Owner.UUID, r.Params["prefix"], r.Params["upload"])
	if err != nil {
		return nil, r.uploadError(r.Params["upload"], err)
	}
	path := r.Path
	for !strings.HasSuffix(path.Rest(), r.Params["upload"]) {
		path = path.Dir()
	}
	return u, r.authorize(r.Route.Action, path, r.Owner, u.Entry().Roles, true)
}

// uploadError gives the refusals of mpu their codes.
func (r *Request) uploadError(id string, err error) error {
	state := func(message string) error {
		e := manta.Errorf(http.StatusConflict, manta.CodeInvalidUploadState, "upload %s: %s", id, message)
		e.Err = err
		return e
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, mpu.ErrNotFound):
		return notFound(r.Path.String())
	case errors.Is(err, mpu.ErrAborted):
		return state("already aborted")
	case errors.Is(err, mpu.ErrCommitted) && r.Route.Name == "CommitUpload":
		return state("already committed with a different part set")
	case errors.Is(err, mpu.ErrCommitted):
		return state("already committed")
	case errors.Is(err, mpu.ErrOtherSet):
		return state("already has a commit in progress")
	case errors.Is(err, mpu.ErrFinal):
		return state("already finalized")
	}
	if p, ok := errors.AsType[*mpu.PartError](err); ok {
		e := manta.Errorf(http.StatusConflict, manta.CodeInvalidUpload, "upload %s: %s", id, p.Message)
		e.Err = err
		return e
	}
	return err
}

const (
	maxCreateBody = 100_000
	maxCommitBody = 500_000
)

// readJSON reads a small JSON body.
func (r *Request) readJSON(limit int64, v any) error {
	body, err := r.body.all(limit)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return err // valid JSON of another shape: the schema's business
		}
		return manta.Errorf(http.StatusBadRequest, "InvalidContent", "Invalid JSON: %s", clip(err.Error()))
	}
	return nil
}

func cannotCreate(format string, args ...any) error {
	return manta.Errorf(http.StatusConflict, manta.CodeInvalidUpload, "cannot create upload: %s", fmt.Sprintf(format, args...))
}

func createUpload(r *Request) error {
	if err := r.refuseUser(); err != nil {
		return err
	}
	if err := r.Authorize(); err != nil {
		return err
	}
	var body struct {
		ObjectPath *string        `json:"objectPath"`
		Headers    map[string]any `json:"headers"`
	}
	if err := r.readJSON(maxCreateBody, &body); err != nil {
		if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return cannotCreate("%s should not be %s", t.Field, t.Value)
		}
		return err
	}
	if body.ObjectPath == nil {
		return cannotCreate("data should have required property 'objectPath'")
	}
	if *body.ObjectPath == "" {
		return cannotCreate("data.objectPath should NOT be shorter than 1 characters")
	}
	req := mpu.CreateRequest{Owner: r.Owner.UUID, Login: r.Owner.Login, ObjectPath: *body.ObjectPath, Size: -1, Copies: r.s.cfg.Copies, Operator: r.Caller.Operator}
	var err error
	if req.Headers, err = uploadHeaders(body.Headers); err != nil {
		return err
	}
	target, err := manta.ParsePath(*body.ObjectPath)
	if err != nil {
		return cannotCreate("data.objectPath is not a valid path")
	}
	owner, err := r.s.cfg.Identity.AccountByLogin(target.Login())
	if err != nil {
		return err
	}
	if !manta.IsTop(target.Top()) || target.Top() == "uploads" {
		return cannotCreate("data.objectPath is not where an object may be")
	}
	req.ObjectKey = target.Key(owner.UUID)
	if err := r.uploadCopies(&req); err != nil {
		return err
	}
	if size, ok := req.Headers["content-length"].(float64); ok {
		req.Size = int64(size)
		if req.Size > r.s.cfg.MaxObjectSize {
			return manta.Errorf(http.StatusRequestEntityTooLarge, manta.CodeMaxContentLength, "request has exceeded %d bytes", r.s.cfg.MaxObjectSize)
		}
	}
	if d, ok := req.Headers["content-disposition"].(string); ok {
		if req.Headers["content-disposition"], err = canonicalDisposition(d); err != nil {
			return badRequest("content-disposition is malformed")
		}
	}
	req.Metadata = manta.Entry{Headers: storedHeaders(r.Request.Header)}
	if req.Metadata.Roles, err = r.roleTags(); err != nil {
		return err
	}
	ctx, cancel := r.afterwards()
	defer cancel()
	u, err := r.s.cfg.Uploads.Create(ctx, req)
	if full, ok := errors.AsType[*picker.NotEnoughSpaceError](err); ok {
		if full.Unreachable {
			return fmt.Errorf("%w: %w", durable.ErrUnavailable, err)
		}
		return r.notEnough(fmt.Errorf("%w: %w", durable.ErrNotEnoughSpace, err), req.Size, r.s.cfg.MaxObjectSize)
	}
	if err != nil {
		return err
	}
	return r.JSON(http.StatusCreated, struct {
		ID             string `json:"id"`
		PartsDirectory string `json:"partsDirectory"`
	}{u.ID, u.Path})
}

// uploadHeaders checks the headers of a target and lowers their names.
func uploadHeaders(in map[string]any) (map[string]any, error) {
	headers := map[string]any{}
	for name, value := range in {
		name = strings.ToLower(name)
		if name == "" || strings.ContainsFunc(name, func(c rune) bool { return c > 0x7e || !isAttrChar(byte(c)) && c != '*' && c != '%' && c != '\'' }) {
			return nil, cannotCreate("%.100q is no header", name)
		}
		switch name {
		case "if-match", "if-none-match", "if-modified-since", "if-unmodified-since":
			return nil, cannotCreate("data.headers should not have %q", name)
		}
		switch v := value.(type) {
		case string:
			if strings.ContainsFunc(v, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
				return nil, cannotCreate("data.headers[%q] is no header value", name)
			}
			if name == "content-length" {
				return nil, cannotCreate("data.headers['content-length'] should be number")
			}
		case float64:
			if name == "content-length" && (v < 0 || v != float64(int64(v))) {
				return nil, cannotCreate("data.headers['content-length'] should be >= 0")
			}
		default:
			return nil, cannotCreate("data.headers[%q] should be string or number", name)
		}
		headers[name] = value
	}
	return headers, nil
}

func (r *Request) uploadCopies(req *mpu.CreateRequest) error {
	v, ok := req.Headers["durability-level"]
	if !ok {
		v, ok = req.Headers["x-durability-level"]
	}
	if !ok {
		return nil
	}
	n, ok := v.(float64)
	if !ok || n != float64(int(n)) || n < 1 || int(n) > r.s.cfg.MaxCopies {
		return manta.Errorf(http.StatusBadRequest, manta.CodeInvalidDurabilityLevel, "durability-level must be between 1 and %d", r.s.cfg.MaxCopies)
	}
	req.Copies = int(n)
	return nil
}

func getUpload(r *Request) error {
	u, err := r.loadUpload()
	if err != nil {
		return err
	}
	return r.JSON(http.StatusOK, u.Status())
}

func abortUpload(r *Request) error {
	u, err := r.loadUpload()
	if err != nil {
		return err
	}
	ctx, cancel := r.afterwards()
	defer cancel()
	err = r.s.cfg.Uploads.Abort(ctx, u)
	if errors.Is(err, namespace.ErrConcurrent) {
		// Another call finalized the upload at the same time. What it made of it decides.
		if u, err = r.s.cfg.Uploads.Load(r.Context(), r.Owner.UUID, r.Params["prefix"], r.Params["upload"]); err == nil {
			ctx, cancel := r.afterwards()
			defer cancel()
			err = r.s.cfg.Uploads.Abort(ctx, u)
		}
	}
	if err != nil {
		return r.uploadError(r.Params["upload"], err)
	}
	r.Empty(http.StatusNoContent)
	return nil
}

// redirectUpload sends a caller who knows only an upload's id to its directory.
func redirectUpload(r *Request) error {
	if r.Method == http.MethodDelete && r.s.cfg.Dialect == V2 {
		return notAllowed(r)
	}
	if err := r.refuseUser(); err != nil {
		return err
	}
	if err := r.Authorize(); err != nil {
		return err
	}
	part := ""
	if p, ok := r.Params["part"]; ok {
		if _, valid := mpu.PartNumber(p); !valid {
			return notFound(r.Path.String())
		}
		part = "/" + p
	}
	prefix, err := r.s.cfg.Uploads.Find(r.Context(), r.Owner.UUID, r.Params["upload"])
	if err != nil {
		return r.uploadError(r.Params["upload"], err)
	}
	r.set("Location", "/"+r.Owner.Login+"/uploads/"+prefix+"/"+r.Params["upload"]+part)
	r.Empty(http.StatusMovedPermanently)
	return nil
}

// deleteUpload lets operators of the v1 dialect remove what an upload left.
func deleteUpload(r *Request) error {
	if !r.Caller.Operator || r.s.cfg.Dialect == V2 {
		return notAllowed(r)
	}
	if r.Query.Get("allowMpuDeletes") != "true" {
		return manta.Errorf(http.StatusUnprocessableEntity, manta.CodeUnprocessable, "to delete parts of an upload, add allowMpuDeletes=true")
	}
	return deleteStorage(r)
}
