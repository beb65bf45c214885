package client_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/mobulacloud/mobula/manta/client"
	"github.com/mobulacloud/mobula/manta/mpu"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/manta/webapi"
	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/authcache"
	"github.com/mobulacloud/mobula/sdc/ufds"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/durable"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
	"github.com/mobulacloud/mobula/storage/picker"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

// A store is a whole object store in memory behind the real door, with an account "alice".
type store struct {
	url     string
	private ed25519.PrivateKey
	signer  *client.Signer
	puts    atomic.Int64 // PUT requests that reached the server
	close   func()
}

func newStore(t *testing.T) *store {
	t.Helper()
	s := openStore()
	t.Cleanup(s.close)
	return s
}

// openStore is for examples, too: where it cannot, it panics.
func openStore() *store {
	ctx, cancel := context.WithCancel(context.Background())
	records := metastoretest.NewMemory()
	ns, err := namespace.New(namespace.Config{Store: records})
	must(err)
	must(ns.Define(ctx))
	nodes := map[storage.Shark]storage.Node{}
	for _, name := range []string{"1.stor", "2.stor"} {
		nodes[storage.Shark{Datacenter: "dc", Node: name}] = storagetest.NewMemNode(storagetest.MemConfig{})
	}
	fleet, err := durable.OpenStatic(ctx, picker.Config{StreamingSize: 1 << 20}, nodes)
	must(err)
	bits, err := durable.New(durable.Config{Nodes: fleet})
	must(err)
	accounts, err := ufds.New(ufds.Config{Store: records})
	must(err)
	must(accounts.Setup(ctx))
	identity, err := authcache.New(authcache.Config{Store: records})
	must(err)
	done := make(chan struct{})
	go func() { defer close(done); _ = identity.Run(ctx) }()
	uploads, err := mpu.New(mpu.Config{Namespace: ns, Store: records, Storage: bits, Nodes: fleet})
	must(err)
	must(uploads.Define(ctx))
	door, err := webapi.New(webapi.Config{Namespace: ns, Storage: bits, Identity: identity, Uploads: uploads, Name: "test"})
	must(err)
	s := &store{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			s.puts.Add(1)
		}
		door.ServeHTTP(w, r)
	}))
	s.url = srv.URL
	s.close = func() {
		srv.Close()
		cancel()
		<-done
		bits.Close()
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(err)
	s.private = private
	s.signer, err = client.NewSigner(crypto.Signer(private))
	must(err)
	key, err := ssh.NewPublicKey(public)
	must(err)
	a, err := accounts.CreateAccount(ctx, sdc.Account{Login: "alice", ApprovedForProvisioning: true})
	must(err)
	_, err = accounts.AddKey(ctx, a.UUID, "", string(ssh.MarshalAuthorizedKey(key)))
	must(err)
	mark, err := accounts.Mark(ctx)
	must(err)
	must(identity.WaitMark(ctx, mark))
	return s
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// pem returns the account's private key as a key file has it.
func (s *store) pem() []byte {
	der, err := x509.MarshalPKCS8PrivateKey(s.private)
	must(err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}
