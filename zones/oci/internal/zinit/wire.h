// What host and in-zone init say to each other, over a unix stream socket and, once at the start, a pipe. Numbers are in the
// machine's own byte order, as both ends are one program on one machine. wire.go is the same for the host's side.
#ifndef MOBULA_ZINIT_WIRE_H
#define MOBULA_ZINIT_WIRE_H

#include <stdint.h>

#define ZINIT_VERSION 1
#define ZINIT_ENV "_MOBULA_ZINIT"
#define ZINIT_START_ENV "_MOBULA_STARTER"
#define ZINIT_MAX_BODY (4u << 20)

// Inherited descriptors. The starter has its socket in place of the first.
enum { ZINIT_LISTEN_FD = 3, ZINIT_CONFIG_FD = 4 };

// A message; a request may be followed by length bytes, and carry descriptors with its first byte.
struct zmsg {
	uint32_t type, a, b, length;
};

enum {
	ZM_EXEC = 1,    // body: a program; descriptors: those streams that its flags name. → ZM_STARTED or ZM_FAILED, later ZM_EXITED
	ZM_SIGNAL,      // a: number, to the program of this connection
	ZM_CONSOLE,     // → ZM_OK, then the console's bytes both ways
	ZM_SET_CONSOLE, // descriptor: the console's master. The first starts the programs → ZM_OK, or ZM_FAILED for the main one
	ZM_RESIZE,      // a: rows, b: columns of the console → ZM_OK
	ZM_MAKE_FILE,   // body: path → ZM_OK or ZM_FAILED

	ZM_STARTED = 64, // a: process id; descriptor: the terminal's master, if one was asked for
	ZM_FAILED,       // a: errno
	ZM_EXITED,       // a: wait status
	ZM_OK,
};

// Flags of a program: u32 flags, uid, gid, rows, cols; u64 memlock; text name, dir; u32 n and n groups; list argv; list envp.
// Text is u32 length, bytes, zero. A list is u32 n and n texts.
enum { ZP_TTY = 1, ZP_STDIN = 2, ZP_STDOUT = 4, ZP_STDERR = 8, ZP_NO_NEW_PRIVS = 16, ZP_RESTART = 32,
       ZP_ALONE = 64, // its end is told when everything else in the zone has been killed and is gone
       ZP_CORES = 128 };

// Flags of the configuration: u32 version, flags; u64 capabilities; text filter (struct sock_filter's); u32 stop signal; u32 n and
// n programs.
enum {
	ZC_MAIN = 1,         // the first program is the zone's: its end is the zone's
	ZC_OWN = 2,          // the first program becomes process 1 itself
	ZC_NO_NEW_PRIVS = 4,
};

// What the starter is asked for: one zorder with descriptors, answered by one zpid. Then the new process waits on the third descriptor
// for a byte, with the files by which it joins its control groups, and answers there with a zreport when it stands.
struct zorder {
	uint32_t type, flags, inside, first, size; // ids of the user namespace: inside, on the host, how many
};
struct zpid {
	uint32_t error, pid;
};
struct zreport {
	uint32_t error;
	char what[252];
};

enum { ZS_START = 1, ZS_ENTER, ZS_USERNS }; // a process 1; one more process in the zone of the last descriptor, a pidfd; a user namespace
enum { ZS_NETNS = 1, ZS_SINGLE = 2, ZS_GROUP = 4 };        // the last descriptor is its network namespace; its only id is ours; the last but that is a control group
enum { ZS_LISTEN, ZS_CONFIG, ZS_SYNC, ZS_PLAN, ZS_FIXED }; // descriptors that come first; then mounts
enum { ZS_MAX_FILES = 250, ZS_MAX_GROUPS = 32 };

// A plan is u32 n and n steps: u32 kind, file; u64 flags; text a, b, c.
enum {
	ZO_ROOT = 1,  // file (or path a) becomes the root to be
	ZO_FILE,      // file is mounted at b; flags: ZO_*
	ZO_BIND,      // path a of the host, with the mount attributes c (a number), is mounted at b; flags: ZO_*
	ZO_MOUNT,     // file system type a is mounted at b with options c; flags: of mount(2)
	ZO_LINK,      // b becomes a link to a
	ZO_PIVOT,     // the root to be is the root; paths are the zone's from here on
	ZO_WRITE,     // c is written to the file b
	ZO_MASK,      // b, if there, looks empty
	ZO_PROTECT,   // b, if there, cannot be written; flags: ZO_*
	ZO_HOSTNAME,  // a, and the domain b
	ZO_LOOPBACK,  // is brought up
	ZO_CONSOLE,   // a terminal for the zone
};
enum { ZO_IS_FILE = 1, ZO_OPTIONAL = 2, ZO_IS_MOUNT = 4 };

#endif
