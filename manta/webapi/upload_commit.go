package webapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/mpu"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/authcache"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/durable"
)

func putPart(r *Request) error {
	number, ok := mpu.PartNumber(r.Params["part"])
	if !ok {
		return manta.Errorf(http.StatusConflict, manta.CodeInvalidUpload, "upload %s: %s is not a valid part number", r.Params["upload"], clip(r.Params["part"]))
	}
	u, err := r.loadUpload()
	if err != nil {
		return err
	}
	part, err := r.s.cfg.Uploads.Part(r.Context(), u, number)
	if err != nil {
		return r.uploadError(u.ID, err)
	}
	if r.header("Durability-Level") != "" || r.header("X-Durability-Level") != "" {
		return r.uploadError(u.ID, &mpu.PartError{Message: "cannot change durability level for multipart uploads"})
	}
	size, limit, err := r.bodySize()
	if err != nil {
		return err
	}
	if len(u.Sharks) == 0 && size != 0 {
		return r.uploadError(u.ID, &mpu.PartError{Message: "the declared content-length is 0"})
	}
	e, err := r.newEntry()
	if err != nil {
		return err
	}
	loc, err := r.receive(&e, size, limit, func(id storage.ObjectID) (*durable.Upload, error) {
		return r.s.cfg.Storage.CreateOn(r.Context(), id, size, u.Sharks)
	}, func(up *durable.Upload) (durable.Stored, error) { return up.Commit(r.Context()) })
	if err != nil {
		return err
	}
	ctx, cancel := r.afterwards()
	defer cancel()
	stored, replaced, err := r.s.cfg.Namespace.Put(ctx, part.Key, e, part.Options)
	if err != nil {
		r.s.forsake(r, loc, err)
		if errors.Is(err, namespace.ErrConcurrent) {
			if _, again := r.s.cfg.Uploads.Part(r.Context(), u, number); errors.Is(again, mpu.ErrFinal) {
				err = again
			}
		}
		return r.uploadError(u.ID, err)
	}
	if replaced != nil {
		r.Replaced = replaced.ObjectID
	}
	r.storedObject(stored)
	return nil
}

func commitUpload(r *Request) error {
	u, err := r.loadUpload()
	if err != nil {
		return err
	}
	path, err := manta.ParsePath(u.ObjectPath)
	if err != nil {
		return err
	}
	owner, err := r.s.cfg.Identity.AccountByLogin(path.Login())
	if err != nil {
		return err
	}
	target, err := r.targetOf(u, path, owner.UUID)
	if err != nil {
		return err
	}
	subject := target.Entry
	if subject == nil {
		subject = target.Parent
	}
	if subject != nil {
		if err := r.authorize("putobject", path, owner, subject.Roles, target.Entry != nil); err != nil {
			return err
		}
	}
	switch {
	case target.Entry.IsDirectory() && !path.IsRoot():
		return manta.Errorf(http.StatusBadRequest, manta.CodeOnDirectory, "%s is a directory: %s is not allowed", path, r.Method)
	case target.NoParent != nil:
		return translate(target.NoParent, path)
	case path.IsRoot():
		return manta.Errorf(http.StatusBadRequest, manta.CodeOnRootDirectory, "%s is not allowed on %s", r.Method, path)
	}
	if target.Entry == nil {
		if err := r.s.cfg.Namespace.CheckRoom(r.Context(), target.Key.Dir()); err != nil {
			return translate(err, path)
		}
	}
	var body struct {
		Parts *[]string `json:"parts"`
	}
	if err := r.readJSON(maxCommitBody, &body); err != nil {
		if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return r.uploadError(u.ID, &mpu.PartError{Message: fmt.Sprintf("data.%s should not be %s", t.Field, t.Value)})
		}
		return err
	}
	if body.Parts == nil {
		return r.uploadError(u.ID, &mpu.PartError{Message: "data should have required property 'parts'"})
	}
	for i, etag := range *body.Parts {
		if etag == "" {
			return r.uploadError(u.ID, &mpu.PartError{Message: fmt.Sprintf("data.parts[%d] should NOT be shorter than 1 characters", i)})
		}
	}
	e, err := r.targetEntry(u, path, owner)
	if err != nil {
		return err
	}
	// To join parts takes its time, and a client that gives up waiting asks again: it goes on without.
	ctx := context.WithoutCancel(r.Context())
	sum, err := r.s.cfg.Uploads.Commit(ctx, u, *body.Parts, target, e)
	if errors.Is(err, namespace.ErrConcurrent) {
		// Another call finalized the upload at the same time. What it made of it decides.
		if u, err = r.s.cfg.Uploads.Load(ctx, r.Owner.UUID, r.Params["prefix"], r.Params["upload"]); err == nil {
			sum, err = r.s.cfg.Uploads.Commit(ctx, u, *body.Parts, nil, e)
		}
	}
	if err != nil {
		return r.uploadError(r.Params["upload"], err)
	}
	r.Object = u.ObjectID
	r.set("Location", u.ObjectPath)
	r.set("Computed-MD5", sum)
	r.Empty(http.StatusCreated)
	return nil
}

// targetOf looks the target of an upload up. Its key is the one of the record, unless the login has gone to another account meanwhile.
func (r *Request) targetOf(u *mpu.Upload, path manta.Path, owner string) (*namespace.State, error) {
	if u.ObjectKey.Owner() != owner {
		return nil, notFound(path.String())
	}
	return r.s.cfg.Namespace.Look(r.Context(), u.ObjectKey, true)
}

// targetEntry returns what the upload's headers say about its target.
func (r *Request) targetEntry(u *mpu.Upload, path manta.Path, owner *sdc.Account) (manta.Entry, error) {
	h := http.Header{}
	for name := range u.Headers {
		h.Set(name, u.Header(name))
	}
	e := manta.Entry{ContentType: u.Header("content-type"), Disposition: u.Header("content-disposition"), Headers: storedHeaders(h)}
	if e.ContentType == "" {
		e.ContentType = manta.DefaultContentType
	}
	if path.Top() == "public" && e.Headers["access-control-allow-origin"] == "" {
		if e.Headers == nil {
			e.Headers = map[string]string{}
		}
		e.Headers["access-control-allow-origin"] = "*"
	}
	var err error
	e.Roles, err = r.s.cfg.Identity.NewRoleTags(&authcache.Caller{Account: r.Caller.Account}, owner, u.Header("role-tag"))
	return e, err
}
