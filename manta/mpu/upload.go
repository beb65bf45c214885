package mpu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// Errors of uploads; test with errors.Is.
var (
	ErrNotFound  = errors.New("mpu: no such upload")
	ErrAborted   = errors.New("mpu: already aborted")
	ErrCommitted = errors.New("mpu: already committed")
	ErrOtherSet  = errors.New("mpu: a commit of other parts is in progress")
	ErrFinal     = errors.New("mpu: already finalized")
)

// A PartError refuses a commit for what the parts are. Its text is for the caller.
type PartError struct{ Message string }

func (e *PartError) Error() string { return e.Message }

// States of an upload, and what finalizes it.
const (
	StateCreated    = "created"
	StateFinalizing = "finalizing"
	StateDone       = "done"

	TypeCommit = "commit"
	TypeAbort  = "abort"
)

// An Upload is the record of a multipart upload, by the field names of the original.
type Upload struct {
	ID         string          `json:"id"`
	State      string          `json:"state"` // created or finalizing; done is told by the finalizing record
	Type       string          `json:"type,omitempty"`
	ObjectPath string          `json:"objectPath"`    // as the caller wrote it
	ObjectKey  manta.Key       `json:"objectPathKey"` // the target in records
	Path       string          `json:"uploadPath"`    // /login/uploads/prefix/id
	Headers    map[string]any  `json:"headers"`       // of the target, by lower-case name; strings and numbers
	Sharks     []storage.Shark `json:"sharks"`
	PartsMD5   string          `json:"partsMD5,omitempty"` // of the committed parts' etags
	ObjectID   string          `json:"objectId"`
	Created    int64           `json:"creationTimeMs"`

	state *namespace.State
	final *final
}

// final is the finalizing record: there is one when the upload is done.
type final struct {
	Upload string    `json:"uploadId"`
	Type   string    `json:"finalizingType"`
	Dir    manta.Key `json:"uploadKey"`
	Owner  string    `json:"owner"`
	Path   string    `json:"objectPath"`
	Object string    `json:"objectId"`
	MD5    string    `json:"md5,omitempty"`
	Time   int64     `json:"time"`
}

// Header returns a header of the target as a string, or "".
func (u *Upload) Header(name string) string {
	switch v := u.Headers[name].(type) {
	case string:
		return v
	case float64:
		return fmt.Sprintf("%.0f", v)
	}
	return ""
}

// Dir returns the key of the upload's directory.
func (u *Upload) Dir() manta.Key { return u.state.Key }

// Entry returns the upload's directory.
func (u *Upload) Entry() *manta.Entry { return u.state.Entry }

// Done reports whether the upload was committed or aborted to the end.
func (u *Upload) Done() bool { return u.final != nil }

// prefix returns the directory name under which an id is filed.
func prefix(id string) string {
	n := int(id[len(id)-1] - '0')
	if n < 1 || n > 4 {
		n = 1 // from before ids carried their prefix length
	}
	return id[:n]
}

// dir returns the key of an upload's directory.
func dir(owner, id string) manta.Key {
	return manta.Key("/" + owner + "/uploads/" + prefix(id) + "/" + id)
}

// Find returns the prefix under which an account's upload is filed, or ErrNotFound.
func (s *Service) Find(ctx context.Context, owner, id string) (string, error) {
	for _, p := range slices.Compact([]string{prefix(id), id[:1]}) {
		st, err := s.cfg.Namespace.Look(ctx, manta.Key("/"+owner+"/uploads/"+p+"/"+id), false)
		if err != nil {
			return "", err
		}
		if st.Entry.IsDirectory() && st.Entry.Upload != nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("%w: %s", ErrNotFound, id)
}

// Load reads an account's upload. prefix is the name of the directory that the caller expects it in.
func (s *Service) Load(ctx context.Context, owner, prefix, id string) (*Upload, error) {
	st, err := s.cfg.Namespace.Look(ctx, manta.Key("/"+owner+"/uploads/"+prefix+"/"+id), false)
	if err != nil {
		return nil, err
	}
	return s.load(ctx, st)
}

func (s *Service) load(ctx context.Context, st *namespace.State) (*Upload, error) {
	u, err := parse(st)
	if err != nil {
		return nil, err
	}
	if u.State == StateFinalizing {
		if u.final, err = s.loadFinal(ctx, u); err != nil {
			return nil, err
		}
	}
	return u, nil
}

// parse reads the upload's record out of its directory.
func parse(st *namespace.State) (*Upload, error) {
	if !st.Entry.IsDirectory() || st.Entry.Upload == nil {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, st.Key)
	}
	u := &Upload{state: st}
	if err := json.Unmarshal(st.Entry.Upload, u); err != nil {
		return nil, fmt.Errorf("read upload %s: %w", st.Key, err)
	}
	return u, nil
}

func (u *Upload) finalKey() metastore.Key {
	return metastore.Key{Partition: string(u.ObjectKey.Dir()), Name: u.ID + ":" + string(u.ObjectKey)}
}

func (s *Service) loadFinal(ctx context.Context, u *Upload) (*final, error) {
	rec, err := s.cfg.Store.Get(ctx, finalBucket, u.finalKey())
	if errors.Is(err, metastore.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read upload %s: %w", u.ID, err)
	}
	f := &final{}
	if err := json.Unmarshal(rec.Value, f); err != nil {
		return nil, fmt.Errorf("read upload %s: %w", u.ID, err)
	}
	return f, nil
}

// finalOp returns the operation that ends the upload. Of a commit and an abort only one gets it through.
func (s *Service) finalOp(u *Upload, md5 string) (metastore.Put, *final) {
	f := &final{
		Upload: u.ID, Type: u.Type, Dir: u.Dir(), Owner: u.Dir().Owner(), Path: u.ObjectPath, Object: u.ObjectID, MD5: md5, Time: s.cfg.Now().UnixMilli(),
	}
	v, err := json.Marshal(f)
	if err != nil {
		panic(err) // strings and a number
	}
	return metastore.Put{Bucket: finalBucket, Key: u.finalKey(), Value: v, If: metastore.Absent()}, f
}

// save writes the upload's record, provided that it is still as it was read.
func (s *Service) save(ctx context.Context, u *Upload) error {
	v, err := json.Marshal(u)
	if err != nil {
		return fmt.Errorf("write upload %s: %w", u.ID, err)
	}
	st, err := s.cfg.Namespace.SetUpload(ctx, u.state, v)
	if err != nil {
		return err
	}
	u.state = st
	return nil
}

// A Status is what callers see of an upload.
type Status struct {
	ID             string         `json:"id"`
	State          string         `json:"state"`
	PartsDirectory string         `json:"partsDirectory,omitempty"` // until it is done
	TargetObject   string         `json:"targetObject"`
	Headers        map[string]any `json:"headers"`
	NumCopies      int            `json:"numCopies"`
	Created        int64          `json:"creationTimeMs"` // ms since 1970
	Type           string         `json:"type,omitempty"` // of one that is finalizing: commit or abort
	Result         string         `json:"result,omitempty"`
	PartsMD5       string         `json:"partsMD5Summary,omitempty"` // of one that is committed
}

// Status returns what callers see of the upload.
func (u *Upload) Status() Status {
	st := Status{
		ID: u.ID, State: u.State, TargetObject: u.ObjectPath, Headers: u.Headers, NumCopies: len(u.Sharks), Created: u.Created,
		PartsDirectory: u.Path,
	}
	if st.Headers == nil {
		st.Headers = map[string]any{}
	}
	if u.State == StateFinalizing {
		st.Type = u.Type
	}
	if u.final != nil {
		st.State, st.Type, st.PartsDirectory = StateDone, "", ""
		st.Result = "aborted"
		if u.final.Type == TypeCommit {
			st.Result, st.PartsMD5 = "committed", u.PartsMD5
		}
	}
	return st
}
