package mpu

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/picker"
)

// A CreateRequest asks for a new upload. What it says has been checked.
type CreateRequest struct {
	Owner      string // uuid of the account whose uploads directory it goes into
	Login      string // of that account
	ObjectPath string // of the target, as the caller wrote it
	ObjectKey  manta.Key
	Headers    map[string]any // of the target, by lower-case name
	Size       int64          // of the target, -1 when unknown
	Copies     int
	Operator   bool
	Metadata   manta.Entry // headers and roles of the upload's directory
}

// Create makes an upload. The nodes that it is given now are those of its parts and of the object.
func (s *Service) Create(ctx context.Context, req CreateRequest) (*Upload, error) {
	sharks := []storage.Shark{}
	if req.Size != 0 {
		room := req.Size
		if room < 0 && s.cfg.MaxSize > 0 {
			room = s.cfg.MaxSize
		}
		tuples, err := s.cfg.Nodes.Choose(picker.Request{Size: room, Copies: req.Copies, Operator: req.Operator})
		if err != nil {
			return nil, fmt.Errorf("choose nodes for upload: %w", err)
		}
		sharks = append(sharks, tuples[0]...)
	}
	id := uuid.NewString()
	id = id[:len(id)-1] + strconv.Itoa(s.cfg.PrefixLen)
	u := &Upload{
		ID: id, State: StateCreated, ObjectPath: req.ObjectPath, ObjectKey: req.ObjectKey,
		Path:    "/" + req.Login + "/uploads/" + prefix(id) + "/" + id,
		Headers: req.Headers, Sharks: sharks, ObjectID: uuid.NewString(), Created: s.cfg.Now().UnixMilli(),
	}
	key := dir(req.Owner, id)
	// The line by which the sweep finds the upload comes first: one without an upload does no harm.
	line, err := json.Marshal(open{Dir: key, Time: u.Created})
	if err != nil {
		return nil, err
	}
	if _, err := s.cfg.Store.Commit(ctx, metastore.Batch{metastore.Put{Bucket: openBucket, Key: openKey(key), Value: line}}); err != nil {
		return nil, fmt.Errorf("create upload %s: %w", id, err)
	}
	parent, err := s.cfg.Namespace.Look(ctx, key.Dir(), true)
	if err != nil {
		return nil, err
	}
	if parent.Entry == nil {
		if _, _, err := s.cfg.Namespace.PutDirectory(ctx, key.Dir(), manta.Entry{}, namespace.Options{Seen: parent}); err != nil {
			return nil, err
		}
	}
	e := req.Metadata
	if e.Upload, err = json.Marshal(u); err != nil {
		return nil, fmt.Errorf("create upload %s: %w", id, err)
	}
	if _, _, err := s.cfg.Namespace.PutDirectory(ctx, key, e, namespace.Options{}); err != nil {
		return nil, err
	}
	return u, nil
}
