//go:build cgo

package oci

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
)

// defaultCaps are the capabilities of a zone's root over what is the zone's own, by number; the user namespace makes them mean nothing
// elsewhere.
const defaultCaps = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID | 1<<unix.CAP_KILL |
	1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_SETPCAP | 1<<unix.CAP_NET_BIND_SERVICE | 1<<unix.CAP_NET_RAW |
	1<<unix.CAP_SYS_CHROOT | 1<<unix.CAP_SYS_BOOT | 1<<unix.CAP_SETFCAP | 1<<unix.CAP_AUDIT_WRITE

// privileges are illumos privileges, as limit_priv names them, that a Linux capability stands for.
var privileges = map[string]uint64{
	"file_chown":       1 << unix.CAP_CHOWN,
	"file_chown_self":  1 << unix.CAP_CHOWN,
	"file_dac_execute": 1 << unix.CAP_DAC_OVERRIDE,
	"file_dac_read":    1 << unix.CAP_DAC_OVERRIDE,
	"file_dac_search":  1 << unix.CAP_DAC_OVERRIDE,
	"file_dac_write":   1 << unix.CAP_DAC_OVERRIDE,
	"file_owner":       1 << unix.CAP_FOWNER,
	"file_setid":       1 << unix.CAP_FSETID,
	"net_icmpaccess":   1 << unix.CAP_NET_RAW,
	"net_rawaccess":    1 << unix.CAP_NET_RAW,
	"proc_audit":       1 << unix.CAP_AUDIT_WRITE,
	"proc_chroot":      1 << unix.CAP_SYS_CHROOT,
	"proc_owner":       1 << unix.CAP_KILL,
	"proc_setid":       1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID,
}

// capabilitiesOf reads limit_priv: privileges between commas, "default" for the usual set, and a "!" or "-" before one that is taken away.
// A privilege beyond the default is not given, whoever asks, as its Linux counterpart acts on the host; one that cannot be taken
// away here is zones.ErrNotSupported.
func capabilitiesOf(limitPriv string) (uint64, error) {
	if strings.TrimSpace(limitPriv) == "" {
		return defaultCaps, nil
	}
	var caps uint64
	for name := range strings.SplitSeq(limitPriv, ",") {
		name = strings.ToLower(strings.TrimSpace(name))
		switch p, less := strings.CutPrefix(strings.Replace(name, "!", "-", 1), "-"); {
		case p == "":
		case !less && (p == "default" || p == "zone" || p == "all"):
			caps |= defaultCaps
		case !less:
			caps |= privileges[p]
		case privileges[p] == 0:
			return 0, fmt.Errorf("%w: limit_priv: %q cannot be taken from a zone", zones.ErrNotSupported, p)
		default:
			caps &^= privileges[p]
		}
	}
	return caps, nil
}

// capabilityNames are those of a set for the library; the set's own numbers are what the in-zone init is told.
func capabilityNames(caps uint64) []string {
	var out []string
	for name, n := range map[string]int{
		"CAP_CHOWN": unix.CAP_CHOWN, "CAP_DAC_OVERRIDE": unix.CAP_DAC_OVERRIDE, "CAP_FOWNER": unix.CAP_FOWNER, "CAP_FSETID": unix.CAP_FSETID,
		"CAP_KILL": unix.CAP_KILL, "CAP_SETGID": unix.CAP_SETGID, "CAP_SETUID": unix.CAP_SETUID, "CAP_SETPCAP": unix.CAP_SETPCAP,
		"CAP_NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE, "CAP_NET_RAW": unix.CAP_NET_RAW, "CAP_SYS_CHROOT": unix.CAP_SYS_CHROOT,
		"CAP_SYS_BOOT": unix.CAP_SYS_BOOT, "CAP_SETFCAP": unix.CAP_SETFCAP, "CAP_AUDIT_WRITE": unix.CAP_AUDIT_WRITE, "CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN,
	} {
		if caps&(1<<n) != 0 {
			out = append(out, name)
		}
	}
	return out
}

// whileStarting is what the in-zone init has on top until it has installed the filter and dropped the rest, which is the first thing it does.
const whileStarting = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SETPCAP
