package image

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/mobulacloud/mobula/zones"
)

// ResolveUser turns a container's user, "name", "uid", "name:group" or "uid:gid", into numbers by the tree's own /etc/passwd and
// /etc/group. It also gives the home directory, "/" if none is known. The empty string is root.
func ResolveUser(root *os.Root, spec string) (u zones.User, home string, err error) {
	name, group, hasGroup := strings.Cut(spec, ":")
	if name == "" {
		name = "0"
	}
	home = "/"
	uid, numeric := parseID(name)
	found := false
	err = lines(root, "etc/passwd", func(f []string) bool {
		if len(f) < 6 || f[0] != name && !(numeric && f[2] == name) {
			return true
		}
		id, ok1 := parseID(f[2])
		gid, ok2 := parseID(f[3])
		if !ok1 || !ok2 {
			return true
		}
		u.UID, u.GID, home, found, name = id, gid, f[5], true, f[0]
		return false
	})
	if err != nil {
		return u, home, err
	}
	switch {
	case !found && !numeric:
		return u, home, fmt.Errorf("user %.60q is not in the image", name)
	case !found:
		u.UID = uid
	}
	if hasGroup && group != "" {
		u.GID, err = resolveGroup(root, group)
		return u, home, err
	}
	err = lines(root, "etc/group", func(f []string) bool {
		if len(f) >= 4 {
			for m := range strings.SplitSeq(f[3], ",") {
				if gid, ok := parseID(f[2]); ok && m == name && gid != u.GID && len(u.Groups) < 64 {
					u.Groups = append(u.Groups, gid)
				}
			}
		}
		return true
	})
	return u, home, err
}

func resolveGroup(root *os.Root, group string) (uint32, error) {
	if gid, ok := parseID(group); ok {
		return gid, nil
	}
	var gid uint32
	found := false
	err := lines(root, "etc/group", func(f []string) bool {
		if len(f) >= 3 && f[0] == group {
			gid, found = parseID(f[2])
		}
		return !found
	})
	if err == nil && !found {
		err = fmt.Errorf("group %.60q is not in the image", group)
	}
	return gid, err
}

func parseID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n < 65536
}

// lines splits the first MiB of a file like passwd; a file that is not there has none.
func lines(root *os.Root, name string, f func(fields []string) bool) error {
	file, err := root.OpenFile(name, os.O_RDONLY|nonblock, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	sc := bufio.NewScanner(io.LimitReader(file, 1<<20))
	for sc.Scan() {
		if !f(strings.Split(sc.Text(), ":")) {
			return nil
		}
	}
	return nil
}
