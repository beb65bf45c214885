package pebble

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/internal/lintest"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
)

func TestStore(t *testing.T) {
	metastoretest.TestStore(t, func(t *testing.T) metastore.Store {
		s, err := Open("store", Config{FS: vfs.NewMem()})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestLinearizable(t *testing.T) {
	s, err := Open(t.TempDir(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	lintest.Check(t, s)
}
