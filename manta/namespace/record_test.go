package namespace

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/storage"
)

var samples = []manta.Entry{
	{Key: "/u/stor/a", Type: manta.TypeObject, Mtime: time.UnixMilli(0).UTC(), ContentType: manta.DefaultContentType, MD5: manta.ZeroMD5},
	{
		Key: "/u/stor/b", Type: manta.TypeObject, Mtime: time.UnixMilli(1_700_000_000_123).UTC(), ObjectID: "o", Creator: "c", Size: math.MaxInt64, MD5: "x==",
		ContentType: "text/plain; charset=\"utf-8\"", Disposition: `attachment; filename="a\"b"`, Roles: []string{"r1", "r2"},
		Headers: map[string]string{"m-a": "é\u2028\\\"<>&", "cache-control": "none"}, Sharks: []storage.Shark{{Datacenter: "d\"c", Node: "1"}, {Node: "2"}},
		CreatedFrom: "/u/stor/ü", LinkID: "o",
	},
	{Key: "/u/stor/d", Type: manta.TypeDirectory, Mtime: time.UnixMilli(1).UTC(), Upload: []byte(`{"id":"x","parts":[1,{"a":"]}"}]}`)},
}

func TestRecordRoundTrip(t *testing.T) {
	for _, want := range samples {
		v, err := encode(&want)
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(v) {
			t.Fatalf("encode(%s) = %s", want.Key, v)
		}
		got := manta.Entry{Key: want.Key}
		if err := decode(v, &got, true); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", v, diff)
		}
	}
}

// TestFormat1 holds the stored form: records of this form must be readable for good.
func TestFormat1(t *testing.T) {
	const object = `{"mtime":1700000000123,"roles":["r"],"headers":{"m-a":"b"},"objectId":"o","creator":"c","contentLength":5,"contentMD5":"x==","contentType":"a/b","contentDisposition":"inline","sharks":[{"datacenter":"dc","manta_storage_id":"1.stor"}],"createdFrom":"/u/stor/s","linkId":"l"}`
	want := manta.Entry{
		Key: "/u/stor/b", Type: manta.TypeObject, Mtime: time.UnixMilli(1_700_000_000_123).UTC(), ObjectID: "o", Creator: "c", Size: 5, MD5: "x==", ContentType: "a/b",
		Disposition: "inline", Roles: []string{"r"}, Headers: map[string]string{"m-a": "b"}, Sharks: []storage.Shark{{Datacenter: "dc", Node: "1.stor"}},
		CreatedFrom: "/u/stor/s", LinkID: "l",
	}
	got := manta.Entry{Key: want.Key}
	if err := decode([]byte(object), &got, true); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if v, err := encode(&want); err != nil || string(v) != object {
		t.Errorf("encode = %s, %v, want %s", v, err, object)
	}
	if v := encodeDirent(&manta.Entry{Key: "/u/stor/d", Mtime: time.UnixMilli(7)}); string(v) != `{"type":"directory","subdir":"d","mtime":7}` {
		t.Errorf("encodeDirent = %s", v)
	}
	if err := decode([]byte(`{"format":2,"mtime":1}`), &got, true); err == nil {
		t.Error("a record of a newer format was read")
	}
}

// FuzzDecode: whatever a store hands out, reading it neither panics nor goes beyond its end, and valid JSON is read as encoding/json does.
func FuzzDecode(f *testing.F) {
	for _, e := range samples {
		v, _ := encode(&e)
		f.Add([]byte(v))
	}
	for _, s := range []string{``, `{`, `{}`, `[]`, `{"a"`, `{"a":`, `{"mtime":1e3}`, `{"mtime": 12 , "sharks" : [ ] }`, `{"headers":{"a":1}}`, `{"objectId":"\u00e9\`, `{"sharks":[{"datacenter":"x"},{}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		e := manta.Entry{Key: "/u/stor/x"}
		err := decode(v, &e, true)
		decode(v, &e, false)
		var r struct {
			ObjectID *string `json:"objectId"`
		}
		if !json.Valid(v) || json.Unmarshal(v, &r) != nil || r.ObjectID == nil || err != nil {
			return
		}
		var exact map[string]json.RawMessage
		if json.Unmarshal(v, &exact) == nil && exact["objectId"] != nil && json.Unmarshal(exact["objectId"], &r.ObjectID) == nil {
			e := manta.Entry{Key: "/u/stor/x"}
			decode(v, &e, true)
			if e.ObjectID != *r.ObjectID {
				t.Errorf("decode(%s).ObjectID = %q, want %q", v, e.ObjectID, *r.ObjectID)
			}
		}
	})
}
