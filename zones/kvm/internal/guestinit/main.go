//go:build linux

// Command guestinit is process 1 of the guest that the driver's tests boot: it loads drivers, asks its host for its addresses
// and sets them, answers lines on the console and datagrams on the network, and powers off when the power button is pressed. With a /test it runs that instead, for tests that
// need another kernel than the one at hand.
//
// Stability: experimental.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/metadata"
)

func main() {
	if err := run(); err != nil {
		fmt.Println("guest: error:", err)
	}
	off()
}

func off() {
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func run() error {
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		os.MkdirAll(m[1], 0o755)
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	loadModules()
	if _, err := os.Stat("/test"); err == nil {
		return test()
	}
	go button()
	if _, err := os.Stat("/sys/firmware/efi"); err == nil {
		fmt.Println("guest: firmware is UEFI")
	}
	fmt.Println("guest: booted")
	go func() {
		if err := network(); err != nil {
			fmt.Println("guest: network:", err)
		}
	}()
	console()
	select {}
}

// test runs the test binary it was given and says how that went.
func test() error {
	if err := errors.Join(unix.Mount("tmpfs", "/tmp", "tmpfs", 0, ""), os.MkdirAll("/dev/net", 0o755)); err != nil {
		return err
	}
	if err := unix.Mknod("/dev/net/tun", unix.S_IFCHR|0o600, int(unix.Mkdev(10, 200))); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	cmd := exec.Command("/test", "-test.v", "-test.timeout=20m")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	cmd.Env = []string{"HOME=/tmp", "TMPDIR=/tmp", "MOBULA_TEST_HAS=root"}
	fmt.Println("guest: tests ended:", cmd.Run())
	return nil
}

// loadModules tries all there are until no more go in, which spares their order.
func loadModules() {
	files, _ := filepath.Glob("/modules/*.ko")
	for progress := true; progress; {
		progress = false
		for i, path := range files {
			f, err := os.Open(path)
			if path == "" || err != nil {
				continue
			}
			if err := unix.FinitModule(int(f.Fd()), "", 0); err == nil {
				files[i], progress = "", true
			}
			f.Close()
		}
	}
}

// button waits for the power key, which comes through any of the input devices.
func button() {
	seen := map[string]bool{}
	for {
		devices, _ := filepath.Glob("/dev/input/event*")
		for _, path := range devices {
			if seen[path] {
				continue
			}
			f, err := os.Open(path)
			if err != nil {
				continue
			}
			seen[path] = true
			go func() {
				event := make([]byte, 24) // two words of time, then type, code, value
				for {
					if _, err := io.ReadFull(f, event); err != nil {
						return
					}
					const key, power = 1, 116
					if binary.LittleEndian.Uint16(event[16:]) == key && binary.LittleEndian.Uint16(event[18:]) == power {
						fmt.Println("guest: power button")
						off()
					}
				}
			}()
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func ask() (*metadata.Client, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return metadata.Dial(ctx)
}

// network asks for sdc:nics and sets the interfaces up by it.
func network() error {
	c, err := ask()
	if err != nil {
		return err
	}
	text, err := c.Get(context.Background(), "sdc:nics")
	c.Close()
	if err != nil {
		return err
	}
	var nics []zones.NIC
	if err := json.Unmarshal([]byte(text), &nics); err != nil {
		return err
	}
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, nic := range nics {
		for _, l := range links {
			if l.Attrs().HardwareAddr.String() != nic.MAC {
				continue
			}
			for _, ip := range nic.IPs {
				a, err := netlink.ParseAddr(ip)
				if err != nil {
					return err
				}
				if err := netlink.AddrAdd(l, a); err != nil {
					return err
				}
			}
			if err := netlink.LinkSetUp(l); err != nil {
				return err
			}
			fmt.Printf("guest: address %s mtu %d\n", strings.Join(nic.IPs, " "), l.Attrs().MTU)
		}
	}
	conn, err := net.ListenPacket("udp", ":7")
	if err != nil {
		return err
	}
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			conn.WriteTo(buf[:n], from)
		}
	}()
	fmt.Println("guest: network ready")
	return nil
}

// console answers lines: what it is asked goes to one word and the rest.
func console() {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		command, rest, _ := strings.Cut(strings.TrimSpace(in.Text()), " ")
		answer, err := answer(command, rest)
		if err != nil {
			answer = "error " + err.Error()
		}
		fmt.Printf("guest: %s -> %s\n", command, answer)
	}
}

// note is what "remember" keeps in memory.
var note string

func answer(command, rest string) (string, error) {
	switch command {
	case "write": // to the first disk
		f, err := os.OpenFile("/dev/vda", os.O_RDWR|os.O_SYNC, 0)
		if err != nil {
			return "", err
		}
		defer f.Close()
		_, err = f.WriteAt(append([]byte(rest), make([]byte, 512-len(rest))...), 0)
		return rest, err
	case "read":
		f, err := os.OpenFile("/dev/vda", os.O_RDONLY|unix.O_DIRECT, 0)
		if err != nil {
			return "", err
		}
		defer f.Close()
		buf, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned
		if err != nil {
			return "", err
		}
		defer unix.Munmap(buf)
		_, err = f.ReadAt(buf[:512], 0)
		text, _, _ := strings.Cut(string(buf[:512]), "\x00")
		return text, err
	case "size":
		b, err := os.ReadFile("/sys/block/" + rest + "/size")
		return strings.TrimSpace(string(b)), err
	case "remember":
		note = rest
		return note, nil
	case "recall":
		return note, nil
	case "get", "put":
		c, err := ask()
		if err != nil {
			return "", err
		}
		defer c.Close()
		if command == "get" {
			return c.Get(context.Background(), rest)
		}
		key, value, _ := strings.Cut(rest, " ")
		return value, c.Put(context.Background(), key, value)
	case "off":
		off()
	}
	return rest, nil
}
