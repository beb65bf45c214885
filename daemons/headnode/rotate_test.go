package main

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"
	"testing"
)

// TestCluster_authorityIsRotated replaces the certificate authority while clients write and nodes are restarted.
func TestCluster_authorityIsRotated(t *testing.T) {
	c := newCluster(t, 3)
	m := c.client()
	type rotation struct {
		Phase, Signing string
		Waiting        []string
	}
	show := func(command string) (r rotation) {
		t.Helper()
		out := c.run("", "headnode", "ca", command, "-dir", c.headDir())
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatalf("ca %s: %v\n%s", command, err, out)
		}
		return r
	}
	before := show("show")
	if before.Phase != "steady" || before.Signing == "" {
		t.Errorf("before the rotation: %+v", before)
	}
	w := &writer{acked: map[string][]byte{}}
	ctx, cancel := context.WithCancel(t.Context())
	var loads sync.WaitGroup
	for id := range 2 {
		loads.Go(func() { w.run(ctx, m, id) })
	}
	acked := func() int { w.mu.Lock(); defer w.mu.Unlock(); return len(w.acked) }
	c.await("some objects are stored", func() bool { return acked() > 10 })
	c.nodes["3.stor.test"].kill()
	if begun := show("rotate"); begun.Phase != "spreading" || begun.Signing != before.Signing || len(begun.Waiting) < 3 {
		t.Errorf("begun: %+v", begun)
	}
	// Nodes ask when they start; otherwise it would take minutes.
	for _, node := range []string{"1.stor.test", "2.stor.test"} {
		c.nodes[node].kill()
		c.startNode(node)
		c.await(node+" is back", func() bool { return c.isUp(node) })
	}
	c.await("only the node that is away is waited for", func() bool {
		r := show("show")
		return r.Phase == "spreading" && len(r.Waiting) == 1 && r.Waiting[0] == "mobula://storage/3.stor.test"
	})
	// The head node is killed as well: it has to hear from everybody once more.
	c.head.kill()
	c.startHead()
	c.startNode("3.stor.test")
	c.await("the rotation is over", func() bool { return show("show").Phase == "steady" })
	after := show("show")
	if after.Signing == before.Signing || len(after.Waiting) != 0 {
		t.Errorf("after the rotation: %+v, before: %+v", after, before)
	}
	cancel()
	loads.Wait()
	w.check(t, c.client())
	for _, node := range []string{"1.stor.test", "2.stor.test", "3.stor.test"} {
		c.nodes[node].kill()
		c.startNode(node)
		c.await(node+" is back with its new certificate", func() bool { return c.isUp(node) })
	}
	c.join("4.stor.test")
	if b, err := get(t.Context(), c.client(), "~~/stor/w0-1"); err != nil || !bytes.Equal(b, w.acked["~~/stor/w0-1"]) {
		t.Errorf("an object from before: %d bytes, %v", len(b), err)
	}
}
