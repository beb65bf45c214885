package storagetest

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mobulacloud/mobula/storage"
)

func TestMemNode(t *testing.T) {
	TestNode(t, func(t *testing.T) storage.Node { return NewMemNode(MemConfig{}) })
}

func TestMemNodeKillAfter(t *testing.T) {
	n := NewMemNode(MemConfig{})
	id, data := NewID(), Data(1, 1000)
	mustPut(t, n, id, data)
	n.KillAfter(600)
	got, _, err := Get(t.Context(), n, id, 0, -1)
	if !errors.Is(err, storage.ErrUnavailable) || !bytes.Equal(got, data[:600]) {
		t.Fatalf("get = %d bytes, %v; want 600, ErrUnavailable", len(got), err)
	}
	_, err = n.Stat(t.Context(), id)
	wantErr(t, "Stat on a dead node", err, storage.ErrUnavailable)
	n.Revive()
	wantContent(t, n, id, data)

	w, err := n.Create(t.Context(), NewID(), storage.CreateOptions{Size: 1000})
	wantErr(t, "Create", err, nil)
	n.KillAfter(10)
	k, err := w.Write(data)
	if wantErr(t, "Write", err, storage.ErrUnavailable); k != 10 {
		t.Errorf("Write took %d bytes, want 10", k)
	}
	n.Revive()
	_, err = w.Commit(t.Context(), SumsOf(data))
	wantErr(t, "Commit of a writer from before the death", err, storage.ErrUnavailable)
}

func TestMemNodeReadOnlyAndFull(t *testing.T) {
	n := NewMemNode(MemConfig{})
	id := NewID()
	mustPut(t, n, id, Data(1, 1000))
	n.SetReadOnly("disk trouble")
	_, err := Put(t.Context(), n, NewID(), nil)
	wantErr(t, "Put", err, storage.ErrReadOnly)
	wantErr(t, "Delete", n.Delete(t.Context(), id), storage.ErrReadOnly)
	wantContent(t, n, id, Data(1, 1000))
	n.SetReadOnly("")
	n.SetCapacity(1000)
	_, err = n.Create(t.Context(), NewID(), storage.CreateOptions{Size: 1})
	wantErr(t, "Create on a full node", err, storage.ErrNoSpace)
}

func TestMemNodeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewMemNode(MemConfig{Grace: time.Hour})
		id := NewID()
		mustPut(t, n, id, Data(1, 1000))
		wantErr(t, "Delete", n.Delete(t.Context(), id), nil)
		time.Sleep(time.Hour - 1)
		wantErr(t, "Undelete in time", n.Undelete(t.Context(), id), nil)
		wantErr(t, "Delete", n.Delete(t.Context(), id), nil)
		time.Sleep(time.Hour)
		wantErr(t, "Undelete too late", n.Undelete(t.Context(), id), storage.ErrNotFound)

		n.SetDelay(time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := n.Stat(ctx, id)
		wantErr(t, "Stat on a slow node", err, context.DeadlineExceeded)
		if d := time.Since(start); d != time.Second {
			t.Errorf("a call to a slow node ended after %v, its context after a second", d)
		}
	})
}
