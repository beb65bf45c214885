package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh/agent"

	"github.com/mobulacloud/mobula/manta/client"
)

// demo returns a client of a store in this process. A program of yours calls [client.FromEnv] or [client.New].
func demo() (c *client.Client, done func()) {
	s := openStore()
	c, err := client.New(client.Options{Endpoint: s.url, Account: "alice", Signer: s.signer})
	if err != nil {
		log.Fatal(err)
	}
	return c, func() {
		c.CloseIdleConnections()
		s.close()
	}
}

// Store an object and read it back. What is read has been checked against the sum that was stored with it.
func Example() {
	c, done := demo()
	defer done()
	ctx := context.Background()

	put, err := c.PutObject(ctx, &client.PutObjectInput{
		Path: "~~/stor/greetings/hello", Body: strings.NewReader("Hello, Manta!"), MakeParents: true,
		Attributes: client.Attributes{ContentType: "text/plain", Metadata: map[string]string{"language": "en"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	obj, err := c.GetObject(ctx, &client.GetObjectInput{Path: "~~/stor/greetings/hello"})
	if err != nil {
		log.Fatal(err)
	}
	defer obj.Body.Close()
	content, err := io.ReadAll(obj.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n%s, %d bytes, %d copies, language %s\n", content, obj.ContentType, obj.Size, obj.Copies, obj.Metadata["language"])
	fmt.Println("the same object:", obj.Etag == put.Etag)
	// Output:
	// Hello, Manta!
	// text/plain, 13 bytes, 2 copies, language en
	// the same object: true
}

// A key from a file, in PEM or OpenSSH form.
func ExampleParseKey() {
	store := openStore()
	defer store.close()

	text := store.pem() // os.ReadFile("/home/alice/.ssh/id_ed25519")
	key, err := client.ParseKey(text, nil)
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.New(client.Options{Endpoint: store.url, Account: "alice", Signer: key})
	if err != nil {
		log.Fatal(err)
	}
	defer c.CloseIdleConnections()
	info, err := c.HeadObject(context.Background(), &client.HeadObjectInput{Path: "~~/stor"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.Directory)
	// Output: true
}

// A key that stays in an ssh-agent: only its fingerprint is known here. [client.FromEnv] finds one by MANTA_KEY_ID and SSH_AUTH_SOCK.
func ExampleAgentSigner() {
	store := openStore()
	defer store.close()
	socket, stop := sshAgent(store)
	defer stop()
	ctx := context.Background()

	key, err := client.AgentSigner(ctx, socket, store.signer.Fingerprint())
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.New(client.Options{Endpoint: store.url, Account: "alice", Signer: key})
	if err != nil {
		log.Fatal(err)
	}
	defer c.CloseIdleConnections()
	fmt.Println(c.PutDirectory(ctx, &client.PutDirectoryInput{Path: "~~/stor/made-by-agent"}))
	// Output: <nil>
}

// sshAgent serves the account's key as ssh-agent does.
func sshAgent(s *store) (socket string, stop func()) {
	dir, err := os.MkdirTemp("", "agent")
	must(err)
	socket = filepath.Join(dir, "s")
	keys := agent.NewKeyring()
	must(keys.Add(agent.AddedKey{PrivateKey: s.private}))
	l, err := net.Listen("unix", socket)
	must(err)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = agent.ServeAgent(keys, conn)
			}()
		}
	}()
	return socket, func() {
		l.Close()
		os.RemoveAll(dir)
	}
}

// Make an object only if there is none, and replace it only if nobody else has meanwhile.
func ExampleClient_PutObject_conditional() {
	c, done := demo()
	defer done()
	ctx := context.Background()
	const path = "~~/stor/counter"

	first, err := c.PutObject(ctx, &client.PutObjectInput{Path: path, Body: strings.NewReader("1"), Conditions: client.Conditions{IfMatch: client.Absent}})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := c.PutObject(ctx, &client.PutObjectInput{Path: path, Body: strings.NewReader("2")}); err != nil { // somebody else
		log.Fatal(err)
	}
	_, err = c.PutObject(ctx, &client.PutObjectInput{Path: path, Body: strings.NewReader("2"), Conditions: client.Conditions{IfMatch: first.Etag}})
	fmt.Println(errors.Is(err, client.ErrPreconditionFailed))
	_, err = c.PutObject(ctx, &client.PutObjectInput{Path: path, Body: strings.NewReader("1"), Conditions: client.Conditions{IfMatch: client.Absent}})
	fmt.Println(errors.Is(err, client.ErrPreconditionFailed))
	// Output:
	// true
	// true
}

// Read a part of an object.
func ExampleClient_GetObject_range() {
	c, done := demo()
	defer done()
	ctx := context.Background()
	if _, err := c.PutObject(ctx, &client.PutObjectInput{Path: "~~/stor/alphabet", Body: strings.NewReader("abcdefghijklmnopqrstuvwxyz")}); err != nil {
		log.Fatal(err)
	}

	obj, err := c.GetObject(ctx, &client.GetObjectInput{Path: "~~/stor/alphabet", Offset: 10, Length: 5})
	if err != nil {
		log.Fatal(err)
	}
	defer obj.Body.Close()
	part, err := io.ReadAll(obj.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, %d of %d bytes\n", part, obj.Size, obj.Total)
	// Output: klmno, 5 of 26 bytes
}

// List a directory of any size: pages are fetched as they are used up.
func ExampleClient_List() {
	c, done := demo()
	defer done()
	ctx := context.Background()
	fill(ctx, c)

	for e, err := range c.List(ctx, &client.ListInput{Path: "~~/stor/music", PageSize: 2}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Name, e.Type, e.Size)
	}
	// Output:
	// a.ogg object 1
	// live directory 0
	// z.ogg object 3
}

// Visit everything below a directory, leaving one out.
func ExampleClient_Walk() {
	c, done := demo()
	defer done()
	ctx := context.Background()
	fill(ctx, c)

	var total int64
	err := c.Walk(ctx, "~~/stor", func(e *client.Entry) error {
		fmt.Println(e.Path())
		if e.Name == "live" {
			return client.ErrSkipDirectory
		}
		total += e.Size
		return nil
	})
	fmt.Println(total, "bytes,", err)
	// Output:
	// /alice/stor/music
	// /alice/stor/music/a.ogg
	// /alice/stor/music/live
	// /alice/stor/music/z.ogg
	// 4 bytes, <nil>
}

func fill(ctx context.Context, c *client.Client) {
	for _, name := range []string{"z.ogg", "a.ogg", "live/b.ogg"} {
		size := 1 + 2*strings.Count(name, "z")
		_, err := c.PutObject(ctx, &client.PutObjectInput{Path: "~~/stor/music/" + name, Body: bytes.NewReader(make([]byte, size)), MakeParents: true})
		must(err)
	}
}

// Send a large file in parallel parts, go on after a failure where it stopped, and fetch it back in parallel.
func ExampleClient_Upload() {
	c, done := demo()
	defer done()
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // 16 MiB; an *os.File serves as well

	var begun *client.UploadRef // keep it, in a file perhaps
	up := client.UploadInput{
		Path: "~~/stor/big", Body: bytes.NewReader(content), Size: int64(len(content)), PartSize: 5 << 20, Parallel: 2,
		Began: func(u *client.UploadRef) { begun = u },
	}
	ctx, cancel := context.WithCancel(context.Background())
	up.Progress = func(sent, total int64) {
		if sent > total/2 {
			cancel() // the power fails
		}
	}
	_, err := c.Upload(ctx, &up)
	fmt.Println("interrupted:", errors.Is(err, context.Canceled))

	up.Resume, up.Progress = begun, func(sent, total int64) {
		if sent == total {
			fmt.Printf("sent %d of %d\n", sent, total)
		}
	}
	info, err := c.Upload(context.Background(), &up)
	if err != nil {
		log.Fatal(err)
	}
	file, err := os.CreateTemp("", "big")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if _, err := c.Download(context.Background(), &client.DownloadInput{Path: "~~/stor/big", To: file, PartSize: 4 << 20, Parallel: 4}); err != nil {
		log.Fatal(err)
	}
	back, err := os.ReadFile(file.Name())
	fmt.Println(info.Size, bytes.Equal(back, content), err)
	// Output:
	// interrupted: true
	// sent 16777216 of 16777216
	// 16777216 true <nil>
}

// Let anybody read an object for a while.
func ExampleClient_SignURL() {
	c, done := demo()
	defer done()
	ctx := context.Background()
	if _, err := c.PutObject(ctx, &client.PutObjectInput{Path: "~~/stor/secret", Body: strings.NewReader("for you only")}); err != nil {
		log.Fatal(err)
	}

	link, err := c.SignURL(ctx, &client.SignURLInput{Path: "~~/stor/secret", Methods: []string{http.MethodGet}, Expires: time.Now().Add(time.Hour)})
	if err != nil {
		log.Fatal(err)
	}
	resp, err := http.Get(link)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	fmt.Printf("%s: %s %v\n", resp.Status, content, err)
	// Output: 200 OK: for you only <nil>
}

// Wait for what somebody else is going to store.
func ExampleClient_WaitUntilExists() {
	c, done := demo()
	defer done()
	ctx := context.Background()
	go func() {
		time.Sleep(50 * time.Millisecond)
		if _, err := c.PutObject(ctx, &client.PutObjectInput{Path: "~~/stor/result", Body: strings.NewReader("42")}); err != nil {
			log.Print(err)
		}
	}()

	info, err := c.WaitUntilExists(ctx, "~~/stor/result", client.WaitOptions{MinDelay: 10 * time.Millisecond, MaxWait: time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.Size)
	_, err = c.WaitUntilExists(ctx, "~~/stor/never", client.WaitOptions{MaxWait: 50 * time.Millisecond})
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	// Output:
	// 2
	// true
}

// Give an object a second name, change attributes, and remove everything.
func ExampleClient_PutLink() {
	c, done := demo()
	defer done()
	ctx := context.Background()
	put, err := c.PutObject(ctx, &client.PutObjectInput{Path: "~~/stor/reports/monday", Body: strings.NewReader("all is well"), MakeParents: true})
	if err != nil {
		log.Fatal(err)
	}

	etag, err := c.PutLink(ctx, &client.PutLinkInput{Path: "~~/stor/reports/latest", Target: "~~/stor/reports/monday"})
	fmt.Println(etag == put.Etag, err)
	err = c.PutMetadata(ctx, &client.PutMetadataInput{Path: "~~/stor/reports/latest", Attributes: client.Attributes{ContentType: "text/plain"}})
	fmt.Println(err)
	fmt.Println(c.RemoveAll(ctx, "~~/stor/reports"))
	_, err = c.HeadObject(ctx, &client.HeadObjectInput{Path: "~~/stor/reports/latest"})
	fmt.Println(errors.Is(err, client.ErrNotFound))
	// Output:
	// true <nil>
	// <nil>
	// <nil>
	// true
}
