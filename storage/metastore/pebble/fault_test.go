package pebble

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// TestDiskFailure has the disk refuse to write or sync the log: commits fail with an error that says so, none is acknowledged
// that is not there, the process goes on, and a new start on a mended disk finds all that was acknowledged.
func TestDiskFailure(t *testing.T) {
	for _, kind := range []errorfs.OpKind{errorfs.OpFileWrite, errorfs.OpFileSyncData} {
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			var broken atomic.Bool
			mem := vfs.NewCrashableMem()
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if broken.Load() && strings.HasSuffix(op.Path, ".log") && (op.Kind == kind || op.Kind == errorfs.OpFileSync) {
					return errorfs.ErrInjected
				}
				return nil
			}))
			s, err := Open("store", Config{FS: fs})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Define(t.Context(), crashBucket); err != nil {
				t.Fatal(err)
			}
			acked, failed := 0, 0
			for i := range 50 {
				broken.Store(i >= 25)
				err := crashRound(t.Context(), s, 0, i+1)
				switch {
				case err == nil && failed == 0:
					acked = i + 1
				case err == nil:
					t.Errorf("round %d is acknowledged after the disk has failed", i+1)
				case !errors.Is(err, metastore.ErrUnavailable):
					t.Errorf("Commit on a broken disk = %v, want ErrUnavailable", err)
				default:
					failed++
				}
			}
			if failed == 0 {
				t.Error("the broken disk was not noticed")
			}
			if err := s.Define(t.Context(), metastore.Bucket{Name: "other"}); !errors.Is(err, metastore.ErrUnavailable) {
				t.Errorf("Define on a broken disk = %v, want ErrUnavailable", err)
			}
			s.Close()
			s, err = Open("store", Config{FS: mem.CrashClone(vfs.CrashCloneCfg{})})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			checkCrash(t, s, []int{acked})
		})
	}
}
