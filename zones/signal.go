package zones

import (
	"fmt"
	"strconv"
	"strings"
)

// Signal is a signal by name, "SIGTERM". Names, unlike numbers, mean the same on every machine that talks of them.
type Signal string

// The signals that callers send most.
const (
	SIGHUP  Signal = "SIGHUP"
	SIGINT  Signal = "SIGINT"
	SIGQUIT Signal = "SIGQUIT"
	SIGKILL Signal = "SIGKILL"
	SIGUSR1 Signal = "SIGUSR1"
	SIGUSR2 Signal = "SIGUSR2"
	SIGTERM Signal = "SIGTERM"
)

// linuxSignals is indexed by number, as on all of Linux but alpha, mips and sparc.
var linuxSignals = [...]string{
	1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 5: "TRAP", 6: "ABRT", 7: "BUS", 8: "FPE", 9: "KILL", 10: "USR1",
	11: "SEGV", 12: "USR2", 13: "PIPE", 14: "ALRM", 15: "TERM", 16: "STKFLT", 17: "CHLD", 18: "CONT", 19: "STOP",
	20: "TSTP", 21: "TTIN", 22: "TTOU", 23: "URG", 24: "XCPU", 25: "XFSZ", 26: "VTALRM", 27: "PROF", 28: "WINCH",
	29: "IO", 30: "PWR", 31: "SYS",
}

// ParseSignal takes "SIGTERM", "TERM", "term" or "15".
func ParseSignal(s string) (Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if sig := SignalOf(n); sig != "" {
			return sig, nil
		}
		return "", fmt.Errorf("%w: signal %q", ErrInvalid, s)
	}
	sig := Signal("SIG" + strings.TrimPrefix(strings.ToUpper(s), "SIG"))
	if sig.Number() == 0 {
		return "", fmt.Errorf("%w: signal %q", ErrInvalid, s)
	}
	return sig, nil
}

// SignalOf names a Linux signal number; empty if there is none, "SIGRTMIN+n" for the real-time ones.
func SignalOf(n int) Signal {
	switch {
	case n > 0 && n < len(linuxSignals):
		return Signal("SIG" + linuxSignals[n])
	case n == 34:
		return "SIGRTMIN"
	case n > 34 && n <= 64:
		return Signal("SIGRTMIN+" + strconv.Itoa(n-34))
	}
	return ""
}

// Number is the signal's number on Linux, 0 for an unknown name.
func (s Signal) Number() int {
	name, ok := strings.CutPrefix(string(s), "SIG")
	if !ok {
		return 0
	}
	for n, v := range linuxSignals {
		if v == name && n > 0 {
			return n
		}
	}
	if rest, ok := strings.CutPrefix(name, "RTMIN"); ok {
		if rest == "" {
			return 34
		}
		if n, err := strconv.Atoi(strings.TrimPrefix(rest, "+")); err == nil && n >= 0 && n <= 30 {
			return 34 + n
		}
	}
	return 0
}
