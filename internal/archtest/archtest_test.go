package archtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/mobulacloud/mobula/"

// A rule forbids packages below From to import packages below one of Not. Except lists packages of From that may.
type rule struct {
	from   string
	not    []string
	except []string
	reason string
}

// The table. Do not loosen a row to make a build pass: move the code, or state what is needed as an interface of the
// package that needs it.
var rules = []rule{
	{from: "internal", not: []string{"zones", "storage", "sdc", "manta", "daemons", "examples"},
		reason: "internal holds what the rooms share, so it can know none of them"},
	{from: "zones", not: []string{"storage", "sdc", "manta", "daemons", "examples"},
		reason: "a machine runs without a data centre around it, and an importer of zones gets no object store"},
	{from: "storage", not: []string{"zones", "sdc", "manta", "daemons", "examples"},
		reason: "bits and records know neither accounts nor paths"},
	{from: "sdc", not: []string{"manta", "daemons", "examples"},
		reason: "a cloud without an object store is a cloud; what it needs of one it states as an interface"},
	{from: "manta", not: []string{"daemons", "examples"},
		reason: "daemons wire, they do not serve"},
	{from: "daemons", not: []string{"examples"},
		reason: "examples show what an importer writes, so nothing may lean on them"},
	{from: "manta/namespace", not: []string{"manta/webapi", "manta/mpu", "manta/client"},
		reason: "one namespace, many doors: the namespace knows none of them"},
	{from: "manta/client", not: []string{"manta/webapi", "manta/namespace", "manta/mpu", "storage", "zones", "sdc/ufds", "sdc/authcache"},
		reason: "a program that uses a store must not link a server"},
	{from: "manta/client", not: []string{"manta/jobs", "manta/sessions"},
		reason: "a program that makes jobs must not link what runs them"},
	{from: "manta/jobs/agent", not: []string{"manta/webapi", "manta/namespace", "manta/jobs/supervisor", "manta/jobs/jobapi", "storage/metastore", "sdc"},
		reason: "a storage node has neither records nor accounts: its agent knows what supervisors tell it, and the front door"},
	{from: "manta/jobs/supervisor", not: []string{"zones", "manta/webapi", "manta/jobs/agent", "manta/jobs/jobapi"},
		reason: "who hands tasks out does not know how they run"},
	{from: "manta/jobs/task", not: []string{"manta/jobs/supervisor", "manta/jobs/agent", "zones"},
		reason: "what two sides say to each other belongs to neither"},
	{from: "zones", not: []string{"zones/host"}, except: []string{"zones/host"},
		reason: "the host composes images, datasets, networks and drivers; none of them may need the host"},
	{from: "storage/picker", not: []string{"internal", "storage/durable", "storage/fleet", "storage/metastore"},
		reason: "placement is a pure function of a snapshot"},
}

func below(pkg, root string) bool { return pkg == root || strings.HasPrefix(pkg, root+"/") }

func belowAny(pkg string, roots []string) bool {
	for _, root := range roots {
		if below(pkg, root) {
			return true
		}
	}
	return false
}

func TestImportsRunOneWay(t *testing.T) {
	root := filepath.Join("..", "..")
	seen := 0
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name == "testdata" || name != ".." && strings.HasPrefix(name, ".") {
				return filepath.SkipDir
			}
			return nil
		}
		// Tests may build a larger world around a package than the package itself may know.
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		pkg := path.Dir(filepath.ToSlash(rel))
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		seen++
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			imported, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			for _, r := range rules {
				if below(pkg, r.from) && !belowAny(pkg, r.except) && belowAny(imported, r.not) {
					t.Errorf("%s imports %s: %s", rel, imported, r.reason)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen == 0 {
		t.Fatal("no Go files found")
	}
}
