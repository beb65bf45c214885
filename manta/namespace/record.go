package namespace

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// record is an entry as it is stored, by libmanta's field names. What the record's key tells (key, dirname, name, owner) is left out, and so
// is what is usual: an absent type is "object", an absent contentType octet-stream, and the etag is the objectId. Format 1; a later one would say so
// in a field "format", which a reader of format 1 refuses.
type record struct {
	Type        string            `json:"type,omitempty"`
	Subdir      string            `json:"subdir,omitempty"` // the name again, in directories' dirents only: it indexes them
	Mtime       int64             `json:"mtime"`            // milliseconds
	Roles       []string          `json:"roles,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
	ObjectID    string            `json:"objectId,omitempty"`
	Creator     string            `json:"creator,omitempty"`
	Size        int64             `json:"contentLength,omitempty"`
	MD5         string            `json:"contentMD5,omitempty"`
	ContentType string            `json:"contentType,omitempty"`
	Disposition string            `json:"contentDisposition,omitempty"`
	Sharks      []storage.Shark   `json:"sharks,omitempty"`
	CreatedFrom string            `json:"createdFrom,omitempty"`
	LinkID      string            `json:"linkId,omitempty"`
	Upload      json.RawMessage   `json:"upload,omitempty"`
}

// encode returns the record of an object, or the head record of a directory.
func encode(e *manta.Entry) (json.RawMessage, error) {
	r := record{
		Mtime: e.Mtime.UnixMilli(), Roles: e.Roles, Headers: e.Headers,
		ObjectID: e.ObjectID, Creator: e.Creator, Size: e.Size, MD5: e.MD5, ContentType: e.ContentType, Disposition: e.Disposition,
		Sharks: e.Sharks, CreatedFrom: e.CreatedFrom, LinkID: e.LinkID, Upload: e.Upload,
	}
	if e.Type == manta.TypeDirectory {
		r.Type = string(manta.TypeDirectory)
	}
	if r.Creator == e.Key.Owner() {
		r.Creator = ""
	}
	if r.ContentType == manta.DefaultContentType {
		r.ContentType = ""
	}
	if r.MD5 == manta.ZeroMD5 {
		r.MD5 = ""
	}
	v, err := json.Marshal(&r)
	if err != nil {
		return nil, fmt.Errorf("encode record of %s: %w", e.Key, err)
	}
	if len(v) > metastore.MaxValue {
		return nil, fmt.Errorf("encode record of %s: %w: %d bytes", e.Key, metastore.ErrInvalid, len(v))
	}
	return v, nil
}

// encodeDirent returns the record by which a directory's parent lists it.
func encodeDirent(e *manta.Entry) json.RawMessage {
	v, err := json.Marshal(&record{Type: string(manta.TypeDirectory), Subdir: e.Key.Name(), Mtime: e.Mtime.UnixMilli()})
	if err != nil {
		panic(err) // two strings and a number
	}
	return v
}

// decode fills e from a record; e.Key is the caller's. all is false when only what a listing shows is wanted.
func decode(v []byte, e *manta.Entry, all bool) error {
	*e = manta.Entry{Key: e.Key, Type: manta.TypeObject}
	sharks := 0
	err := scanObject(v, func(name string, value []byte) (err error) {
		switch name {
		case "type":
			if string(value) == `"directory"` {
				e.Type = manta.TypeDirectory
			}
		case "mtime":
			var ms int64
			ms, err = intValue(value)
			e.Mtime = time.UnixMilli(ms).UTC()
		case "objectId":
			e.ObjectID, err = stringValue(value)
		case "contentLength":
			e.Size, err = intValue(value)
		case "contentMD5":
			e.MD5, err = stringValue(value)
		case "contentType":
			e.ContentType, err = stringValue(value)
		case "contentDisposition":
			e.Disposition, err = stringValue(value)
		case "sharks":
			if all {
				e.Sharks, err = decodeSharks(value)
			} else {
				err = scanArray(value, func([]byte) error { sharks++; return nil })
			}
		case "format":
			err = fmt.Errorf("record of a newer format %.20s", value)
		default:
			if all {
				err = decodeRest(name, value, e)
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("decode record of %s: %w", e.Key, err)
	}
	if e.Type == manta.TypeObject {
		if e.ContentType == "" {
			e.ContentType = manta.DefaultContentType
		}
		if e.MD5 == "" && e.Size == 0 {
			e.MD5 = manta.ZeroMD5
		}
		if !all {
			e.Sharks = noSharks[:min(sharks, len(noSharks))]
		}
	}
	return nil
}

// noSharks stands in for the copies of a listed object, of which only the number shows.
var noSharks [64]storage.Shark

func decodeRest(name string, value []byte, e *manta.Entry) (err error) {
	switch name {
	case "roles":
		err = scanArray(value, func(v []byte) error {
			role, err := stringValue(v)
			e.Roles = append(e.Roles, role)
			return err
		})
	case "headers":
		e.Headers = map[string]string{}
		err = json.Unmarshal(value, &e.Headers)
	case "creator":
		e.Creator, err = stringValue(value)
	case "createdFrom":
		e.CreatedFrom, err = stringValue(value)
	case "linkId":
		e.LinkID, err = stringValue(value)
	case "upload":
		e.Upload = append([]byte(nil), value...)
	}
	return err
}

func decodeSharks(v []byte) (sharks []storage.Shark, err error) {
	err = scanArray(v, func(item []byte) error {
		var s storage.Shark
		err := scanObject(item, func(name string, value []byte) (err error) {
			switch name {
			case "datacenter":
				s.Datacenter, err = stringValue(value)
			case "manta_storage_id":
				s.Node, err = stringValue(value)
			}
			return err
		})
		sharks = append(sharks, s)
		return err
	})
	return sharks, err
}
