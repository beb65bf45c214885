package zinit

import (
	"encoding/binary"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestWire compares the numbers of wire.h and wire.go.
func TestWire(t *testing.T) {
	text, err := os.ReadFile("wire.h")
	if err != nil {
		t.Fatal(err)
	}
	src := regexp.MustCompile(`//.*`).ReplaceAllString(string(text), "")
	c := map[string]int{}
	for _, block := range regexp.MustCompile(`enum \{([^}]*)\}`).FindAllStringSubmatch(src, -1) {
		next := 0
		for entry := range strings.SplitSeq(block[1], ",") {
			name, value, given := strings.Cut(strings.TrimSpace(entry), "=")
			if name = strings.TrimSpace(name); name == "" {
				continue
			}
			if given {
				if next, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
					t.Fatal(err)
				}
			}
			c[name] = next
			next++
		}
	}
	for name, want := range map[string]int{
		"ZM_EXEC": MsgExec, "ZM_SIGNAL": MsgSignal, "ZM_CONSOLE": MsgConsole, "ZM_SET_CONSOLE": MsgSetConsole, "ZM_RESIZE": MsgResize,
		"ZM_MAKE_FILE": MsgMakeFile, "ZM_STARTED": MsgStarted, "ZM_FAILED": MsgFailed,
		"ZM_EXITED": MsgExited, "ZM_OK": MsgOK, "ZP_TTY": FlagTTY, "ZP_STDIN": FlagStdin, "ZP_STDOUT": FlagStdout, "ZP_STDERR": FlagStderr,
		"ZP_NO_NEW_PRIVS": FlagNoNewPrivs, "ZP_RESTART": FlagRestart, "ZP_ALONE": FlagAlone, "ZP_CORES": FlagCores, "ZC_MAIN": ConfigMain, "ZC_OWN": ConfigOwn, "ZC_NO_NEW_PRIVS": ConfigNoNewPrivs,
		"ZINIT_LISTEN_FD": 3, "ZINIT_CONFIG_FD": 4,
		"ZS_START": OrderStart, "ZS_ENTER": OrderEnter, "ZS_USERNS": OrderUserNS, "ZS_NETNS": OrderNetNS, "ZS_SINGLE": OrderSingle, "ZS_GROUP": OrderGroup,
		"ZS_LISTEN": 0, "ZS_CONFIG": 1, "ZS_SYNC": 2, "ZS_PLAN": 3, "ZS_FIXED": OrderFiles, "ZS_MAX_FILES": MaxFiles, "ZS_MAX_GROUPS": MaxGroups,
		"ZO_ROOT": StepRoot, "ZO_FILE": StepFile, "ZO_BIND": StepBind, "ZO_MOUNT": StepMount, "ZO_LINK": StepLink, "ZO_PIVOT": StepPivot,
		"ZO_WRITE": StepWrite, "ZO_MASK": StepMask, "ZO_PROTECT": StepProtect, "ZO_HOSTNAME": StepHostname, "ZO_LOOPBACK": StepLoopback,
		"ZO_CONSOLE": StepConsole, "ZO_IS_FILE": StepIsFile, "ZO_OPTIONAL": StepOptional, "ZO_IS_MOUNT": StepIsMount,
	} {
		if got, ok := c[name]; !ok || got != want {
			t.Errorf("%s is %d in C, %d in Go", name, got, want)
		}
		delete(c, name)
	}
	if len(c) > 0 {
		t.Errorf("only in C: %v", c)
	}
	for _, line := range []string{"#define ZINIT_VERSION " + strconv.Itoa(Version), `#define ZINIT_ENV "` + Env + `"`,
		`#define ZINIT_START_ENV "` + StartEnv + `"`, "#define ZINIT_MAX_BODY (4u << 20)"} {
		if !strings.Contains(src, line+"\n") {
			t.Errorf("wire.h has no line %q", line)
		}
	}
	if n := len(Header{}.Append(nil)); n != HeaderSize {
		t.Errorf("a header has %d bytes, want %d", n, HeaderSize)
	}
}

// TestOrderSizes compares the layouts that are not told by numbers alone.
func TestOrderSizes(t *testing.T) {
	if n := len((&Order{}).Append(nil)); n != 20 {
		t.Errorf("an order has %d bytes", n)
	}
	report := append(binary.NativeEndian.AppendUint32(nil, 13), "mount at /proc"...)
	report = append(report, make([]byte, ReportSize-len(report))...)
	if errno, what, err := ParseReport(report); errno != 13 || what != "mount at /proc" || err != nil {
		t.Errorf("ParseReport = %d, %q, %v", errno, what, err)
	}
	if _, _, err := ParseReport(report[:100]); err == nil {
		t.Error("half a report was understood")
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add(Header{Type: MsgStarted, A: 7}.Append(nil))
	f.Add(Header{Type: MsgExec}.Append(nil))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := ParseHeader(data)
		if err != nil {
			return
		}
		if h.Type < MsgStarted || h.Type > MsgOK || h.Length != 0 || binary.NativeEndian.Uint32(data[4:]) != h.A {
			t.Errorf("ParseHeader(%x) = %+v", data, h)
		}
	})
}
