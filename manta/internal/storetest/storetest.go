// Package storetest runs a whole object store in memory, behind its real front door, for tests of what speaks to one.
//
// Stability: experimental.
package storetest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
	"github.com/mobulacloud/mobula/storage/picker"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

// A Store is a running store. It ends with the test.
type Store struct {
	URL       string
	Records   metastore.Store
	Namespace *namespace.Namespace
	Identity  *authcache.Cache
	Web       *webapi.Server

	t        testing.TB
	accounts *ufds.Directory
}

// New starts a store with two nodes. The functions may change its front door's configuration.
func New(t testing.TB, fns ...func(*Store, *webapi.Config)) *Store {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &Store{t: t, Records: metastoretest.NewMemory()}
	var err error
	s.Namespace, err = namespace.New(namespace.Config{Store: s.Records})
	s.must(err)
	s.must(s.Namespace.Define(ctx))
	nodes := map[storage.Shark]storage.Node{}
	for _, name := range []string{"1.stor", "2.stor"} {
		nodes[storage.Shark{Datacenter: "dc", Node: name}] = storagetest.NewMemNode(storagetest.MemConfig{})
	}
	fleet, err := durable.OpenStatic(ctx, picker.Config{StreamingSize: 1 << 20}, nodes)
	s.must(err)
	bits, err := durable.New(durable.Config{Nodes: fleet})
	s.must(err)
	s.accounts, err = ufds.New(ufds.Config{Store: s.Records})
	s.must(err)
	s.must(s.accounts.Setup(ctx))
	s.Identity, err = authcache.New(authcache.Config{Store: s.Records})
	s.must(err)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Identity.Run(ctx) }() // ends with ctx
	uploads, err := mpu.New(mpu.Config{Namespace: s.Namespace, Store: s.Records, Storage: bits, Nodes: fleet})
	s.must(err)
	s.must(uploads.Define(ctx))
	cfg := webapi.Config{Namespace: s.Namespace, Storage: bits, Identity: s.Identity, Uploads: uploads, Name: "test"}
	for _, fn := range fns {
		fn(s, &cfg)
	}
	s.Web, err = webapi.New(cfg)
	s.must(err)
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = s.Web.HTTPServer(s.Web)
	srv.Listener = s.Web.Listener(srv.Listener)
	srv.Start()
	s.URL = srv.URL
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
		cancel()
		<-done
		bits.Close()
	})
	return s
}

func (s *Store) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// Account makes an account and returns a client of its.
func (s *Store) Account(login string, fns ...func(*client.Options)) *client.Client {
	s.t.Helper()
	ctx := context.Background()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	s.must(err)
	signer, err := client.NewSigner(private)
	s.must(err)
	key, err := ssh.NewPublicKey(public)
	s.must(err)
	a, err := s.accounts.CreateAccount(ctx, sdc.Account{Login: login, ApprovedForProvisioning: true})
	s.must(err)
	_, err = s.accounts.AddKey(ctx, a.UUID, "", string(ssh.MarshalAuthorizedKey(key)))
	s.must(err)
	mark, err := s.accounts.Mark(ctx)
	s.must(err)
	s.must(s.Identity.WaitMark(ctx, mark))
	c, err := client.New(client.Options{Endpoint: s.URL, Account: login, Signer: signer}, fns...)
	s.must(err)
	s.t.Cleanup(c.CloseIdleConnections)
	return c
}

// Token returns a token of a client's account.
func (s *Store) Token(c *client.Client) string {
	s.t.Helper()
	token, err := c.CreateToken(context.Background())
	s.must(err)
	return token
}

// Put stores an object, with the directories above it.
func (s *Store) Put(c *client.Client, path, content string) {
	s.t.Helper()
	_, err := c.PutObject(context.Background(), &client.PutObjectInput{Path: path, Body: strings.NewReader(content), MakeParents: true})
	s.must(err)
}

// Get returns an object's content.
func (s *Store) Get(c *client.Client, path string) string {
	s.t.Helper()
	o, err := c.GetObject(context.Background(), &client.GetObjectInput{Path: path})
	s.must(err)
	defer o.Body.Close()
	b, err := io.ReadAll(o.Body)
	s.must(err)
	return string(b)
}

// Has reports whether there is something at a path.
func (s *Store) Has(c *client.Client, path string) bool {
	_, err := c.HeadObject(context.Background(), &client.HeadObjectInput{Path: path})
	return err == nil
}

// Transport returns a transport to the store, which ends with the test.
func (s *Store) Transport() *http.Transport {
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.ExpectContinueTimeout = time.Minute
	tr.DisableCompression = true
	s.t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// Key makes a key of an account, keeps it in HOME/.ssh as ssh-keygen does, and returns its fingerprint.
func (s *Store) Key(login, home string) string {
	s.t.Helper()
	ctx := context.Background()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	s.must(err)
	signer, err := client.NewSigner(private)
	s.must(err)
	key, err := ssh.NewPublicKey(public)
	s.must(err)
	block, err := ssh.MarshalPrivateKey(private, "")
	s.must(err)
	dir := filepath.Join(home, ".ssh")
	s.must(os.MkdirAll(dir, 0o700))
	s.must(os.WriteFile(filepath.Join(dir, "id_ed25519"), pem.EncodeToMemory(block), 0o600))
	s.must(os.WriteFile(filepath.Join(dir, "id_ed25519.pub"), ssh.MarshalAuthorizedKey(key), 0o600))
	a, err := s.Identity.AccountByLogin(login)
	s.must(err)
	_, err = s.accounts.AddKey(ctx, a.UUID, "", string(ssh.MarshalAuthorizedKey(key)))
	s.must(err)
	mark, err := s.accounts.Mark(ctx)
	s.must(err)
	s.must(s.Identity.WaitMark(ctx, mark))
	return signer.Fingerprint()
}
