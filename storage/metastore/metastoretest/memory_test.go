package metastoretest_test

import (
	"testing"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
)

func TestMemory(t *testing.T) {
	metastoretest.TestStore(t, func(t *testing.T) metastore.Store { return metastoretest.NewMemory() })
}
