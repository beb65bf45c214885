package mpu

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/durable"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// summarize returns the sum by which a set of parts is told from another.
func summarize(parts []string) string {
	h := md5.New()
	for _, p := range parts {
		io.WriteString(h, p)
	}
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// Commit joins the parts with these etags, in this order, into the target object, and returns the object's MD5 in base64. target is the state of the
// target's key as the caller was authorised for it, and e what is to be stored with it: headers, roles, content type. The same commit again is
// no error and changes nothing.
func (s *Service) Commit(ctx context.Context, u *Upload, parts []string, target *namespace.State, e manta.Entry) (sum string, err error) {
	if len(parts) > MaxParts {
		return "", &PartError{fmt.Sprintf("more than %d parts", MaxParts)}
	}
	summary := summarize(parts)
	switch {
	case u.State == StateFinalizing && u.Type == TypeAbort, u.final != nil && u.final.Type == TypeAbort:
		return "", fmt.Errorf("%w: %s", ErrAborted, u.ID)
	case u.State == StateFinalizing && u.PartsMD5 != summary && u.final != nil:
		return "", fmt.Errorf("%w with other parts: %s", ErrCommitted, u.ID)
	case u.State == StateFinalizing && u.PartsMD5 != summary:
		return "", fmt.Errorf("%w: %s", ErrOtherSet, u.ID)
	case u.final != nil:
		return u.final.MD5, nil
	}
	ids, size, err := s.check(ctx, u, parts)
	if err != nil {
		return "", err
	}
	if u.State == StateCreated {
		u.State, u.Type, u.PartsMD5 = StateFinalizing, TypeCommit, summary
		if err := s.save(ctx, u); err != nil {
			return "", err
		}
		// A part may have been put anew between the check and the save, but not after it.
		if ids, size, err = s.check(ctx, u, parts); err != nil {
			return "", errors.Join(err, s.reopen(ctx, u))
		}
	}
	e.ObjectID, e.MD5, e.Size, e.Sharks = u.ObjectID, manta.ZeroMD5, size, nil
	e.Creator = u.Dir().Owner() // the parts' owner, whoever's tree the target is in
	if size > 0 {
		stored, err := s.cfg.Storage.Assemble(ctx, s.target(u), ids, u.Sharks, size)
		if errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrCorrupt) || errors.Is(err, durable.ErrUnavailable) {
			stored, err = s.join(ctx, u, len(parts), size, err)
		}
		if err != nil {
			return "", err
		}
		e.Sharks, e.MD5 = stored.Sharks, base64.StdEncoding.EncodeToString(stored.MD5[:])
	}
	if want := u.Header("content-md5"); want != "" && want != e.MD5 {
		refused := &PartError{fmt.Sprintf("expected content-md5 %q, but object has md5 %q", want, e.MD5)}
		return "", errors.Join(refused, s.reopen(ctx, u))
	}
	op, f := s.finalOp(u, e.MD5)
	_, _, err = s.cfg.Namespace.Put(ctx, u.ObjectKey, e, namespace.Options{Seen: target, Also: []metastore.Op{op}})
	if errors.Is(err, metastore.ErrConflict) {
		// Another commit of the same parts was here first.
		if f, err = s.loadFinal(ctx, u); err == nil && f == nil {
			err = fmt.Errorf("commit upload %s: %w", u.ID, namespace.ErrConcurrent)
		}
	}
	if err == nil && f.Type == TypeAbort {
		err = fmt.Errorf("%w: %s", ErrAborted, u.ID) // it had expired
	}
	if err != nil {
		return "", err
	}
	u.final = f
	return f.MD5, nil
}

// target returns the id of the object to be.
func (s *Service) target(u *Upload) storage.ObjectID {
	return storage.ObjectID{Owner: uuid.MustParse(u.Dir().Owner()), Object: uuid.MustParse(u.ObjectID)}
}

// check holds the parts against what is there. It returns their ids and the sum of their sizes.
func (s *Service) check(ctx context.Context, u *Upload, parts []string) (ids []storage.ObjectID, size int64, err error) {
	owner, err := uuid.Parse(u.Dir().Owner())
	if err != nil {
		return nil, 0, err
	}
	type part struct {
		etag string
		size int64
	}
	have := map[string]part{}
	for e, err := range s.cfg.Namespace.List(ctx, u.Dir(), namespace.ListOptions{}) {
		if err != nil {
			return nil, 0, err
		}
		have[e.Key.Name()] = part{e.ObjectID, e.Size}
	}
	for i, etag := range parts {
		p, ok := have[strconv.Itoa(i)]
		switch {
		case !ok:
			return nil, 0, &PartError{fmt.Sprintf("[part %d] part does not exist", i)}
		case p.etag != etag:
			return nil, 0, &PartError{fmt.Sprintf("[part %d] invalid etag %q", i, etag)}
		case i < len(parts)-1 && p.size < MinPartSize:
			return nil, 0, &PartError{fmt.Sprintf("[part %d] part is too small (size %d)", i, p.size)}
		}
		if p.size > 0 {
			id, err := uuid.Parse(etag)
			if err != nil {
				return nil, 0, err
			}
			ids = append(ids, storage.ObjectID{Owner: owner, Object: id})
		}
		size += p.size
	}
	if want, ok := u.Headers["content-length"].(float64); ok && int64(want) != size {
		return nil, 0, &PartError{fmt.Sprintf("expected content-length %.0f, but object was %d", want, size)}
	}
	return ids, size, nil
}

// reopen takes a commit back that was refused after the upload had become finalizing. The object gets another id, since the old one may name bytes
// by now.
func (s *Service) reopen(ctx context.Context, u *Upload) error {
	loc := durable.Location{ID: s.target(u), Sharks: u.Sharks}
	u.State, u.Type, u.PartsMD5, u.ObjectID = StateCreated, "", "", uuid.NewString()
	if err := s.save(ctx, u); err != nil {
		return err
	}
	if err := s.cfg.Storage.Delete(ctx, loc); err != nil {
		s.log.Warn("bytes of a refused commit stay behind", "upload", u.ID, "object", loc.ID.String(), "err", err)
	}
	return nil
}
