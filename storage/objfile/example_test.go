package objfile_test

import (
	"context"
	"crypto/md5"
	"fmt"
	"hash/crc32"
	"io"
	"log"
	"os"

	"github.com/google/uuid"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/objfile"
)

func Example() {
	dir, err := os.MkdirTemp("", "objfile")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := objfile.Open(dir, objfile.Config{
		OnDamage: func(d objfile.Damage) { log.Printf("copy of %s is damaged: %s", d.ID, d.Reason) },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	ctx := context.Background()
	id := storage.ObjectID{Owner: uuid.New(), Object: uuid.New()}
	content := []byte("manta means blanket")
	w, err := store.Create(ctx, id, storage.CreateOptions{Size: int64(len(content))})
	if err != nil {
		log.Fatal(err)
	}
	defer w.Cancel() // does nothing after Commit
	if _, err := w.Write(content); err != nil {
		log.Fatal(err)
	}
	sums := storage.Sums{Size: int64(len(content)), MD5: md5.Sum(content), CRC32C: crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli))}
	if _, err := w.Commit(ctx, sums); err != nil {
		log.Fatal(err)
	}

	r, info, err := store.Open(ctx, id, 6, 5)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	part, err := io.ReadAll(r)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, of %d bytes\n", part, info.Size)
	// Output: means, of 19 bytes
}
